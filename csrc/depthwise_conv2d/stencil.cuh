// Dilated depthwise convs of planes that lie in shared memory, and the gradients of their weights, for one block.
//
// Pixels that lie a dilation apart form a dense conv of their own. A thread takes a few pixels of a column that are
// neighbours in this sense, and reads every value that several of them need once for all. Rows outside the plane are
// read from zeros in shared memory, `kReach` to either side of which may be read as well, so that a tap's address is
// that of its row and a number known when this is compiled; columns outside are skipped.
#pragma once

#include "common/cuda.cuh"

namespace lkops {

// A rectangle of a plane.
struct Tile {
  int top = 0, left = 0, rows = 0, columns = 0;
  LKOPS_BOTH int pixels() const { return rows * columns; }
};

// The kernel of a conv that is known when this is compiled: odd side, dilation, pixels of a thread. kWhole: these are
// all that a column has, of a plane of at most kTogether kDilation rows.
template <int kSide, int kDilation, int kTogether, bool kWhole>
struct Taps {
  static constexpr bool kGeneral = false;
  static constexpr int kCenter = kSide / 2, kReach = kCenter * kDilation, kZeros = 2 * kReach + 4;
  static constexpr int kStride = kSide <= 4 ? 4 : 8;  // of a column of weights in shared memory
  static_assert(kSide <= 8, "a column of weights has up to eight");

  static bool fits(int64_t rows, int64_t columns, int64_t dilation, int64_t height) {
    return rows == kSide && columns == kSide && dilation == kDilation && (!kWhole || height <= kTogether * kDilation);
  }
  LKOPS_BOTH static int64_t down() { return kReach; }
  LKOPS_BOTH static int64_t right() { return kReach; }
  LKOPS_BOTH static int rows() { return kSide; }
  LKOPS_BOTH static int columns() { return kSide; }
  LKOPS_BOTH static int stride() { return kStride; }
  // of pixels that threads take together, in a column of a tile of so many rows
  LKOPS_BOTH static int groups(int rows) {
    return kWhole ? kDilation : kDilation * ((rows + kDilation * kTogether - 1) / (kDilation * kTogether));
  }

  // Where the values of group g are that all its taps in the middle column need: offsets into shared memory.
  static constexpr int kValues = kWhole ? kTogether : kTogether + kSide - 1;
  LKOPS_KERNEL static int first_row(int g) { return g % kDilation + g / kDilation * (kTogether * kDilation); }
  LKOPS_KERNEL static void locate(int (&at)[kValues], int x, int zeros, const Tile& in, int row, int column) {
    LKOPS_UNROLL
    for (int m = 0; m < kValues; ++m) {
      const int r = row + (kWhole ? m : m - kCenter) * kDilation - in.top;
      at[m] = r >= 0 && r < in.rows ? x + r * in.columns + column : zeros + kReach;
    }
  }

  // to(row, column, conv of x + shift): for group g of a column of `out`, counted from its left. `in` is what lies at x.
  template <class To>
  LKOPS_KERNEL void convolve(const float* shared, int x, int w, int zeros, const Tile& in, const Tile& out, int g,
                             int column, const To& to) const {
    const int row = out.top + first_row(g), middle = out.left + column - in.left;
    int at[kValues];
    locate(at, x, zeros, in, row, middle);
    float sum[kTogether] = {};
    LKOPS_UNROLL
    for (int q = 0; q < kSide; ++q) {
      const int offset = (q - kCenter) * kDilation;
      if (static_cast<unsigned>(middle + offset) >= static_cast<unsigned>(in.columns)) continue;
      float values[kValues], weights[kStride];
      LKOPS_UNROLL
      for (int m = 0; m < kValues; ++m) values[m] = shared[at[m] + offset];
      LKOPS_UNROLL
      for (int p = 0; p < kStride; p += 4) {
        const Four four = *reinterpret_cast<const Four*>(shared + w + q * kStride + p);
        LKOPS_UNROLL
        for (int i = 0; i < 4; ++i) weights[p + i] = four.values[i];
      }
      LKOPS_UNROLL
      for (int k = 0; k < kTogether; ++k) {
        LKOPS_UNROLL
        for (int p = 0; p < kSide; ++p) {
          const int m = kWhole ? k + p - kCenter : k + p;
          if (m >= 0 && m < kValues) sum[k] += weights[p] * values[m];
        }
      }
    }
    LKOPS_UNROLL
    for (int k = 0; k < kTogether; ++k)
      if (row + k * kDilation < out.top + out.rows) to(row + k * kDilation, out.left + column, sum[k]);
  }

