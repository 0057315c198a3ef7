// Convs of 3x3 with fewer multiplications. A block of tiles is transformed into L2, multiplied with the transformed
// weights of two vectors of output channels, product by product of the tile, and their sums are transformed back, given
// their epilogue and stored before the next two vectors are begun. Nothing but results is written to memory.
#pragma once

#include "conv2d/region.h"
#include "conv2d/tile.h"

namespace lkops {
namespace {

constexpr int64_t kTileBytes = 960 << 10;  // of a block's transformed inputs, about: with its sums and weights in L2
constexpr int64_t kMostTiles = 56;

// How the work is cut. An item is (sample, group, rows of tiles, columns of tiles, split of outputs), the last fastest.
// No result depends on it.
template <class Tile, int kRows, int kColumns, class E>
struct WinogradPlan {
  WinogradPlan(const Conv2dProblem& problem, int64_t slots) : channels(problem) {
    tiles_down = ceil_div(problem.out_height, kRows), tiles_across = ceil_div(problem.out_width, kColumns);
    const int64_t bytes = Tile::kProducts * channels.elements * kLanes * 4;
    const int64_t most_tiles = most(4, least(kMostTiles, kTileBytes / bytes));
    const int64_t panels = ceil_div(channels.out_vectors, kOutVectors);
    double best = 0;
    // cycles of a CPU with two vectors of FMA a cycle, about
    const double vectors = static_cast<double>(channels.depths() * channels.out_vectors);
    const bool is_large = Tile::kProducts * channels.depths() * channels.out_vectors * kLanes * 4 > (700 << 10);
    for (int64_t across_parts = 1; across_parts <= tiles_across; ++across_parts) {
      const int64_t across = ceil_div(tiles_across, across_parts);
      if (across > most_tiles || ceil_div(tiles_across, across) != across_parts) continue;
      for (int64_t down = 1; down <= tiles_down && down * across <= most_tiles; ++down)
        for (int64_t split = 1; split <= least(slots, panels); ++split) {
          const int64_t parts = problem.n * problem.groups * across_parts * ceil_div(tiles_down, down) * split;
          const double count = static_cast<double>(down * across);
          const double halo = static_cast<double>((down * kRows + 2) * (across * kColumns + 2));
          const double each = is_large ? 3.0 : 1.5;  // to read a vector of weights from L3 or L2
          const double of_row = count / 2 + 0.3 * static_cast<double>(ceil_div(down * across, kMostRows));
          const double cost =
              static_cast<double>(ceil_div(parts, slots)) *
              (static_cast<double>(channels.vectors) * (halo * 4 + count * Tile::kProducts * 4) +
               Tile::kProducts * vectors / static_cast<double>(split) * (of_row > each ? of_row : each) +
               static_cast<double>(channels.out_vectors) / static_cast<double>(split) * count * Tile::kProducts * 4);
          if (best == 0 || cost < best) best = cost, block_down = down, block_across = across, splits = split;
        }
    }
    down_parts = ceil_div(tiles_down, block_down), across_parts = ceil_div(tiles_across, block_across);
    tiles = block_down * block_across;
    items = problem.n * problem.groups * down_parts * across_parts * splits;
    stride = (channels.elements * tiles | 1) * kLanes;  // odd: a tile's products lie in different sets of the cache
  }

  Channels<E> channels;
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

  struct Slot {
    Slot(Workspace& space, const Plan& plan) {
      const int64_t rows = plan.block_down * kRows, columns = plan.block_across * kColumns;
      region = space.take<float>((rows + 2) * (columns + 2) * kLanes * (kPairs ? 2 : 1));
      results = space.take<float>(rows * columns * kLanes);
      inputs = space.take<E>(Tile::kProducts * plan.stride);
      sums = space.take<float>(Tile::kProducts * sums_of(plan));
      offsets = space.take<int64_t>(plan.channels.elements);
    }
    float *region, *results;
    E* inputs;
    float* sums;
    int64_t* offsets;
  };

  static int64_t sums_of(const Plan& plan) { return (plan.tiles * kOutVectors | 1) * kLanes; }

 public:
  static int64_t packed_bytes(const Conv2dProblem& problem) {
    const Channels<E> channels(problem);
    return problem.groups * Tile::kProducts * panel(channels) * channels.out_vectors * static_cast<int64_t>(sizeof(E));
  }

