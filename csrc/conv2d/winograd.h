// Convs of stride 1 with fewer multiplications. A block of tiles is transformed into L2, multiplied with the transformed
// weights of two vectors of output channels, product by product of the tile, and their sums are transformed back, given
// their epilogue and stored before the next two vectors are begun. Nothing but results is written to memory.
//
// A kernel larger than 3x3 is several of 3x3, which read the input shifted by multiples of three: 5x5, with a row and a
// column of zeros, is four. Their products are summed before the transform back, as if each were further channels. With
// a dilation, the pixels of a tile are as far apart as the taps; a block has whole groups of such tiles, which lie
// between one another, so that its results are a rectangle.
#pragma once

#include "conv2d/region.h"
#include "conv2d/tile.h"

namespace lkops {
namespace {

constexpr int64_t kTileBytes = 960 << 10;  // of a block's transformed inputs, about: with its sums and weights in L2
constexpr int64_t kMostTiles = 56;

// How the work is cut. An item is (sample, group, rows of groups of tiles, columns of them, split of outputs), the last
// fastest. No result depends on it.
template <class Tile, int kRows, int kColumns, class E>
struct WinogradPlan {
  WinogradPlan(const Conv2dProblem& problem, int64_t slots)
      : channels(problem), spread_down(problem.dilation_height), spread_across(problem.dilation_width),
        shifts_down(ceil_div(problem.kernel_height, 3)), shifts_across(ceil_div(problem.kernel_width, 3)) {
    rows = spread_down * kRows, columns = spread_across * kColumns;
    shifts = shifts_down * shifts_across;
    tiles_down = ceil_div(problem.out_height, rows), tiles_across = ceil_div(problem.out_width, columns);
    const int64_t each_group = spread_down * spread_across;
    const int64_t bytes = Tile::kProducts * channels.elements * shifts * kLanes * 4;
    const int64_t most_tiles = most(1, most(4, least(kMostTiles, kTileBytes / bytes)) / each_group);
    const int64_t panels = ceil_div(channels.out_vectors, kOutVectors);
    double best = 0;
    // cycles of a CPU with two vectors of FMA a cycle, about
    const double vectors = static_cast<double>(channels.depths() * shifts * channels.out_vectors);
    const bool is_large = Tile::kProducts * channels.depths() * shifts * channels.out_vectors * kLanes * 4 > (700 << 10);
    for (int64_t across_parts = 1; across_parts <= tiles_across; ++across_parts) {
      const int64_t across = ceil_div(tiles_across, across_parts);
      if (across > most_tiles || ceil_div(tiles_across, across) != across_parts) continue;
      for (int64_t down = 1; down <= tiles_down && down * across <= most_tiles; ++down)
        for (int64_t split = 1; split <= least(slots, panels); ++split) {
          const int64_t parts = problem.n * problem.groups * across_parts * ceil_div(tiles_down, down) * split;
          const double count = static_cast<double>(down * across * each_group);
          const double halo = static_cast<double>(region_rows(down) * region_columns(across));
          const double each = is_large ? 3.0 : 1.5;  // to read a vector of weights from L3 or L2
          const double of_row = count / 2 + 0.3 * static_cast<double>(ceil_div(down * across * each_group, kMostRows));
          const double cost =
              static_cast<double>(ceil_div(parts, slots)) *
              (static_cast<double>(channels.vectors) *
                   (halo * 4 + static_cast<double>(shifts) * count * Tile::kProducts * 4) +
               Tile::kProducts * vectors / static_cast<double>(split) * (of_row > each ? of_row : each) +
               static_cast<double>(channels.out_vectors) / static_cast<double>(split) * count * Tile::kProducts * 4);
          if (best == 0 || cost < best) best = cost, block_down = down, block_across = across, splits = split;
        }
    }
    down_parts = ceil_div(tiles_down, block_down), across_parts = ceil_div(tiles_across, block_across);
    tiles = block_down * block_across * each_group;
    items = problem.n * problem.groups * down_parts * across_parts * splits;
    stride = (channels.elements * shifts * tiles | 1) * kLanes;  // odd: a tile's products lie in different sets of L1
  }
  int64_t region_rows(int64_t down) const { return down * rows + spread_down * (3 * shifts_down - 1); }
  int64_t region_columns(int64_t across) const { return across * columns + spread_across * (3 * shifts_across - 1); }
  // Where the tiles of a block begin.
  int64_t row_of(int64_t tile) const { return tile / spread_down * rows + tile % spread_down; }
  int64_t column_of(int64_t tile) const { return tile / spread_across * columns + tile % spread_across; }

