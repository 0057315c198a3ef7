// The residual block (lkops/ops/lk_block/reference.py defines it). No torch, no std.
#pragma once

#include <cstdint>

#include "large_kernel_channel_attention/cpu.h"
#include "common/isas.h"
#include "common/parallel.h"
#include "common/types.h"

namespace lkops {

struct BlockProblem {
  int64_t channels;  // of x; attention.channels are those of the inside
  float eps;
  AttentionProblem attention;
};

// Shapes as torch's have them; biases and keep may be null.
template <class T>
struct BlockParameters {
  const T *norm_weight, *norm_bias, *in_weight, *in_bias;
  AttentionParameters<T> attention;
  const T *out_weight, *out_bias, *keep;
};

// t is the pre-activation of the GELU: u = gelu(t). All of t, a1, a2, mean and scale are null where there will be no
// backward.
template <class T>
struct BlockForward {
  const T* x;
  BlockParameters<T> parameters;
  T *y, *t, *a1, *a2;
  float *mean, *scale;  // (batch, 3 attention.channels)
};

// Where to write gradients; null: not wanted. The attention's gradient of u has no place here: it stays inside.
template <class T>
struct BlockGradients {
  T *x, *norm_weight, *norm_bias, *in_weight, *in_bias;
  AttentionGradients<T> attention;
  T *out_weight, *out_bias, *keep;
};

template <class T>
struct BlockBackward {
  const T *grad, *x;
  BlockParameters<T> parameters;
  const T *t, *a1, *a2;  // these five as forward wrote them
  const float *mean, *scale;
  BlockGradients<T> gradients;
};

// With products of whole numbers of 8 bits (lk_block/int8.h says how their steps are found): rows of these two weights
// are `scale[m]` times the numbers, and parameters.in_weight, out_weight and keep are not read.
struct BlockInt8 {
  const BFloat16* x;
  BlockParameters<BFloat16> parameters;
  const int8_t *in_weight, *out_weight;
  const float *in_scale, *out_scale;
  BFloat16* y;
};

// `scratch`: as many bytes as the function beside says, on a cache line; `slots` is the Parallel's, `saving` whether
// t and the others are not null.
struct BlockInferenceKernels {
  int64_t (*forward_bytes_f32)(const BlockProblem& problem, bool saving, int64_t slots);
  int64_t (*forward_bytes_bf16)(const BlockProblem& problem, bool saving, int64_t slots);
  void (*forward_f32)(const BlockProblem& problem, const BlockForward<float>& tensors, const Parallel& parallel,
                      void* scratch);
  void (*forward_bf16)(const BlockProblem& problem, const BlockForward<BFloat16>& tensors, const Parallel& parallel,
                       void* scratch);

  int64_t (*int8_bytes)(const BlockProblem& problem, int64_t slots);
  void (*int8)(const BlockProblem& problem, const BlockInt8& tensors, const Parallel& parallel, void* scratch);
};

struct BlockKernels : BlockInferenceKernels {
  int64_t (*backward_bytes_f32)(const BlockProblem& problem, int64_t slots);
  int64_t (*backward_bytes_bf16)(const BlockProblem& problem, int64_t slots);
  void (*backward_f32)(const BlockProblem& problem, const BlockBackward<float>& tensors, const Parallel& parallel,
                       void* scratch);
  void (*backward_bf16)(const BlockProblem& problem, const BlockBackward<BFloat16>& tensors, const Parallel& parallel,
                        void* scratch);
};

LKOPS_DECLARE_TABLES(BlockInferenceKernels, kBlockInference, Products);
LKOPS_DECLARE_TABLES(BlockKernels, kBlock, Products);

}  // namespace lkops
