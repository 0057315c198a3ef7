// The gradient of the features: for each tap the transposed weights times a tile of the gradient, taken apart into
// phases on the way into L1, added where the tap came from.
#pragma once

#include "upsample_add/tile.h"

namespace lkops {
namespace {

constexpr int64_t kGradientRows = 128;  // output channels whose gradient is in L1 together
constexpr int64_t kFeatureTiles = 6;  // tiles that a block of weights is used for

template <class E>
struct FeaturesPlan {
  explicit FeaturesPlan(const UpsampleProblem& problem)
      : taps(taps_of(problem)),
        channels(problem.inputs, most(1, kGatheredRows * (problem.n * problem.groups >= 8 ? 2 : 1) / taps)),
        tiles(pixels_of(problem)) {
    margin = round_up_to_lanes(problem.kernel_width - 1);
    stride = kTilePixels + margin;
    guard = round_up_to_lanes(problem.kernel_height / 2 * problem.width + kTilePixels + margin + kLanes);
    plane = guard + round_up_to_lanes(pixels_of(problem)) + guard;
    block_tiles = least(kFeatureTiles, tiles.count);
    items = problem.n * problem.groups * channels.count;
  }
  int64_t taps;
  Parts channels;
  Tiles tiles;
  int64_t margin, stride, guard, plane, block_tiles, items;
};

template <class E>
struct FeaturesSlot {
  FeaturesSlot(Workspace& space, const UpsampleProblem& problem, const FeaturesPlan<E>& plan) {
    grad = space.take<float>(kGradientRows * kTilePixels);
    pairs = space.take<E>(__is_same(E, float) ? 0 : depth_of<E>(kGradientRows) * kTilePixels);
    weights = space.take<E>(depth_of<E>(kGradientRows) * plan.channels.longest() * plan.taps);
    masks = space.take<int32_t>(problem.kernel_width * kTilePixels);
    product = space.take<float>(plan.margin + plan.block_tiles * plan.channels.longest() * plan.taps * plan.stride);
    sums = space.take<float>(plan.channels.longest() * plan.plane);
  }
  float* grad;
  E* pairs;
  E* weights;
  int32_t* masks;
  float* product;  // of each tile, with `margin` zeros before and after every row
  float* sums;     // the gradient of some channels, each between rows that stand for the padding
};

template <class T, class G>
class FeaturesGradient {
  using E = Element<T>;

 public:
  FeaturesGradient(const UpsampleProblem& problem, const G* grad, const E* weight, T* dfeatures)
      : problem_(problem), plan_(problem), grad_(grad), weight_(weight), dfeatures_(dfeatures) {}

  int64_t items() const { return plan_.items; }

  void run(int64_t item, const FeaturesSlot<E>& slot) const {
    const int64_t part = item % plan_.channels.count, group = item / plan_.channels.count % problem_.groups;
    const int64_t sample = item / plan_.channels.count / problem_.groups;
    const int64_t channel = plan_.channels.begin(part), channels = plan_.channels.begin(part + 1) - channel;
    const int64_t rows = channels * plan_.taps, pixels = pixels_of(problem_);
    for (int64_t i = 0; i < channels * plan_.plane; ++i) slot.sums[i] = 0;
    for (int64_t i = 0; i < plan_.margin + plan_.block_tiles * rows * plan_.stride; ++i) slot.product[i] = 0;
    float* product = slot.product + plan_.margin;
    const int64_t blocks = ceil_div(plan_.tiles.count, plan_.block_tiles);
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = block * plan_.tiles.count / blocks, last = (block + 1) * plan_.tiles.count / blocks;
      for (int64_t m = 0; m < problem_.outputs; m += kGradientRows) {
        const Weights<E> weights = weights_of(group, channel, rows, m, slot);
        for (int64_t tile = first; tile < last; ++tile) {
          if (tile + 1 < last)
            prefetch(sample, group, m, tile + 1);
          else if (m + kGradientRows < problem_.outputs)
            prefetch(sample, group, m + kGradientRows, first);
          else if (last < plan_.tiles.count)
            prefetch(sample, group, 0, last);
          multiply_tile(sample, group, m, tile, weights, rows, product + (tile - first) * rows * plan_.stride, slot);
        }
      }
      for (int64_t tile = first; tile < last; ++tile)
        add_tile(channels, tile, product + (tile - first) * rows * plan_.stride, slot);
    }
    T* to = dfeatures_ + ((sample * problem_.groups + group) * problem_.inputs + channel) * pixels;
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t i = 0; i < pixels; i += kLanes)
        store_some(to + c * pixels + i, load(slot.sums + c * plan_.plane + plan_.guard + i), pixels - i);
  }

