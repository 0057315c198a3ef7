// A float16 as it lies in memory.
#pragma once

#include <cstdint>

namespace lkops {

struct Float16 {
  uint16_t bits;
};

}  // namespace lkops
