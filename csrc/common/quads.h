// Products of whole numbers of 8 bits, for common/matmul.h, and how floats become such numbers.
//
// A `Quad` holds four neighbouring k: of a pixel as 0 to 255, of a weight as -127 to 127. Their products are summed in
// 32 bits, without loss or saturation up to kMostQuadDepth of k: so every instruction set computes the same sums.
//
//     q = clamp(round_to_even(x inverse + zero), 0, 255)            stands for (q - zero) / inverse
//
// NaN becomes 255. The product and the sum are rounded one by one, so that this is the same everywhere, too.
#pragma once

#include "common/simd.h"

namespace lkops {
namespace {

struct Quad {
  uint32_t bits;  // of k in the lowest byte
};

constexpr int kMiddle = 128;  // what stands for 0 where numbers are as far below it as above

using Bytes = uint8_t __attribute__((vector_size(kLanes)));

LKOPS_INLINE Ints to_ints(Words v) { return reinterpret_cast<Ints>(v); }
LKOPS_INLINE Words to_words(Ints v) { return reinterpret_cast<Words>(v); }

// ---- products -------------------------------------------------------------------------------------------------------

// ARM's dotprod without i8mm multiplies signed numbers by signed ones only: pixels are loaded less kMiddle, and sums
// begin with what that leaves out.
#if defined(__ARM_FEATURE_DOTPROD) && !defined(__ARM_FEATURE_MATMUL_INT8)

constexpr bool kSignedPixels = true;

// What the sums of a row of weights begin with.
LKOPS_INLINE Ints first_sum(const Quad* weights, int64_t depth) {
  int32x4_t sums = vdupq_n_s32(0);
  int64_t k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
    int8x16_t numbers;
    __builtin_memcpy(&numbers, weights + k, sizeof numbers);
    sums = vdotq_s32(sums, numbers, vdupq_n_s8(1));
  }
  for (; k < depth; ++k) {
    const uint32x4_t one = {weights[k].bits, 0, 0, 0};
    sums = vdotq_s32(sums, vreinterpretq_s8_u32(one), vdupq_n_s8(1));
  }
  return vdupq_n_s32(vaddvq_s32(sums) * kMiddle);
}

#else

constexpr bool kSignedPixels = false;

LKOPS_INLINE Ints first_sum(const Quad*, int64_t) { return Ints{}; }

#endif

#if defined(__AVX512VNNI__) || defined(__ARM_FEATURE_DOTPROD)

LKOPS_INLINE Words load(const Quad* p) {
  Words v;
  __builtin_memcpy(&v, p, sizeof v);
  return kSignedPixels ? v ^ 0x80808080u : v;
}
LKOPS_INLINE Words broadcast(Quad quad) { return Words{} + quad.bits; }
LKOPS_INLINE Ints fma(Words weight, Words pixels, Ints sum) {
#if defined(__AVX512VNNI__)
  return to_ints(reinterpret_cast<Words>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(pixels), reinterpret_cast<__m512i>(weight))));
#elif defined(__ARM_FEATURE_MATMUL_INT8)
  return vusdotq_s32(sum, reinterpret_cast<uint8x16_t>(pixels), reinterpret_cast<int8x16_t>(weight));
#else
  return vdotq_s32(sum, reinterpret_cast<int8x16_t>(pixels), reinterpret_cast<int8x16_t>(weight));
#endif
}

#else

// The numbers of even and of odd k, 16 bits each: products of bytes whose sums would saturate are of no use.
struct Halved {
  Words even, odd;
};
using Shorts = int16_t __attribute__((vector_size(4 * kLanes)));

LKOPS_INLINE Halved load(const Quad* p) {
  Words v;
  __builtin_memcpy(&v, p, sizeof v);
  return {v & 0x00ff00ffu, (v >> 8) & 0x00ff00ffu};
}
LKOPS_INLINE Halved broadcast(Quad quad) {
  const Shorts v = reinterpret_cast<Shorts>(Words{} + quad.bits);
  return {reinterpret_cast<Words>((v << 8) >> 8), reinterpret_cast<Words>(v >> 8)};
}

// Per lane the sum of the products of two numbers of 16 bits.
LKOPS_INLINE Ints dot(Words a, Words b) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  return reinterpret_cast<Ints>(_mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__) && defined(__FMA__)
  return reinterpret_cast<Ints>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
  return reinterpret_cast<Ints>(_mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#elif defined(__aarch64__)
  const int16x8_t x = reinterpret_cast<int16x8_t>(a), y = reinterpret_cast<int16x8_t>(b);
  return reinterpret_cast<Ints>(
      vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
#else
  const Ints low = (to_ints(a << 16) >> 16) * (to_ints(b << 16) >> 16);
  return low + (to_ints(a) >> 16) * (to_ints(b) >> 16);
#endif
}

LKOPS_INLINE Ints fma(Halved weight, Halved pixels, Ints sum) {
  return sum + dot(weight.even, pixels.even) + dot(weight.odd, pixels.odd);
}

#endif

// ---- floats to whole numbers and back -------------------------------------------------------------------------------

LKOPS_INLINE Floats larger_of(Floats a, Floats b) {  // b where one is NaN
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  return _mm512_maskz_max_ps(0xffff, a, b);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
  return _mm_max_ps(a, b);
#else
  const Ints first = a > b;
  return reinterpret_cast<Floats>((first & reinterpret_cast<Ints>(a)) | (~first & reinterpret_cast<Ints>(b)));
#endif
}

LKOPS_INLINE Floats smaller_of(Floats a, Floats b) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  return _mm512_maskz_min_ps(0xffff, a, b);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_min_ps(a, b);
#elif defined(__SSE2__)
  return _mm_min_ps(a, b);
#else
  const Ints first = a < b;
  return reinterpret_cast<Floats>((first & reinterpret_cast<Ints>(a)) | (~first & reinterpret_cast<Ints>(b)));
#endif
}

