// depthwise_conv2d: tensors in, pointers out.
#include "depthwise_conv2d/cpu.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bindings/arguments.h"
#include "bindings/dense.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

const DepthwiseKernels& kernels() { return LKOPS_CHOOSE(kDepthwise); }

DepthwiseProblem check(const char* name, const Tensor& image, const Tensor& weight, const Optional& bias,
                       int64_t dilation) {
  check_image(name, image);
  const int64_t channels = image.size(1);
  if (weight.dim() != 4 || weight.size(2) % 2 == 0 || weight.size(3) % 2 == 0)
    fail("weight must be (channels, 1, rows, columns) with an odd kernel, got ", shape_of(weight));
  check_tensor("weight", weight, {channels, 1, weight.size(2), weight.size(3)}, image.scalar_type());
  check_tensor("bias", bias, {channels}, image.scalar_type());
  if (dilation < 1) fail("dilation must be 1 or more, got ", dilation);
  return {image.size(0), channels, image.size(2), image.size(3), weight.size(2), weight.size(3), dilation};
}

Tensor forward(const Tensor& x, const Tensor& weight, const Optional& bias, int64_t dilation) {
  const DepthwiseProblem problem = check("x", x, weight, bias, dilation);
  Tensor y = result_like(x);
  if (problem.batch == 0) return y;
  const Parallel parallel = torch_threads();
  const Scratch scratch = allocate_scratch(kernels().forward_bytes(problem, parallel.slots));
  const auto run = [&](auto kernel, auto* to) {
    using T = std::remove_pointer_t<decltype(to)>;
    kernel(problem, pointer<T>(x), pointer<T>(weight), pointer<T>(bias), to, parallel, scratch.get());
  };
  if (x.scalar_type() == ScalarType::Float)
    run(kernels().forward_f32, static_cast<float*>(y.mutable_data_ptr()));
  else
    run(kernels().forward_bf16, static_cast<BFloat16*>(y.mutable_data_ptr()));
  return y;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                            const Optional& bias, int64_t dilation, const std::vector<bool>& needs) {
  const DepthwiseProblem problem = check("grad", grad, weight, bias, dilation);
  check_tensor("x", x, {problem.batch, problem.channels, problem.height, problem.width}, grad.scalar_type());
  check_needs(needs, 3);
  Tensor dx = gradient_like(x, needs[0], x);
  Tensor dweight = gradient_like(weight, needs[1], x);
  Tensor dbias = gradient_like(bias, needs[2], x);
  if (problem.batch == 0) {
    set_to_zero(dweight), set_to_zero(dbias);
    return {dx, dweight, dbias};
  }
  const Parallel parallel = torch_threads();
  const Scratch scratch = allocate_scratch(kernels().backward_bytes(problem, parallel.slots));
  const auto run = [&](auto kernel, auto zero) {
    using T = decltype(zero);
    kernel(problem, pointer<T>(grad), pointer<T>(x), pointer<T>(weight), gradient_pointer<T>(dx, x, needs[0]),
           gradient_pointer<T>(dweight, weight, needs[1]), gradient_pointer<T>(dbias, bias, needs[2]), parallel,
           scratch.get());
  };
  if (x.scalar_type() == ScalarType::Float)
    run(kernels().backward_f32, float{});
  else
    run(kernels().backward_bf16, BFloat16{});
  return {dx, dweight, dbias};
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("depthwise_conv2d_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("depthwise_conv2d_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
