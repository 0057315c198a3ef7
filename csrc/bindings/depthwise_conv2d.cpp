// depthwise_conv2d: tensors in, pointers out.
#include "bindings/depthwise_conv2d.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bindings/dense.h"
#include "bindings/gradients.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

const DepthwiseKernels& kernels() { return LKOPS_CHOOSE(kDepthwise); }

Tensor forward(const Tensor& x, const Tensor& weight, const Optional& bias, int64_t dilation) {
  const DepthwiseProblem problem = depthwise_problem(Device::kCpu, "x", x, weight, bias, dilation);
  Tensor y = result_like(x);
  if (problem.batch == 0) return y;
  const Parallel parallel = torch_threads();
  const Scratch scratch = allocate_scratch(kernels().forward_bytes(problem, parallel.slots));
  with_type<Device::kCpu>(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    of_type<T>(kernels().forward_f32, kernels().forward_bf16)(problem, pointer<T>(x), pointer<T>(weight),
                                                              pointer<T>(bias), mutable_pointer<T>(y), parallel,
                                                              scratch.get());
  });
  return y;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                            const Optional& bias, int64_t dilation, const std::vector<bool>& needs) {
  const DepthwiseProblem problem = depthwise_problem(Device::kCpu, "grad", grad, weight, bias, dilation);
  check_tensor("x", x, {problem.batch, problem.channels, problem.height, problem.width}, grad);
  const Gradients gradients(x, needs, x, weight, bias);
  if (problem.batch == 0) return gradients.zeros();
  const Parallel parallel = torch_threads();
  const Scratch scratch = allocate_scratch(kernels().backward_bytes(problem, parallel.slots));
  with_type<Device::kCpu>(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    of_type<T>(kernels().backward_f32, kernels().backward_bf16)(
        problem, pointer<T>(grad), pointer<T>(x), pointer<T>(weight), gradients.pointer<T>(0), gradients.pointer<T>(1),
        gradients.pointer<T>(2), parallel, scratch.get());
  });
  return gradients.results();
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("depthwise_conv2d_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("depthwise_conv2d_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