LKOPS_INLINE Floats size_of_lanes(Floats v) {
  return reinterpret_cast<Floats>(reinterpret_cast<Words>(v) & 0x7fffffffu);
}

// 0 to 255: adding 2^23 rounds to a whole number, which the low bits hold.
LKOPS_INLINE Words whole(Floats v) {
  const Floats bounded = larger_of(smaller_of(v, broadcast(255.0f)), Floats{});
  return reinterpret_cast<Words>(bounded + 8388608.0f) & 0xffu;
}

LKOPS_INLINE Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }

// Four rows of whole numbers as quads.
LKOPS_INLINE void put_quads(Quad* x, Words a, Words b, Words c, Words d) {
  const Words quads = a | (b << 8) | (c << 16) | (d << 24);
  __builtin_memcpy(x, &quads, sizeof quads);
}

// Four rows of numbers, rounded and bounded as by `whole`, as quads.
LKOPS_INLINE void put_quads(Quad* x, Floats a, Floats b, Floats c, Floats d) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  // the conversion rounds alike; packing bounds from below, and what it interleaves stays within 128 bits
  const auto ints = [&](Floats v) { return _mm512_maskz_cvtps_epi32(0xffff, smaller_of(v, broadcast(255.0f))); };
  const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(ints(a), ints(b)), _mm512_packs_epi32(ints(c), ints(d)));
  const __m512i order = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
  const __m512i quads = _mm512_shuffle_epi8(bytes, order);
  __builtin_memcpy(x, &quads, sizeof quads);
#elif defined(__AVX2__) && defined(__FMA__)
  const auto ints = [&](Floats v) { return _mm256_cvtps_epi32(smaller_of(v, broadcast(255.0f))); };
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(ints(a), ints(b)), _mm256_packs_epi32(ints(c), ints(d)));
  const __m256i order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m256i quads = _mm256_shuffle_epi8(bytes, order);
  __builtin_memcpy(x, &quads, sizeof quads);
#elif defined(__aarch64__)
  // of a number and NaN `minnm` takes the number; the conversion rounds alike, and bounds from below
  const auto words = [](Floats v) { return vcvtnq_u32_f32(vminnmq_f32(v, vdupq_n_f32(255.0f))); };
  const uint32x4_t low = vsliq_n_u32(words(a), words(b), 8), high = vsliq_n_u32(words(c), words(d), 8);
  const uint32x4_t quads = vsliq_n_u32(low, high, 16);
  __builtin_memcpy(x, &quads, sizeof quads);
#else
  put_quads(x, whole(a), whole(b), whole(c), whole(d));
#endif
}

// A vector of each of four rows of bytes as quads.
LKOPS_INLINE void put_quads(Quad* x, const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  const auto at = [](const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
  __m512i rows = _mm512_inserti32x4(_mm512_zextsi128_si512(at(a)), at(b), 1);
  rows = _mm512_inserti32x4(_mm512_inserti32x4(rows, at(c), 2), at(d), 3);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i fours = _mm512_maskz_permutexvar_epi32(0xffff, order, rows);  // 4 pixels of all rows, then the next 4
  const __m512i within = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
  const __m512i quads = _mm512_shuffle_epi8(fours, within);
  __builtin_memcpy(x, &quads, sizeof quads);
#else
  const auto at = [](const uint8_t* p) {
#if defined(__AVX2__) && defined(__FMA__)
    return reinterpret_cast<Words>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
    Bytes v;
    __builtin_memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, Words);
#endif
  };
  put_quads(x, at(a), at(b), at(c), at(d));
#endif
}

// A vector of whole numbers as bytes; `n` lanes of it, 1 or more.
LKOPS_INLINE void store_bytes(uint8_t* p, Words v, int64_t n) {
  const Bytes bytes = __builtin_convertvector(v, Bytes);
  if (n >= kLanes) {
    __builtin_memcpy(p, &bytes, sizeof bytes);
    return;
  }
  for (int64_t i = 0; i < n; ++i) p[i] = bytes[i];
}

// 1 / step and step for numbers of up to `largest` in size, 127 steps of which that is; both 0 where there are none.
struct Steps {
  Floats inverse, step;
};
LKOPS_INLINE Steps steps_of(Floats largest) {
  const Words some = reinterpret_cast<Words>(largest > Floats{});
  const Floats inverse = reinterpret_cast<Floats>(some & reinterpret_cast<Words>(127.0f / largest));
  return {inverse, largest / 127.0f};
}

}  // namespace
}  // namespace lkops
