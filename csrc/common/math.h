// Elementary functions of vectors of floats. Errors are stated in units of eps = 2^-23 of the largest value.
#pragma once

#include "common/math_tables.h"
#include "common/simd.h"

namespace lkops {
namespace {

// condition ? a : b, per lane; `condition` is a comparison of Floats.
LKOPS_INLINE Floats choose(Ints condition, Floats a, Floats b) {
  return reinterpret_cast<Floats>((condition & reinterpret_cast<Ints>(a)) | (~condition & reinterpret_cast<Ints>(b)));
}

LKOPS_INLINE Floats square_root(Floats x) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  return _mm512_maskz_sqrt_ps(0xffff, x);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_sqrt_ps(x);
#elif defined(__SSE2__)
  return _mm_sqrt_ps(x);
#elif defined(__aarch64__)
  return vsqrtq_f32(x);
#else
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// e^x within 2 eps relative; NaN stays NaN, results below 2^-126 are 0.
LKOPS_INLINE Floats exp(Floats x) {
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, held in the low bits
  const Floats clamped = choose(x > 128.0f, broadcast(128.0f), choose(x < -128.0f, broadcast(-128.0f), x));
  const Floats shifted = fma(clamped, broadcast(kLog2E), broadcast(kShift));
  const Floats n = shifted - kShift;
  const Floats r = fma(n, broadcast(-kLn2Low), fma(n, broadcast(-kLn2High), clamped));
  Floats sum = broadcast(1.0f / 5040);  // Taylor: |r| <= ln(2) / 2 leaves 5e-9
  constexpr float kTaylor[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  for (float c : kTaylor) sum = fma(sum, r, broadcast(c));
  // 2^n in two factors, since n reaches 185 and a float's exponent only 127
  const Ints exponent = reinterpret_cast<Ints>(shifted) - 0x4b400000, half = exponent >> 1;
  const Floats low = reinterpret_cast<Floats>((half + 127) << 23);
  const Floats high = reinterpret_cast<Floats>((exponent - half + 127) << 23);
  return choose(x < -87.33654f, Floats{}, sum * low * high);
}

LKOPS_INLINE Floats sigmoid(Floats x) { return 1.0f / (1.0f + exp(-x)); }

// erf within 3 eps: x P(x^2) / Q(x^2), fitted on |x| <= 3.92 (1.6e-8), beyond which erf is 1 to a float.
LKOPS_INLINE Floats erf(Floats x) {
  constexpr float kEnd = 3.92f;
  x = choose(x > kEnd, broadcast(kEnd), choose(x < -kEnd, broadcast(-kEnd), x));
  const Floats s = x * x;
  Floats p = broadcast(2.0347206e-06f), q = broadcast(3.8070579e-05f);
  p = fma(p, s, broadcast(2.8748106e-04f)), q = fma(q, s, broadcast(1.1881336e-03f));
  p = fma(p, s, broadcast(3.8684038e-03f)), q = fma(q, s, broadcast(1.5172450e-02f));
  p = fma(p, s, broadcast(5.3060718e-02f)), q = fma(q, s, broadcast(1.1508536e-01f));
  p = fma(p, s, broadcast(1.9276585e-01f)), q = fma(q, s, broadcast(5.0416595e-01f));
  p = fma(p, s, broadcast(1.1283790f)), q = fma(q, s, broadcast(1.0f));
  return x * p / q;
}

LKOPS_INLINE Floats sign_of(Floats x) { return reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & INT32_MIN); }
LKOPS_INLINE Floats magnitude_of(Floats x) { return reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & INT32_MAX); }

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)

// The function of a table at a >= 0, 1/2 from the table's end on; NaN stays NaN.
LKOPS_INLINE Floats look_up(const float (&table)[kTableDegree + 1][kTableRanges], Floats a) {
  constexpr float kShift = 12582912.0f;  // as in exp
  constexpr float kLast = kTableRanges - 1;
  const Floats position = _mm512_maskz_min_ps(0xffff, broadcast(kLast), a * (1.0f / kTableStep));  // the second if NaN
  const Floats shifted = position + kShift;
  const Floats r = position - (shifted - kShift);
  const Ints range = reinterpret_cast<Ints>(shifted);  // permute takes the low four bits
  Floats sum = permute(load(table[kTableDegree]), range);
#pragma GCC unroll 8
  for (int k = kTableDegree - 1; k >= 0; --k) sum = fma(sum, r, permute(load(table[k]), range));
  return sum;
}

// t Phi(t) = t (1 + erf(t / sqrt 2)) / 2
LKOPS_INLINE Floats gelu(Floats t) {
  const Floats a = magnitude_of(t);
  return fma(a, look_up(kPhiTable, a), t * 0.5f);
}

// The derivative of gelu: Phi(t) + t phi(t); NaN where t is infinite, as t phi(t) is for torch.
LKOPS_INLINE Floats gelu_slope(Floats t) {
  const Floats odd = look_up(kSlopeTable, magnitude_of(t));
  return fma(t, Floats{}, broadcast(0.5f)) + reinterpret_cast<Floats>(reinterpret_cast<Ints>(odd) ^
                                                                      reinterpret_cast<Ints>(sign_of(t)));
}

#else

// t (1 + erf(t / sqrt 2)) / 2
LKOPS_INLINE Floats gelu(Floats t) {
  const Floats half = t * 0.5f;
  return fma(half, erf(t * 0.70710678f), half);
}

// The derivative of gelu: (1 + erf(t / sqrt 2)) / 2 + t e^(-t^2 / 2) / sqrt(2 pi)
LKOPS_INLINE Floats gelu_slope(Floats t) {
  return fma(t * 0.39894228f, exp(t * t * -0.5f), fma(broadcast(0.5f), erf(t * 0.70710678f), broadcast(0.5f)));
}

#endif

}  // namespace
}  // namespace lkops
