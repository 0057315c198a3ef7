// norm_conv1x1_gelu: tensors in, pointers out.
#include "norm_conv1x1_gelu/cpu.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bindings/arguments.h"
#include "bindings/dense.h"
#include "bindings/gradients.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

// Calls body(entries of the table for x's dtype, a zero of it).
template <class Body>
void with_kernels(const Tensor& x, const Body& body) {
  const ProjectionKernels& kernels = LKOPS_CHOOSE(kProjection);
  with_type<Device::kCpu>(x.scalar_type(), [&](auto zero) {
    body(of_type<decltype(zero)>(kernels.f32, kernels.bf16), zero);
  });
}

ProjectionProblem check(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& weight,
                        const Optional& bias, double eps) {
  check_image(Device::kCpu, "x", x);
  if (weight.dim() != 4 || weight.size(0) < 1)
    fail("weight must be (outputs, channels, 1, 1), got ", shape_of(weight));
  const int64_t channels = x.size(1), outputs = weight.size(0);
  check_tensor("norm_weight", gamma, {channels}, x);
  check_tensor("norm_bias", beta, {channels}, x);
  check_tensor("weight", weight, {outputs, channels, 1, 1}, x);
  check_tensor("bias", bias, {outputs}, x);
  check_eps(eps);
  return {x.size(0), channels, outputs, x.size(2) * x.size(3), static_cast<float>(eps)};
}

template <class T>
ProjectionParameters<T> pointers(const Tensor& gamma, const Tensor& beta, const Tensor& weight, const Optional& bias) {
  return {pointer<T>(gamma), pointer<T>(beta), pointer<T>(weight), pointer<T>(bias)};
}

Tensor forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& weight, const Optional& bias,
               double eps) {
  const ProjectionProblem problem = check(x, gamma, beta, weight, bias, eps);
  Tensor u = new_result(x, {x.size(0), problem.outputs, x.size(2), x.size(3)});
  if (problem.batch == 0) return u;
  const Parallel parallel = torch_threads();
  with_kernels(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    const Scratch scratch = allocate_scratch(kernels.forward_bytes(problem, parallel.slots));
    kernels.forward(problem, pointers<T>(gamma, beta, weight, bias), pointer<T>(x),
                    mutable_pointer<T>(u), parallel, scratch.get());
  });
  return u;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& gamma,
                                                            const Tensor& beta, const Tensor& weight,
                                                            const Optional& bias, double eps,
                                                            const std::vector<bool>& needs) {
  const ProjectionProblem problem = check(x, gamma, beta, weight, bias, eps);
  check_tensor("grad", grad, {x.size(0), problem.outputs, x.size(2), x.size(3)}, x);
  const Gradients gradients(x, needs, x, gamma, beta, weight, bias);
  if (problem.batch == 0) return gradients.zeros();
  const Parallel parallel = torch_threads();
  with_kernels(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    const Scratch scratch = allocate_scratch(kernels.backward_bytes(problem, parallel.slots));
    const auto at = [&](size_t i) { return gradients.pointer<T>(i); };
    const ProjectionResults<T> results{at(0), at(1), at(2), at(3), at(4)};
    kernels.backward(problem, pointers<T>(gamma, beta, weight, bias), pointer<T>(x), pointer<T>(grad), results,
                     parallel, scratch.get());
  });
  return gradients.results();
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("norm_conv1x1_gelu_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("norm_conv1x1_gelu_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
