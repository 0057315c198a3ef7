// Which algorithm computes a conv. Bindings and the runtime ask it, so that both give the same bits. No torch, no std.
#pragma once

#include "conv2d/cpu.h"

namespace lkops {
namespace {

// Measured on Zen 5 and Zen 4, one thread of a busy machine, 48x48 to 128x128, 28 to 256 channels: Winograd's algorithm
// wins everywhere; from 3 to 64 channels it is even with the direct one, and what lies below was not measured. Of 5x5 it
// needs 0.6 of the direct algorithm's time (16 to 128 channels), of 7x7 0.7, of 9x9 0.4, of 3x3 with dilations of 2 to 4
// 0.5 to 0.6. float32 keeps the tolerance with tiles of 2x4 (at most 0.8 of what is allowed, 3x3 to 9x9, 16 to 512
// channels); 4x4 needs `relaxed` (4.1e-6 of the largest value at most), and is slower where fewer than 8 tiles fit into
// L2. bfloat16 with 2x4 had 0.009 of the largest value at 64 and at 256 channels, a quarter of what is allowed; that is
// more than one rounding, so that signs of small values change: where a derivative with a jump will follow, `jumps`, the
// direct algorithm serves.
inline void choose_algorithm(Conv2dProblem& p, bool is_f32, bool relaxed, bool jumps) {
  const int64_t inputs = p.inputs / p.groups, outputs = p.outputs / p.groups;
  const auto fits = [](int64_t kernel, int64_t stride, int64_t spread, int64_t dilation) {
    return kernel >= 3 && kernel <= 9 && kernel % 2 == 1 && stride == 1 && spread == 1 && dilation <= 4;
  };
  const bool is_winograd = fits(p.kernel_height, p.stride_height, p.spread_height, p.dilation_height) &&
                           fits(p.kernel_width, p.stride_width, p.spread_width, p.dilation_width) &&
                           p.out_height >= 2 * p.dilation_height && p.out_width >= 4 * p.dilation_width &&
                           inputs * outputs >= 192;
  const int64_t kernels = (p.kernel_height + 2) / 3 * ((p.kernel_width + 2) / 3);  // of 3x3
  const bool is_large = kernels > 1 && inputs * kernels > 800;
  p.algorithm = !is_winograd || (jumps && !is_f32) ? ConvAlgorithm::kDirect
                : relaxed && !is_large             ? ConvAlgorithm::kWinograd4
                                                   : ConvAlgorithm::kWinograd2;
  p.levels = is_f32 && (!relaxed || inputs * kernels > 256);
}

// Whether a conv of these sizes, which keeps the image's, is quicker by conv2d's kernels (Winograd's algorithm) than by
// a product of gathered pixels.
struct ShuffledConv {
  int64_t inputs, outputs;  // of one group
  int64_t kernel_height, kernel_width, height, width;
};

inline bool pays(const ShuffledConv& conv) {
  const auto fits = [](int64_t kernel) { return kernel == 3 || kernel == 5 || kernel == 7; };
  return fits(conv.kernel_height) && fits(conv.kernel_width) && conv.inputs >= 16 && conv.outputs >= 16 &&
         conv.height >= 2 && conv.width >= 4;
}

}  // namespace
}  // namespace lkops
