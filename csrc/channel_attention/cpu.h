// Channel attention: every channel times a gate of all channels' means; and its gradients. No torch, no std.
#pragma once

#include <cstdint>

#include "common/isas.h"
#include "common/parallel.h"
#include "common/types.h"

namespace lkops {

struct GatingProblem {
  int64_t batch, channels, pixels, hidden;  // all but batch 1 or more
};

// x, y and their gradients are dense (batch, channels, pixels), w1 (hidden, channels), b1 (hidden), w2 (channels,
// hidden), b2 (channels), mean (batch, channels), of each plane: forward writes it, backward reads it. Biases may be
// null; gradients that are null are not computed. `scratch` is as many bytes as forward_bytes or backward_bytes say.
template <class T>
struct GatingTensors {
  const T *x, *w1, *b1, *w2, *b2;
};

template <class T>
struct GatingGradients {
  T *x, *w1, *b1, *w2, *b2;
};

struct GatingKernels {
  int64_t (*forward_bytes)(const GatingProblem& problem);
  void (*forward_f32)(const GatingProblem& problem, const GatingTensors<float>& in, float* y, float* mean,
                      const Parallel& parallel, void* scratch);
  void (*forward_bf16)(const GatingProblem& problem, const GatingTensors<BFloat16>& in, BFloat16* y, float* mean,
                       const Parallel& parallel, void* scratch);

  int64_t (*backward_bytes)(const GatingProblem& problem);
  void (*backward_f32)(const GatingProblem& problem, const float* grad, const GatingTensors<float>& in,
                       const float* mean, const GatingGradients<float>& out, const Parallel& parallel, void* scratch);
  void (*backward_bf16)(const GatingProblem& problem, const BFloat16* grad, const GatingTensors<BFloat16>& in,
                        const float* mean, const GatingGradients<BFloat16>& out, const Parallel& parallel,
                        void* scratch);
};

LKOPS_DECLARE_TABLES(GatingKernels, kGating, Floats);

}  // namespace lkops