  // Panels of kOutVectors vectors of outputs; in each the products, in these chunks of input channels.
  static void pack(const Conv2dProblem& problem, const Parallel& parallel, const T* weight, bool flipped, void* packed) {
    const Channels<E> channels(problem);
    const int64_t rows = problem.groups * channels.out_vectors;
    for_ranges(parallel, rows, 1, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t group = row / channels.out_vectors, vector = row % channels.out_vectors;
        const int64_t from = vector / kOutVectors * kOutVectors, width = channels.vectors_from(from) * kLanes;
        E* to = static_cast<E*>(packed) +
                (group * channels.out_vectors + from) * Tile::kProducts * panel(channels) + (vector - from) * kLanes;
        for (int64_t chunk = 0; chunk < channels.elements; ++chunk)
          for (int64_t k = 0; k < channels.depth(chunk); ++k)
            pack_vector(channels, weight, flipped, group, vector, chunk, k,
                        to + (chunk * kLanes + k) * width, channels.depths() * width);
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
  static int64_t panel(const Channels<E>& channels) { return channels.depths() * kLanes; }

  static void pack_vector(const Channels<E>& channels, const T* weight, bool flipped, int64_t group, int64_t vector,
                          int64_t chunk, int64_t k, E* to, int64_t step) {
    Floats half[2][Tile::kProducts] = {};
    for (int h = 0; h < (kPairs ? 2 : 1); ++h) {
      const int64_t input = channels.input(chunk, k, h);
      if (input >= channels.inputs) continue;
      double lanes[9][kLanes] = {};
      for (int64_t lane = 0; lane < least(kLanes, channels.outputs - vector * kLanes); ++lane) {
        const int64_t output = vector * kLanes + lane;
        const T* from = weight + 9 * (flipped ? (group * channels.inputs + input) * channels.outputs + output
                                              : (group * channels.outputs + output) * channels.inputs + input);
        for (int i = 0; i < 9; ++i) lanes[i][lane] = static_cast<double>(widen(from[flipped ? 8 - i : i]));
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
    const int64_t group = item % problem.groups, sample = item / problem.groups, tiles = down * across;

    const Region region{row * kRows - problem.top, column * kColumns - problem.left, down * kRows + 2,
                        across * kColumns + 2, 1};
    const Fetch<T> fetch(problem, x);
    for (int64_t chunk = 0; chunk < channels.elements; ++chunk) {
      slot.offsets[chunk] = chunk * tiles * kLanes;
      for (int h = 0; h < (kPairs ? 2 : 1); ++h) {
        const int64_t channel = channels.input(chunk, 0, h);
        fetch.run(sample, group * channels.inputs + channel, most(0, least(kLanes, channels.inputs - channel)), region,
                  slot.region + h * region.floats());
      }
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const float* pixels = slot.region + tile / across * kRows * region.row() + tile % across * kColumns * kLanes;
        E* to = slot.inputs + (chunk * tiles + tile) * kLanes;
        if constexpr (kPairs) {
          float even[Tile::kProducts][kLanes];
          Tile::input(pixels, region.row(), [&](int f, Floats v) { store(even[f], v); });
          Tile::input(pixels + region.floats(), region.row(),
                      [&](int f, Floats v) { put(to + f * plan.stride, 0, load(even[f]), v, true); });
        } else {
          Tile::input(pixels, region.row(), [&](int f, Floats v) { store(to + f * plan.stride, v); });
        }
      }
    }

    const Rectangle at{sample, row * kRows, column * kColumns, least(down * kRows, problem.out_height - row * kRows),
                       least(across * kColumns, problem.out_width - column * kColumns)};
    const int64_t level = problem.levels ? most(1, 16 / kLanes) : channels.elements;
    const Chunks chunks{slot.offsets, channels.elements, kLanes, channels.elements - 1, channels.last_depth, level};
    const int64_t panels = ceil_div(channels.out_vectors, kOutVectors);
    for (int64_t part = split * panels / plan.splits; part < (split + 1) * panels / plan.splits; ++part) {
      const int64_t vector = part * kOutVectors, step = sums_of(plan);
      const int vectors = channels.vectors_from(vector);
      const E* weights = packed + (group * channels.out_vectors + vector) * Tile::kProducts * panel(channels);
      for (int f = 0; f < Tile::kProducts; ++f)
        multiply_chunks(tiles, vectors, slot.inputs + f * plan.stride, chunks, weights + f * panel(channels) * vectors,
                        slot.sums + f * step, vectors * kLanes);
      for (int v = 0; v < vectors; ++v) {
        for (int64_t tile = 0; tile < tiles; ++tile)
          finish_tile(at, tile / across, tile % across, slot.sums + (tile * vectors + v) * kLanes, step, slot.results);
        const int64_t channel = (vector + v) * kLanes;
        epilogue.finish(at, group * channels.outputs + channel, least(kLanes, channels.outputs - channel), slot.results,
                        kLanes);
      }
    }
  }

  static void finish_tile(const Rectangle& at, int64_t row, int64_t column, const float* sums, int64_t step,
                          float* results) {
    float* to = results + (row * kRows * at.columns + column * kColumns) * kLanes;
    const int64_t rows = at.rows - row * kRows, columns = at.columns - column * kColumns;
    const auto source = [&](int f) { return load(sums + f * step); };
    if (rows >= kRows && columns >= kColumns)
      return Tile::output(source, [&](int i, int j, Floats y) { store(to + (i * at.columns + j) * kLanes, y); });
    Tile::output(source, [&](int i, int j, Floats y) {
      if (i < rows && j < columns) store(to + (i * at.columns + j) * kLanes, y);
    });
  }
};

}  // namespace
}  // namespace lkops
