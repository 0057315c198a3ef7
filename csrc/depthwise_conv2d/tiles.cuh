// Which kernels are known when this is compiled, and how planes are cut where they do not fit in shared memory.
#pragma once

#include "depthwise_conv2d/cpu.h"
#include "depthwise_conv2d/stencil.cuh"

namespace lkops {

// The two convs of LKCA-Net, by the height of planes. Pixels of a thread are few enough for 64 registers.
using Taps5 = Taps<5, 5, 4, false>;
using Taps7 = Taps<7, 7, 5, false>;
using SmallTaps5 = Taps<5, 5, 4, true>;  // planes of up to 20 rows
using SmallTaps7 = Taps<7, 7, 3, true>;  // planes of up to 21 rows

inline General general_taps(int64_t rows, int64_t columns, int64_t dilation, int64_t height, int64_t width) {
  const int64_t longest = height > width ? height : width;  // a larger dilation reaches nothing as well
  General taps;
  taps.sides[0] = static_cast<int>(rows), taps.sides[1] = static_cast<int>(columns);
  taps.dilation = static_cast<int>(dilation < longest ? dilation : longest);
  return taps;
}

constexpr int64_t kMostPixels = int64_t{1} << 30;  // of a plane: offsets within a plane and taps fit 32 bits
constexpr int kWanted = 512;                       // blocks: about four for each multiprocessor

// How planes are cut into tiles.
struct Tiling {
  int height = 0, width = 0, rows = 0, columns = 0, across = 1, tiles = 1;

  LKOPS_KERNEL Tile tile(int index) const {
    const int top = index / across * rows, left = index % across * columns;
    return {top, left, rows < height - top ? rows : height - top, columns < width - left ? columns : width - left};
  }
  // What a conv that reaches so far needs of a plane for a tile.
  LKOPS_KERNEL Tile around(const Tile& tile, int64_t down, int64_t right) const {
    const int64_t top = tile.top - down, bottom = tile.top + tile.rows + down;
    const int64_t left = tile.left - right, end = tile.left + tile.columns + right;
    const int t = top < 0 ? 0 : static_cast<int>(top), b = bottom > height ? height : static_cast<int>(bottom);
    const int l = left < 0 ? 0 : static_cast<int>(left), e = end > width ? width : static_cast<int>(end);
    return {t, l, b - t, e - l};
  }
};

inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

// Tiles whose surroundings, by `rows` and `columns` more on each side, and `copies` of themselves fit so many floats:
// the plane or else those with the least surroundings. None with tiles == 0.
inline Tiling tiling_of(int64_t height, int64_t width, int64_t down, int64_t right, int64_t copies, int64_t floats) {
  Tiling best;
  best.height = static_cast<int>(height), best.width = static_cast<int>(width), best.tiles = 0;
  double least = 16;  // with more than that, reading from global memory is not worse
  const int64_t sizes[] = {int64_t{1} << 30, 128, 64, 32, 16, 8};
  for (int64_t r : sizes)
    for (int64_t c : sizes) {
      const int64_t rows = at_most(r, height), columns = at_most(c, width);
      const int64_t around = at_most(rows + 2 * down, height) * at_most(columns + 2 * right, width);
      const double cost = static_cast<double>(around) / static_cast<double>(rows * columns);
      if (around + copies * rows * columns + 8 > floats || cost >= least) continue;
      least = cost;
      best.rows = static_cast<int>(rows), best.columns = static_cast<int>(columns);
      best.across = static_cast<int>(ceil_div(width, columns));
      best.tiles = static_cast<int>(ceil_div(height, rows)) * best.across;
    }
  return best;
}

// A rectangle of a plane to shared memory, plus `shift`.
template <class T, class Block>
LKOPS_KERNEL void fill_tile(const Block& block, float* shared, int to, const T* plane, const Tile& tile, int width,
                            float shift) {
  const T* from = plane + int64_t{tile.top} * width + tile.left;
  if (tile.columns == width) {
    Planes<T> shape;
    shape.pixels = tile.pixels();
    fill<T>(block, shared, to, from, nullptr, shape, 1, 0, [=](int) { return shift; });
  } else {
    block.each(tile.rows * 32, [&](int i) {
      const int row = i / 32;
      for (int column = i % 32; column < tile.columns; column += 32)
        shared[to + row * tile.columns + column] = widen(from[int64_t{row} * width + column]) + shift;
    });
  }
}

}  // namespace lkops
