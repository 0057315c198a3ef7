// The gradient of a 3x3 weight by the transpose of Winograd's algorithm: gradients of the results and inputs are
// transformed tile by tile, multiplied and summed over tiles product by product, and only the sums are transformed to
// the nine taps:
//
//     dweight = G^T (sum over tiles of (A dbefore A^T) * (B^T x B)) G
//
// An item is a unit, some vectors of input and of output channels, for a part of the blocks of tiles of all samples. A
// block's sums are made in registers and added in L2, those of the parts, which follow from the problem alone, in order.
#pragma once

#include "conv2d/tile.h"
#include "conv2d/weight_gradient.h"

namespace lkops {
namespace {

constexpr int64_t kUnitVectors = 4;         // of inputs and of outputs: a unit's sums and a block's tiles stay in L2
constexpr int64_t kGradientTiles = 36;      // of a block, at most
constexpr int64_t kWinogradItems = 16;      // parts are made until there are so many

template <int kRows, int kColumns>
struct WinogradGradientPlan {
  using Tile = TileOf<kRows, kColumns>;

  explicit WinogradGradientPlan(const Conv2dProblem& p) : channels(p) {
    const int64_t tiles_down = ceil_div(p.out_height, kRows), tiles_across = ceil_div(p.out_width, kColumns);
    across = ceil_div(tiles_across, ceil_div(tiles_across, kGradientTiles));
    across_parts = ceil_div(tiles_across, across);
    down = most(1, least(tiles_down, kGradientTiles / across));
    down = ceil_div(tiles_down, ceil_div(tiles_down, down)), down_parts = ceil_div(tiles_down, down);
    tiles = down * across, blocks = p.n * down_parts * across_parts;
    in_units = ceil_div(channels.vectors, kUnitVectors), out_units = ceil_div(channels.out_vectors, kUnitVectors);
    units = p.groups * in_units * out_units;
    parts = most(1, least(blocks, kWinogradItems / units));
    in_vectors = least(kUnitVectors, channels.vectors), out_vectors = least(kUnitVectors, channels.out_vectors);
    product = in_vectors * kLanes * out_vectors * kLanes;
    sums = Tile::kProducts * product + out_vectors * kLanes;
    in_stride = (in_vectors * tiles | 1) * kLanes, out_stride = (out_vectors * tiles | 1) * kLanes;
  }

  Channels<float> channels;
  int64_t down, across, down_parts, across_parts, tiles, blocks, in_units, out_units, units, parts;
  int64_t in_vectors, out_vectors;  // of a unit, at most
  int64_t product;                  // sums of one product: pairs of vectors of outputs; in each the inputs
  int64_t sums;                     // of an item: of every product, then those of the bias
  int64_t in_stride, out_stride;    // floats from one product's tiles to the next one's
};

template <int kRows, int kColumns, class T>
class WinogradGradient {
  using Tile = TileOf<kRows, kColumns>;
  using Plan = WinogradGradientPlan<kRows, kColumns>;

  struct Slot {
    Slot(Workspace& space, const Plan& plan) {
      region = space.take<float>((plan.down * kRows + 2) * (plan.across * kColumns + 2) * kLanes);
      inputs = space.take<float>(Tile::kProducts * plan.in_stride);
      gradients = space.take<float>(Tile::kProducts * plan.out_stride);
    }
    float *region, *inputs, *gradients;
  };

  struct Space {
    Space(Workspace& space, const Plan& plan, int64_t slots) {
      sums = space.take<float>(plan.units * plan.parts * plan.sums);
      first = space.bytes();
      Workspace one;
      Slot(one, plan);
      slot_bytes = one.bytes();
      space.take<char>(slots * slot_bytes);
    }
    float* sums;
    int64_t first, slot_bytes;
  };

