// Layer norm over channels, 1x1 conv and GELU. No torch, no std.
#pragma once

#include "common/isas.h"
#include "common/parallel.h"
#include "common/types.h"

namespace lkops {

struct ProjectionProblem {  // all sizes 1 or more, but `batch`
  int64_t batch, channels, outputs, pixels;
  float eps;
};

template <class T>
struct ProjectionParameters {
  const T *gamma, *beta;  // (channels,)
  const T* weight;        // (outputs, channels)
  const T* bias;          // (outputs,), may be null
};

template <class T>
struct ProjectionResults {  // gradients; what is null is not wanted
  T *x, *gamma, *beta, *weight, *bias;
};

// x (batch, channels, pixels), u and du (batch, outputs, pixels). `scratch` belongs to one call, aligned to 64 bytes:
// forward_bytes or backward_bytes for parallel.slots. Results have the same bits for any number of slots.
template <class T>
struct ProjectionEntries {
  int64_t (*forward_bytes)(const ProjectionProblem& problem, int64_t slots);
  void (*forward)(const ProjectionProblem& problem, const ProjectionParameters<T>& parameters, const T* x, T* u,
                  const Parallel& parallel, void* scratch);
  int64_t (*backward_bytes)(const ProjectionProblem& problem, int64_t slots);
  void (*backward)(const ProjectionProblem& problem, const ProjectionParameters<T>& parameters, const T* x,
                   const T* du, const ProjectionResults<T>& results, const Parallel& parallel, void* scratch);
};

struct ProjectionKernels {
  ProjectionEntries<float> f32;
  ProjectionEntries<BFloat16> bf16;
};

LKOPS_DECLARE_TABLES(ProjectionKernels, kProjection, Products);

}  // namespace lkops
