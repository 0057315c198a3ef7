// channel_attention: tensors in, pointers out.
#include "channel_attention/cpu.h"

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

const GatingKernels& kernels() { return LKOPS_CHOOSE(kGating); }

struct Arguments {
  const Tensor& x;
  const Tensor& w1;
  const Optional& b1;
  const Tensor& w2;
  const Optional& b2;

  GatingProblem check() const {
    check_image("x", x);
    const int64_t channels = x.size(1);
    if (w1.dim() != 4 || w1.size(0) < 1)
      fail("reduce_weight must be (hidden, channels, 1, 1), got ", shape_of(w1));
    const int64_t hidden = w1.size(0);
    const ScalarType dtype = x.scalar_type();
    check_tensor("reduce_weight", w1, {hidden, channels, 1, 1}, dtype);
    check_tensor("reduce_bias", b1, {hidden}, dtype);
    check_tensor("expand_weight", w2, {channels, hidden, 1, 1}, dtype);
    check_tensor("expand_bias", b2, {channels}, dtype);
    return {x.size(0), channels, multiply(x.size(2), x.size(3)), hidden};
  }

  template <class T>
  GatingTensors<T> pointers() const {
    return {pointer<T>(x), pointer<T>(w1), pointer<T>(b1), pointer<T>(w2), pointer<T>(b2)};
  }
};

std::tuple<Tensor, Tensor> forward(const Tensor& x, const Tensor& w1, const Optional& b1, const Tensor& w2,
                                   const Optional& b2) {
  const Arguments arguments{x, w1, b1, w2, b2};
  const GatingProblem problem = arguments.check();
  Tensor y = result_like(x);
  const int64_t sizes[] = {problem.batch, problem.channels};
  Tensor mean = new_result(x, {sizes, 2}, ScalarType::Float);
  if (problem.batch == 0) return {y, mean};
  float* means = static_cast<float*>(mean.mutable_data_ptr());
  const Scratch scratch = allocate_scratch(kernels().forward_bytes(problem));
  if (x.scalar_type() == ScalarType::Float)
    kernels().forward_f32(problem, arguments.pointers<float>(), static_cast<float*>(y.mutable_data_ptr()), means,
                          torch_threads(), scratch.get());
  else
    kernels().forward_bf16(problem, arguments.pointers<BFloat16>(), static_cast<BFloat16*>(y.mutable_data_ptr()),
                           means, torch_threads(), scratch.get());
  return {y, mean};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& w1,
                                                            const Optional& b1, const Tensor& w2, const Optional& b2,
                                                            const Tensor& mean, const std::vector<bool>& needs) {
  const Arguments arguments{x, w1, b1, w2, b2};
  const GatingProblem problem = arguments.check();
  check_tensor("grad", grad, {x.size(0), x.size(1), x.size(2), x.size(3)}, x.scalar_type());
  check_tensor("mean", mean, {problem.batch, problem.channels}, ScalarType::Float);
  check_needs(needs, 5);
  const Tensor dx = gradient_like(x, needs[0], x), dw1 = gradient_like(w1, needs[1], x);
  const Tensor db1 = gradient_like(b1, needs[2], x), dw2 = gradient_like(w2, needs[3], x);
  const Tensor db2 = gradient_like(b2, needs[4], x);
  if (problem.batch == 0) {
    for (const Tensor* gradient : {&dw1, &db1, &dw2, &db2}) set_to_zero(*gradient);
    return {dx, dw1, db1, dw2, db2};
  }
  const Scratch scratch = allocate_scratch(kernels().backward_bytes(problem));
  const auto run = [&](auto kernel, auto zero) {
    using T = decltype(zero);
    const GatingGradients<T> gradients{gradient_pointer<T>(dx, x, needs[0]), gradient_pointer<T>(dw1, w1, needs[1]),
                                       gradient_pointer<T>(db1, b1, needs[2]), gradient_pointer<T>(dw2, w2, needs[3]),
                                       gradient_pointer<T>(db2, b2, needs[4])};
    kernel(problem, pointer<T>(grad), arguments.pointers<T>(), pointer<float>(mean), gradients, torch_threads(),
           scratch.get());
  };
  if (x.scalar_type() == ScalarType::Float)
    run(kernels().backward_f32, float{});
  else
    run(kernels().backward_bf16, BFloat16{});
  return {dx, dw1, db1, dw2, db2};
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("channel_attention_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("channel_attention_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
