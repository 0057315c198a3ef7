// Convs of any kernel, stride, dilation and groups, product by product: a block of output rows at a time. Its padded
// inputs stay in cache, each tap reads them where they lie.
#pragma once

#include "conv2d/region.h"

namespace lkops {
namespace {

constexpr int64_t kRegionBytes = 320 << 10;  // of a block's inputs, about
constexpr int64_t kMostColumns = 112;        // of a block's results

// An item is (sample, group, rows, columns, split of outputs), the last fastest.
template <class E>
struct DirectPlan {
  DirectPlan(const Conv2dProblem& p, int64_t slots) : channels(p) {
    height = p.out_height, width = p.out_width;
    const int64_t panels = ceil_div(channels.out_vectors, kOutVectors);
    // columns in multiples of a product's rows, as equal as can be
    across_parts = ceil_div(width, kMostColumns), columns = ceil_div(width, across_parts);
    const int64_t by_row = channels.elements * kLanes * 4 * region_columns(p) * p.stride_height;
    const int64_t margin = region_rows(p, 1) - p.stride_height;
    rows = least(height, most(1, kRegionBytes / by_row - margin));
    while (rows > 1 && p.n * p.groups * across_parts * ceil_div(height, rows) < 2 * slots) --rows;
    down_parts = ceil_div(height, rows), rows = ceil_div(height, down_parts);
    splits = most(1, least(panels, slots / most(1, p.n * p.groups * across_parts * down_parts)));
    items = p.n * p.groups * across_parts * down_parts * splits;
  }
  int64_t region_rows(const Conv2dProblem& p, int64_t count) const {
    return (count - 1) * p.stride_height + (p.kernel_height - 1) * p.dilation_height + 1;
  }
  int64_t region_columns(const Conv2dProblem& p) const {
    return (columns - 1) * p.stride_width + (p.kernel_width - 1) * p.dilation_width + 1;
  }

  Channels<E> channels;
  int64_t height, width, columns, rows, across_parts, down_parts, splits, items;
};

template <class T>
class Direct {
  using E = Element<T>;
  using Plan = DirectPlan<E>;
  static constexpr bool kPairs = __is_same(E, Pair);

  struct Slot {
    Slot(Workspace& space, const Conv2dProblem& problem, const Plan& plan) {
      const Region region{0, 0, plan.region_rows(problem, plan.rows), plan.region_columns(problem),
                          problem.stride_width};
      inputs = space.take<E>(plan.channels.elements * region.floats());
      halves = space.take<float>(kPairs ? 2 * region.floats() : 0);
      sums = space.take<float>(plan.rows * plan.columns * kOutVectors * kLanes);
      offsets = space.take<int64_t>(taps_of(problem) * plan.channels.elements);
    }
    E* inputs;
    float *halves, *sums;
    int64_t* offsets;
  };

  static int64_t taps_of(const Conv2dProblem& problem) { return problem.kernel_height * problem.kernel_width; }
  static int64_t panel(const Conv2dProblem& problem, const Channels<E>& channels) {
    return taps_of(problem) * channels.depths() * kLanes;
  }

 public:
  static int64_t packed_bytes(const Conv2dProblem& problem) {
    const Channels<E> channels(problem);
    return problem.groups * panel(problem, channels) * channels.out_vectors * static_cast<int64_t>(sizeof(E));
  }

  // Panels of kOutVectors vectors of outputs; in each the chunks of input channels, with all taps of one together.
  static void pack(const Conv2dProblem& problem, const Parallel& parallel, const T* weight, bool flipped, void* packed) {
    const Channels<E> channels(problem);
    const int64_t taps = taps_of(problem);
    for_ranges(parallel, problem.groups * channels.out_vectors, 1, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t group = row / channels.out_vectors, vector = row % channels.out_vectors;
        const int64_t from = vector / kOutVectors * kOutVectors, width = channels.vectors_from(from) * kLanes;
        E* to = static_cast<E*>(packed) + (group * channels.out_vectors + from) * panel(problem, channels) +
                (vector - from) * kLanes;
        for (int64_t chunk = 0; chunk < channels.elements; ++chunk)
          for (int64_t tap = 0; tap < taps; ++tap)
            for (int64_t k = 0; k < channels.depth(chunk); ++k, to += width)
              for (int lane = 0; lane < kLanes; ++lane) {
                const auto at = [&](int h) -> float {
                  const int64_t output = vector * kLanes + lane, input = channels.input(chunk, k, h);
                  if (output >= channels.outputs || input >= channels.inputs) return 0.0f;
                  return widen(flipped ? weight[((group * channels.inputs + input) * channels.outputs + output) * taps +
                                                taps - 1 - tap]
                                       : weight[((group * channels.outputs + output) * channels.inputs + input) * taps +
                                                tap]);
                };
                if constexpr (kPairs)
                  to[lane].bits = narrow_bits(at(0)) | narrow_bits(at(1)) << 16;
                else
                  to[lane] = at(0);
              }
      }
    });
  }

