// The cascade of two depthwise convs on the GPU, forward and backward: whole planes in shared memory where they fit, so
// that u is read once and a1 and a2 are written once; else conv by conv, in tiles (depthwise/cuda.cuh).
#pragma once

#include "large_kernel_channel_attention/cuda.h"
#include "depthwise_conv2d/cuda.cuh"

namespace lkops {

// Both kernels in shared memory, and what counts the pixels that threads take. Offsets are those of the first plane's
// or, where all planes of a block are of one channel, of the channel's.
template <class T, class Kernel1, class Kernel2>
struct Cascade {
  Kernel1 taps1;
  Kernel2 taps2;
  int64_t batch = 0, channels = 0;
  Tile plane;
  Planes<T> shape;
  Divider by_columns, by_groups1, by_groups2;
  int together = 1;
  int weights1 = 0, weights2 = 0, each1 = 0, each2 = 0, each = 0;  // `each`: floats of a plane's kernels

  static constexpr int kZeros = Kernel1::kZeros > Kernel2::kZeros ? Kernel1::kZeros : Kernel2::kZeros;

  Cascade() = default;
  Cascade(const CascadeProblem& s, const Kernel1& first, const Kernel2& second)
      : taps1(first), taps2(second), batch(s.batch), channels(s.channels), shape(s.height * s.width) {
    plane = {0, 0, static_cast<int>(s.height), static_cast<int>(s.width)};
    by_columns = Divider(s.width), by_groups1 = Divider(taps1.groups(plane.rows));
    by_groups2 = Divider(taps2.groups(plane.rows));
    each1 = static_cast<int>(weights_floats(taps1)), each2 = static_cast<int>(weights_floats(taps2));
    each = each1 + each2;
    weights1 = static_cast<int>(round_up(kZeros, 4)), weights2 = weights1 + each1;
  }
  // Planes of a block: as many as have about 1024 pixels, but not so many that a GPU has too few blocks.
  int64_t planes_together(int64_t planes) const {
    const int64_t most = at_most(at_most(8, 1024 / (int64_t{plane.rows} * plane.columns)), planes / kWanted);
    return most < 1 ? 1 : most;
  }

  // Both kernels of `count` planes to shared memory, of which the first is of this channel.
  template <class Block>
  LKOPS_KERNEL void weights(const Block& block, float* shared, const T* weight1, const T* bias1, const T* weight2,
                            const T* bias2, int count, int64_t channel, bool flip) const {
    fill_weights(block, shared, weights1, each1, each, count, taps1, weight1, bias1, channel, channels, flip);
    fill_weights(block, shared, weights2, each2, each, count, taps2, weight2, bias2, channel, channels, flip);
  }

  // to(p, pixel, value) for the pixels of `count` planes whose values lie at x and kernels at w + p apart.
  template <class Kernel, class Block, class To>
  LKOPS_KERNEL void convolve(const Block& block, const Kernel& taps, const Divider& by_groups, const float* shared,
                             int x, int w, int apart, int count, const To& to) const {
    block.each(count * by_groups.size() * by_columns.size(), [&](int i) {
      const int t = by_columns.quotient(i), column = by_columns.remainder(i, t);
      const int p = by_groups.quotient(t), g = by_groups.remainder(t, p);
      taps.convolve(shared, x + p * shape.pixels, w + p * apart, 0, plane, plane, g, column,
                    [&](int row, int j, float value) { to(p, row * plane.columns + j, value); });
    });
  }
};

template <class T, class Kernel1, class Kernel2, int kBlock>
struct CascadeForwardBody {
  static constexpr int kThreads = kBlock;
  CascadeForward<T> a;
  Cascade<T, Kernel1, Kernel2> s;
  int at_u = 0, at_a1 = 0, at_slots = 0;

  // Returns the floats of shared memory.
  int64_t plan() {
    s.together = static_cast<int>(at_most(s.planes_together(s.batch * s.channels), kThreads / 32));
    const int64_t planes = round_up(int64_t{s.together} * s.shape.pixels, 4);
    const int64_t u = s.weights1 + s.together * s.each, slots = u + 2 * planes;
    at_u = static_cast<int>(at_most(u, INT32_MAX)), at_a1 = static_cast<int>(at_most(u + planes, INT32_MAX));
    at_slots = static_cast<int>(at_most(slots, INT32_MAX));
    return slots + 3 * (kThreads + s.together) + 24 * s.together;
  }
  int64_t blocks() const { return ceil_div(s.batch * s.channels, s.together); }

