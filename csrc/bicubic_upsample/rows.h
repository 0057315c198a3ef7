// The weights of bicubic upsampling, and which rows stand for those outside: what every kernel that adds or takes apart
// an enlarged image needs to know.
#pragma once

#include "common/simd.h"

namespace lkops {
namespace {

constexpr int kTaps = 4;
constexpr int kBorder = 2;                // rows and columns that the taps reach beyond the image, on each side
constexpr int kWindow = 2 * kBorder + 1;  // input rows that all output rows of one input row read together

// Output index r * j + p, "phase" p of input index j, reads the inputs j - 2 + first .. j + 1 + first.
struct Phase {
  int64_t first;  // 0 or 1
  float weights[kTaps];
};

// Keys' kernel at distance d.
inline double cubic_weight(double d, double a) {
  d = d < 0 ? -d : d;
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return 0;
}

inline void make_phases(int64_t scale, double cubic_a, Phase* phases) {
  for (int64_t p = 0; p < scale; ++p) {
    const int64_t twice = 2 * p + 1 - scale;  // the position relative to input j, in units of 1 / (2 * scale): exact
    phases[p].first = twice < 0 ? 0 : 1;
    const double t = static_cast<double>(twice < 0 ? twice + 2 * scale : twice) / static_cast<double>(2 * scale);
    for (int k = 0; k < kTaps; ++k) phases[p].weights[k] = static_cast<float>(cubic_weight(t + 1 - k, cubic_a));
  }
}

// The index inside [0, n) that stands for `t`, -kBorder <= t < n + kBorder, for every n >= 1.
inline int64_t inside(int64_t t, int64_t n, bool symmetric) {
  if (t >= 0 && t < n) return t;
  if (!symmetric) return t < 0 ? 0 : n - 1;
  t = ((t % (2 * n)) + 2 * n) % (2 * n);
  return t < n ? t : 2 * n - 1 - t;
}

}  // namespace
}  // namespace lkops
