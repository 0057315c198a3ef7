// Winograd's transforms for a kernel of 3, one dimension at a time: m results of m + 2 products (Lavin and Gray, CVPR
// 2016). A tile of m results interpolates at 0, infinity and m pairs of points; which points decides the error.
//
// Measured in float32, as multiples of the error that is allowed (twice eager's plus four roundings), 32 to 256
// channels: 2x2 with 0, +-1: 0.2 to 0.3; 2x4 with 0, +-3/4, +-3/2 in the longer dimension: 0.35 to 0.6; 4x4: 0.7 to 1.1
// (with 0, +-1, +-2: 3 to 7). Most of it comes from sums over channels: without levels 4x4 has 1 to 2.8.
#pragma once

#include "common/simd.h"

namespace lkops {
namespace {

// Weights are transformed in double precision, for all lanes at once.
using Doubles = double __attribute__((vector_size(8 * kLanes)));

template <int m>
struct Tile;

template <>
struct Tile<2> {
  static constexpr int kSize = 4;
  LKOPS_INLINE static void input(const Floats (&d)[4], Floats (&v)[4]) {
    v[0] = d[2] - d[0], v[1] = d[2] + d[1], v[2] = d[2] - d[1], v[3] = d[3] - d[1];
  }
  LKOPS_INLINE static void output(const Floats (&s)[4], Floats (&y)[2]) {
    y[0] = s[0] + (s[1] + s[2]);
    y[1] = (s[1] - s[2]) + s[3];
  }
  // The transposes of output and weights, for the gradient of the weight.
  LKOPS_INLINE static void output_transposed(const Floats (&y)[2], Floats (&s)[4]) {
    s[0] = y[0], s[1] = y[0] + y[1], s[2] = y[0] - y[1], s[3] = y[1];
  }
  LKOPS_INLINE static void weights_transposed(const Floats (&u)[4], Floats (&g)[3]) {
    const Floats sum = 0.5f * (u[1] + u[2]);
    g[0] = sum - u[0], g[1] = 0.5f * (u[1] - u[2]), g[2] = sum + u[3];
  }
  static void weights(const Doubles* g, int64_t step, Doubles* u, int64_t u_step) {
    u[0] = -g[0];
    u[u_step] = 0.5 * (g[0] + g[step] + g[2 * step]);
    u[2 * u_step] = 0.5 * (g[0] - g[step] + g[2 * step]);
    u[3 * u_step] = g[2 * step];
  }
};

template <>
struct Tile<4> {
  static constexpr int kSize = 6;
  static constexpr float a = 0.75f, b = 1.5f, kA = a * a, kB = b * b;  // all exact
  LKOPS_INLINE static void input(const Floats (&d)[6], Floats (&v)[6]) {
    const Floats even_a = fma(broadcast(-kB), d[2], d[4]), odd_a = fma(broadcast(-kB), d[1], d[3]);
    const Floats even_b = fma(broadcast(-kA), d[2], d[4]), odd_b = fma(broadcast(-kA), d[1], d[3]);
    v[0] = fma(broadcast(kA * kB), d[0], fma(broadcast(-kA - kB), d[2], d[4]));
    v[1] = fma(broadcast(a), odd_a, even_a);
    v[2] = fma(broadcast(-a), odd_a, even_a);
    v[3] = fma(broadcast(b), odd_b, even_b);
    v[4] = fma(broadcast(-b), odd_b, even_b);
    v[5] = fma(broadcast(kA * kB), d[1], fma(broadcast(-kA - kB), d[3], d[5]));
  }
  LKOPS_INLINE static void output(const Floats (&s)[6], Floats (&y)[4]) {
    const Floats sum_a = s[1] + s[2], difference_a = s[1] - s[2];
    const Floats sum_b = s[3] + s[4], difference_b = s[3] - s[4];
    y[0] = s[0] + (sum_a + sum_b);
    y[1] = fma(broadcast(a), difference_a, difference_b * b);
    y[2] = fma(broadcast(kA), sum_a, sum_b * kB);
    y[3] = fma(broadcast(a * kA), difference_a, fma(broadcast(b * kB), difference_b, s[5]));
  }
  LKOPS_INLINE static void output_transposed(const Floats (&y)[4], Floats (&s)[6]) {
    const Floats even_a = fma(broadcast(kA), y[2], y[0]), odd_a = a * fma(broadcast(kA), y[3], y[1]);
    const Floats even_b = fma(broadcast(kB), y[2], y[0]), odd_b = b * fma(broadcast(kB), y[3], y[1]);
    s[0] = y[0], s[1] = even_a + odd_a, s[2] = even_a - odd_a, s[3] = even_b + odd_b, s[4] = even_b - odd_b, s[5] = y[3];
  }
  LKOPS_INLINE static void weights_transposed(const Floats (&u)[6], Floats (&g)[3]) {
    constexpr float at_0 = 1 / (kA * kB), of_a = static_cast<float>(by_a), of_b = static_cast<float>(by_b);
    const Floats sum_a = of_a * (u[1] + u[2]), difference_a = of_a * (u[1] - u[2]);
    const Floats sum_b = of_b * (u[3] + u[4]), difference_b = of_b * (u[3] - u[4]);
    g[0] = fma(broadcast(at_0), u[0], sum_a + sum_b);
    g[1] = fma(broadcast(a), difference_a, b * difference_b);
    g[2] = fma(broadcast(kA), sum_a, fma(broadcast(kB), sum_b, u[5]));
  }
  static constexpr double wA = kA, wB = kB, by_a = 1 / (2 * wA * (wA - wB)), by_b = 1 / (2 * wB * (wB - wA));
  static void weights(const Doubles* g, int64_t step, Doubles* u, int64_t u_step) {
    constexpr double wa = a, wb = b;
    const Doubles g0 = g[0], g1 = g[step], g2 = g[2 * step];
    u[0] = g0 * (1 / (wA * wB));
    u[u_step] = by_a * (g0 + wa * g1 + wA * g2);
    u[2 * u_step] = by_a * (g0 - wa * g1 + wA * g2);
    u[3 * u_step] = by_b * (g0 + wb * g1 + wB * g2);
    u[4 * u_step] = by_b * (g0 - wb * g1 + wB * g2);
    u[5 * u_step] = g2;
  }
};

// The products of one tile: kRows results in a column, kColumns in a row.
template <int kRows, int kColumns>
struct TileOf {
  using Down = Tile<kRows>;
  using Across = Tile<kColumns>;
  static constexpr int kDown = Down::kSize, kAcross = Across::kSize, kProducts = kDown * kAcross;

