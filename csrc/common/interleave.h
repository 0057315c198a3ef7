// Vectors of the phases of pixels, and the same in the order of an image: what PixelShuffle does to a row.
#pragma once

#include "common/simd.h"

namespace lkops {
namespace {

// kScale vectors, one a phase, to the same lanes in the order of the image, and back.
template <int kScale>
LKOPS_INLINE void interleave(Floats* z) {
  if constexpr (kScale > 1) {
    constexpr int kHalf = kScale / 2;
    Floats even[kHalf], odd[kHalf];
    for (int i = 0; i < kHalf; ++i) even[i] = z[2 * i], odd[i] = z[2 * i + 1];
    interleave<kHalf>(even);
    interleave<kHalf>(odd);
    for (int i = 0; i < kHalf; ++i) {
      z[2 * i] = interleave_low(even[i], odd[i]);
      z[2 * i + 1] = interleave_high(even[i], odd[i]);
    }
  }
}

template <int kScale>
LKOPS_INLINE void separate(Floats* z) {
  if constexpr (kScale > 1) {
    constexpr int kHalf = kScale / 2;
    Floats even[kHalf], odd[kHalf];
    for (int i = 0; i < kHalf; ++i) {
      even[i] = even_lanes(z[2 * i], z[2 * i + 1]);
      odd[i] = odd_lanes(z[2 * i], z[2 * i + 1]);
    }
    separate<kHalf>(even);
    separate<kHalf>(odd);
    for (int i = 0; i < kHalf; ++i) z[2 * i] = even[i], z[2 * i + 1] = odd[i];
  }
}

}  // namespace
}  // namespace lkops