  template <class Block>
  LKOPS_KERNEL void operator()(const Block& block, float* shared) const {
    const int64_t first = block.index() * s.together, left = s.batch * s.channels - first;
    const int count = s.together < left ? s.together : static_cast<int>(left), pixels = s.shape.pixels;
    fill<T>(block, shared, at_u, a.u + first * pixels, nullptr, s.shape, count, pixels, NoShift{});
    fill_zeros(block, shared, 0, s.kZeros);
    s.weights(block, shared, a.weight1, a.bias1, a.weight2, a.bias2, count, first % s.channels, false);
    block.sync();
    s.convolve(block, s.taps1, s.by_groups1, shared, at_u, s.weights1, s.each, count, [&](int p, int i, float value) {
      shared[at_a1 + p * pixels + i] = value + shared[s.weights1 + p * s.each + s.each1 - 4];
    });
    add_up(block, shared, at_u, 0, count);
    block.sync();
    drain<T>(block, shared, at_a1, a.a1 + first * pixels, s.shape, count, pixels);
    s.convolve(block, s.taps2, s.by_groups2, shared, at_a1, s.weights2, s.each, count, [&](int p, int i, float value) {
      shared[at_u + p * pixels + i] = value + shared[s.weights2 + p * s.each + s.each2 - 4];
    });
    add_up(block, shared, at_a1, 1, count);
    block.sync();
    drain<T>(block, shared, at_u, a.a2 + first * pixels, s.shape, count, pixels);
    add_up(block, shared, at_u, 2, count);
    block.sync();
    const int slots = kThreads / s.together, rows = 3 * count;
    fold(block, shared, at_slots, rows, slots + 1, slots, at_slots + 3 * (kThreads + s.together), [&](int k, float sum) {
      const int64_t plane = first + k / 3;
      a.sums[(plane / s.channels * 3 + k % 3) * s.channels + plane % s.channels] = sum;
    });
  }

  // The sums of a map's planes, by slots.
  template <class Block>
  LKOPS_KERNEL void add_up(const Block& block, float* shared, int x, int map, int count) const {
    const int slots = kThreads / s.together;
    block.each(count * slots, [&](int k) {
      const int p = k / slots, slot = k % slots, from = x + p * s.shape.pixels;
      float sum = 0;
      for (int i = slot; i < s.shape.pixels; i += slots) sum += shared[from + i];
      shared[at_slots + (3 * p + map) * (slots + 1) + slot] = sum;
    });
  }
};

// A block takes a channel's planes of some samples, several at once. What is not wanted is null.
template <class T, class Kernel1, class Kernel2, int kBlock>
struct CascadeBackwardBody {
  static constexpr int kThreads = kBlock;
  CascadeBackward<T> a;
  Gradient<T> to1, to2;
  Cascade<T, Kernel1, Kernel2> s;
  Slots<Kernel1> slots1{};
  Slots<Kernel2> slots2{};
  int64_t splits = 1, samples = 1;
  int at_da2 = 0, at_da1 = 0, at_map = 0, at_slots1 = 0, at_slots2 = 0;

  int64_t plan() {
    const int64_t wanted = at_most(most_splits(s.channels), s.batch);
    samples = ceil_div(s.batch, wanted), splits = ceil_div(s.batch, samples);
    s.together = static_cast<int>(at_most(s.planes_together(int64_t{1} << 40), samples));
    slots1 = Slots<Kernel1>(s.taps1, kThreads, int64_t{1} << 40);
    slots2 = Slots<Kernel2>(s.taps2, kThreads, int64_t{1} << 40);
    const int64_t planes = round_up(int64_t{s.together} * s.shape.pixels, 4);
    int64_t at = s.weights1 + s.each;
    const auto place = [&](int64_t floats) {
      const int64_t here = at;
      at += floats;
      return static_cast<int>(at_most(here, INT32_MAX));
    };
    at_slots1 = place(slots1.floats()), at_slots2 = place(slots2.floats());
    at_da2 = place(planes), at_da1 = place(planes), at_map = place(planes);
    return at;
  }
  int64_t blocks() const { return s.channels * splits; }

  template <class Block>
  LKOPS_KERNEL void operator()(const Block& block, float* shared) const {
    const int64_t c = block.index() % s.channels, split = block.index() / s.channels;
    const int64_t end = (split + 1) * samples < s.batch ? (split + 1) * samples : s.batch;
    fill_zeros(block, shared, 0, s.kZeros);
    fill_zeros(block, shared, at_slots1, at_da2 - at_slots1);
    const T* none = nullptr;
    s.weights(block, shared, a.weight1, none, a.weight2, none, 1, c, true);
    for (int64_t n = split * samples; n < end; n += s.together)
      planes(block, shared, c, n, s.together < end - n ? s.together : static_cast<int>(end - n));
    if (to1.is_wanted()) slots1.store(block, shared, at_slots1, to1, 0, c, s.channels, split, splits);
    if (to2.is_wanted()) slots2.store(block, shared, at_slots2, to2, 0, c, s.channels, split, splits);
  }