  // Adds to shared[at + p stride] the products of dy and x for tap (p, q) over the share of slot s of `slots`; with
  // q = columns() the sum of dy itself to p = 0. dy lies at `dy`, all of `out`.
  LKOPS_KERNEL void correlate(float* shared, int at, int stride, int dy, int x, int zeros, const Tile& in,
                              const Tile& out, const Divider& across, int q, int s, int slots, int, int) const {
    float sum[kSide] = {};
    const bool bias = q == kSide;
    const int offset = bias ? 0 : (q - kCenter) * kDilation;
    for (int i = s, count = groups(out.rows) * across.size(); i < count; i += slots) {
      const int g = across.quotient(i), column = across.remainder(i, g);
      if (column >= out.columns) continue;
      const int row = out.top + first_row(g), middle = out.left + column - in.left;
      if (static_cast<unsigned>(middle + offset) >= static_cast<unsigned>(in.columns)) continue;
      float slopes[kTogether], values[kValues];
      LKOPS_UNROLL
      for (int k = 0; k < kTogether; ++k) {
        const int r = row + k * kDilation - out.top;
        slopes[k] = shared[r < out.rows ? dy + r * out.columns + column : zeros];
      }
      if (bias) {
        LKOPS_UNROLL
        for (int k = 0; k < kTogether; ++k) sum[0] += slopes[k];
        continue;
      }
      int places[kValues];
      locate(places, x, zeros, in, row, middle);
      LKOPS_UNROLL
      for (int m = 0; m < kValues; ++m) values[m] = shared[places[m] + offset];
      LKOPS_UNROLL
      for (int k = 0; k < kTogether; ++k) {
        LKOPS_UNROLL
        for (int p = 0; p < kSide; ++p) {
          const int m = kWhole ? k + p - kCenter : k + p;
          if (m >= 0 && m < kValues) sum[p] += slopes[k] * values[m];
        }
      }
    }
    LKOPS_UNROLL
    for (int p = 0; p < kSide; ++p)
      if (!bias || p == 0) shared[at + p * stride] += sum[p];
  }
};

// Any other kernel: a pixel at a time. The dilation is at most 2^30; in.top, in.left + their sizes are the plane's where
// a tap might leave it.
struct General {
  static constexpr bool kGeneral = true;
  static constexpr int kReach = 0, kZeros = 4;
  int sides[2] = {1, 1}, dilation = 1;

  static bool fits(int64_t, int64_t, int64_t, int64_t) { return true; }
  LKOPS_BOTH int64_t down() const { return int64_t{dilation} * (sides[0] / 2); }  // how far it reaches
  LKOPS_BOTH int64_t right() const { return int64_t{dilation} * (sides[1] / 2); }
  LKOPS_BOTH int rows() const { return sides[0]; }
  LKOPS_BOTH int columns() const { return sides[1]; }
  LKOPS_BOTH int stride() const { return sides[0]; }
  LKOPS_BOTH static int groups(int rows) { return rows; }

  // The taps p with 0 <= i + dilation (p - side / 2) < length: [first, last).
  LKOPS_KERNEL void range(int side, int i, int length, int& first, int& last) const {
    first = side / 2 - i / dilation, last = side / 2 + (length - 1 - i) / dilation + 1;
    first = first < 0 ? 0 : first, last = last > side ? side : last;
  }

