// What one voxel and one pixel give: differences, and the cosine between spectra.
//
// A plane of H * W pixels is one long row here: the pixel above is `width` pixels back, the one to the left 1 back. In
// the first row and column these are pixels of the row or the band before (inside the cube, from the second band on),
// and what is made of them is thrown away: so vectors are full for any width, and only a plane's last is not.
#pragma once

#include "common/math.h"
#include "common/stream.h"
#include "spectral_losses/cpu.h"

namespace lkops {
namespace {

constexpr float kFloor = 1e-6f;        // keeps the slope of the square root finite
constexpr float kTinySquare = 1e-12f;  // a spectrum with a smaller square has no direction
constexpr float kBound = 1 - 1e-6f;    // keeps the slope of arccos finite
constexpr double kPi = 3.14159265358979323846;

constexpr int64_t kStep = 16;  // pixels; parts of a plane begin at multiples of it: whole vectors for every kLanes

inline int64_t round_up_to_steps(int64_t n) { return (n + kStep - 1) / kStep * kStep; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Pixels that are walked over together for all bands: few enough for the caches, and enough rows that reading one row
// again costs little.
inline int64_t chunk_pixels(const LossesSize& size, int64_t least) {
  const int64_t rows = smaller(8 * size.width, 8192);
  return round_up_to_steps(smaller(larger(least, rows), size.height * size.width));
}

inline int64_t chunk_count(const LossesSize& size, int64_t chunk) {
  return chunk == 0 ? 0 : (size.height * size.width + chunk - 1) / chunk;
}

// 0 where there is nothing to average.
inline float mean_of(double sum, double count) { return static_cast<float>(sum / (count < 1 ? 1 : count)); }

// A vector, or its first n lanes and zeros.
template <bool kPartial, class T>
LKOPS_INLINE Floats read(const T* p, int64_t n) {
  if constexpr (kPartial)
    return load_partial(p, n);
  else
    return load(p);
}

template <bool kPartial, class T>
LKOPS_INLINE void write(T* p, Floats v, int64_t n) {
  if constexpr (kPartial)
    store_partial(p, v, n);
  else
    store(p, v);
}

LKOPS_INLINE Floats absolute(Floats x) { return reinterpret_cast<Floats>(reinterpret_cast<Words>(x) & 0x7fffffffu); }

using Doubles = double __attribute__((vector_size(8 * kLanes)));  // not as arguments: gcc warns of their ABI

// x * y + sum, rounded once also in the portable build, where fma rounds twice: small angles are all cancellation.
LKOPS_INLINE Floats add_product(Floats x, Floats y, Floats sum) {
  if constexpr (kLanes > 4) return fma(x, y, sum);
  const Doubles exact = __builtin_convertvector(x, Doubles) * __builtin_convertvector(y, Doubles);
  return __builtin_convertvector(exact + __builtin_convertvector(sum, Doubles), Floats);
}

struct Differences {
  Floats bands, rows, columns;
  Floats square;  // of the magnitude
};

// Of the voxels `here`, at `at`, behind the voxels `before`. The fmas make it the same for equal cubes of any types.
template <bool kPartial, class T>
LKOPS_INLINE Differences differences(Floats here, Floats before, const T* at, int64_t width, int64_t n) {
  const Floats bands = here - before;
  const Floats rows = here - read<kPartial>(at - width, n);
  const Floats columns = here - read<kPartial>(at - 1, n);
  return {bands, rows, columns, fma(columns, columns, fma(rows, rows, fma(bands, bands, broadcast(kFloor))))};
}

struct Cosine {
  Floats cosine;  // 0 where a spectrum is tiny, NaN where one holds NaN
  Floats p_norm, t_norm;  // 1 where one is tiny
  Ints valid;             // none is tiny
};

LKOPS_INLINE Cosine cosine_of(Floats pp, Floats tt, Floats pt) {
  const Floats both = pp + tt;  // NaN beside a tiny spectrum must not pass for one: no comparison with NaN is true
  const Ints valid = ~((pp < kTinySquare) | (tt < kTinySquare)) | (both != both);
  const Floats one = broadcast(1.0f);
  const Floats p_norm = square_root(choose(valid, pp, one)), t_norm = square_root(choose(valid, tt, one));
  return {choose(valid, pt / (p_norm * t_norm), Floats{}), p_norm, t_norm, valid};
}

// The square of a target's spectrum at or below which its pixel counts nothing; 0 without a floor.
inline float square_of_floor(const LossesSize& size, double floor) {
  const double square = floor * floor * static_cast<double>(size.channels);
  return square < 3.4e38 ? static_cast<float>(square) : 3.4e38f;
}

// How much the angle of a pixel counts: max(0, 1 - square_of_floor / tt), NaN if tt is.
LKOPS_INLINE Floats weight_of(Floats tt, float square_of_floor) {
  if (square_of_floor == 0) return broadcast(1.0f);
  const Floats weight = 1.0f - square_of_floor / tt;
  return choose(weight < 0.0f, Floats{}, weight);
}

// 1 - cosine. From a float cosine near 1 it would have none of the bits that the sums still have: one step of Newton's
// from there to 1 / (|p| |t|) in double.
LKOPS_INLINE Floats cosine_distance(Floats pp, Floats tt, Floats pt, const Cosine& found) {
  const Floats norms = found.p_norm * found.t_norm;
  const Doubles q = __builtin_convertvector(pp, Doubles) * __builtin_convertvector(tt, Doubles);
  const Doubles rough = __builtin_convertvector(1.0f / norms, Doubles);
  const Doubles inverse = rough * (1.5 - 0.5 * q * rough * rough);
  const Doubles distance = 1.0 - __builtin_convertvector(pt, Doubles) * inverse;
  const Ints finite = norms < __builtin_inff();
  return choose(found.valid & finite, __builtin_convertvector(distance, Floats), 1.0f - found.cosine);
}

// arccos within 2 eps: through arcsin on [0, 1/2], with the polynomial of Cephes (asinf.c).
LKOPS_INLINE Floats arccos(Floats x) {
  constexpr float kCephes[] = {2.4181311049e-2f, 4.5470025998e-2f, 7.4953002686e-2f, 1.6666752422e-1f};
  constexpr float pi = static_cast<float>(kPi);
  const Floats a = absolute(x);
  const Ints near_one = a > 0.5f;
  const Floats z = choose(near_one, 0.5f - 0.5f * a, a * a);
  const Floats s = choose(near_one, square_root(z), a);
  Floats p = broadcast(4.2163199048e-2f);
  for (float c : kCephes) p = fma(p, z, broadcast(c));
  const Floats arcsin = fma(p * z, s, s);
  const Floats result = choose(near_one, 2.0f * arcsin, 0.5f * pi - arcsin);
  return choose(x < 0.0f, pi - result, result);
}

}  // namespace
}  // namespace lkops
