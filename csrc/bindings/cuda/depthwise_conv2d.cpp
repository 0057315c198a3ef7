// depthwise_conv2d on the GPU: tensors in, pointers out.
#include "depthwise_conv2d/cuda.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bindings/cuda/device.h"
#include "bindings/dense.h"

namespace lkops {
namespace {

DepthwiseProblem problem_of(const Tensor& image, const Tensor& weight, int64_t dilation) {
  return {image.size(0), image.size(1), image.size(2), image.size(3), weight.size(2), weight.size(3), dilation};
}

Tensor forward(const Tensor& x, const Tensor& weight, const Optional& bias, int64_t dilation) {
  check_image("x", x);
  check_depthwise("", weight, bias, dilation, x);
  const OnDevice device(x);
  Tensor y = result_like(x);
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const DepthwiseForward<T> arguments{pointer<T>(x), pointer<T>(weight), pointer<T>(bias), mutable_pointer<T>(y)};
    check_launch("depthwise_conv2d",
                 depthwise_forward_cuda(problem_of(x, weight, dilation), arguments, device.stream));
  });
  return y;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                            const Optional& bias, int64_t dilation, const std::vector<bool>& needs) {
  check_image("grad", grad);
  check_depthwise("", weight, bias, dilation, grad);
  check_tensor("x", x, {grad.size(0), grad.size(1), grad.size(2), grad.size(3)}, grad);
  check_needs(needs, 3);
  const OnDevice device(x);
  const DepthwiseProblem problem = problem_of(x, weight, dilation);
  const NewGradient dx(x, needs[0], x), dweight(weight, needs[1], x), dbias(bias, needs[2], x);
  const Tensor partial = workspace(x, needs[1] || needs[2] ? depthwise_workspace_cuda(problem) : 0);
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const DepthwiseBackward<T> arguments{pointer<T>(grad), pointer<T>(x),        pointer<T>(weight),
                                         dx.pointer<T>(),  dweight.pointer<T>(), dbias.pointer<T>()};
    check_launch("depthwise_conv2d", depthwise_backward_cuda(problem, arguments, mutable_pointer<float>(partial),
                                                             device.stream));
  });
  return {dx.tensor, dweight.tensor, dbias.tensor};
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CUDA, m) {
  m.impl("depthwise_conv2d_cuda_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("depthwise_conv2d_cuda_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
