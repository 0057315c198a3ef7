// Gradients of a depthwise conv's weight and bias on the GPU, in two stages: blocks sum over their parts of the pixels,
// and the parts are added in order.
#pragma once

#include "depthwise_conv2d/tiles.cuh"

namespace lkops {

// Where the gradients of a weight and a bias go, either of which may be null, and the parts that they are sums of:
// (splits, channels, taps + 1), the bias last.
template <class T>
struct Gradient {
  T *weight = nullptr, *bias = nullptr;
  float* parts = nullptr;
  int taps = 0;

  LKOPS_BOTH bool is_wanted() const { return weight != nullptr || bias != nullptr; }
  LKOPS_KERNEL void store(int64_t channel, int k, float value) const {
    if (k < taps && weight != nullptr) weight[channel * taps + k] = narrow<T>(value);
    if (k == taps && bias != nullptr) bias[channel] = narrow<T>(value);
  }
};

// Into how many parts a channel's pixels are split at most: enough blocks for a GPU.
inline int64_t most_splits(int64_t channels) { return ceil_div(2 * kWanted, channels); }

inline int64_t parts_floats(int64_t channels, int64_t taps) { return most_splits(channels) * channels * (taps + 1); }

// Adds the parts of two gradients, of which those are done that are wanted.
template <class T>
struct AddParts {
  static constexpr int kThreads = 256;
  Gradient<T> first, second;
  int64_t channels, splits;

  template <class Block>
  LKOPS_KERNEL void operator()(const Block& block, float*) const {
    const int64_t start = block.index() * kThreads;
    block.each(kThreads, [&](int thread) {
      int64_t i = start + thread;
      const int64_t before = first.is_wanted() ? channels * (first.taps + 1) : 0;
      const Gradient<T>& to = i < before ? first : second;
      i -= i < before ? 0 : before;
      const int64_t all = channels * (to.taps + 1);
      if (!to.is_wanted() || i >= all) return;
      float sum = 0;
      for (int64_t s = 0; s < splits; ++s) sum += to.parts[s * all + i];
      to.store(i / (to.taps + 1), static_cast<int>(i % (to.taps + 1)), sum);
    });
  }
};

// The second stage. There is none of one part: the gradients are there. Of none (an empty batch) they become zeros.
template <class T, class Launch>
void add_parts(Launch& launch, int64_t channels, const Gradient<T>& first, const Gradient<T>& second, int64_t splits) {
  if (splits == 1) return;
  int64_t count = first.is_wanted() ? channels * (first.taps + 1) : 0;
  count += second.is_wanted() ? channels * (second.taps + 1) : 0;
  launch(AddParts<T>{first, second, channels, splits}, ceil_div(count, AddParts<T>::kThreads), 0);
}

// Where the sums of one block's slots lie: of `rows` rows of the kernel, `stride` floats a tap, and of the bias; then what
// `fold` needs.
template <class Kernel>
struct Slots {
  int count = 1, stride = 2, rows = 1, columns = 1;

  Slots() = default;
  // As many rows of the kernel at once as fit so many floats, or one.
  Slots(const Kernel& taps, int64_t threads, int64_t room) : rows(taps.rows()), columns(taps.columns()) {
    count = static_cast<int>(threads / (columns + 1));
    count = count < 1 ? 1 : count > 64 ? 64 : count;
    stride = count + 1;  // taps begin in different banks
    if (Kernel::kGeneral && floats() > room) {
      const int64_t fitting = (room / (stride + 8) - 1) / columns;
      rows = fitting < 1 ? 1 : static_cast<int>(fitting);
    }
  }
  int64_t floats() const { return round_up(int64_t{rows * columns + 1} * (stride + 8), 4); }

  // correlate(at, stride, q, s) for every column q of the kernel, the bias after them, and every slot s.
  template <class Block, class Correlate>
  LKOPS_KERNEL void each(const Block& block, int at, const Correlate& correlate) const {
    block.each(count * (columns + 1), [&](int i) {
      const int q = i / count, s = i % count;
      correlate(at + (q < columns ? q : rows * columns) * stride + s, columns * stride, q, s);
    });
  }
  // From row `first` of the kernel on.
  template <class T, class Block>
  LKOPS_KERNEL void store(const Block& block, float* shared, int at, const Gradient<T>& to, int first, int64_t channel,
                          int64_t channels, int64_t split, int64_t splits) const {
    const int here = rows * columns, before = first * columns;
    fold(block, shared, at, here + 1, stride, count, at + (here + 1) * stride, [&](int k, float sum) {
      if (k == here ? first > 0 : before + k >= to.taps) return;
      const int tap = k == here ? to.taps : before + k;
      if (splits == 1)
        to.store(channel, tap, sum);
      else
        to.parts[(split * channels + channel) * (to.taps + 1) + tap] = sum;
    });
  }
};

// The sum of (dy + shift)[i, j] x[i + d (p - rows/2), j + d (q - columns/2)] for every tap (p, q), and of dy + shift.
template <class T>
struct Slopes {
  const T *dy, *x;
  Gradient<T> to;
  const float* shift = nullptr;  // of sample n and channel c, at n stride + c; null: 0
  int64_t stride = 0;
};

// That of a channel, from some of the samples and tiles.
template <class T, class Kernel>
struct WeightGradient {
  static constexpr int kThreads = 256;
  Slopes<T> a;
  int64_t batch = 0, channels = 0;
  Kernel taps;
  int64_t splits = 1, part = 1;
  bool direct = false;
  Tiling tiling{};
  Slots<Kernel> slots{};
  int at_slots = 0, at_dy = 0, at_x = 0;
  Divider by_columns{};

