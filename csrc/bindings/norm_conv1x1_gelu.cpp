// norm_conv1x1_gelu: tensors in, pointers out.
#include "norm_conv1x1_gelu/cpu.h"

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

// Calls body(entries of the table for x's dtype, a zero of it).
template <class Body>
void with_kernels(const Tensor& x, const Body& body) {
  const ProjectionKernels& kernels = LKOPS_CHOOSE(kProjection);
  if (x.scalar_type() == ScalarType::Float)
    body(kernels.f32, float{});
  else
    body(kernels.bf16, BFloat16{});
}

ProjectionProblem check(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& weight,
                        const Optional& bias, double eps) {
  check_image("x", x);
  const ScalarType dtype = x.scalar_type();
  if (weight.dim() != 4 || weight.size(0) < 1)
    fail("weight must be (outputs, channels, 1, 1), got ", shape_of(weight));
  const int64_t channels = x.size(1), outputs = weight.size(0);
  check_tensor("norm_weight", gamma, {channels}, dtype);
  check_tensor("norm_bias", beta, {channels}, dtype);
  check_tensor("weight", weight, {outputs, channels, 1, 1}, dtype);
  check_tensor("bias", bias, {outputs}, dtype);
  if (!(eps > 0)) fail("eps must be above 0, got ", eps);
  return {x.size(0), channels, outputs, x.size(2) * x.size(3), static_cast<float>(eps)};
}

template <class T>
ProjectionParameters<T> pointers(const Tensor& gamma, const Tensor& beta, const Tensor& weight, const Optional& bias) {
  return {pointer<T>(gamma), pointer<T>(beta), pointer<T>(weight), pointer<T>(bias)};
}

Tensor forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& weight, const Optional& bias,
               double eps) {
  const ProjectionProblem problem = check(x, gamma, beta, weight, bias, eps);
  const int64_t sizes[] = {x.size(0), problem.outputs, x.size(2), x.size(3)};
  Tensor u = new_result(x, {sizes, 4});
  if (problem.batch == 0) return u;
  const Parallel parallel = torch_threads();
  with_kernels(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    const Scratch scratch = allocate_scratch(kernels.forward_bytes(problem, parallel.slots));
    kernels.forward(problem, pointers<T>(gamma, beta, weight, bias), pointer<T>(x),
                    static_cast<T*>(u.mutable_data_ptr()), parallel, scratch.get());
  });
  return u;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& gamma,
                                                            const Tensor& beta, const Tensor& weight,
                                                            const Optional& bias, double eps,
                                                            const std::vector<bool>& needs) {
  const ProjectionProblem problem = check(x, gamma, beta, weight, bias, eps);
  check_tensor("grad", grad, {x.size(0), problem.outputs, x.size(2), x.size(3)}, x.scalar_type());
  check_needs(needs, 5);
  Tensor dx = gradient_like(x, needs[0], x);
  Tensor dgamma = gradient_like(gamma, needs[1], x);
  Tensor dbeta = gradient_like(beta, needs[2], x);
  Tensor dweight = gradient_like(weight, needs[3], x);
  Tensor dbias = gradient_like(bias, needs[4], x);
  if (problem.batch == 0) {
    for (Tensor* gradient : {&dgamma, &dbeta, &dweight, &dbias}) set_to_zero(*gradient);
    return {dx, dgamma, dbeta, dweight, dbias};
  }
  const Parallel parallel = torch_threads();
  with_kernels(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    const Scratch scratch = allocate_scratch(kernels.backward_bytes(problem, parallel.slots));
    const ProjectionResults<T> results{
        gradient_pointer<T>(dx, x, needs[0]), gradient_pointer<T>(dgamma, gamma, needs[1]),
        gradient_pointer<T>(dbeta, beta, needs[2]), gradient_pointer<T>(dweight, weight, needs[3]),
        gradient_pointer<T>(dbias, bias, needs[4])};
    kernels.backward(problem, pointers<T>(gamma, beta, weight, bias), pointer<T>(x), pointer<T>(grad), results,
                     parallel, scratch.get());
  });
  return {dx, dgamma, dbeta, dweight, dbias};
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("norm_conv1x1_gelu_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("norm_conv1x1_gelu_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
