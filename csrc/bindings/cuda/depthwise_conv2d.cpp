// depthwise_conv2d on the GPU: tensors in, pointers out.
#include "depthwise_conv2d/cuda.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bindings/cuda/device.h"
#include "bindings/dense.h"
#include "bindings/depthwise_conv2d.h"
#include "bindings/gradients.h"

namespace lkops {
namespace {

Tensor forward(const Tensor& x, const Tensor& weight, const Optional& bias, int64_t dilation) {
  const DepthwiseProblem problem = depthwise_problem(Device::kCuda, "x", x, weight, bias, dilation);
  const OnDevice device(x);
  Tensor y = result_like(x);
  with_type<Device::kCuda>(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const DepthwiseForward<T> arguments{pointer<T>(x), pointer<T>(weight), pointer<T>(bias), mutable_pointer<T>(y)};
    check_launch("depthwise_conv2d", depthwise_forward_cuda(problem, arguments, device.stream));
  });
  return y;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                            const Optional& bias, int64_t dilation, const std::vector<bool>& needs) {
  const DepthwiseProblem problem = depthwise_problem(Device::kCuda, "grad", grad, weight, bias, dilation);
  check_tensor("x", x, {grad.size(0), grad.size(1), grad.size(2), grad.size(3)}, grad);
  const OnDevice device(x);
  const Gradients gradients(x, needs, x, weight, bias);
  const Tensor partial = workspace(x, needs[1] || needs[2] ? depthwise_workspace_cuda(problem) : 0);
  with_type<Device::kCuda>(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const DepthwiseBackward<T> arguments{pointer<T>(grad),        pointer<T>(x),           pointer<T>(weight),
                                         gradients.pointer<T>(0), gradients.pointer<T>(1), gradients.pointer<T>(2)};
    check_launch("depthwise_conv2d", depthwise_backward_cuda(problem, arguments, mutable_pointer<float>(partial),
                                                             device.stream));
  });
  return gradients.results();
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CUDA, m) {
  m.impl("depthwise_conv2d_cuda_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("depthwise_conv2d_cuda_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