  Channels<E> channels;
  int64_t spread_down, spread_across;  // from one pixel of a tile to the next
  int64_t shifts_down, shifts_across, shifts = 1;  // kernels of 3x3
  int64_t rows, columns;               // of results of a group of tiles
  int64_t tiles_down, tiles_across, block_down = 1, block_across = 1, splits = 1;
  int64_t down_parts, across_parts, tiles, items;
  int64_t stride;  // elements from one product's inputs to the next one's
};

template <int kRows, int kColumns, class T>
class Winograd {
  using E = Element<T>;
  using Tile = TileOf<kRows, kColumns>;
  using Plan = WinogradPlan<Tile, kRows, kColumns, E>;
  static constexpr bool kPairs = __is_same(E, Pair);

  struct Place {
    int64_t row, column;
  };

  struct Slot {
    Slot(Workspace& space, const Plan& plan) {
      region = space.take<float>(plan.region_rows(plan.block_down) * plan.region_columns(plan.block_across) * kLanes *
                                 (kPairs ? 2 : 1));
      results = space.take<float>(plan.block_down * plan.rows * plan.block_across * plan.columns * kLanes);
      inputs = space.take<E>(Tile::kProducts * plan.stride);
      sums = space.take<float>(Tile::kProducts * sums_of(plan));
      offsets = space.take<int64_t>(plan.channels.elements * plan.shifts);
      places = space.take<Place>(plan.tiles);
    }
    float *region, *results;
    E* inputs;
    float* sums;
    int64_t* offsets;
    Place* places;  // of the tiles of a block: their first results
  };

  static int64_t sums_of(const Plan& plan) { return (plan.tiles * kOutVectors | 1) * kLanes; }

 public:
  static int64_t packed_bytes(const Conv2dProblem& problem) {
    const Channels<E> channels(problem);
    return problem.groups * Tile::kProducts * panel(problem, channels) * channels.out_vectors *
           static_cast<int64_t>(sizeof(E));
  }

  // Panels of kOutVectors vectors of outputs; in each the products, in these chunks of input channels, with all kernels
  // of 3x3 of one together.
  static void pack(const Conv2dProblem& problem, const Parallel& parallel, const T* weight, bool flipped, void* packed) {
    const Channels<E> channels(problem);
    const int64_t rows = problem.groups * channels.out_vectors;
    for_ranges(parallel, rows, 1, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t group = row / channels.out_vectors, vector = row % channels.out_vectors;
        const int64_t from = vector / kOutVectors * kOutVectors, width = channels.vectors_from(from) * kLanes;
        E* to = static_cast<E*>(packed) + (vector - from) * kLanes +
                (group * channels.out_vectors + from) * Tile::kProducts * panel(problem, channels);
        for (int64_t chunk = 0; chunk < channels.elements; ++chunk)
          for (int64_t y = 0; y < problem.kernel_height; y += 3)
            for (int64_t x = 0; x < problem.kernel_width; x += 3)
              for (int64_t k = 0; k < channels.depth(chunk); ++k, to += width)
                pack_vector(problem, channels, weight, flipped, group, vector, chunk, k, y, x, to,
                            panel(problem, channels) / kLanes * width);
      }
    });
  }

  static int64_t scratch(const Conv2dProblem& problem, int64_t slots) {
    Workspace space;
    Slot(space, Plan(problem, slots));
    return slots * space.bytes();
  }

