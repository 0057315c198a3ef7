// The residual block on the GPU for small images, without what backward needs: what its kernel takes and gives. T is
// float, BFloat16 or Float16.
#pragma once

#include <cstdint>

#include "lk_block/cpu.h"
#include "common/cuda_types.h"

namespace lkops {

// The maps, (batch, channels of the attention, height, width), and the sums of u, a1 and a2 over planes, (batch,
// 3 channels), are scratch memory.
template <class T>
struct BlockInference {
  const T* x;
  BlockParameters<T> parameters;
  T *y, *u, *a1, *a2, *w;
  float* sums;
};

// What the kernel takes: LKCA-Net's depthwise kernels, at most so many samples, rows and columns, and channels that
// leave room for tiles in the shared memory of any GPU. lkops/ops/lk_block/cuda_kernels.py has the same numbers.
constexpr int64_t kSmallBatch = 8, kSmallSide = 32, kSmallInner = 384, kSmallHidden = 128;

inline bool is_small(const BlockProblem& s) {
  const AttentionProblem& a = s.attention;
  const bool first = a.rows1 == 5 && a.columns1 == 5 && a.dilation1 == 5;
  const bool second = a.rows2 == 7 && a.columns2 == 7 && a.dilation2 == 7;
  return first && second && a.batch <= kSmallBatch && a.height <= kSmallSide && a.width <= kSmallSide &&
         s.channels <= kSmallInner && a.channels <= kSmallInner && 3 * a.channels / a.groups <= kSmallInner &&
         a.hidden <= kSmallHidden;
}

// One cooperative launch, or with `cooperative` false one launch for each phase: the same bits. Returns what went wrong,
// or null. Only for what is_small.
template <class T>
const char* block_inference_cuda(const BlockProblem& problem, const BlockInference<T>& arguments, bool cooperative,
                                 CudaStream stream);

}  // namespace lkops
