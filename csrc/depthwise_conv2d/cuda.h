// depthwise_conv2d on the GPU: what its kernels take and give. T is float, BFloat16 or Float16; sums are float32.
#pragma once

#include <cstdint>

#include "common/cuda_types.h"
#include "depthwise_conv2d/cpu.h"

namespace lkops {

// y = b + conv(x); the bias may be null.
template <class T>
struct DepthwiseForward {
  const T *x, *weight, *bias;
  T* y;
};

// Each gradient may be null: not wanted.
template <class T>
struct DepthwiseBackward {
  const T *grad, *x, *weight;
  T *dx, *dweight, *dbias;
};

// They return what went wrong, or null. `workspace` of the backward holds
// `depthwise_workspace_cuda(problem)` floats.
template <class T>
const char* depthwise_forward_cuda(const DepthwiseProblem& problem, const DepthwiseForward<T>& arguments,
                                   CudaStream stream);
template <class T>
const char* depthwise_backward_cuda(const DepthwiseProblem& problem, const DepthwiseBackward<T>& arguments,
                                    float* workspace, CudaStream stream);
int64_t depthwise_workspace_cuda(const DepthwiseProblem& problem);

}  // namespace lkops
