// What CUDA launchers and their bindings share.
#pragma once

#include <cstdint>

#include "common/types.h"

namespace lkops {

// A float16 as it lies in memory.
struct Float16 {
  uint16_t bits;
};

// Where kernels are launched: a cudaStream_t and the number of its device.
struct CudaStream {
  int device;
  void* stream;
};

}  // namespace lkops
