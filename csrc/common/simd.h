// A vector of floats, as wide as the instruction set that this file is compiled for.
//
// Kernels are compiled once per instruction set. A function with external linkage here would become a weak symbol in
// every object, and the linker might keep the AVX-512 one for all of them: so everything has internal linkage, and
// neither std nor torch is included.
#pragma once

#include <cstdint>

#include "common/types.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LKOPS_INLINE inline __attribute__((always_inline))

namespace lkops {
namespace {

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
constexpr int kLanes = 16;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using Floats = float __attribute__((vector_size(4 * kLanes)));
using Ints = int32_t __attribute__((vector_size(4 * kLanes)));
using Words = uint32_t __attribute__((vector_size(4 * kLanes)));
using Halves = uint16_t __attribute__((vector_size(2 * kLanes)));

LKOPS_INLINE int64_t round_up_to_lanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// `value - 0` is value, and the compiler knows; `value + 0` is not for -0, and would be an addition.
LKOPS_INLINE Floats broadcast(float value) { return value - Floats{}; }

// a * b + c: one rounding where the instruction set has it, two in the portable build (-ffp-contract=off: the compiler
// never decides).
LKOPS_INLINE Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// result[i] = v[index[i]], for 0 <= index[i] < kLanes.
LKOPS_INLINE Floats permute(Floats v, Ints index) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  // all lanes; the form without a mask makes gcc 12 warn of an uninitialised value in its own header
  return _mm512_maskz_permutexvar_ps(0xffff, reinterpret_cast<__m512i>(index), v);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_permutevar8x32_ps(v, reinterpret_cast<__m256i>(index));
#else
  Floats result;
  for (int i = 0; i < kLanes; ++i) result[i] = v[index[i]];
  return result;
#endif
}

// a0 b0 a1 b1 ... of the lower halves of two vectors, and of the upper halves; and back: the lanes of even index, of a
// and then of b, and those of odd index.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
LKOPS_INLINE Floats interleave_low(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
LKOPS_INLINE Floats interleave_high(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
LKOPS_INLINE Floats even_lanes(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
LKOPS_INLINE Floats odd_lanes(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
#elif defined(__AVX2__) && defined(__FMA__)
LKOPS_INLINE Floats interleave_low(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
LKOPS_INLINE Floats interleave_high(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
LKOPS_INLINE Floats even_lanes(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
}
LKOPS_INLINE Floats odd_lanes(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}
#else
LKOPS_INLINE Floats interleave_low(Floats a, Floats b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
LKOPS_INLINE Floats interleave_high(Floats a, Floats b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
LKOPS_INLINE Floats even_lanes(Floats a, Floats b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6); }
LKOPS_INLINE Floats odd_lanes(Floats a, Floats b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7); }
#endif

// The sum of all lanes, by halves.
LKOPS_INLINE float sum_of(Floats v) {
  float lanes[kLanes];
  __builtin_memcpy(lanes, &v, sizeof v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// ---- bfloat16 -------------------------------------------------------------------------------------------------------

LKOPS_INLINE Floats widen(Halves h) { return reinterpret_cast<Floats>(__builtin_convertvector(h, Words) << 16); }

// Round to nearest even; every NaN becomes 0x7fc0, as in torch. (The avx512_bf16 instruction flushes denormals to zero.)
LKOPS_INLINE Halves narrow(Floats v) {
  const Words bits = reinterpret_cast<Words>(v);
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words is_nan = reinterpret_cast<Words>(v != v);
  return __builtin_convertvector((rounded & ~is_nan) | (is_nan & 0x7fc0u), Halves);
}

// ---- memory: any alignment; `n` lanes of it for the partial forms, 0 < n < kLanes -----------------------------------

LKOPS_INLINE Floats load(const float* p) {
  Floats v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

LKOPS_INLINE Floats load(const BFloat16* p) {
  Halves h;
  __builtin_memcpy(&h, p, sizeof h);
  return widen(h);
}

LKOPS_INLINE Ints load(const int32_t* p) {
  Ints v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

LKOPS_INLINE void store(float* p, Floats v) { __builtin_memcpy(p, &v, sizeof v); }

LKOPS_INLINE void store(BFloat16* p, Floats v) {
  const Halves h = narrow(v);
  __builtin_memcpy(p, &h, sizeof h);
}

// Past the caches, for results too large to stay there until they are read: no line is fetched before it is written.
// The address is a multiple of the vector's size. Whoever streamed calls stream_end() before others read.
LKOPS_INLINE void stream(float* p, Floats v) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  _mm512_stream_ps(p, v);
#elif defined(__AVX2__) && defined(__FMA__)
  _mm256_stream_ps(p, v);
#else
  store(p, v);
#endif
}

LKOPS_INLINE void stream(BFloat16* p, Floats v) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(narrow(v)));
#else
  store(p, v);
#endif
}

LKOPS_INLINE void stream_end() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Lanes from n on are 0. A loop and not a memcpy of n items: that would call libc for a handful of bytes.
LKOPS_INLINE Floats load_partial(const float* p, int64_t n) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p);
#else
  Floats v{};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}

LKOPS_INLINE Floats load_partial(const BFloat16* p, int64_t n) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  return widen(reinterpret_cast<Halves>(_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1u), p)));
#else
  Halves h{};
  for (int64_t i = 0; i < n; ++i) h[i] = p[i].bits;
  return widen(h);
#endif
}

LKOPS_INLINE void store_partial(float* p, Floats v, int64_t n) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), v);
#else
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
#endif
}

LKOPS_INLINE void store_partial(BFloat16* p, Floats v, int64_t n) {
  const Halves h = narrow(v);
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1u << n) - 1u), reinterpret_cast<__m256i>(h));
#else
  for (int64_t i = 0; i < n; ++i) p[i].bits = h[i];
#endif
}

}  // namespace
}  // namespace lkops
