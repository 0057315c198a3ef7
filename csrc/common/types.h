// Storage types that kernels and bindings share.
#pragma once

#include <cstdint>

namespace lkops {

// A bfloat16 as it lies in memory.
struct BFloat16 {
  uint16_t bits;
};

}  // namespace lkops
