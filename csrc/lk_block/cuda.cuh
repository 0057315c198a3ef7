// The residual block on the GPU for small images and no backward, in one launch: phases between which all blocks wait for
// each other, since the attention's mean is over all pixels and a 1x1 conv over all channels. Launches and waiting are
// what costs there: the maps are in the cache, and float32 products of this size take less time than either.
//
//   0  u = gelu(Win norm(x) + bin)           tiles of outputs by pixels
//   1  a1, a2 and the sums of u, a1, a2      planes (attention/cuda.cuh)
//   2  w = (Wm (s (u, a1, a2)) + bm) u       tiles; each block computes the gate that it needs
//   3  y = x + keep (Wo w + bo)              tiles
#pragma once

#include <cmath>
#include <initializer_list>
#include <type_traits>

#include "large_kernel_channel_attention/cuda.cuh"
#include "lk_block/cuda.h"
#include "lk_block/product.cuh"

namespace lkops {

// A block of the grid at the work of another.
template <class Block>
struct Turn {
  const Block& block;
  int64_t number;
  template <class Body>
  LKOPS_KERNEL void each(int count, const Body& body) const {
    block.each(count, body);
  }
  LKOPS_KERNEL void sync() const { block.sync(); }
  LKOPS_KERNEL int64_t index() const { return number; }
};

// Besides index(), a block of such a grid knows how many there are, blocks(). Nothing lives in shared memory from one
// phase to the next.
template <class T, class Kernel1, class Kernel2>
struct BlockInferenceBody {
  static constexpr int kThreads = 256, kPhases = 4, kSlots = 16;
  using CascadeBody = CascadeForwardBody<T, Kernel1, Kernel2, kThreads>;

  BlockInference<T> a;
  int batch = 0, channels = 0, width = 0, pixels = 0, hidden = 0, members = 0;
  bool interleave = false, keep = false;
  float eps = 0;
  Product in, mix, out;
  CascadeBody cascade;
  int64_t turns = 0;  // of the cascade
  int at_stats = 0, at_hidden = 0, at_partial = 0, at_scale = 0;

  BlockInferenceBody(const BlockProblem& s, const BlockInference<T>& arguments, const Kernel1& first,
                     const Kernel2& second, int64_t processors, int64_t limit)
      : a(arguments) {
    const AttentionProblem& t = s.attention;
    batch = static_cast<int>(t.batch), channels = static_cast<int>(s.channels), width = static_cast<int>(t.channels);
    pixels = static_cast<int>(t.height * t.width), hidden = static_cast<int>(t.hidden);
    members = static_cast<int>(3 * t.channels / t.groups), interleave = t.interleave, eps = s.eps;
    in = product(t.batch, 1, t.channels, s.channels, processors, limit);
    mix = product(t.batch, t.groups, t.channels / t.groups, members, processors, limit);
    out = product(t.batch, 1, s.channels, t.channels, processors, limit);
    const CascadeProblem planes{t.batch, t.channels, t.height, t.width,   t.rows1,
                                t.columns1, t.dilation1, t.rows2, t.columns2, t.dilation2};
    const AttentionParameters<T>& p = a.parameters.attention;
    cascade = {{a.u, p.dw1_weight, p.dw1_bias, p.dw2_weight, p.dw2_bias, a.a1, a.a2, a.sums}, {planes, first, second}};
  }

  // The largest tiles of which nearly every multiprocessor gets one, or else small ones.
  Product product(int64_t samples, int64_t groups, int64_t outputs, int64_t inner, int64_t processors,
                  int64_t limit) const {
    for (int shift = 6; shift > 4; --shift) {
      Product found(samples, groups, outputs, inner, pixels, shift);
      if (4 * found.tiles >= 3 * processors && outputs > found.side() / 2 && found.plan(0) + beside(shift) <= limit) return found;
    }
    return {samples, groups, outputs, inner, pixels, 4};
  }
  int64_t beside(int shift) const {
    const int64_t stats = int64_t{2} * (kSlots + 1) << shift, gate = int64_t{33} * hidden + hidden + members + 8;
    return stats > gate ? stats : gate;
  }

  // Returns the floats of shared memory.
  int64_t plan() {
    const int64_t in_end = in.plan(0), mix_end = mix.plan(0), planes = cascade.plan();
    turns = cascade.blocks();
    at_stats = static_cast<int>(in_end);
    at_hidden = static_cast<int>(mix_end), at_scale = at_hidden + hidden, at_partial = at_scale + members;
    int64_t most = out.plan(0);
    for (int64_t floats : {in_end + beside(in.shift), mix_end + beside(mix.shift), planes})
      most = most > floats ? most : floats;
    return most;
  }
  // Of the phase that has the most to share out.
  int64_t blocks() const {
    int64_t most = in.tiles;
    for (int64_t count : {turns, mix.tiles, out.tiles}) most = most > count ? most : count;
    return most;
  }

