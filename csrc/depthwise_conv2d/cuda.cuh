// Depthwise convs on the GPU: bodies (common/cuda.cuh) and what launches them; `attention` builds on them.
#pragma once

#include <type_traits>

#include "depthwise_conv2d/cuda.h"
#include "depthwise_conv2d/tiles.cuh"
#include "depthwise_conv2d/weights.cuh"

namespace lkops {

// y = conv(x + x_shift) + b + y_shift + first + second
template <class T>
struct Conv {
  const T *x, *weight;
  T* y;
  const T *bias = nullptr, *first = nullptr, *second = nullptr;  // may be null
  bool flip = false;                                             // the transposed conv
  // Of sample n and channel c, at n stride + c; null: 0. Sums over a tile of x and of y go to (n stride + c) tiles +
  // tile; null: not wanted.
  const float *x_shift = nullptr, *y_shift = nullptr;
  float *x_sum = nullptr, *y_sum = nullptr;
  int64_t stride = 0;
};

// Does that for planes that fit in shared memory, several a block, or for tiles of planes. With a General kernel whose
// surroundings are too large, `direct`, x and w stay in global memory.
template <class T, class Kernel>
struct Convolve {
  static constexpr int kThreads = 256;
  Conv<T> a;
  int64_t planes = 0, channels = 0;
  Kernel taps;
  bool direct = false;
  Tiling tiling{};
  int together = 1;
  // offsets in shared memory, and how items are counted
  int weights = 0, each_weights = 0, region = 0, slots = 0;
  Planes<T> shape{};
  Divider by_groups{}, by_columns{};

  // Floats of shared memory beside the tile and its surroundings.
  int64_t beside() const {
    const int64_t sums = a.x_sum != nullptr || a.y_sum != nullptr ? 2 * kThreads + 16 : 0;
    return round_up(Kernel::kZeros, 4) + weights_floats(taps) + sums;
  }
  // Returns the floats of shared memory, of at most so many; blocks() blocks are wanted.
  int64_t plan(int64_t floats) {
    return plan_for(tiling_of(tiling.height, tiling.width, taps.down(), taps.right(), 0, floats - beside()));
  }
  // With these tiles, whose surroundings fit; without any, from global memory.
  int64_t plan_for(const Tiling& tiles) {
    tiling = tiles, direct = tiles.tiles == 0;
    if (direct) tiling = tiling_of(tiling.height, tiling.width, 0, 0, 0, 4096);
    const int64_t sums = a.x_sum != nullptr || a.y_sum != nullptr ? 2 * kThreads + 16 : 0;
    each_weights = direct ? 0 : static_cast<int>(weights_floats(taps));
    const Tile inner{0, 0, tiling.rows, tiling.columns};
    int64_t most = at_most(inner.rows + 2 * taps.down(), tiling.height) *
                   at_most(inner.columns + 2 * taps.right(), tiling.width);
    most = direct ? 0 : most;
    if (tiling.tiles == 1 && !direct && sums == 0 && a.x_shift == nullptr && a.y_shift == nullptr) {
      together = static_cast<int>(at_most(at_most(8, 2048 / most), planes / kWanted));
      together = together < 1 ? 1 : together;
    }
    weights = static_cast<int>(round_up(Kernel::kZeros, 4));
    region = weights + together * each_weights;
    slots = region + static_cast<int>(round_up(together * most, 4));
    shape = Planes<T>(tiling.rows * tiling.columns);
    by_groups = Divider(taps.groups(tiling.rows)), by_columns = Divider(tiling.columns);
    return slots + sums;
  }
  int64_t blocks() const { return ceil_div(planes, together) * tiling.tiles; }

  template <class Block>
  LKOPS_KERNEL void operator()(const Block& block, float* shared) const {
    const int number = static_cast<int>(block.index() % tiling.tiles);
    const int64_t plane = block.index() / tiling.tiles * together, pixels = int64_t{tiling.height} * tiling.width;
    const int count = together < planes - plane ? together : static_cast<int>(planes - plane);
    const int64_t channel = plane % channels, gate = plane / channels * a.stride + channel;
    const float by = a.x_shift == nullptr ? 0 : a.x_shift[gate];
    const Tile out = tiling.tile(number), in = tiling.around(out, taps.down(), taps.right());
    if (!direct) {
      fill_zeros(block, shared, 0, Kernel::kZeros);
      fill_weights(block, shared, weights, each_weights, each_weights, count, taps, a.weight, a.bias, channel, channels,
                   a.flip);
      if (tiling.tiles == 1)
        fill<T>(block, shared, region, a.x + plane * pixels, nullptr, shape, count, pixels, [=](int) { return by; });
      else
        fill_tile(block, shared, region, a.x + plane * pixels, in, tiling.width, by);
      block.sync();
    }
    const int wide = by_columns.size(), groups = by_groups.size();
    block.each(kThreads, [&](int s) {
      float sum = 0;
      for (int i = s; i < count * groups * wide; i += kThreads) {
        const int t = by_columns.quotient(i), column = by_columns.remainder(i, t);
        const int p = by_groups.quotient(t), g = by_groups.remainder(t, p);
        if (column >= out.columns) continue;
        const int64_t start = (plane + p) * pixels;
        float base = a.y_shift == nullptr ? 0 : a.y_shift[gate];
        if (!direct)
          base += shared[weights + (p + 1) * each_weights - 4];
        else
          base += a.bias == nullptr ? 0 : widen(a.bias[channel]);
        const auto store = [&](int row, int j, float value) {
          const int64_t at = start + int64_t{row} * tiling.width + j;
          value += base;
          if (a.first != nullptr) value += widen(a.first[at]);
          if (a.second != nullptr) value += widen(a.second[at]);
          a.y[at] = narrow<T>(value);
          sum += value;
        };
        if (direct)
          from_global(a.x + start, a.weight + channel * taps.rows() * taps.columns(), by, out.top + g,
                      out.left + column, g < out.rows, store);
        else
          taps.convolve(shared, region + p * shape.pixels, weights + p * each_weights, 0, in, out, g, column, store);
      }
      if (a.y_sum != nullptr) shared[slots + s] = sum;
      if (a.x_sum != nullptr) {
        sum = 0;
        for (int i = s; i < out.rows * wide; i += kThreads) {
          const int row = by_columns.quotient(i), column = by_columns.remainder(i, row);
          if (column < out.columns)
            sum += widen(a.x[plane * pixels + int64_t{out.top + row} * tiling.width + out.left + column]);
        }
        shared[slots + kThreads + s] = sum;
      }
    });
    if (a.x_sum == nullptr && a.y_sum == nullptr) return;
    block.sync();
    const int64_t to = gate * tiling.tiles + number;
    fold(block, shared, slots, a.x_sum == nullptr ? 1 : 2, kThreads, kThreads, slots + 2 * kThreads,
         [&](int k, float total) {
           if (k == 0 && a.y_sum != nullptr) a.y_sum[to] = total;
           if (k == 1) a.x_sum[to] = total;
         });
  }

