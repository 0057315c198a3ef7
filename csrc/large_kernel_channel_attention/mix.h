// The grouped 1x1 conv of the attention, over the concat (u, a1, a2) of three maps that is never written: a tile of its
// members is copied from the planes where they lie, group by group. Forward and backward of `attention` and `block`
// share it.
//
// How to use it:
//
//     const Mix mix{channels, groups, interleave};
//     mix_order(mix, order);                                          // once: 3 * channels numbers
//     mix_rows(mix, order, u, a1, a2, pixels, rows);                  // once: where the members' planes begin
//     fold_scale(mix, order, weights, scale, ordered, folded);        // per sample: the channel scale into the weights
//     mix_tile(mix, folded, rows, before, place, slab, v);            // per tile: v = mix(scale concat), without bias
//
// `before` is where a sample's planes begin, in elements after those of the first.
//
// E is what products are made of (common/matmul.h): float, or Pair for bfloat16 tensors on a CPU that multiplies them.
#pragma once

#include "common/matmul.h"
#include "norm_conv1x1_gelu/tiles.h"

namespace lkops {
namespace {

struct Mix {
  int64_t channels, groups;  // the groups divide the channels
  bool interleave;

  int64_t rows() const { return channels / groups; }         // outputs of a group
  int64_t members() const { return 3 * channels / groups; }  // inputs of a group
};

// Members that are copied and multiplied at once, at most: a slab of 24 KB with 16 lanes.
constexpr int64_t kMixRows = 128;
template <class E>
constexpr int64_t kMixMembers = __is_same(E, Pair) ? 2 * kMixRows : kMixRows;

// order[j]: which channel of the concat is input j of the conv. Those of group g begin at g * members().
inline void mix_order(const Mix& mix, int64_t* order) {
  for (int64_t g = 0; g < mix.groups; ++g)
    for (int64_t part = 0; part < 3; ++part) {
      const int64_t first = mix.interleave ? part * mix.channels + g * mix.rows() : (3 * g + part) * mix.rows();
      for (int64_t r = 0; r < mix.rows(); ++r) *order++ = first + r;
    }
}

// rows[j]: the plane of input j in the first sample.
template <class T>
void mix_rows(const Mix& mix, const int64_t* order, const T* u, const T* a1, const T* a2, int64_t pixels,
              const T** rows) {
  const T* parts[] = {u, a1, a2};
  for (int64_t j = 0; j < 3 * mix.channels; ++j) {
    const int64_t part = order[j] < mix.channels ? 0 : order[j] < 2 * mix.channels ? 1 : 2;
    rows[j] = parts[part] + (order[j] - part * mix.channels) * pixels;
  }
}

LKOPS_INLINE void put_pair(Pair* x, Halves even, Halves odd) {
  const Words pairs = __builtin_convertvector(even, Words) | (__builtin_convertvector(odd, Words) << 16);
  __builtin_memcpy(x, &pairs, sizeof pairs);
}

// Two neighbouring members into a tile, without rounding bfloat16 a second time.
LKOPS_INLINE void put_members(const float* even, const float* odd, float* x, int64_t x_stride) {
  store(x, load(even));
  if (odd != nullptr) store(x + x_stride, load(odd));
}
LKOPS_INLINE void put_members(const BFloat16* even, const BFloat16* odd, float* x, int64_t x_stride) {
  store(x, load(even));
  if (odd != nullptr) store(x + x_stride, load(odd));
}
LKOPS_INLINE void put_members(const BFloat16* even, const BFloat16* odd, Pair* x, int64_t) {
  Halves low, high{};
  __builtin_memcpy(&low, even, sizeof low);
  if (odd != nullptr) __builtin_memcpy(&high, odd, sizeof high);
  put_pair(x, low, high);
}

template <int kVectors, class T, class E>
LKOPS_INLINE void pack_whole(const T* const* rows, int64_t offset, int64_t count, E* slab) {
  constexpr int64_t kStep = __is_same(E, Pair) ? kTilePixels : 2 * kTilePixels;  // of two members
  for (int64_t j = 0; j < count; j += 2, slab += kStep) {
    const T* even = rows[j] + offset;
    const T* odd = j + 1 < count ? rows[j + 1] + offset : nullptr;
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v)
      put_members(even + v * kLanes, odd == nullptr ? nullptr : odd + v * kLanes, slab + v * kLanes, kTilePixels);
  }
}

// `count` members of a tile, side by side: depth_of<E>(count) rows of kTilePixels elements.
template <class T, class E>
void pack_members(const T* const* rows, int64_t before, const Place& place, int64_t count, E* slab) {
  const int64_t offset = before + place.begin;
  if (place.last_lanes == kLanes) switch (place.vectors) {
      case 1: return pack_whole<1>(rows, offset, count, slab);
      case 2: return pack_whole<2>(rows, offset, count, slab);
      default: return pack_whole<3>(rows, offset, count, slab);
    }
  for (int64_t j = 0; j < count; j += 2)
    for (int v = 0; v < place.vectors; ++v) {
      const int64_t lanes = place.lanes_of(v), at = offset + v * kLanes;
      const bool has_odd = j + 1 < count;
      const Floats odd = has_odd ? load_lanes(rows[j + 1] + at, lanes) : Floats{};
      put(slab + depth_of<E>(j) * kTilePixels + v * kLanes, kTilePixels, load_lanes(rows[j] + at, lanes), odd, has_odd);
    }
}

// ---- weights --------------------------------------------------------------------------------------------------------

// Elements of the mix's weights with the scale in them: a row is depth_of<E>(members) long.
template <class E>
int64_t folded_elements(const Mix& mix) {
  return mix.channels * depth_of<E>(mix.members());
}

// What a row of folded weights consists of: a row of bfloat16 is a row of pairs, zero beside an odd last one.
template <class T, class E>
struct FoldedAs {
  using Type = E;
};
template <class T>
struct FoldedAs<T, Pair> {
  using Type = T;
};

// folded[m][k] = weights[m][k] * scale[channel of input k of m's group]; `ordered` holds 3 * channels floats.
template <class T, class E>
void fold_scale(const Mix& mix, const int64_t* order, const T* weights, const float* scale, float* ordered, E* folded) {
  using Stored = typename FoldedAs<T, E>::Type;
  for (int64_t j = 0; j < 3 * mix.channels; ++j) ordered[j] = scale[order[j]];
  const int64_t members = mix.members(), stride = depth_of<E>(members);
  for (int64_t m = 0; m < mix.channels; ++m, weights += members, folded += stride) {
    const float* factors = ordered + m / mix.rows() * members;
    const auto scaled = [&](int64_t k, int64_t lanes) {
      return load_lanes(weights + k, lanes) * load_lanes(factors + k, lanes);
    };
    Stored* row = reinterpret_cast<Stored*>(folded);
    int64_t k = 0;
    for (; k + kLanes <= members; k += kLanes) store(row + k, scaled(k, kLanes));
    if (k == members) continue;
    const int64_t rest = members - k;
    store_lanes(row + k, scaled(k, rest), __is_same(E, Pair) ? (rest + 1) / 2 * 2 : rest);
  }
}

// ---- products -------------------------------------------------------------------------------------------------------

// v[m][p] = sum over k of folded[m][k] (input k of m's group)[p]: channels rows of kTilePixels floats, in the order of
// the output channels. `slab`: kMixRows of them.
template <class T, class E>
void mix_tile(const Mix& mix, const E* folded, const T* const* rows, int64_t before, const Place& place, E* slab,
              float* v) {
  const int64_t members = mix.members(), stride = depth_of<E>(members);
  for (int64_t g = 0; g < mix.groups; ++g) {
    const E* weights = folded + g * mix.rows() * stride;
    float* to = v + g * mix.rows() * kTilePixels;
    for (int64_t k = 0; k < members; k += kMixMembers<E>) {
      const int64_t count = members - k < kMixMembers<E> ? members - k : kMixMembers<E>;
      pack_members(rows + g * members + k, before, place, count, slab);
      multiply(Weights<E>{weights + depth_of<E>(k), stride, 1}, mix.rows(), depth_of<E>(count), slab, kTilePixels,
               place.vectors, to, kTilePixels, k > 0);
    }
  }
}

}  // namespace
}  // namespace lkops
