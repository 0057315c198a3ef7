// The gradients of the weight and the bias:
//
//     dweight[o][i][tap] = sum over samples and pixels of dbefore[o][pixel] x[i][pixel at tap]
//
// An item is a vector of input channels and a panel of outputs, for a part of the rows of all samples. Its sums over a
// block of rows are made in registers and added in the cache; those of the parts, which follow from the problem alone,
// are added in order at the end.
#pragma once

#include "conv2d/region.h"

namespace lkops {
namespace {

constexpr int64_t kGradientPixels = 256;  // of a block of rows, about
constexpr int64_t kGradientItems = 32;    // parts are made until there are so many
constexpr int kGradientRows = kLanes > 8 ? 8 : 4;  // input channels in registers

struct GradientPlan {
  explicit GradientPlan(const Conv2dProblem& p) : channels(p) {
    taps = p.kernel_height * p.kernel_width;
    panels = ceil_div(channels.out_vectors, kOutVectors);
    // a block is some rows, or a part of one
    columns = ceil_div(p.out_width, ceil_div(p.out_width, kGradientPixels));
    rows = most(1, least(p.out_height, kGradientPixels / columns));
    across = ceil_div(p.out_width, columns), blocks = p.n * ceil_div(p.out_height, rows) * across;
    units = p.groups * channels.vectors * panels;
    parts = most(1, least(blocks, kGradientItems / units));
    sums = taps * kLanes * kOutVectors * kLanes + kOutVectors * kLanes;
  }
  Region region(const Conv2dProblem& p, int64_t y, int64_t x) const {
    return {y * p.stride_height - p.top, x * p.stride_width - p.left,
            (rows - 1) * p.stride_height + (p.kernel_height - 1) * p.dilation_height + 1,
            (columns - 1) * p.stride_width + (p.kernel_width - 1) * p.dilation_width + 1, p.stride_width};
  }
  Channels<float> channels;
  int64_t taps, panels, columns, rows, across, blocks, units, parts;
  int64_t sums;  // of an item: for each tap kLanes inputs by kOutVectors vectors of outputs; then those of the bias
};

// sums[i][o] += sum over rows and columns of x[.][i] d[.][o], for kRows inputs and kVectors vectors of outputs
template <int kRows, int kVectors = kOutVectors>
LKOPS_INLINE void add_products(const float* x, int64_t x_row, const float* d, int64_t rows, int64_t columns,
                               float* sums) {
  Floats sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Floats{};
  for (int64_t i = 0; i < rows; ++i, x += x_row) {
    const float* from = x;
    for (int64_t j = 0; j < columns; ++j, from += kLanes, d += kVectors * kLanes) {
      Floats gradient[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) gradient[v] = load(d + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Floats pixel = broadcast(from[r]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(pixel, gradient[v], sum[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      float* to = sums + (r * kVectors + v) * kLanes;
      store(to, load(to) + sum[r][v]);
    }
}

template <class T>
class WeightGradient {
  struct Slot {
    Slot(Workspace& space, const Conv2dProblem& problem, const GradientPlan& plan) {
      inputs = space.take<float>(plan.region(problem, 0, 0).floats());
      gradients = space.take<float>(plan.rows * plan.columns * kOutVectors * kLanes);
      half = space.take<float>(plan.rows * plan.columns * kLanes);
    }
    float *inputs, *gradients, *half;
  };

  struct Space {
    Space(Workspace& space, const Conv2dProblem& problem, const GradientPlan& plan, int64_t slots) {
      sums = space.take<float>(plan.units * plan.parts * plan.sums);
      first = space.bytes();
      Workspace one;
      Slot(one, problem, plan);
      slot_bytes = one.bytes();
      space.take<char>(slots * slot_bytes);
    }
    float* sums;
    int64_t first, slot_bytes;
  };

 public:
  static int64_t scratch(const Conv2dProblem& problem, int64_t slots) {
    Workspace space;
    Space(space, problem, GradientPlan(problem), slots);
    return space.bytes();
  }

  static void run(const Conv2dProblem& problem, const Parallel& parallel, const T* dbefore, const T* x, T* dweight,
                  T* dbias, void* scratch) {
    const GradientPlan plan(problem);
    Workspace all(scratch);
    const Space memory(all, problem, plan, parallel.slots);
    // the part slowest: threads then share the inputs of few channels
    for_ranges(parallel, plan.units * plan.parts, 1, [&](int64_t index, int64_t first, int64_t last) {
      Workspace space(static_cast<char*>(scratch) + memory.first + index * memory.slot_bytes);
      const Slot slot(space, problem, plan);
      for (int64_t item = first; item < last; ++item)
        sum_part(problem, plan, item % plan.units, item / plan.units, dbefore, x, dweight != nullptr,
                 memory.sums + item * plan.sums, slot);
    });
    for_ranges(parallel, plan.units, 1, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t unit = first; unit < last; ++unit) finish(plan, unit, memory.sums, dweight, dbias);
    });
  }

 private:
  static void sum_part(const Conv2dProblem& problem, const GradientPlan& plan, int64_t unit, int64_t part,
                       const T* dbefore, const T* x, bool by_weight, float* sums, const Slot& slot) {
    const int64_t panel = unit % plan.panels, chunk = unit / plan.panels % plan.channels.vectors;
    const int64_t group = unit / plan.panels / plan.channels.vectors;
    const int64_t outputs = plan.channels.outputs, inputs = plan.channels.inputs;
    for (int64_t i = 0; i < plan.sums; i += kLanes) store(sums + i, Floats{});
    if (!by_weight && chunk > 0) return;  // no bias hangs on it
    Conv2dProblem like = problem;  // to fetch the gradient as if it were an input
    like.inputs = problem.outputs, like.height = problem.out_height, like.width = problem.out_width;
    like.layout = problem.out_layout;
    const Fetch<T> fetch(problem, x), fetch_gradient(like, dbefore);
    const int64_t down = ceil_div(problem.out_height, plan.rows);
    for (int64_t block = part * plan.blocks / plan.parts; block < (part + 1) * plan.blocks / plan.parts; ++block) {
      const int64_t sample = block / plan.across / down, row = block / plan.across % down * plan.rows;
      const int64_t column = block % plan.across * plan.columns;
      const Region at{row, column, least(plan.rows, problem.out_height - row),
                      least(plan.columns, problem.out_width - column), 1};
      for (int v = 0; v < kOutVectors; ++v) {
        const int64_t channel = (panel * kOutVectors + v) * kLanes;
        fetch_gradient.run(sample, least(problem.outputs - 1, group * outputs + channel),
                           most(0, least(kLanes, outputs - channel)), at, slot.half);
        Floats bias = load(sums + plan.sums - (kOutVectors - v) * kLanes), some{};
        for (int64_t p = 0; p < at.rows * at.columns; ++p) {
          const Floats value = load(slot.half + p * kLanes);
          store(slot.gradients + (p * kOutVectors + v) * kLanes, value);
          some += value;
        }
        store(sums + plan.sums - (kOutVectors - v) * kLanes, bias + some);
      }
      if (!by_weight) continue;
      const Region region = plan.region(problem, row, column);
      const int64_t used = least(kLanes, inputs - chunk * kLanes);
      fetch.run(sample, group * inputs + chunk * kLanes, used, region, slot.inputs);
      for (int64_t tap = 0; tap < plan.taps; ++tap) {
        const float* from = slot.inputs + tap / problem.kernel_width * problem.dilation_height * region.row() +
                            region.column(tap % problem.kernel_width * problem.dilation_width);
        for (int64_t i = 0; i < used; i += kGradientRows)
          add_products<kGradientRows>(from + i, problem.stride_height * region.row(), slot.gradients, at.rows,
                                      at.columns, sums + (tap * kLanes + i) * kOutVectors * kLanes);
      }
    }
  }

  static void finish(const GradientPlan& plan, int64_t unit, float* sums, T* dweight,
                     T* dbias) {
    float* total = sums + unit * plan.sums;
    for (int64_t part = 1; part < plan.parts; ++part) {
      const float* more = sums + (part * plan.units + unit) * plan.sums;
      for (int64_t i = 0; i < plan.sums; i += kLanes) store(total + i, load(total + i) + load(more + i));
    }
    const int64_t panel = unit % plan.panels, chunk = unit / plan.panels % plan.channels.vectors;
    const int64_t group = unit / plan.panels / plan.channels.vectors, first = panel * kOutVectors * kLanes;
    const int64_t outputs = plan.channels.outputs, inputs = plan.channels.inputs;
    const auto put_one = [](T* to, float value) { store_partial(to, broadcast(value), 1); };
    for (int64_t o = 0; o < least(kOutVectors * kLanes, outputs - first); ++o) {
      const int64_t output = group * outputs + first + o;
      if (dbias != nullptr && chunk == 0) put_one(dbias + output, total[plan.sums - kOutVectors * kLanes + o]);
      if (dweight == nullptr) continue;
      for (int64_t i = 0; i < least(kLanes, inputs - chunk * kLanes); ++i)
        for (int64_t tap = 0; tap < plan.taps; ++tap)
          put_one(dweight + (output * inputs + chunk * kLanes + i) * plan.taps + tap,
                  total[(tap * kLanes + i) * kOutVectors * kLanes + o]);
    }
  }
};

}  // namespace
}  // namespace lkops
