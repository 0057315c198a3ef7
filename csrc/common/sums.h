// Sums of many numbers, and vectors at the end of a row.
#pragma once

#include "common/simd.h"

namespace lkops {
namespace {

// `lanes` lanes, 1 or more; a whole vector if there are as many or more.
template <class T>
LKOPS_INLINE Floats load_lanes(const T* p, int64_t lanes) {
  return lanes >= kLanes ? load(p) : load_partial(p, lanes);
}

template <class T>
LKOPS_INLINE void store_lanes(T* p, Floats v, int64_t lanes) {
  if (lanes >= kLanes)
    store(p, v);
  else
    store_partial(p, v, lanes);
}

// The sum of the lanes, in every lane.
LKOPS_INLINE Floats sum_of_lanes(Floats v) {
  Ints lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
#pragma GCC unroll 4
  for (int step = kLanes / 2; step > 0; step /= 2) v += permute(v, lane ^ step);
  return v;
}

// Sums vectors in three levels, so that errors grow with the length of a level and not with that of the sum.
struct LongSum {
  static constexpr int kLevel = 16;
  Floats low{}, high{};
  double total = 0;
  int lows = 0, highs = 0;

  LKOPS_INLINE void add(Floats v) {
    low += v;
    if (++lows == kLevel) flush_low();
  }
  LKOPS_INLINE void flush_low() {
    high += low, low = Floats{}, lows = 0;
    if (++highs == kLevel) flush_high();
  }
  LKOPS_INLINE void flush_high() { total += static_cast<double>(sum_of_lanes(high)[0]), high = Floats{}, highs = 0; }
  LKOPS_INLINE float result() {
    high += low;
    flush_high();
    return static_cast<float>(total);
  }
};

// The sum of `count` numbers.
template <class T>
inline float sum_of(const T* x, int64_t count) {
  LongSum sum;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum.add(load(x + i));
  if (i < count) sum.add(load_partial(x + i, count - i));
  return sum.result();
}

// The sum of the products of `count` numbers.
template <class T>
inline float dot_of(const T* x, const T* y, int64_t count) {
  LongSum sum;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum.add(load(x + i) * load(y + i));
  if (i < count) sum.add(load_partial(x + i, count - i) * load_partial(y + i, count - i));
  return sum.result();
}

// The sum over i < count of the vectors at p + i * step, by sixteens.
LKOPS_INLINE Floats sum_of_rows(const float* p, int64_t step, int64_t count, int64_t lanes) {
  Floats total{};
  for (int64_t first = 0; first < count; first += 16) {
    Floats some{};
    for (int64_t i = first; i < count && i < first + 16; ++i) some += load_lanes(p + i * step, lanes);
    total += some;
  }
  return total;
}

}  // namespace
}  // namespace lkops
