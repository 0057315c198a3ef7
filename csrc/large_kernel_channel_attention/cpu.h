// Large-kernel channel attention (lkops/ops/large_kernel_channel_attention/reference.py defines it). No torch, no std.
#pragma once

#include <cstdint>

#include "common/isas.h"
#include "common/parallel.h"
#include "common/types.h"

namespace lkops {

struct AttentionProblem {
  int64_t batch, channels, height, width;
  int64_t rows1, columns1, dilation1;  // of the depthwise convs
  int64_t rows2, columns2, dilation2;
  int64_t hidden;  // channels of the gate's hidden layer
  int64_t groups;  // of the mix; they divide the channels
  bool interleave;
};

// Shapes as torch's convs have them; a bias may be null.
template <class T>
struct AttentionParameters {
  const T *dw1_weight, *dw1_bias, *dw2_weight, *dw2_bias;
  const T *reduce_weight, *reduce_bias, *expand_weight, *expand_bias;
  const T *mix_weight, *mix_bias;
};

template <class T>
struct AttentionForward {
  const T* u;
  AttentionParameters<T> parameters;
  T *y, *a1, *a2;
  float *mean, *scale;  // (batch, 3 channels): of the concat's channels
};

// Where to write gradients; null: not wanted.
template <class T>
struct AttentionGradients {
  T *u, *dw1_weight, *dw1_bias, *dw2_weight, *dw2_bias;
  T *reduce_weight, *reduce_bias, *expand_weight, *expand_bias;
  T *mix_weight, *mix_bias;
};

template <class T>
struct AttentionBackward {
  const T *grad, *u;
  AttentionParameters<T> parameters;
  const T *a1, *a2;  // these four as forward wrote them
  const float *mean, *scale;
  AttentionGradients<T> gradients;
};

// `scratch`: as many bytes as the function beside says, on a cache line; `slots` is the Parallel's.
struct AttentionKernels {
  int64_t (*forward_bytes_f32)(const AttentionProblem& problem, int64_t slots);
  int64_t (*forward_bytes_bf16)(const AttentionProblem& problem, int64_t slots);
  void (*forward_f32)(const AttentionProblem& problem, const AttentionForward<float>& tensors, const Parallel& parallel,
                      void* scratch);
  void (*forward_bf16)(const AttentionProblem& problem, const AttentionForward<BFloat16>& tensors,
                       const Parallel& parallel, void* scratch);

  int64_t (*backward_bytes_f32)(const AttentionProblem& problem, int64_t slots);
  int64_t (*backward_bytes_bf16)(const AttentionProblem& problem, int64_t slots);
  void (*backward_f32)(const AttentionProblem& problem, const AttentionBackward<float>& tensors,
                       const Parallel& parallel, void* scratch);
  void (*backward_bf16)(const AttentionProblem& problem, const AttentionBackward<BFloat16>& tensors,
                        const Parallel& parallel, void* scratch);

  void (*narrow)(const float* from, int64_t count, BFloat16* to);  // rounds parameters, as torch does
};

LKOPS_DECLARE_TABLES(AttentionKernels, kAttention, Products);

}  // namespace lkops