  // Channel c of `count` samples from n on.
  template <class Block>
  LKOPS_KERNEL void planes(const Block& block, float* shared, int64_t c, int64_t n, int count) const {
    const int pixels = s.shape.pixels;
    const int64_t stride = s.channels * pixels, at = n * stride + c * pixels, part = s.batch * stride;
    const auto dmean = [&](int map) {
      return [=, from = a.dmean + (n * 3 + map) * s.channels + c, step = 3 * s.channels](int p) { return from[p * step]; };
    };
    fill<T>(block, shared, at_da2, a.parts + 2 * part + at, nullptr, s.shape, count, stride, dmean(2));
    fill<T>(block, shared, at_da1, a.parts + part + at, nullptr, s.shape, count, stride, dmean(1));
    if (to2.is_wanted()) fill<T>(block, shared, at_map, a.a1 + at, nullptr, s.shape, count, stride, NoShift{});
    block.sync();
    if (to2.is_wanted()) correlate(block, shared, slots2, s.taps2, at_slots2, at_da2, count);
    s.convolve(block, s.taps2, s.by_groups2, shared, at_da2, s.weights2, 0, count,
               [&](int p, int i, float value) { shared[at_da1 + p * pixels + i] += value; });
    block.sync();
    if (to1.is_wanted()) fill<T>(block, shared, at_map, a.u + at, nullptr, s.shape, count, stride, NoShift{});
    if (a.du != nullptr) fill<T>(block, shared, at_da2, a.parts + at, a.du + at, s.shape, count, stride, dmean(0));
    block.sync();
    if (to1.is_wanted()) correlate(block, shared, slots1, s.taps1, at_slots1, at_da1, count);
    if (a.du != nullptr)
      s.convolve(block, s.taps1, s.by_groups1, shared, at_da1, s.weights1, 0, count,
                 [&](int p, int i, float value) { shared[at_da2 + p * pixels + i] += value; });
    block.sync();
    if (a.du != nullptr) drain<T>(block, shared, at_da2, a.du + at, s.shape, count, stride);
    block.sync();
  }