  static void forward(const Conv2dProblem& problem, const Parallel& parallel, const T* x, const void* packed,
                      const Epilogue<T>& epilogue, void* scratch) {
    const Plan plan(problem, parallel.slots);
    Workspace one;
    Slot(one, plan);
    for_ranges(parallel, plan.items, 1, [&](int64_t index, int64_t first, int64_t last) {
      Workspace space(static_cast<char*>(scratch) + index * one.bytes());
      const Slot slot(space, plan);
      for (int64_t item = first; item < last; ++item)
        run(problem, plan, item, x, static_cast<const E*>(packed), epilogue, slot);
    });
  }

 private:
  static int64_t panel(const Conv2dProblem& problem, const Channels<E>& channels) {
    return ceil_div(problem.kernel_height, 3) * ceil_div(problem.kernel_width, 3) * channels.depths() * kLanes;
  }

  // The 3x3 taps from (y, x) on, zeros beyond the kernel.
  static void pack_vector(const Conv2dProblem& problem, const Channels<E>& channels, const T* weight, bool flipped,
                          int64_t group, int64_t vector, int64_t chunk, int64_t k, int64_t y, int64_t x, E* to,
                          int64_t step) {
    const int64_t taps = problem.kernel_height * problem.kernel_width;
    Floats half[2][Tile::kProducts] = {};
    for (int h = 0; h < (kPairs ? 2 : 1); ++h) {
      const int64_t input = channels.input(chunk, k, h);
      if (input >= channels.inputs) continue;
      double lanes[9][kLanes] = {};
      for (int64_t lane = 0; lane < least(kLanes, channels.outputs - vector * kLanes); ++lane) {
        const int64_t output = vector * kLanes + lane;
        const T* from = weight + taps * (flipped ? (group * channels.inputs + input) * channels.outputs + output
                                                 : (group * channels.outputs + output) * channels.inputs + input);
        for (int64_t i = 0; i < least(3, problem.kernel_height - y); ++i)
          for (int64_t j = 0; j < least(3, problem.kernel_width - x); ++j) {
            const int64_t tap = (y + i) * problem.kernel_width + x + j;
            lanes[i * 3 + j][lane] = static_cast<double>(widen(from[flipped ? taps - 1 - tap : tap]));
          }
      }
      Doubles g[9], u[Tile::kProducts];
      __builtin_memcpy(g, lanes, sizeof g);
      Tile::weights(g, u);
      for (int f = 0; f < Tile::kProducts; ++f) half[h][f] = __builtin_convertvector(u[f], Floats);
    }
    for (int f = 0; f < Tile::kProducts; ++f) {
      if constexpr (kPairs)
        for (int lane = 0; lane < kLanes; ++lane)
          to[f * step + lane].bits = narrow_bits(half[0][f][lane]) | narrow_bits(half[1][f][lane]) << 16;
      else
        store(to + f * step, half[0][f]);
    }
  }

