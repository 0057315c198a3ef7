// The weight gradient of a depthwise conv on one plane.
#pragma once

#include "depthwise_conv2d/strips.h"

namespace lkops {
namespace {

// Sums of each tap that go on at the same time: an input is added to as many sums as there are taps, three to seven,
// too few to hide the latency of fma.
constexpr int kSets = kRegisters == 32 ? 2 : 1;  // 14 sums, 13 rows and an input of 32 registers

template <int kTaps, int kRows, bool kWhole>
__attribute__((noinline)) void gradient_strip(const Strip strip, const PaddedPlane x, const PlaneView dy,
                                              float* sums) {
  const int64_t d = strip.window.dilation, width = strip.size.width, arms = strip.window.columns / 2;
  const int64_t x_step = d * x.stride, dy_step = d * dy.stride;
  const int64_t first_input = strip.row + (strip.tap - strip.window.rows / 2) * d;
  int64_t first_column = arms, last_column = strip.window.columns;
  for (int64_t j = 0; j < width; j += kLanes) {
    const int64_t lanes = smaller(kLanes, width - j);
    narrow_columns(strip, j, j + lanes, first_column, last_column);
    for (int64_t q = first_column; q < last_column; ++q) {
      float* column = sums + (q * strip.window.rows + strip.tap) * kLanes;
      Floats sum[kSets][kTaps];
#pragma GCC unroll 16
      for (int i = 0; i < kSets * kTaps; ++i) sum[i / kTaps][i % kTaps] = Floats{};
      for (int64_t chain = 0; chain < strip.chains; ++chain) {
        const float* from = dy.pixels + (strip.row + chain - dy.first_row) * dy.stride + j;
        Floats grad[kRows];
        if (lanes == kLanes) {
          for (int o = 0; o < kRows; ++o, from += dy_step) grad[o] = load(from);
        } else {
          for (int o = 0; o < kRows; ++o, from += dy_step) grad[o] = load_partial(from, lanes);
        }
        int64_t offset = (first_input + chain - x.first_row) * x.stride + j + (q - arms) * d;
#pragma GCC unroll 32
        for (int s = 0; s < kRows + kTaps - 1; ++s, offset += x_step) {
          if (!is_inside<kTaps, kRows, kWhole>(strip, s)) continue;
          const Floats input = load(x.pixels + offset);
#pragma GCC unroll 8
          for (int t = 0; t < kTaps; ++t)
            if (s - t >= 0 && s - t < kRows) sum[s % kSets][t] = fma(grad[s - t], input, sum[s % kSets][t]);
        }
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTaps; ++t) {
        const Floats all = kSets == 1 ? sum[0][t] : sum[0][t] + sum[kSets - 1][t];
        store(column + t * kLanes, load(column + t * kLanes) + all);
      }
    }
  }
}

// As PlaneGradientKernels says. Sums have three levels, lest errors grow with the plane: the rows of a strip in
// registers, about 64 of those a lane in memory, and double.
inline void weight_gradient(const PlaneSize& size, const Window& window, const Rows& outputs, const PaddedPlane& x,
                            const PlaneView& dy, float* scratch, float* dw) {
  constexpr int64_t kLongest = 64;
  const int64_t count = window.rows * window.columns, vectors = (size.width + kLanes - 1) / kLanes;
  double* totals = reinterpret_cast<double*>(scratch);
  float* sums = scratch + 2 * count;
  for (int64_t i = 0; i < count; ++i) totals[i] = 0, store(sums + i * kLanes, Floats{});
  // taps beyond never touch the image
  const int64_t row_reach = smaller(window.rows / 2, (size.height - 1) / window.dilation);
  const int64_t column_reach = smaller(window.columns / 2, (size.width - 1) / window.dilation);
  const auto flush = [&] {
    for (int64_t p = window.rows / 2 - row_reach; p <= window.rows / 2 + row_reach; ++p)
      for (int64_t q = window.columns / 2 - column_reach; q <= window.columns / 2 + column_reach; ++q) {
        float* sum = sums + (q * window.rows + p) * kLanes;
        totals[p * window.columns + q] += static_cast<double>(sum_of_lanes(load(sum))[0]);
        store(sum, Floats{});
      }
  };
  int64_t length = 0;
  for_strips(size, window, outputs, [&](const Strip& strip, int64_t taps, int64_t rows, bool is_whole, bool) {
    with_sizes(taps, rows, is_whole, [&](auto t, auto r, auto whole) {
      gradient_strip<decltype(t)::value, decltype(r)::value, decltype(whole)::value>(strip, x, dy, sums);
    });
    length += vectors;
    if (length > kLongest) flush(), length = 0;
  });
  flush();
  for (int64_t i = 0; i < count; ++i) dw[i] = static_cast<float>(totals[i]);
}

}  // namespace
}  // namespace lkops
