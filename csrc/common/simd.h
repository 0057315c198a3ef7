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
#elif defined(__aarch64__)  // NEON is what every one of them has: the portable kernels are made of it
#include <arm_neon.h>
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

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRegisters = 32;  // of a vector: what tiles are as large as
#else
constexpr int kRegisters = 16;
#endif

using Floats = float __attribute__((vector_size(4 * kLanes)));
using Ints = int32_t __attribute__((vector_size(4 * kLanes)));
using Words = uint32_t __attribute__((vector_size(4 * kLanes)));
using Halves = uint16_t __attribute__((vector_size(2 * kLanes)));

LKOPS_INLINE int64_t round_up_to_lanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// `value - 0` is value, and the compiler knows; `value + 0` is not for -0, and would be an addition.
LKOPS_INLINE Floats broadcast(float value) { return value - Floats{}; }

// a * b + c: one rounding where the instruction set has it, two in the portable build of x86 (-ffp-contract=off: the
// compiler never decides).
LKOPS_INLINE Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f32(c, a, b);
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
#elif defined(__aarch64__)
  const Words bytes = reinterpret_cast<Words>(index) * 0x04040404u + 0x03020100u;
  return reinterpret_cast<Floats>(vqtbl1q_u8(reinterpret_cast<uint8x16_t>(v), reinterpret_cast<uint8x16_t>(bytes)));
#else
  Floats result;
  for (int i = 0; i < kLanes; ++i) result[i] = v[index[i]];
  return result;
#endif
}

// result[i] = v[kIndex[i]] of the lanes of a and then of b. The one place where compilers differ: clang has no
// __builtin_shuffle, gcc before 12 no __builtin_shufflevector.
template <int... kIndex>
LKOPS_INLINE Floats shuffle(Floats a, Floats b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kIndex...);
#else
  return __builtin_shuffle(a, b, Ints{kIndex...});
#endif
}

// a0 b0 a1 b1 ... of the lower halves of two vectors, and of the upper halves; back: the lanes of even index, of a and
// then of b, and those of odd index; and a1, a2, ..., b0.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
LKOPS_INLINE Floats interleave_low(Floats a, Floats b) {
  return shuffle<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
}
LKOPS_INLINE Floats interleave_high(Floats a, Floats b) {
  return shuffle<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b);
}
LKOPS_INLINE Floats even_lanes(Floats a, Floats b) {
  return shuffle<0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30>(a, b);
}
LKOPS_INLINE Floats odd_lanes(Floats a, Floats b) {
  return shuffle<1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31>(a, b);
}
LKOPS_INLINE Floats one_lane_on(Floats a, Floats b) {
  return shuffle<1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16>(a, b);
}
#elif defined(__AVX2__) && defined(__FMA__)
LKOPS_INLINE Floats interleave_low(Floats a, Floats b) { return shuffle<0, 8, 1, 9, 2, 10, 3, 11>(a, b); }
LKOPS_INLINE Floats interleave_high(Floats a, Floats b) { return shuffle<4, 12, 5, 13, 6, 14, 7, 15>(a, b); }
LKOPS_INLINE Floats even_lanes(Floats a, Floats b) { return shuffle<0, 2, 4, 6, 8, 10, 12, 14>(a, b); }
LKOPS_INLINE Floats odd_lanes(Floats a, Floats b) { return shuffle<1, 3, 5, 7, 9, 11, 13, 15>(a, b); }
LKOPS_INLINE Floats one_lane_on(Floats a, Floats b) { return shuffle<1, 2, 3, 4, 5, 6, 7, 8>(a, b); }
#else
LKOPS_INLINE Floats interleave_low(Floats a, Floats b) { return shuffle<0, 4, 1, 5>(a, b); }
LKOPS_INLINE Floats interleave_high(Floats a, Floats b) { return shuffle<2, 6, 3, 7>(a, b); }
LKOPS_INLINE Floats even_lanes(Floats a, Floats b) { return shuffle<0, 2, 4, 6>(a, b); }
LKOPS_INLINE Floats odd_lanes(Floats a, Floats b) { return shuffle<1, 3, 5, 7>(a, b); }
LKOPS_INLINE Floats one_lane_on(Floats a, Floats b) { return shuffle<1, 2, 3, 4>(a, b); }
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

LKOPS_INLINE void store(int32_t* p, Ints v) { __builtin_memcpy(p, &v, sizeof v); }

LKOPS_INLINE void store(BFloat16* p, Floats v) {
  const Halves h = narrow(v);
  __builtin_memcpy(p, &h, sizeof h);
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
