// Backward: first by the features, then by the weights and the bias. An item of either is a block of the channels of
// the result, for which the tiles are made again: a few percent, against no memory for half-done results, and no two
// items that write to one place.
#pragma once

#include "upsample_add/features_gradient.h"
#include "upsample_add/weight_gradient.h"

namespace lkops {
namespace {

template <class T, class E>
struct BackwardSpace {
  BackwardSpace(Workspace& space, const UpsampleProblem& problem, int64_t slots) {
    const FeaturesPlan<E> features(problem);
    const WeightPlan weights(problem);
    const int64_t depth = depth_of(problem);
    transposed = __is_same(T, float) ? nullptr : space.take<E>(problem.groups * depth_of<E>(problem.outputs) * depth);
    partial = space.take<float>(weights.chunks * weights.sums);
    first = space.bytes();
    Workspace one, other;
    FeaturesSlot<E>(one, problem, features);
    WeightSlot<E>(other, problem, weights);
    slot_bytes = most(one.bytes(), other.bytes());  // the stages follow one another
    space.take<char>(slots * slot_bytes);
  }
  E* transposed;
  float* partial;
  int64_t first, slot_bytes;
};

template <class T, class G>
int64_t backward_scratch(const UpsampleProblem& problem, int64_t slots) {
  Workspace space;
  BackwardSpace<T, Element<T>>(space, problem, slots);
  return space.bytes();
}

// to[m][k] = weight[m][k] widened, or (weight[2 m][k], weight[2 m + 1][k]), of one group.
template <class T, class E>
void pair_outputs(const T* weight, int64_t outputs, int64_t depth, E* to) {
  for (int64_t m = 0; m < outputs; m += __is_same(E, float) ? 1 : 2)
    for (int64_t k = 0; k < depth; ++k, ++to) {
      if constexpr (__is_same(E, float)) {
        *to = widen(weight[m * depth + k]);
      } else {
        const uint32_t odd = m + 1 < outputs ? weight[(m + 1) * depth + k].bits : 0;
        to->bits = weight[m * depth + k].bits | odd << 16;
      }
    }
}

template <class T, class G>
void backward(const UpsampleProblem& problem, const Parallel& parallel, const G* grad, const T* features,
              const T* weight, T* dfeatures, T* dweight, T* dbias, void* scratch) {
  using E = Element<T>;
  Workspace space(scratch);
  const BackwardSpace<T, E> memory(space, problem, parallel.slots);
  const auto slot_of = [&](int64_t slot) {
    return Workspace(static_cast<char*>(scratch) + memory.first + slot * memory.slot_bytes);
  };
  if (dfeatures != nullptr) {
    const E* weights;
    if constexpr (__is_same(T, float)) {
      weights = weight;
    } else {
      const int64_t depth = depth_of(problem);
      for_ranges(parallel, problem.groups, 1, [&](int64_t, int64_t group, int64_t last) {
        for (; group < last; ++group)
          pair_outputs(weight + group * problem.outputs * depth, problem.outputs, depth,
                       memory.transposed + group * depth_of<E>(problem.outputs) * depth);
      });
      weights = memory.transposed;
    }
    const FeaturesGradient<T, G> work(problem, grad, weights, dfeatures);
    const FeaturesPlan<E> plan(problem);
    for_ranges(parallel, work.items(), 1, [&](int64_t slot, int64_t first, int64_t last) {
      Workspace own = slot_of(slot);
      const FeaturesSlot<E> mine(own, problem, plan);
      for (int64_t item = first; item < last; ++item) work.run(item, mine);
    });
  }
  if (dweight == nullptr && dbias == nullptr) return;
  const WeightPlan plan(problem);
  const WeightGradient<T, G> work(problem, grad, features, dweight != nullptr, dbias != nullptr, memory.partial);
  for_ranges(parallel, work.items(), 1, [&](int64_t slot, int64_t first, int64_t last) {
    Workspace own = slot_of(slot);
    const WeightSlot<E> mine(own, problem, plan);
    for (int64_t item = first; item < last; ++item) work.run(item, mine);
  });
  const auto add_up = [&](const float* partial, int64_t count, T* to) {
    const int64_t grain = grain_of(kWorthOfNumbers, plan.chunks, kLanes);
    for_ranges(parallel, ceil_div(count, kLanes), grain, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t i = first * kLanes; i < last * kLanes; i += kLanes) {
        Floats sum = load_some(partial + i, count - i);
        for (int64_t chunk = 1; chunk < plan.chunks; ++chunk)
          sum += load_some(partial + chunk * plan.sums + i, count - i);
        store_some(to + i, sum, count - i);
      }
    });
  };
  if (dweight != nullptr) add_up(memory.partial, plan.weights, dweight);
  if (dbias != nullptr) add_up(memory.partial + plan.weights, plan.sums - plan.weights, dbias);
}

}  // namespace
}  // namespace lkops
