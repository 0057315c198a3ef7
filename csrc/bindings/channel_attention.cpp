// channel_attention: tensors in, pointers out.
#include "channel_attention/cpu.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bindings/arguments.h"
#include "bindings/dense.h"
#include "bindings/gradients.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

const GatingKernels& kernels() { return LKOPS_CHOOSE(kGating); }

struct Arguments {
  const Tensor& x;
  const Tensor& w1;
  const Optional& b1;
  const Tensor& w2;
  const Optional& b2;

  GatingProblem check() const {
    check_image(Device::kCpu, "x", x);
    const int64_t channels = x.size(1);
    if (w1.dim() != 4 || w1.size(0) < 1)
      fail("reduce_weight must be (hidden, channels, 1, 1), got ", shape_of(w1));
    const int64_t hidden = w1.size(0);
    check_tensor("reduce_weight", w1, {hidden, channels, 1, 1}, x);
    check_tensor("reduce_bias", b1, {hidden}, x);
    check_tensor("expand_weight", w2, {channels, hidden, 1, 1}, x);
    check_tensor("expand_bias", b2, {channels}, x);
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
  Tensor y = result_like(x), mean = new_result(x, {problem.batch, problem.channels}, ScalarType::Float);
  if (problem.batch == 0) return {y, mean};
  const Scratch scratch = allocate_scratch(kernels().forward_bytes(problem));
  with_type<Device::kCpu>(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    of_type<T>(kernels().forward_f32, kernels().forward_bf16)(problem, arguments.pointers<T>(), mutable_pointer<T>(y),
                                                              mutable_pointer<float>(mean), torch_threads(),
                                                              scratch.get());
  });
  return {y, mean};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& w1,
                                                            const Optional& b1, const Tensor& w2, const Optional& b2,
                                                            const Tensor& mean, const std::vector<bool>& needs) {
  const Arguments arguments{x, w1, b1, w2, b2};
  const GatingProblem problem = arguments.check();
  check_tensor("grad", grad, {x.size(0), x.size(1), x.size(2), x.size(3)}, x);
  check_tensor("mean", mean, {problem.batch, problem.channels}, x, ScalarType::Float);
  const Gradients gradients(x, needs, x, w1, b1, w2, b2);
  if (problem.batch == 0) return gradients.zeros();
  const Scratch scratch = allocate_scratch(kernels().backward_bytes(problem));
  with_type<Device::kCpu>(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const auto at = [&](size_t i) { return gradients.pointer<T>(i); };
    of_type<T>(kernels().backward_f32, kernels().backward_bf16)(
        problem, pointer<T>(grad), arguments.pointers<T>(), pointer<float>(mean),
        GatingGradients<T>{at(0), at(1), at(2), at(3), at(4)}, torch_threads(), scratch.get());
  });
  return gradients.results();
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("channel_attention_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("channel_attention_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
