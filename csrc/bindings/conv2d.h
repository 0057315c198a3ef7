// conv2d's kernels for other operators.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>

namespace lkops {

// out = PixelShuffle(conv(features) + bias), or, `adds`, out += that; `keeps` the packed weights. All have one dtype;
// shapes were checked.
void conv_and_shuffle(const torch::stable::Tensor& features, const torch::stable::Tensor& weight,
                      const std::optional<torch::stable::Tensor>& bias, int64_t groups, int64_t scale, bool relaxed,
                      bool keeps, bool adds, torch::stable::Tensor& out);

}  // namespace lkops