  template <class Store>
  LKOPS_KERNEL void from_global(const T* plane, const T* w, float shift, int row, int column, bool inside,
                                const Store& store) const {
    if constexpr (Kernel::kGeneral) {
      if (!inside) return;
      const int rows = taps.rows(), columns = taps.columns();
      int p0, p1, q0, q1;
      taps.range(rows, row, tiling.height, p0, p1), taps.range(columns, column, tiling.width, q0, q1);
      float sum = 0;
      for (int p = p0; p < p1; ++p) {
        const T* from = plane + int64_t{row + taps.dilation * (p - rows / 2)} * tiling.width + column;
        for (int q = q0; q < q1; ++q) {
          const int tap = p * columns + q;
          sum += widen(w[a.flip ? rows * columns - 1 - tap : tap]) *
                 (widen(from[taps.dilation * (q - columns / 2)]) + shift);
        }
      }
      store(row, column, sum);
    }
  }
};

// Calls use(taps) with the kernel that fits, the general one last.
template <class Use>
void with_taps(const DepthwiseProblem& s, const Use& use) {
  if (Taps5::fits(s.rows, s.columns, s.dilation, s.height)) return use(Taps5{});
  if (Taps7::fits(s.rows, s.columns, s.dilation, s.height)) return use(Taps7{});
  use(general_taps(s.rows, s.columns, s.dilation, s.height, s.width));
}

// With the tiles that are given, if any; tiles->tiles == 0 asks for none.
template <class T, class Launch>
void convolve(Launch& launch, const DepthwiseProblem& s, const Conv<T>& a, const Tiling* tiles) {
  const auto run = [&](const auto& taps) {
    Convolve<T, std::decay_t<decltype(taps)>> body{a, s.batch * s.channels, s.channels, taps};
    body.tiling.height = static_cast<int>(s.height), body.tiling.width = static_cast<int>(s.width);
    const int64_t floats = tiles == nullptr ? body.plan(launch.limit()) : body.plan_for(*tiles);
    launch(body, body.blocks(), floats);
  };
  if (tiles != nullptr && tiles->tiles == 0) return run(general_taps(s.rows, s.columns, s.dilation, s.height, s.width));
  with_taps(s, run);
}

// Both stages.
template <class T, class Launch>
void weight_gradient(Launch& launch, const DepthwiseProblem& s, const Slopes<T>& a) {
  if (!a.to.is_wanted()) return;
  with_taps(s, [&](const auto& taps) {
    WeightGradient<T, std::decay_t<decltype(taps)>> body{a, s.batch, s.channels, taps};
    body.tiling.height = static_cast<int>(s.height), body.tiling.width = static_cast<int>(s.width);
    const int64_t floats = body.plan(launch.limit());
    launch(body, body.blocks(), floats);
    add_parts(launch, s.channels, a.to, Gradient<T>{}, body.splits);
  });
}

template <class T, class Launch>
void depthwise_forward(Launch& launch, const DepthwiseProblem& s, const DepthwiseForward<T>& a) {
  convolve(launch, s, Conv<T>{a.x, a.weight, a.y, a.bias}, nullptr);
}

template <class T, class Launch>
void depthwise_backward(Launch& launch, const DepthwiseProblem& s, const DepthwiseBackward<T>& a, float* workspace) {
  if (a.dx != nullptr) {
    Conv<T> back{a.grad, a.weight, a.dx};
    back.flip = true;
    convolve(launch, s, back, nullptr);
  }
  const Gradient<T> to{a.dweight, a.dbias, workspace, static_cast<int>(s.rows * s.columns)};
  weight_gradient(launch, s, Slopes<T>{a.grad, a.x, to});
}

}  // namespace lkops