  // sink(f, vector) for every product f; pixels are `step` floats apart in a row.
  template <class Sink>
  LKOPS_INLINE static void input(const float* pixels, int64_t row, int64_t step, const Sink& sink) {
    Floats half[kDown][kAcross];
#pragma GCC unroll 8
    for (int j = 0; j < kAcross; ++j) {
      Floats d[kDown], v[kDown];
#pragma GCC unroll 8
      for (int i = 0; i < kDown; ++i) d[i] = load(pixels + i * row + j * step);
      Down::input(d, v);
#pragma GCC unroll 8
      for (int i = 0; i < kDown; ++i) half[i][j] = v[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < kDown; ++i) {
      Floats v[kAcross];
      Across::input(half[i], v);
#pragma GCC unroll 8
      for (int j = 0; j < kAcross; ++j) sink(i * kAcross + j, v[j]);
    }
  }

  // sink(i, j, vector) for every result; source(f) is the sum of product f.
  template <class Source, class Sink>
  LKOPS_INLINE static void output(const Source& source, const Sink& sink) {
    Floats half[kRows][kAcross];
#pragma GCC unroll 8
    for (int j = 0; j < kAcross; ++j) {
      Floats s[kDown], y[kRows];
#pragma GCC unroll 8
      for (int i = 0; i < kDown; ++i) s[i] = source(i * kAcross + j);
      Down::output(s, y);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) half[i][j] = y[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      Floats y[kColumns];
      Across::output(half[i], y);
#pragma GCC unroll 8
      for (int j = 0; j < kColumns; ++j) sink(i, j, y[j]);
    }
  }

  // sink(f, vector): what every product adds to is given by the gradients of the tile's results, source(i, j).
  template <class Source, class Sink>
  LKOPS_INLINE static void output_transposed(const Source& source, const Sink& sink) {
    Floats half[kDown][kColumns];
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) {
      Floats y[kRows], s[kDown];
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) y[i] = source(i, j);
      Down::output_transposed(y, s);
#pragma GCC unroll 8
      for (int i = 0; i < kDown; ++i) half[i][j] = s[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < kDown; ++i) {
      Floats s[kAcross];
      Across::output_transposed(half[i], s);
#pragma GCC unroll 8
      for (int j = 0; j < kAcross; ++j) sink(i * kAcross + j, s[j]);
    }
  }

  // sink(tap, vector) for the nine taps; source(f) is the gradient of weight f of the transformed kernel.
  template <class Source, class Sink>
  LKOPS_INLINE static void weights_transposed(const Source& source, const Sink& sink) {
    Floats half[3][kAcross];
#pragma GCC unroll 8
    for (int j = 0; j < kAcross; ++j) {
      Floats u[kDown], g[3];
#pragma GCC unroll 8
      for (int i = 0; i < kDown; ++i) u[i] = source(i * kAcross + j);
      Down::weights_transposed(u, g);
      for (int i = 0; i < 3; ++i) half[i][j] = g[i];
    }
    for (int i = 0; i < 3; ++i) {
      Floats g[3];
      Across::weights_transposed(half[i], g);
      for (int j = 0; j < 3; ++j) sink(i * 3 + j, g[j]);
    }
  }

  // u[f] of the kernel g, 3x3.
  static void weights(const Doubles (&g)[9], Doubles (&u)[kProducts]) {
    Doubles half[kDown * 3];
    for (int j = 0; j < 3; ++j) Down::weights(g + j, 3, half + j, 3);
    for (int i = 0; i < kDown; ++i) Across::weights(half + i * 3, 1, u + i * kAcross, 1);
  }
};

}  // namespace
}  // namespace lkops
