// Depthwise convs of stride 1 with zero padding that keeps the size, and their gradients. No torch, no std.
#pragma once

#include <cstdint>

#include "common/isas.h"
#include "common/parallel.h"
#include "common/types.h"

namespace lkops {

struct DepthwiseProblem {
  int64_t batch, channels, height, width;  // all but batch 1 or more
  int64_t rows, columns, dilation;         // of the kernel; rows and columns odd
  int64_t whole_floats = 1 << 20;          // a plane of more, padded, goes in bands of rows
};

// Images are dense (batch, channels, height, width), weights (channels, rows, columns), biases (channels), null where
// there is none. `scratch` is as many bytes as forward_bytes or backward_bytes say for as many slots as `parallel` has,
// best on a cache line. Gradients that are null are not computed; x and weight are read only for those that need them.
struct DepthwiseKernels {
  int64_t (*forward_bytes)(const DepthwiseProblem& problem, int64_t slots);
  void (*forward_f32)(const DepthwiseProblem& problem, const float* x, const float* weight, const float* bias, float* y,
                      const Parallel& parallel, void* scratch);
  void (*forward_bf16)(const DepthwiseProblem& problem, const BFloat16* x, const BFloat16* weight, const BFloat16* bias,
                       BFloat16* y, const Parallel& parallel, void* scratch);

  int64_t (*backward_bytes)(const DepthwiseProblem& problem, int64_t slots);
  void (*backward_f32)(const DepthwiseProblem& problem, const float* grad, const float* x, const float* weight,
                       float* dx, float* dweight, float* dbias, const Parallel& parallel, void* scratch);
  void (*backward_bf16)(const DepthwiseProblem& problem, const BFloat16* grad, const BFloat16* x,
                        const BFloat16* weight, BFloat16* dx, BFloat16* dweight, BFloat16* dbias,
                        const Parallel& parallel, void* scratch);
};

LKOPS_DECLARE_TABLES(DepthwiseKernels, kDepthwise, Floats);

}  // namespace lkops
