// Products of a small matrix with a tile of pixels that lies in cache: what every 1x1 conv, grouped conv and their
// gradients here are made of.
//
//     y[m][p] (+)= sum over k of w[m][k] x[k][p]        m < rows, k < depth, p < kLanes * vectors
//
// A tile holds up to kTileVectors vectors of pixels in a row; rows are `stride` elements apart. The lanes are pixels;
// weights are broadcast from where they lie, so row-major weights need no packing, and Weights{w, 1, width} is the
// transposed matrix. All sums of a call stay in registers until its end, where `accumulate` adds them to y: so a sum over
// many calls loses bits by calls and not by products. Keep the tile x within half of the first-level cache: split longer
// sums over k and accumulate.
//
// Elements are floats or, on a CPU that multiplies them (kBf16Products), `Pair`s of bfloat16: k and k + 1 of a pixel or
// of a weight side by side, depth and strides counted in pairs. Products of pairs are exact and summed in float32. Or
// they are `Quad`s of whole numbers (common/quads.h), four of k side by side, whose sums are whole numbers too.
#pragma once

#include "common/quads.h"
#include "common/simd.h"
#include "common/sums.h"

namespace lkops {
namespace {

constexpr int kTileVectors = 3;
constexpr int kTilePixels = kTileVectors * kLanes;

struct Pair {
  uint32_t bits;  // of k in the low half, of k + 1 in the high half
};

#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
constexpr bool kBf16Products = true;
#else
constexpr bool kBf16Products = false;
#endif

// What products are made of for tensors of T: Pair for bfloat16 where the CPU multiplies it, else float.
template <class T, bool kPairs = kBf16Products && sizeof(T) == 2>
struct ElementOf {
  using Type = float;
};
template <class T>
struct ElementOf<T, true> {
  using Type = Pair;
};
template <class T>
using Element = typename ElementOf<T>::Type;

// Rows that a depth of k takes in a tile of E.
template <class E>
constexpr int64_t depth_of(int64_t k) {
  return __is_same(E, Quad) ? (k + 3) / 4 : __is_same(E, Pair) ? (k + 1) / 2 : k;
}

// The matrix w: element (m, k) is data[m * row + k * depth]; quads of a row lie side by side, their `depth` is 1.
template <class E>
struct Weights {
  const E* data;
  int64_t row, depth;
};

LKOPS_INLINE Words load(const Pair* p) {
  Words v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

LKOPS_INLINE Words broadcast(Pair pair) { return Words{} + pair.bits; }

LKOPS_INLINE Floats fma(Words a, Words b, Floats c) {
#if defined(__AVX512BF16__)
  return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  return vbfdotq_f32(c, reinterpret_cast<bfloat16x8_t>(a), reinterpret_cast<bfloat16x8_t>(b));
#else
  const Floats even = fma(reinterpret_cast<Floats>(a << 16), reinterpret_cast<Floats>(b << 16), c);
  return fma(reinterpret_cast<Floats>(a & 0xffff0000u), reinterpret_cast<Floats>(b & 0xffff0000u), even);
#endif
}

// ---- the product ----------------------------------------------------------------------------------------------------

// 24 sums, 3 vectors of x and a weight, of 32 registers; 12, 3 and 1 of 16
constexpr int kProductRows = kRegisters == 32 ? 8 : 4;

// What products of E are summed in.
template <class E>
struct SumOf {
  using Type = float;
  using Vector = Floats;
};
template <>
struct SumOf<Quad> {
  using Type = int32_t;
  using Vector = Ints;
};
template <class E>
using Sum = typename SumOf<E>::Type;

// What a row's sums begin with.
template <class E>
LKOPS_INLINE Floats first_sum(const E*, int64_t) {
  return Floats{};
}

template <int kRows, int kVectors, class E>
LKOPS_INLINE void multiply_rows(const Weights<E>& w, int64_t depth, const E* x, int64_t x_stride, Sum<E>* y,
                                int64_t y_stride, bool accumulate) {
  typename SumOf<E>::Vector sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const auto first = first_sum(w.data + r * w.row, depth);
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sum[r][v] = first;
  }
  const E* weights = w.data;
  for (int64_t k = 0; k < depth; ++k, weights += w.depth, x += x_stride) {
    decltype(load(x)) pixels[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) pixels[v] = load(x + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto weight = broadcast(weights[r * w.row]);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(weight, pixels[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      Sum<E>* to = y + r * y_stride + v * kLanes;
      store(to, accumulate ? load(to) + sum[r][v] : sum[r][v]);
    }
}

template <int kVectors, class E>
void multiply_vectors(Weights<E> w, int64_t rows, int64_t depth, const E* x, int64_t x_stride, Sum<E>* y,
                      int64_t y_stride, bool accumulate) {
  int64_t m = 0;
  for (; m + kProductRows <= rows; m += kProductRows, w.data += kProductRows * w.row, y += kProductRows * y_stride)
    multiply_rows<kProductRows, kVectors>(w, depth, x, x_stride, y, y_stride, accumulate);
  for (; m + 2 <= rows; m += 2, w.data += 2 * w.row, y += 2 * y_stride)
    multiply_rows<2, kVectors>(w, depth, x, x_stride, y, y_stride, accumulate);
  if (m < rows) multiply_rows<1, kVectors>(w, depth, x, x_stride, y, y_stride, accumulate);
}

// y = w x, or y += w x; 1 <= vectors <= kTileVectors.
template <class E>
void multiply(const Weights<E>& w, int64_t rows, int64_t depth, const E* x, int64_t x_stride, int vectors, Sum<E>* y,
              int64_t y_stride, bool accumulate = false) {
  switch (vectors) {
    case 1: return multiply_vectors<1>(w, rows, depth, x, x_stride, y, y_stride, accumulate);
    case 2: return multiply_vectors<2>(w, rows, depth, x, x_stride, y, y_stride, accumulate);
    default: return multiply_vectors<3>(w, rows, depth, x, x_stride, y, y_stride, accumulate);
  }
}

// ---- filling tiles and matrices -------------------------------------------------------------------------------------

// The pixels of two neighbouring k, an even one and the next (zeros where there is none), into a tile; x points at the
// place of the even k.
LKOPS_INLINE void put(float* x, int64_t x_stride, Floats even, Floats odd, bool has_odd) {
  store(x, even);
  if (has_odd) store(x + x_stride, odd);
}

LKOPS_INLINE void put(Pair* x, int64_t, Floats even, Floats odd, bool) {
#if defined(__AVX512BF16__)
  // the conversion flushes denormals to zero, as the products would
  alignas(64) static constexpr uint16_t kPairs[] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                    8,  24, 9,  25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
  const __m512i pairs = _mm512_maskz_permutexvar_epi16(~__mmask32{}, _mm512_load_si512(kPairs), halves);
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  const auto low = reinterpret_cast<uint16x8_t>(vcvtq_low_bf16_f32(even));
  const auto high = reinterpret_cast<uint16x8_t>(vcvtq_low_bf16_f32(odd));
  const uint16x8_t pairs = vzip1q_u16(low, high);
#else
  const Words low = __builtin_convertvector(narrow(even), Words), high = __builtin_convertvector(narrow(odd), Words);
  const Words pairs = low | (high << 16);
#endif
  __builtin_memcpy(x, &pairs, sizeof pairs);
}

LKOPS_INLINE float widen(float value) { return value; }
LKOPS_INLINE float widen(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  __builtin_memcpy(&result, &bits, sizeof result);
  return result;
}

LKOPS_INLINE uint32_t narrow_bits(float value) { return narrow(broadcast(value))[0]; }

// w[m][k] = scale[k] * matrix[m * row + k * depth_stride], row-major with depth_of<E>(depth) elements a row; `scale` may
// be null.
template <class T, class E>
void prepare(const T* matrix, int64_t row, int64_t depth_stride, int64_t rows, int64_t depth, const float* scale, E* w) {
  for (int64_t m = 0; m < rows; ++m, matrix += row) {
    const auto at = [&](int64_t k) {
      const float value = widen(matrix[k * depth_stride]);
      return scale == nullptr ? value : value * scale[k];
    };
    if constexpr (__is_same(E, float)) {
      for (int64_t k = 0; k < depth; ++k) *w++ = at(k);
    } else {
      for (int64_t k = 0; k < depth; k += 2)
        (w++)->bits = narrow_bits(at(k)) | (k + 1 < depth ? narrow_bits(at(k + 1)) << 16 : 0u);
    }
  }
}

// t[p][k] = x[k][p] for one square of kLanes x kLanes.
LKOPS_INLINE void transpose_square(const float* x, int64_t x_stride, float* t, int64_t t_stride) {
  Floats rows[kLanes], next[kLanes];
  for (int i = 0; i < kLanes; ++i) rows[i] = load(x + i * x_stride);
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {  // a perfect shuffle of all vectors, log2(kLanes) times
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave_low(rows[i], rows[i + kLanes / 2]);
      next[2 * i + 1] = interleave_high(rows[i], rows[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
  for (int i = 0; i < kLanes; ++i) store(t + i * t_stride, rows[i]);
}

// t[p][k] = x[k][p] for p < kLanes * vectors; t_stride and the rows of t hold round_up_to_lanes(depth) floats, zeros from
// depth on. A sum over pixels, such as a weight's gradient dy x^T, is multiply(Weights{dy, stride, 1}, rows,
// pixels, t, t_stride, ...), kTileVectors vectors of k at a time.
inline void transpose_tile(const float* x, int64_t x_stride, int64_t depth, int vectors, float* t, int64_t t_stride) {
  for (int v = 0; v < vectors; ++v) {
    float* to = t + v * kLanes * t_stride;
    int64_t k = 0;
    for (; k + kLanes <= depth; k += kLanes) transpose_square(x + k * x_stride + v * kLanes, x_stride, to + k, t_stride);
    if (k == depth) continue;
    for (int64_t p = 0; p < kLanes; ++p)
      for (int64_t i = k; i < round_up_to_lanes(depth); ++i)
        to[p * t_stride + i] = i < depth ? x[i * x_stride + v * kLanes + p] : 0.0f;
  }
}

// ---- tiles of a plane -----------------------------------------------------------------------------------------------

// A plane of pixels cut into tiles of 1 to kTileVectors vectors, as equal as can be; only the plane's last vector may
// be partial.
struct Tiles {
  explicit Tiles(int64_t pixels)
      : pixels(pixels),
        vectors((pixels + kLanes - 1) / kLanes),
        count((vectors + kTileVectors - 1) / kTileVectors) {}

  int64_t begin(int64_t tile) const { return tile * vectors / count * kLanes; }
  int vectors_of(int64_t tile) const {
    return static_cast<int>((tile + 1) * vectors / count - tile * vectors / count);
  }
  // Pixels of vector v of a tile: kLanes but for the plane's last.
  int64_t lanes_of(int64_t tile, int v) const {
    const int64_t rest = pixels - begin(tile) - v * kLanes;
    return rest < kLanes ? rest : kLanes;
  }

  int64_t pixels, vectors, count;
};

}  // namespace
}  // namespace lkops