  // Nothing for a group below the tile.
  template <class To>
  LKOPS_KERNEL void convolve(const float* shared, int x, int w, int, const Tile& in, const Tile& out, int g,
                             int column, const To& to) const {
    if (g >= out.rows) return;
    const int i = out.top + g - in.top, j = out.left + column - in.left;
    int p0, p1, q0, q1;
    range(sides[0], i, in.rows, p0, p1), range(sides[1], j, in.columns, q0, q1);
    float sum = 0;
    for (int q = q0; q < q1; ++q) {
      const int from = x + j + dilation * (q - sides[1] / 2);
      for (int p = p0; p < p1; ++p)
        sum += shared[w + q * sides[0] + p] * shared[from + (i + dilation * (p - sides[0] / 2)) * in.columns];
    }
    to(out.top + g, out.left + column, sum);
  }

  LKOPS_KERNEL void correlate(float* shared, int at, int stride, int dy, int x, int, const Tile& in, const Tile& out,
                              const Divider& across, int q, int s, int slots, int first, int some) const {
    const bool bias = q == sides[1];
    const int64_t across_by = bias ? 0 : int64_t{dilation} * (q - sides[1] / 2);
    for (int p = 0; p < (bias ? 1 : some) && first + p < sides[0]; ++p) {
      const int64_t down_by = bias ? 0 : int64_t{dilation} * (first + p - sides[0] / 2);
      float sum = 0;
      for (int i = s, count = out.rows * across.size(); i < count; i += slots) {
        const int r = across.quotient(i), c = across.remainder(i, r);
        if (c >= out.columns) continue;
        const int64_t row = out.top + r - in.top + down_by, column = out.left + c - in.left + across_by;
        if (!bias && (row < 0 || row >= in.rows || column < 0 || column >= in.columns)) continue;
        const float slope = shared[dy + r * out.columns + c];
        sum += bias ? slope : slope * shared[x + row * in.columns + column];
      }
      shared[at + p * stride] += sum;
    }
  }
};

// Channel of the p-th plane after one of channel `first`; p is small, and a division takes long.
LKOPS_KERNEL int64_t channel_after(int64_t first, int p, int64_t channels) {
  int64_t c = first + p;
  while (c >= channels) c -= channels;
  return c;
}

// Floats of a kernel and its bias, which `fill_weights` puts at their end less four.
template <class Kernel>
int64_t weights_floats(const Kernel& taps) {
  return round_up(taps.columns() * taps.stride(), 4) + 4;
}

// Kernels of `count` planes, of which the first is of channel `first`, and their biases (0 where there are none) to
// shared memory, `floats` of weights_floats in all and `apart` from each other, column by column; turned by 180 degrees
// if `flip`.
template <class T, class Kernel, class Block>
LKOPS_KERNEL void fill_weights(const Block& block, float* shared, int to, int floats, int apart, int count,
                               const Kernel& taps, const T* weight, const T* bias, int64_t first, int64_t channels,
                               bool flip) {
  const int columns = taps.columns(), rows = taps.rows(), each = columns * taps.stride() + 1;
  block.each(count * each, [&](int i) {
    const int plane = i / each, k = i % each, q = k / taps.stride(), p = k % taps.stride(), from = p * columns + q;
    const int64_t c = channel_after(first, plane, channels);
    float value = 0;
    if (k + 1 == each)
      value = bias == nullptr ? 0 : widen(bias[c]);
    else if (p < rows)
      value = widen(weight[c * rows * columns + (flip ? rows * columns - 1 - from : from)]);
    shared[to + plane * apart + (k + 1 == each ? floats - 4 : k)] = value;
  });
}

template <class Block>
LKOPS_KERNEL void fill_zeros(const Block& block, float* shared, int to, int count) {
  block.each(count, [&](int i) { shared[to + i] = 0; });
}

}  // namespace lkops