 private:
  const G* gradient_of(int64_t sample) const {
    return grad_ + sample * problem_.bands * pixels_of(problem_) * problem_.scale * problem_.scale;
  }

  void prefetch(int64_t sample, int64_t group, int64_t m, int64_t tile) const {
    prefetch_shuffled(problem_, gradient_of(sample), group * problem_.outputs + m,
                      least(kGradientRows, problem_.outputs - m), plan_.tiles.begin(tile),
                      plan_.tiles.vectors_of(tile));
  }

  // Those of kGradientRows output channels, transposed. Where they are a small part of a long row they are copied: else
  // each would lie in a page of its own.
  Weights<E> weights_of(int64_t group, int64_t channel, int64_t rows, int64_t m, const FeaturesSlot<E>& slot) const {
    const int64_t depth = depth_of(problem_), count = depth_of<E>(least(kGradientRows, problem_.outputs - m));
    const E* from = weight_ + (group * depth_of<E>(problem_.outputs) + depth_of<E>(m)) * depth + channel * plan_.taps;
    if (rows == depth) return {from, 1, depth};
    for (int64_t i = 0; i < count; ++i) __builtin_memcpy(slot.weights + i * rows, from + i * depth, rows * sizeof(E));
    return {slot.weights, 1, rows};
  }

  // product[c, tap][i] += sum over output channels from m on of weight[m][c, tap] grad[m][i]
  void multiply_tile(int64_t sample, int64_t group, int64_t m, int64_t tile, const Weights<E>& weights, int64_t rows,
                     float* product, const FeaturesSlot<E>& slot) const {
    const int vectors = plan_.tiles.vectors_of(tile);
    const int64_t count = least(kGradientRows, problem_.outputs - m);
    const G* grad = gradient_of(sample);
    unshuffle(problem_, grad, group * problem_.outputs + m, count, plan_.tiles.begin(tile), vectors, slot.grad,
              kTilePixels);
    const E* x;
    if constexpr (__is_same(E, float)) {
      x = slot.grad;
    } else {
      x = slot.pairs;
      for (int64_t i = 0; i < count; i += 2)
        for (int v = 0; v < vectors; ++v) {
          const float* from = slot.grad + i * kTilePixels + v * kLanes;
          put(slot.pairs + i / 2 * kTilePixels + v * kLanes, 0, load(from),
              i + 1 < count ? load(from + kTilePixels) : Floats{}, true);
        }
    }
    multiply(weights, rows, depth_of<E>(count), x, kTilePixels, vectors, product, plan_.stride, m > 0);
  }

  // sums[c][pixel + tap] += product[c, tap][pixel], for the taps of one row of the kernel at once.
  void add_tile(int64_t channels, int64_t tile, float* product, const FeaturesSlot<E>& slot) const {
    const int64_t first = plan_.tiles.begin(tile), sides = problem_.kernel_width, half = sides / 2;
    const int vectors = plan_.tiles.vectors_of(tile);
    find_masks(problem_, first, vectors, slot.masks);
    for (int64_t i = 0; i < channels * plan_.taps; ++i)
      for (int v = 0; v < kTileVectors; ++v) {
        float* values = product + i * plan_.stride + v * kLanes;
        const Ints mask = v < vectors ? load(slot.masks + i % sides * kTilePixels + v * kLanes) : Ints{};
        store(values, masked(load(values), mask));
      }
    for (int64_t i = 0; i < channels * problem_.kernel_height; ++i) {
      const int64_t c = i / problem_.kernel_height, dy = i % problem_.kernel_height - problem_.kernel_height / 2;
      float* sums = slot.sums + c * plan_.plane + plan_.guard + first + dy * problem_.width - half;
      const float* rows = product + i * sides * plan_.stride;
      for (int64_t at = 0; at < vectors * kLanes + sides - 1; at += kLanes) {
        Floats sum = load(rows + at);
        for (int64_t kx = 1; kx < sides; ++kx) sum += load(rows + kx * plan_.stride + at - kx);
        store(sums + at, load(sums + at) + sum);
      }
    }
  }

  const UpsampleProblem& problem_;
  const FeaturesPlan<E> plan_;
  const G* grad_;
  const E* weight_;
  T* dfeatures_;
};

}  // namespace
}  // namespace lkops