  int64_t plan(int64_t floats) {
    slots = Slots<Kernel>(taps, kThreads, floats / 2);
    at_slots = static_cast<int>(round_up(Kernel::kZeros, 4));
    at_dy = at_slots + static_cast<int>(slots.floats());
    tiling = tiling_of(tiling.height, tiling.width, taps.down(), taps.right(), 1, floats - at_dy);
    direct = tiling.tiles == 0;
    if (direct) tiling = tiling_of(tiling.height, tiling.width, 0, 0, 0, 16384);
    const int64_t tile = direct ? 0 : int64_t{tiling.rows} * tiling.columns;
    const int64_t around = at_most(tiling.rows + 2 * taps.down(), tiling.height) *
                           at_most(tiling.columns + 2 * taps.right(), tiling.width);
    at_x = at_dy + static_cast<int>(round_up(tile, 4));
    by_columns = Divider(tiling.columns);
    const int64_t items = batch * tiling.tiles;
    splits = at_most(most_splits(channels), items);
    part = splits > 0 ? ceil_div(items, splits) : 0;
    splits = splits > 0 ? ceil_div(items, part) : 0;
    return at_x + (direct ? 0 : round_up(around, 4));
  }
  int64_t blocks() const { return channels * splits; }

  template <class Block>
  LKOPS_KERNEL void operator()(const Block& block, float* shared) const {
    const int64_t c = block.index() % channels, split = block.index() / channels;
    for (int first = 0; first < taps.rows(); first += slots.rows) {
      fill_zeros(block, shared, 0, at_dy);
      gather(block, shared, c, split, first);
      block.sync();
      slots.store(block, shared, at_slots, a.to, first, c, channels, split, splits);
      block.sync();
    }
  }

  // Adds up what rows of the kernel from `first` on get from the items of this split.
  template <class Block>
  LKOPS_KERNEL void gather(const Block& block, float* shared, int64_t c, int64_t split, int first) const {
    const int64_t pixels = int64_t{tiling.height} * tiling.width, items = batch * tiling.tiles;
    const int64_t end = (split + 1) * part < items ? (split + 1) * part : items;
    for (int64_t item = split * part; item < end; ++item) {
      const int64_t n = item / tiling.tiles, start = (n * channels + c) * pixels;
      const Tile out = tiling.tile(static_cast<int>(item % tiling.tiles));
      const Tile in = tiling.around(out, taps.down(), taps.right());
      const float by = a.shift == nullptr ? 0 : a.shift[n * a.stride + c];
      if (direct) {
        block.sync();
        from_global(block, shared, a.dy + start, a.x + start, by, out, first);
        continue;
      }
      fill_tile(block, shared, at_dy, a.dy + start, out, tiling.width, by);
      fill_tile(block, shared, at_x, a.x + start, in, tiling.width, 0.0f);
      block.sync();
      slots.each(block, at_slots, [&](int at, int down, int q, int s) {
        taps.correlate(shared, at, down, at_dy, at_x, 0, in, out, by_columns, q, s, slots.count, first, slots.rows);
      });
      block.sync();
    }
  }

  template <class Block>
  LKOPS_KERNEL void from_global(const Block& block, float* shared, const T* slopes, const T* values, float by,
                                const Tile& out, int first) const {
    if constexpr (Kernel::kGeneral) {
      slots.each(block, at_slots, [&](int at, int down, int q, int s) {
        const bool bias = q == taps.columns();
        const int64_t right = bias ? 0 : int64_t{taps.dilation} * (q - taps.columns() / 2);
        for (int p = 0; p < (bias ? 1 : slots.rows) && first + p < taps.rows(); ++p) {
          const int64_t below = bias ? 0 : int64_t{taps.dilation} * (first + p - taps.rows() / 2);
          float sum = 0;
          for (int i = s, count = out.rows * by_columns.size(); i < count; i += slots.count) {
            const int r = by_columns.quotient(i), k = by_columns.remainder(i, r);
            const int64_t row = out.top + r, column = out.left + k;
            if (k >= out.columns || row + below < 0 || row + below >= tiling.height || column + right < 0 ||
                column + right >= tiling.width)
              continue;
            const float slope = widen(slopes[row * tiling.width + column]) + by;
            sum += bias ? slope : slope * widen(values[(row + below) * tiling.width + column + right]);
          }
          shared[at + p * down] += sum;
        }
      });
    }
  }
};

}  // namespace lkops