  static void run(const Conv2dProblem& problem, const Plan& plan, int64_t item, const T* x, const E* packed,
                  const Epilogue<T>& epilogue, const Slot& slot) {
    const Channels<E>& channels = plan.channels;
    const int64_t split = item % plan.splits;
    item /= plan.splits;
    const int64_t column = item % plan.across_parts * plan.tiles_across / plan.across_parts;
    const int64_t across = (item % plan.across_parts + 1) * plan.tiles_across / plan.across_parts - column;
    item /= plan.across_parts;
    const int64_t row = item % plan.down_parts * plan.tiles_down / plan.down_parts;
    const int64_t down = (item % plan.down_parts + 1) * plan.tiles_down / plan.down_parts - row;
    item /= plan.down_parts;
    const int64_t group = item % problem.groups, sample = item / problem.groups;

    const int64_t in_row = across * plan.spread_across, tiles = down * plan.spread_down * in_row;  // tiles

    const Region region{row * plan.rows - problem.top, column * plan.columns - problem.left, plan.region_rows(down),
                        plan.region_columns(across), 1};
    const Fetch<T> fetch(problem, x);
    for (int64_t tile = 0; tile < tiles; ++tile)
      slot.places[tile] = {plan.row_of(tile / in_row), plan.column_of(tile % in_row)};
    const int64_t row_step = plan.spread_down * region.row(), step = plan.spread_across * kLanes;
    for (int64_t chunk = 0; chunk < channels.elements; ++chunk) {
      for (int h = 0; h < (kPairs ? 2 : 1); ++h) {
        const int64_t channel = channels.input(chunk, 0, h);
        fetch.run(sample, group * channels.inputs + channel, most(0, least(kLanes, channels.inputs - channel)), region,
                  slot.region + h * region.floats());
      }
      for (int64_t shift = 0; shift < plan.shifts; ++shift) {
        const int64_t offset = (chunk * plan.shifts + shift) * tiles * kLanes;
        slot.offsets[chunk * plan.shifts + shift] = offset;
        const int64_t down = shift / plan.shifts_across, across = shift % plan.shifts_across;
        const float* from = slot.region + down * 3 * row_step + across * 3 * step;
        for (int64_t tile = 0; tile < tiles; ++tile) {
          const float* pixels = from + slot.places[tile].row * region.row() + slot.places[tile].column * kLanes;
          E* to = slot.inputs + offset + tile * kLanes;
          if constexpr (kPairs) {
            float even[Tile::kProducts][kLanes];
            Tile::input(pixels, row_step, step, [&](int f, Floats v) { store(even[f], v); });
            Tile::input(pixels + region.floats(), row_step, step,
                        [&](int f, Floats v) { put(to + f * plan.stride, 0, load(even[f]), v, true); });
          } else {
            Tile::input(pixels, row_step, step, [&](int f, Floats v) { store(to + f * plan.stride, v); });
          }
        }
      }
    }

    const Rectangle at{sample, row * plan.rows, column * plan.columns,
                       least(down * plan.rows, problem.out_height - row * plan.rows),
                       least(across * plan.columns, problem.out_width - column * plan.columns)};
    const int64_t count = channels.elements * plan.shifts, level = problem.levels ? most(1, 16 / kLanes) : count;
    const Chunks chunks{slot.offsets, count, kLanes, count - plan.shifts, channels.last_depth, level};
    const int64_t panels = ceil_div(channels.out_vectors, kOutVectors);
    for (int64_t part = split * panels / plan.splits; part < (split + 1) * panels / plan.splits; ++part) {
      const int64_t vector = part * kOutVectors, sums_step = sums_of(plan);
      const int vectors = channels.vectors_from(vector);
      const E* weights = packed + (group * channels.out_vectors + vector) * Tile::kProducts * panel(problem, channels);
      for (int f = 0; f < Tile::kProducts; ++f)
        multiply_chunks(tiles, vectors, slot.inputs + f * plan.stride, chunks,
                        weights + f * panel(problem, channels) * vectors, slot.sums + f * sums_step, vectors * kLanes);
      for (int v = 0; v < vectors; ++v) {
        for (int64_t tile = 0; tile < tiles; ++tile)
          finish_tile(plan, at, slot.places[tile].row, slot.places[tile].column,
                      slot.sums + (tile * vectors + v) * kLanes, sums_step, slot.results);
        const int64_t channel = (vector + v) * kLanes;
        epilogue.finish(at, group * channels.outputs + channel, least(kLanes, channels.outputs - channel), slot.results,
                        kLanes);
      }
    }
  }

  // row, column: of the tile's first result in the block
  static void finish_tile(const Plan& plan, const Rectangle& at, int64_t row, int64_t column, const float* sums,
                          int64_t step, float* results) {
    float* to = results + (row * at.columns + column) * kLanes;
    const int64_t down = plan.spread_down * at.columns * kLanes, across = plan.spread_across * kLanes;
    const int64_t rows = ceil_div(at.rows - row, plan.spread_down);
    const int64_t columns = ceil_div(at.columns - column, plan.spread_across);
    const auto source = [&](int f) { return load(sums + f * step); };
    if (rows >= kRows && columns >= kColumns)
      return Tile::output(source, [&](int i, int j, Floats y) { store(to + i * down + j * across, y); });
    Tile::output(source, [&](int i, int j, Floats y) {
      if (i < rows && j < columns) store(to + i * down + j * across, y);
    });
  }
};

}  // namespace
}  // namespace lkops