  static int64_t scratch(const Conv2dProblem& problem, int64_t slots) {
    Workspace space;
    Slot(space, problem, Plan(problem, slots));
    return slots * space.bytes();
  }

  static void forward(const Conv2dProblem& problem, const Parallel& parallel, const T* x, const void* packed,
                      const Epilogue<T>& epilogue, void* scratch) {
    const Plan plan(problem, parallel.slots);
    Workspace one;
    Slot(one, problem, plan);
    for_ranges(parallel, plan.items, 1, [&](int64_t index, int64_t first, int64_t last) {
      Workspace space(static_cast<char*>(scratch) + index * one.bytes());
      const Slot slot(space, problem, plan);
      for (int64_t item = first; item < last; ++item)
        run(problem, plan, item, x, static_cast<const E*>(packed), epilogue, slot);
    });
  }

 private:
  static void run(const Conv2dProblem& problem, const Plan& plan, int64_t item, const T* x, const E* packed,
                  const Epilogue<T>& epilogue, const Slot& slot) {
    const Channels<E>& channels = plan.channels;
    const int64_t split = item % plan.splits;
    item /= plan.splits;
    const int64_t column = item % plan.across_parts * plan.width / plan.across_parts;
    const int64_t columns = (item % plan.across_parts + 1) * plan.width / plan.across_parts - column;
    item /= plan.across_parts;
    const int64_t row = item % plan.down_parts * plan.height / plan.down_parts;
    const int64_t rows = (item % plan.down_parts + 1) * plan.height / plan.down_parts - row;
    item /= plan.down_parts;
    const int64_t group = item % problem.groups, sample = item / problem.groups;

    const Region region{row * problem.stride_height - problem.top, column * problem.stride_width - problem.left,
                        plan.region_rows(problem, rows),
                        (columns - 1) * problem.stride_width + (problem.kernel_width - 1) * problem.dilation_width + 1,
                        problem.stride_width};
    const Fetch<T> fetch(problem, x);
    int64_t* offset = slot.offsets;
    for (int64_t chunk = 0; chunk < channels.elements; ++chunk) {
      E* to = slot.inputs + chunk * region.floats();
      for (int h = 0; h < (kPairs ? 2 : 1); ++h) {
        const int64_t channel = channels.input(chunk, 0, h);
        float* half;
        if constexpr (kPairs)
          half = slot.halves + h * region.floats();
        else
          half = to;
        fetch.run(sample, group * channels.inputs + channel, most(0, least(kLanes, channels.inputs - channel)), region,
                  half);
      }
      if constexpr (kPairs)
        for (int64_t i = 0; i < region.floats(); i += kLanes)
          put(to + i, 0, load(slot.halves + i), load(slot.halves + region.floats() + i), true);
      for (int64_t ky = 0; ky < problem.kernel_height; ++ky)
        for (int64_t kx = 0; kx < problem.kernel_width; ++kx)
          *offset++ = chunk * region.floats() + ky * problem.dilation_height * region.row() +
                      region.column(kx * problem.dilation_width);
    }

    const Rectangle at{sample, row, column, rows, columns};
    const int64_t count = taps_of(problem) * channels.elements;
    const int64_t level = problem.levels ? most(1, 64 / kLanes) : count;
    const Chunks chunks{slot.offsets, count, kLanes, count - taps_of(problem), channels.last_depth, level};
    const int64_t panels = ceil_div(channels.out_vectors, kOutVectors);
    for (int64_t part = split * panels / plan.splits; part < (split + 1) * panels / plan.splits; ++part) {
      const int64_t vector = part * kOutVectors;
      const int vectors = channels.vectors_from(vector);
      const E* weights = packed + (group * channels.out_vectors + vector) * panel(problem, channels);
      for (int64_t i = 0; i < rows; ++i)
        multiply_chunks(columns, vectors, slot.inputs + i * problem.stride_height * region.row(), chunks, weights,
                        slot.sums + i * columns * vectors * kLanes, vectors * kLanes);
      for (int v = 0; v < vectors; ++v) {
        const int64_t channel = (vector + v) * kLanes;
        epilogue.finish(at, group * channels.outputs + channel, least(kLanes, channels.outputs - channel),
                        slot.sums + v * kLanes, vectors * kLanes);
      }
    }
  }
};

}  // namespace
}  // namespace lkops