  template <class Block>
  LKOPS_KERNEL void operator()(int phase, const Block& block, float* shared) const {
    if (phase == 0) project(block, shared);
    if (phase == 1)
      for (int64_t i = block.index(); i < turns; i += block.blocks()) {
        cascade(Turn<Block>{block, i}, shared);
        block.sync();
      }
    if (phase == 2) attend(block, shared);
    if (phase == 3) finish(block, shared);
  }

  template <class Block>
  LKOPS_KERNEL void project(const Block& block, float* shared) const {
    const BlockParameters<T>& p = a.parameters;
    for (int64_t tile = block.index(); tile < in.tiles; tile += block.blocks()) {
      const Product::Place place = in.place(tile);
      const T* x = a.x + place.n * channels * pixels;
      in.fill_weight(block, shared, p.in_weight, place);
      in.fill_x(block, shared, place, in_quads(a.x), [&](int c) { return x + int64_t{c} * pixels; },
                [](int) { return 1.0f; });
      block.sync();
      normalise(block, shared);
      block.sync();
      in.multiply(block, shared, place, [&](int o, int i, float sum) {
        if (p.in_bias != nullptr) sum += widen(p.in_bias[o]);
        const float u = 0.5f * sum * (1 + erff(sum * 0.70710678f));
        a.u[(place.n * width + o) * pixels + i] = narrow<T>(u);
      });
      block.sync();
    }
  }

  // Layer norm over the channels of a tile, in place. Mean and squares about it come from shares of the channels, whose
  // own means are near, so that nothing is lost where the mean is large (Chan, Golub and LeVeque 1979).
  template <class Block>
  LKOPS_KERNEL void normalise(const Block& block, float* shared) const {
    const int shift = in.shift, side = in.side(), squares = at_stats + (kSlots + 1) * side;
    block.each(kSlots << shift, [&](int i) {
      const int p = i & (side - 1), slot = i >> shift, count = of_slot(slot);
      const float* x = shared + in.at_x + p;
      float mean = 0, sum = 0;
      for (int c = slot; c < channels; c += kSlots) mean += x[c * in.x_apart()];
      mean = count == 0 ? 0 : mean / static_cast<float>(count);
      for (int c = slot; c < channels; c += kSlots) {
        const float d = x[c * in.x_apart()] - mean;
        sum += d * d;
      }
      shared[at_stats + i] = mean, shared[squares + i] = sum;
    });
    block.sync();
    block.each(side, [&](int p) {
      float mean = 0, sum = 0;
      const float share = 1 / static_cast<float>(channels);
      for (int slot = 0; slot < kSlots; ++slot)
        mean += static_cast<float>(of_slot(slot)) * shared[at_stats + (slot << in.shift) + p];
      mean *= share;
      for (int slot = 0; slot < kSlots; ++slot) {
        const float d = shared[at_stats + (slot << in.shift) + p] - mean;
        sum += shared[squares + (slot << in.shift) + p] + static_cast<float>(of_slot(slot)) * d * d;
      }
      shared[at_stats + (kSlots << in.shift) + p] = mean;
      shared[squares + (kSlots << in.shift) + p] = 1 / sqrtf(sum * share + eps);
    });
    block.sync();
    const BlockParameters<T>& p = a.parameters;
    block.each(channels << shift, [&](int i) {
      const int c = i >> shift, column = i & (side - 1), at = in.at_x + c * in.x_apart() + column;
      const float normed = (shared[at] - shared[at_stats + (kSlots << shift) + column]) *
                           shared[squares + (kSlots << shift) + column];
      shared[at] = normed * widen(p.norm_weight[c]) + widen(p.norm_bias[c]);
    });
  }
  LKOPS_KERNEL int of_slot(int slot) const { return (channels - slot + kSlots - 1) / kSlots; }

