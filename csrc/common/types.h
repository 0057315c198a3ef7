// Storage types that kernels and bindings share, and what they hold.
#pragma once

#include <cstdint>

namespace lkops {

// A bfloat16 as it lies in memory.
struct BFloat16 {
  uint16_t bits;
};

// Numbers of 8 bits whose products may be summed in 32: 255 * 128 times that is below 2^31.
constexpr int64_t kMostQuadDepth = 1 << 16;

}  // namespace lkops
