// conv2d's kernels for other operators.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>

namespace lkops {

// Whether a conv of these sizes, which keeps the image's, is quicker by conv2d's kernels (Winograd's algorithm) than by
// a product of gathered pixels.
struct ShuffledConv {
  int64_t inputs, outputs;  // of one group
  int64_t kernel_height, kernel_width, height, width;
};
bool pays(const ShuffledConv& conv);

// out = PixelShuffle(conv(features) + bias), or, `adds`, out += that; `keeps` the packed weights. All have one dtype;
// shapes were checked.
void conv_and_shuffle(const torch::stable::Tensor& features, const torch::stable::Tensor& weight,
                      const std::optional<torch::stable::Tensor>& bias, int64_t groups, int64_t scale, bool relaxed,
                      bool keeps, bool adds, torch::stable::Tensor& out);

}  // namespace lkops