  // The channels of one unit.
  struct Unit {
    Unit(const Plan& plan, int64_t unit) {
      group = unit / (plan.in_units * plan.out_units);
      first_in = unit / plan.out_units % plan.in_units * kUnitVectors, first_out = unit % plan.out_units * kUnitVectors;
      in_vectors = least(kUnitVectors, plan.channels.vectors - first_in);
      out_vectors = least(kUnitVectors, plan.channels.out_vectors - first_out);
    }
    int64_t group, first_in, first_out, in_vectors, out_vectors;
  };

 public:
  static int64_t scratch(const Conv2dProblem& problem, int64_t slots) {
    Workspace space;
    Space(space, Plan(problem), slots);
    return space.bytes();
  }

  static void run(const Conv2dProblem& problem, const Parallel& parallel, const T* dbefore, const T* x, T* dweight,
                  T* dbias, void* scratch) {
    const Plan plan(problem);
    Workspace all(scratch);
    const Space memory(all, plan, parallel.slots);
    for_ranges(parallel, plan.units * plan.parts, 1, [&](int64_t index, int64_t first, int64_t last) {
      Workspace space(static_cast<char*>(scratch) + memory.first + index * memory.slot_bytes);
      const Slot slot(space, plan);
      for (int64_t item = first; item < last; ++item)
        sum_part(problem, plan, Unit(plan, item % plan.units), item / plan.units, dbefore, x,
                 memory.sums + item * plan.sums, slot);
    });
    for_ranges(parallel, plan.units * plan.in_vectors, 1, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        finish(plan, i / plan.in_vectors, i % plan.in_vectors, memory.sums, dweight, dbias);
    });
  }

 private:
  static void sum_part(const Conv2dProblem& problem, const Plan& plan, const Unit& unit, int64_t part, const T* dbefore,
                       const T* x, float* sums, const Slot& slot) {
    for (int64_t i = 0; i < plan.sums; i += kLanes) store(sums + i, Floats{});
    Conv2dProblem like = problem;  // to fetch the gradient as if it were an input
    like.inputs = problem.outputs, like.height = problem.out_height, like.width = problem.out_width;
    like.layout = problem.out_layout;
    const Fetch<T> fetch(problem, x), fetch_gradient(like, dbefore);
    const auto fetch_vector = [&](const Fetch<T>& from, int64_t sample, int64_t channels, int64_t vector,
                                  const Region& region) {
      from.run(sample, unit.group * channels + vector * kLanes, least(kLanes, channels - vector * kLanes), region,
               slot.region);
    };
    for (int64_t block = part * plan.blocks / plan.parts; block < (part + 1) * plan.blocks / plan.parts; ++block) {
      const int64_t sample = block / plan.across_parts / plan.down_parts;
      const int64_t row = block / plan.across_parts % plan.down_parts * plan.down * kRows;
      const int64_t column = block % plan.across_parts * plan.across * kColumns;
      const Region at{row, column, plan.down * kRows, plan.across * kColumns, 1};
      const Region around{row - problem.top, column - problem.left, at.rows + 2, at.columns + 2, 1};
      for (int64_t v = 0; v < unit.out_vectors; ++v) {
        fetch_vector(fetch_gradient, sample, plan.channels.outputs, unit.first_out + v, at);
        if (unit.first_in == 0) {
          Floats some{};
          for (int64_t i = 0; i < at.floats(); i += kLanes) some += load(slot.region + i);
          float* bias = sums + Tile::kProducts * plan.product + v * kLanes;
          store(bias, load(bias) + some);
        }
        const int64_t pair = v / kOutVectors * kOutVectors, width = least(kOutVectors, unit.out_vectors - pair);
        for (int64_t tile = 0; tile < plan.tiles; ++tile) {
          const int64_t down = tile / plan.across, across = tile % plan.across;
          const float* from = slot.region + down * kRows * at.row() + across * kColumns * kLanes;
          float* to = slot.gradients + (pair * plan.tiles + tile * width + v - pair) * kLanes;
          Tile::output_transposed([&](int i, int j) { return load(from + i * at.row() + j * kLanes); },
                                  [&](int f, Floats s) { store(to + f * plan.out_stride, s); });
        }
      }
      for (int64_t v = 0; v < unit.in_vectors; ++v) {
        fetch_vector(fetch, sample, plan.channels.inputs, unit.first_in + v, around);
        for (int64_t tile = 0; tile < plan.tiles; ++tile) {
          const int64_t from = tile / plan.across * kRows * around.row() + tile % plan.across * kColumns * kLanes;
          float* to = slot.inputs + (v * plan.tiles + tile) * kLanes;
          Tile::input(slot.region + from, around.row(), kLanes,
                      [&](int f, Floats s) { store(to + f * plan.in_stride, s); });
        }
      }
      for (int f = 0; f < Tile::kProducts; ++f)
        for (int64_t pair = 0; pair < unit.out_vectors; pair += kOutVectors) {
          const float* gradients = slot.gradients + f * plan.out_stride + pair * plan.tiles * kLanes;
          const int64_t width = least(kOutVectors, unit.out_vectors - pair);
          for (int64_t v = 0; v < unit.in_vectors; ++v) {
            const int64_t used = least(kLanes, plan.channels.inputs - (unit.first_in + v) * kLanes);
            const float* inputs = slot.inputs + f * plan.in_stride + v * plan.tiles * kLanes;
            for (int64_t i = 0; i < used; i += kGradientRows) {
              float* to = sums + f * plan.product + place(plan, pair, width, v * kLanes + i);
              if (width == 2)
                add_products<kGradientRows, 2>(inputs + i, 0, gradients, 1, plan.tiles, to);
              else
                add_products<kGradientRows, 1>(inputs + i, 0, gradients, 1, plan.tiles, to);
            }
          }
        }
    }
  }

