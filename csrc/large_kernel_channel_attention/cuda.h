// The cascade of depthwise convs of large-kernel channel attention on the GPU: what its kernels take and give. T is
// float, BFloat16 or Float16.
#pragma once

#include <cstdint>

#include "common/cuda_types.h"

namespace lkops {

struct CascadeProblem {
  int64_t batch, channels, height, width;
  int64_t rows1, columns1, dilation1;
  int64_t rows2, columns2, dilation2;
};

// a1 = b1 + conv1(u), a2 = b2 + conv2(a1), and the sums of u, a1 and a2 over a plane: (batch, 3 channels,
// cascade_parts(problem, ...)), in parts whose number depends on the GPU. Biases may be null.
template <class T>
struct CascadeForward {
  const T *u, *weight1, *bias1, *weight2, *bias2;
  T *a1, *a2;
  float* sums;
};

// With `parts` (3, batch, channels, height, width) the direct gradients of u, a1 and a2, and dmean (batch, 3 channels)
// what comes through the gate, which every pixel gets added:
//   da2 = parts[2] + dmean2,   da1 = parts[1] + dmean1 + conv2^T(da2),   du += parts[0] + dmean0 + conv1^T(da1)
// Gradients may be null: not wanted. parts[1] may be written to.
template <class T>
struct CascadeBackward {
  const T *u, *a1, *weight1, *weight2;
  const float* dmean;
  T *parts, *du, *dweight1, *dbias1, *dweight2, *dbias2;
};

// They return what went wrong, or null.
template <class T>
const char* cascade_forward_cuda(const CascadeProblem& problem, const CascadeForward<T>& arguments, CudaStream stream);
template <class T>
const char* cascade_backward_cuda(const CascadeProblem& problem, const CascadeBackward<T>& arguments, float* workspace,
                                  CudaStream stream);
int64_t cascade_parts_cuda(const CascadeProblem& problem, CudaStream stream);  // of the sums
int64_t cascade_workspace_cuda(const CascadeProblem& problem);                     // floats

}  // namespace lkops
