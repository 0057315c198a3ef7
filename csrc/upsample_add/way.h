// Which way the upsampler goes. Bindings and the runtime ask it, so that both give the same bits. No torch, no std.
#pragma once

#include "conv2d/algorithm.h"
#include "upsample_add/cpu.h"

namespace lkops {
namespace {

constexpr int64_t kStreamed = 16 << 20;  // bytes of a result from which on caches hold little of it

// Whether the conv is so much of the work that fewer multiplications in it make good for one more pass over the image.
inline bool by_conv2d(const UpsampleProblem& p, bool is_mixed, bool adds) {
  return !is_mixed && pays({p.inputs, p.outputs, p.kernel_height, p.kernel_width, p.height, p.width}) &&
         (!adds || p.inputs >= 64);
}

}  // namespace
}  // namespace lkops