  // Where the sums of an input of a unit stand for a pair of vectors of outputs, `width` of them.
  static int64_t place(const Plan& plan, int64_t pair, int64_t width, int64_t input) {
    return (pair * plan.in_vectors * kLanes + input * width) * kLanes;
  }

  static void finish(const Plan& plan, int64_t index, int64_t vector, const float* sums, T* dweight, T* dbias) {
    const Unit unit(plan, index);
    if (vector >= unit.in_vectors) return;
    const int64_t outputs = plan.channels.outputs, inputs = plan.channels.inputs;
    const auto put_one = [](T* to, float value) { store_partial(to, broadcast(value), 1); };
    const auto total = [&](int64_t at) {
      const float* from = sums + index * plan.sums + at;
      Floats sum = load(from);
      for (int64_t part = 1; part < plan.parts; ++part) sum += load(from + part * plan.units * plan.sums);
      return sum;
    };
    for (int64_t v = 0; v < unit.out_vectors; ++v) {
      const int64_t first = (unit.first_out + v) * kLanes, count = least(kLanes, outputs - first);
      const int64_t output = unit.group * outputs + first;
      if (dbias != nullptr && unit.first_in == 0 && vector == 0)
        store_some(dbias + output, total(Tile::kProducts * plan.product + v * kLanes), count);
      if (dweight == nullptr) continue;
      const int64_t pair = v / kOutVectors * kOutVectors, width = least(kOutVectors, unit.out_vectors - pair);
      const int64_t first_input = (unit.first_in + vector) * kLanes;
      for (int64_t i = 0; i < least(kLanes, inputs - first_input); ++i) {
        const int64_t at = place(plan, pair, width, vector * kLanes + i) + (v - pair) * kLanes;
        float taps[9][kLanes];
        Tile::weights_transposed([&](int f) { return total(f * plan.product + at); },
                                 [&](int tap, Floats g) { store(taps[tap], g); });
        for (int64_t o = 0; o < count; ++o)
          for (int64_t tap = 0; tap < 9; ++tap)
            put_one(dweight + ((output + o) * inputs + first_input + i) * 9 + tap, taps[tap][o]);
      }
    }
  }
};

}  // namespace
}  // namespace lkops
