// Tensors of depthwise_conv2d, checked, as its kernels take them.
#pragma once

#include "bindings/arguments.h"
#include "depthwise_conv2d/cpu.h"

namespace lkops {

// The problem that they pose for x, or for the gradient of the result, after checks.
inline DepthwiseProblem depthwise_problem(Device device, const char* name, const Tensor& image, const Tensor& weight,
                                          const Optional& bias, int64_t dilation) {
  check_image(device, name, image);
  check_depthwise("", weight, bias, dilation, image);
  return {image.size(0), image.size(1), image.size(2), image.size(3), weight.size(2), weight.size(3), dilation};
}

}  // namespace lkops