  template <class Kernel, class Block>
  LKOPS_KERNEL void correlate(const Block& block, float* shared, const Slots<Kernel>& slots, const Kernel& taps, int to,
                              int dy, int count) const {
    slots.each(block, to, [&](int at, int down, int q, int slot) {
      for (int p = 0; p < count; ++p)
        taps.correlate(shared, at, down, dy + p * s.shape.pixels, at_map + p * s.shape.pixels, 0, s.plane, s.plane,
                       s.by_columns, q, slot, slots.count, 0, slots.rows);
    });
  }
};

// Calls use(taps1, taps2) with the kernels that fit: the network's, for small planes or any, or the general ones.
template <class Use>
void with_both(const CascadeProblem& s, const Use& use) {
  const auto fit = [&](auto first, auto second) {
    return first.fits(s.rows1, s.columns1, s.dilation1, s.height) && second.fits(s.rows2, s.columns2, s.dilation2, s.height);
  };
  if (fit(SmallTaps5{}, SmallTaps7{})) return use(SmallTaps5{}, SmallTaps7{});
  if (fit(Taps5{}, Taps7{})) return use(Taps5{}, Taps7{});
  use(general_taps(s.rows1, s.columns1, s.dilation1, s.height, s.width),
      general_taps(s.rows2, s.columns2, s.dilation2, s.height, s.width));
}

// Threads of a block: small planes are many to a block and to a multiprocessor, large ones have it alone.
template <class Kernel>
constexpr int kCascadeThreads = std::is_same_v<Kernel, SmallTaps5> ? 256 : 512;

inline DepthwiseProblem first_conv(const CascadeProblem& s) {
  return {s.batch, s.channels, s.height, s.width, s.rows1, s.columns1, s.dilation1};
}
inline DepthwiseProblem second_conv(const CascadeProblem& s) {
  return {s.batch, s.channels, s.height, s.width, s.rows2, s.columns2, s.dilation2};
}

// Tiles of planes that do not fit, the same for both convs, whose sums lie tile by tile; none with tiles == 0.
inline Tiling stage_tiling(const CascadeProblem& s, int64_t limit) {
  const General first = general_taps(s.rows1, s.columns1, s.dilation1, s.height, s.width);
  const General second = general_taps(s.rows2, s.columns2, s.dilation2, s.height, s.width);
  const auto larger = [](int64_t a, int64_t b) { return a > b ? a : b; };
  const int64_t taps = larger(s.rows1 * s.columns1, s.rows2 * s.columns2);
  constexpr int64_t kBeside = 1024;  // more than the sums of a Convolve and the zeros and padded weights of any Taps
  return tiling_of(s.height, s.width, larger(first.down(), second.down()), larger(first.right(), second.right()), 0,
                   limit - kBeside - taps);
}

template <class T, class Kernel1, class Kernel2>
using ForwardBody = CascadeForwardBody<T, Kernel1, Kernel2, kCascadeThreads<Kernel1>>;
template <class T, class Kernel1, class Kernel2>
using BackwardBody = CascadeBackwardBody<T, Kernel1, Kernel2, kCascadeThreads<Kernel1>>;

// In how many parts the sums of a plane come.
inline int64_t cascade_parts(const CascadeProblem& s, int64_t limit) {
  int64_t parts = 1;
  with_both(s, [&](const auto& taps1, const auto& taps2) {
    using Body = ForwardBody<float, std::decay_t<decltype(taps1)>, std::decay_t<decltype(taps2)>>;
    if (Body{{}, {s, taps1, taps2}}.plan() <= limit) return;
    Convolve<float, General> tiles{};
    tiles.tiling.height = static_cast<int>(s.height), tiles.tiling.width = static_cast<int>(s.width);
    tiles.plan_for(stage_tiling(s, limit));
    parts = tiles.tiling.tiles;
  });
  return parts;
}

inline int64_t cascade_workspace(const CascadeProblem& s) {
  return parts_floats(s.channels, s.rows1 * s.columns1) + parts_floats(s.channels, s.rows2 * s.columns2);
}

template <class T, class Launch>
void cascade_forward(Launch& launch, const CascadeProblem& s, const CascadeForward<T>& a) {
  with_both(s, [&](const auto& taps1, const auto& taps2) {
    ForwardBody<T, std::decay_t<decltype(taps1)>, std::decay_t<decltype(taps2)>> body{a, {s, taps1, taps2}};
    const int64_t floats = body.plan();
    if (floats <= launch.limit()) return launch(body, body.blocks(), floats);
    const Tiling tiles = stage_tiling(s, launch.limit());
    const int64_t map = s.channels * cascade_parts(s, launch.limit());
    Conv<T> first{a.u, a.weight1, a.a1, a.bias1}, second{a.a1, a.weight2, a.a2, a.bias2};
    first.stride = second.stride = 3 * s.channels;
    first.x_sum = a.sums, first.y_sum = a.sums + map, second.y_sum = a.sums + 2 * map;
    convolve(launch, first_conv(s), first, &tiles);
    convolve(launch, second_conv(s), second, &tiles);
  });
}

template <class T, class Launch>
void cascade_backward(Launch& launch, const CascadeProblem& s, const CascadeBackward<T>& a, float* workspace) {
  const int taps1 = static_cast<int>(s.rows1 * s.columns1), taps2 = static_cast<int>(s.rows2 * s.columns2);
  const Gradient<T> to1{a.dweight1, a.dbias1, workspace, taps1};
  const Gradient<T> to2{a.dweight2, a.dbias2, workspace + parts_floats(s.channels, taps1), taps2};
  if (s.batch == 0) return add_parts(launch, s.channels, to1, to2, 0);
  with_both(s, [&](const auto& first, const auto& second) {
    using Kernel1 = std::decay_t<decltype(first)>;
    using Kernel2 = std::decay_t<decltype(second)>;
    BackwardBody<T, Kernel1, Kernel2> body{a, to1, to2, {s, first, second}};
    const int64_t floats = body.plan();
    if (floats <= launch.limit()) {
      launch(body, body.blocks(), floats);
      return add_parts(launch, s.channels, to1, to2, body.splits);
    }
    const int64_t map = s.batch * s.channels * s.height * s.width, stride = 3 * s.channels;
    T* da1 = a.parts + map;
    const T* da2 = a.parts + 2 * map;
    const float* dmean2 = a.dmean + 2 * s.channels;
    weight_gradient(launch, second_conv(s), Slopes<T>{da2, a.a1, to2, dmean2, stride});
    Conv<T> back2{da2, a.weight2, da1}, back1{da1, a.weight1, a.du};
    back1.flip = back2.flip = true, back1.stride = back2.stride = stride;
    back2.first = da1, back2.x_shift = dmean2, back2.y_shift = a.dmean + s.channels;
    convolve(launch, second_conv(s), back2, nullptr);
    weight_gradient(launch, first_conv(s), Slopes<T>{da1, a.u, to1});
    if (a.du == nullptr) return;
    back1.first = a.parts, back1.second = a.du, back1.y_shift = a.dmean;
    convolve(launch, first_conv(s), back1, nullptr);
  });
}

}  // namespace lkops