  template <class Block>
  LKOPS_KERNEL void attend(const Block& block, float* shared) const {
    const AttentionParameters<T>& p = a.parameters.attention;
    int64_t gated = -1;  // the sample whose hidden layer is there
    const int each = members / 3;
    for (int64_t tile = block.index(); tile < mix.tiles; tile += block.blocks()) {
      const Product::Place place = mix.place(tile);
      const int first = place.group * each;  // channel of the group
      if (gated != place.n) squeeze(block, shared, place.n);
      gated = place.n;
      // which of the concat's channels comes as member k of the group
      const auto concat = [&](int k) {
        return interleave ? k / each * width + first + k % each : place.group * members + k;
      };
      block.each(members, [&](int k) { shared[at_scale + k] = gate(shared, concat(k)); });
      mix.fill_weight(block, shared, p.mix_weight + int64_t{first} * members, place);
      block.sync();
      const int64_t sample = place.n * width * pixels;
      const auto plane = [&](int k) -> const T* {
        const int c = concat(k), which = c / width;
        return (which == 0 ? a.u : which == 1 ? a.a1 : a.a2) + sample + int64_t{c - which * width} * pixels;
      };
      mix.fill_x(block, shared, place, in_quads(a.u) && in_quads(a.a1) && in_quads(a.a2), plane,
                 [&](int k) { return shared[at_scale + k]; });
      block.sync();
      mix.multiply(block, shared, place, [&](int o, int i, float sum) {
        const int64_t at = sample + int64_t{first + o} * pixels + i;
        if (p.mix_bias != nullptr) sum += widen(p.mix_bias[first + o]);
        a.w[at] = narrow<T>(sum * widen(a.u[at]));
      });
      block.sync();
    }
  }

  // The gate's hidden layer for sample n.
  template <class Block>
  LKOPS_KERNEL void squeeze(const Block& block, float* shared, int64_t n) const {
    const AttentionParameters<T>& p = a.parameters.attention;
    const int all = 3 * width;
    block.each(32 * hidden, [&](int i) {
      const int r = i >> 5, slot = i & 31;
      float sum = 0;
      for (int c = slot; c < all; c += 32) sum += widen(p.reduce_weight[int64_t{r} * all + c]) * a.sums[n * all + c];
      shared[at_partial + 33 * r + slot] = sum;
    });
    block.sync();
    block.each(hidden, [&](int r) {
      float sum = 0;
      for (int slot = 0; slot < 32; ++slot) sum += shared[at_partial + 33 * r + slot];
      sum /= static_cast<float>(pixels);
      if (p.reduce_bias != nullptr) sum += widen(p.reduce_bias[r]);
      shared[at_hidden + r] = sum < 0 ? 0 : sum;  // NaN stays
    });
    block.sync();
  }

  LKOPS_KERNEL float gate(const float* shared, int c) const {
    const AttentionParameters<T>& p = a.parameters.attention;
    float sum = p.expand_bias == nullptr ? 0 : widen(p.expand_bias[c]);
    for (int r = 0; r < hidden; ++r) sum += widen(p.expand_weight[int64_t{c} * hidden + r]) * shared[at_hidden + r];
    return 1 / (1 + expf(-sum));
  }

  template <class Block>
  LKOPS_KERNEL void finish(const Block& block, float* shared) const {
    const BlockParameters<T>& p = a.parameters;
    for (int64_t tile = block.index(); tile < out.tiles; tile += block.blocks()) {
      const Product::Place place = out.place(tile);
      const T* w = a.w + place.n * width * pixels;
      out.fill_weight(block, shared, p.out_weight, place);
      out.fill_x(block, shared, place, in_quads(a.w), [&](int c) { return w + int64_t{c} * pixels; },
                 [](int) { return 1.0f; });
      block.sync();
      out.multiply(block, shared, place, [&](int o, int i, float sum) {
        const int64_t at = (place.n * channels + o) * pixels + i;
        if (p.out_bias != nullptr) sum += widen(p.out_bias[o]);
        if (p.keep != nullptr) sum *= widen(p.keep[place.n]);
        a.y[at] = narrow<T>(widen(a.x[at]) + sum);
      });
      block.sync();
    }
  }

  LKOPS_KERNEL bool in_quads(const T* map) const { return pixels % 4 == 0 && is_aligned(map); }
};

// A launch of phases has processors(), limit(), and runs all phases of a body with (body, blocks wanted, floats).
template <class T, class Launch>
void block_inference(Launch& launch, const BlockProblem& s, const BlockInference<T>& a) {
  const auto run = [&](const auto& first, const auto& second) {
    using Body = BlockInferenceBody<T, std::decay_t<decltype(first)>, std::decay_t<decltype(second)>>;
    Body body(s, a, first, second, launch.processors(), launch.limit());
    const int64_t floats = body.plan();
    launch(body, body.blocks(), floats);
  };
  if (s.attention.height <= 20) return run(SmallTaps5{}, SmallTaps7{});
  run(Taps5{}, Taps7{});
}

}  // namespace lkops
