// How a plane's conv is cut into strips for registers, and the correlation by strips.
#pragma once

#include "depthwise_conv2d/planes.h"

namespace lkops {
namespace {

// ---- walking a conv -------------------------------------------------------------------------------------------------

// With dilation d, output rows i, i + d, i + 2d, ... form a chain that shares its input rows. Up to kMostRows rows of a
// chain are kept in registers, a vector wide; a loaded input vector serves all of them that have a tap on it. A kernel
// with more rows than kMostTaps goes in several passes.
// 13 sums, 7 weights and an input of 32 registers; 64 rows at dilation 5 make 13
constexpr int kMostRows = kRegisters == 32 ? 13 : 6;
constexpr int kMostTaps = 7;

// Some rows of each of several chains, and some rows of the kernel: all that one call of a kernel below works on.
struct Strip {
  PlaneSize size;
  Window window;
  int64_t row;          // the image row of the first output row
  int64_t chains;       // the other chains begin in the rows below
  int64_t tap;          // the first row of the kernel
  int64_t first, last;  // output row o reads input rows o + s, 0 <= s < taps; there are rows first <= o + s < last
};

// The first and last column of taps (half-open) that touch the image for output columns [begin, end). Both fall as
// begin grows, so a search goes on from where the last one ended.
LKOPS_INLINE void narrow_columns(const Strip& strip, int64_t begin, int64_t end, int64_t& first, int64_t& last) {
  const int64_t arms = strip.window.columns / 2, d = strip.window.dilation;
  while (first > 0 && end - 1 + (first - 1 - arms) * d >= 0) --first;
  while (last > 0 && begin + (last - 1 - arms) * d >= strip.size.width) --last;
}

// Calls run(strip, taps, rows, is_whole, is_first) for all strips of these output rows, of which the first is a multiple
// of the dilation, and the last too where it is not the image's end. Kernel rows go in passes of 1, 3, 5 or 7, outermost,
// since a pass adds onto what the first wrote. A whole strip holds all rows of its chains and of the kernel, so that
// its rows beyond the image are known at compile time.
template <class F>
LKOPS_INLINE void for_strips(const PlaneSize& size, const Window& window, const Rows& outputs, const F& run) {
  const int64_t arms = window.rows / 2, d = window.dilation;
  const int64_t above = outputs.first / d;  // rows of each chain
  const int64_t shortest = size.height / d, longer = size.height % d;  // so many chains have a row more
  const int64_t longest = shortest + (longer > 0);
  const int64_t all = 2 * smaller(arms, longest - 1) + 1;  // rows of taps beyond never touch the image
  for (int64_t done = 0; done < all;) {
    const int64_t left = all - done;
    const int64_t most = left >= kMostTaps ? kMostTaps : (left - 1) / 2 * 2 + 1;
    for (int group = 0; group < 2; ++group) {
      const int64_t length = group == 0 ? shortest + 1 : shortest, chain = group == 0 ? 0 : longer;
      const int64_t chains = group == 0 ? longer : d - longer;
      const int64_t here = outputs.last == size.height ? length - above : count_of(outputs) / d;
      if (here <= 0 || chains == 0) continue;
      const bool is_single = most == all;  // one pass: short chains see fewer taps
      const int64_t taps = is_single ? 2 * smaller(arms, length - 1) + 1 : most;
      const int64_t tap = is_single ? arms - taps / 2 : arms - all / 2 + done;
      const int64_t blocks = (here + kMostRows - 1) / kMostRows;
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t begin = above + block * here / blocks, end = above + (block + 1) * here / blocks;
        const int64_t start = begin + tap - arms;  // where output row `begin` has its first tap
        run(Strip{size, window, chain + begin * d, chains, tap, -start, length - start}, taps, end - begin,
            is_single && blocks == 1 && here == length, done == 0);
      }
    }
    done += most;
  }
}

template <int kValue>
struct Number {
  static constexpr int value = kValue;
};

// run(Number<taps>{}, Number<rows>{}, Number<is_whole>{}): from sizes to those known to the compiler. Whole strips of
// so few rows that some taps never touch them do not exist.
template <int kTaps, int kRows, bool kWhole, class F>
LKOPS_INLINE void with_rows(int64_t rows, const F& run) {
  if constexpr (kRows > (kWhole ? kTaps / 2 + 1 : 1))
    if (rows != kRows) return with_rows<kTaps, kRows - 1, kWhole>(rows, run);
  run(Number<kTaps>{}, Number<kRows>{}, Number<kWhole>{});
}

template <bool kWhole, class F>
LKOPS_INLINE void with_taps(int64_t taps, int64_t rows, const F& run) {
  switch (taps) {
    case 1: return with_rows<1, kMostRows, kWhole>(rows, run);
    case 3: return with_rows<3, kMostRows, kWhole>(rows, run);
    case 5: return with_rows<5, kMostRows, kWhole>(rows, run);
    default: return with_rows<7, kMostRows, kWhole>(rows, run);
  }
}

template <class F>
LKOPS_INLINE void with_sizes(int64_t taps, int64_t rows, bool is_whole, const F& run) {
  return is_whole ? with_taps<true>(taps, rows, run) : with_taps<false>(taps, rows, run);
}

// Whether input row s of a strip lies in the image.
template <int kTaps, int kRows, bool kWhole>
LKOPS_INLINE bool is_inside(const Strip& strip, int s) {
  if (kWhole) return s >= kTaps / 2 && s < kTaps / 2 + kRows;
  return static_cast<uint64_t>(s - strip.first) < static_cast<uint64_t>(strip.last - strip.first);
}

// ---- correlation ----------------------------------------------------------------------------------------------------

template <int kTaps, int kRows, bool kWhole>
__attribute__((noinline)) void correlate_strip(const Strip strip, const Taps weights, const PaddedPlane x, float bias,
                                               const PlaneView* base, const PlaneView out) {
  const int64_t d = strip.window.dilation, width = strip.size.width, arms = strip.window.columns / 2;
  const int64_t x_step = d * x.stride, out_step = d * out.stride, base_step = base == nullptr ? 0 : d * base->stride;
  const float* taps = weights.data + strip.tap * weights.row;
  const int64_t first_input = strip.row + (strip.tap - strip.window.rows / 2) * d;
  int64_t first_column = arms, last_column = strip.window.columns;
  for (int64_t j = 0; j < width; j += kLanes) {
    const int64_t lanes = smaller(kLanes, width - j);
    narrow_columns(strip, j, j + lanes, first_column, last_column);
    for (int64_t chain = 0; chain < strip.chains; ++chain) {
      Floats sum[kRows];
      for (int o = 0; o < kRows; ++o) sum[o] = broadcast(bias);
      const float* tap = taps + first_column * weights.column;
      for (int64_t q = first_column; q < last_column; ++q, tap += weights.column) {
        __asm__("" : "+r"(tap));  // else gcc compiles the loop twice, once for weights.column == 1
        Floats weight[kTaps];
#pragma GCC unroll 8
        for (int t = 0; t < kTaps; ++t) weight[t] = broadcast(tap[t * weights.row]);
        int64_t offset = (first_input + chain - x.first_row) * x.stride + j + (q - arms) * d;
#pragma GCC unroll 32
        for (int s = 0; s < kRows + kTaps - 1; ++s, offset += x_step) {
          if (!is_inside<kTaps, kRows, kWhole>(strip, s)) continue;
          const Floats input = load(x.pixels + offset);
#pragma GCC unroll 8
          for (int t = 0; t < kTaps; ++t)
            if (s - t >= 0 && s - t < kRows) sum[s - t] = fma(weight[t], input, sum[s - t]);
        }
      }
      if (base != nullptr) {  // last: a pass's own sum is the more exact
        const float* from = base->pixels + (strip.row + chain - base->first_row) * base->stride + j;
        if (lanes == kLanes) {
          for (int o = 0; o < kRows; ++o, from += base_step) sum[o] += load(from);
        } else {
          for (int o = 0; o < kRows; ++o, from += base_step) sum[o] += load_partial(from, lanes);
        }
      }
      float* to = out.pixels + (strip.row + chain - out.first_row) * out.stride + j;
      if (lanes == kLanes) {
        for (int o = 0; o < kRows; ++o, to += out_step) store(to, sum[o]);
      } else {
        for (int o = 0; o < kRows; ++o, to += out_step) store_partial(to, sum[o], lanes);
      }
    }
  }
}

// As PlaneKernels says.
inline void correlate(const PlaneSize& size, const Window& window, const Rows& rows, const Taps& weights,
                      const PaddedPlane& x, float bias, const PlaneView* base, const PlaneView& out) {
  for_strips(size, window, rows, [&](const Strip& strip, int64_t taps, int64_t rows, bool is_whole, bool is_first) {
    with_sizes(taps, rows, is_whole, [&](auto t, auto r, auto whole) {
      correlate_strip<decltype(t)::value, decltype(r)::value, decltype(whole)::value>(
          strip, weights, x, is_first ? bias : 0.0f, is_first ? base : &out, out);
    });
  });
}

}  // namespace
}  // namespace lkops
