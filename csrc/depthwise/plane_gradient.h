// The weight gradient of a depthwise conv on one plane. Included by depthwise/planes.h.
#pragma once

#include "depthwise/planes.h"

namespace lkops {
namespace {

// Floats of scratch that weight_gradient takes, best on a cache line.
inline int64_t gradient_floats(const Window& window) {
  return window.rows * window.columns * (kLanes + 2);  // vectors of sums, and doubles
}

template <int kTaps, int kRows>
__attribute__((noinline)) void gradient_strip(const Strip& strip, const PaddedPlane& x, const PlaneView& dy,
                                              float* sums) {
  const int64_t d = strip.window.dilation, width = strip.size.width, arms = strip.window.columns / 2;
  const int64_t x_step = d * x.stride, count = strip.last - strip.first;
  const int64_t first_input = strip.row + (strip.tap - strip.window.rows / 2) * d;
  int64_t first_column = arms, last_column = strip.window.columns;
  for (int64_t j = 0; j < width; j += kLanes) {
    const int64_t lanes = smaller(kLanes, width - j);
    narrow_columns(strip, j, j + lanes, first_column, last_column);
    Floats grad[kRows];
    const float* from = dy.pixels + strip.row * dy.stride + j;
    for (int o = 0; o < kRows; ++o) grad[o] = load_lanes(from + o * d * dy.stride, lanes);
    for (int64_t q = first_column; q < last_column; ++q) {
      float* column = sums + (q * strip.window.rows + strip.tap) * kLanes;
      Floats sum[kTaps];
#pragma GCC unroll 8
      for (int t = 0; t < kTaps; ++t) sum[t] = load(column + t * kLanes);
      int64_t offset = first_input * x.stride + j + (q - arms) * d;
#pragma GCC unroll 32
      for (int s = 0; s < kRows + kTaps - 1; ++s, offset += x_step) {
        if (static_cast<uint64_t>(s - strip.first) >= static_cast<uint64_t>(count)) continue;
        const Floats input = load(x.pixels + offset);
#pragma GCC unroll 8
        for (int t = 0; t < kTaps; ++t)
          if (s - t >= 0 && s - t < kRows) sum[t] = fma(grad[s - t], input, sum[t]);
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTaps; ++t) store(column + t * kLanes, sum[t]);
    }
  }
}

// dw[p * columns + q] = sum over pixels (i, j) of dy[i, j] x[i + d (p - rows / 2), j + d (q - columns / 2)].
// `scratch`: gradient_floats. Chains of sums longer than about 500 products a lane are added up in double.
inline void weight_gradient(const PlaneSize& size, const Window& window, const PaddedPlane& x, const PlaneView& dy,
                            float* scratch, float* dw) {
  constexpr int64_t kLongest = 256;
  const int64_t count = window.rows * window.columns, vectors = (size.width + kLanes - 1) / kLanes;
  double* totals = reinterpret_cast<double*>(scratch);
  float* sums = scratch + 2 * count;
  for (int64_t i = 0; i < count; ++i) totals[i] = 0, store(sums + i * kLanes, Floats{});
  const auto flush = [&] {
    for (int64_t p = 0; p < window.rows; ++p)
      for (int64_t q = 0; q < window.columns; ++q) {
        float* sum = sums + (q * window.rows + p) * kLanes;
        totals[p * window.columns + q] += static_cast<double>(sum_of_lanes(load(sum))[0]);
        store(sum, Floats{});
      }
  };
  int64_t length = 0;
  for_strips(size, window, [&](const Strip& strip, int64_t taps, int64_t rows, bool) {
    const auto run = [&](auto t, auto r) {
      gradient_strip<decltype(t)::value, decltype(r)::value>(strip, x, dy, sums);
    };
    with_sizes(taps, rows, run);
    length += rows * vectors;
    if (length >= kLongest) flush(), length = 0;
  });
  flush();
  for (int64_t i = 0; i < count; ++i) dw[i] = static_cast<float>(totals[i]);
}

}  // namespace
}  // namespace lkops
