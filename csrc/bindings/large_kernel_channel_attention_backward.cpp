// large_kernel_channel_attention, backward: tensors in, pointers out.
#include <torch/csrc/stable/library.h>

#include <vector>

#include "bindings/dense.h"
#include "bindings/large_kernel_channel_attention.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

const AttentionKernels& kernels() { return LKOPS_CHOOSE(kAttention); }

auto attention_backward(const Tensor& grad, const Tensor& u, const Tensor& dw1_weight, const Optional& dw1_bias,
                        const Tensor& dw2_weight, const Optional& dw2_bias, const Tensor& reduce_weight,
                        const Optional& reduce_bias, const Tensor& expand_weight, const Optional& expand_bias,
                        const Tensor& mix_weight, const Optional& mix_bias, const Tensor& a1, const Tensor& a2,
                        const Tensor& mean, const Tensor& scale, int64_t dilation1, int64_t dilation2, bool interleave,
                        const std::vector<bool>& needs) {
  check_image(Device::kCpu, "u", u);
  const AttentionTensors tensors{dw1_weight,  dw1_bias,      dw2_weight,  dw2_bias,   reduce_weight,
                                 reduce_bias, expand_weight, expand_bias, mix_weight, mix_bias};
  const AttentionProblem problem = tensors.problem(u, u, u.size(1), dilation1, dilation2, interleave);
  check_tensor("grad", grad, {u.size(0), u.size(1), u.size(2), u.size(3)}, u);
  check_tensor("a1", a1, {u.size(0), u.size(1), u.size(2), u.size(3)}, u);
  check_tensor("a2", a2, {u.size(0), u.size(1), u.size(2), u.size(3)}, u);
  check_tensor("mean", mean, {u.size(0), 3 * u.size(1)}, u, ScalarType::Float);
  check_tensor("scale", scale, {u.size(0), 3 * u.size(1)}, u, ScalarType::Float);
  const Gradients gradients(u, needs, u, dw1_weight, dw1_bias, dw2_weight, dw2_bias, reduce_weight, reduce_bias,
                            expand_weight, expand_bias, mix_weight, mix_bias);
  if (problem.batch == 0) return gradients.zeros();
  if (!gradients.any()) return gradients.results();
  const Parallel threads = torch_threads();
  with_type<Device::kCpu>(u.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    Taking<T> take(nullptr, nullptr);  // all have one dtype
    const auto bytes = of_type<T>(kernels().backward_bytes_f32, kernels().backward_bytes_bf16);
    const Scratch scratch = allocate_scratch(bytes(problem, threads.slots));
    const AttentionBackward<T> arguments{pointer<T>(grad),
                                         pointer<T>(u),
                                         tensors.pointers(take),
                                         pointer<T>(a1),
                                         pointer<T>(a2),
                                         pointer<float>(mean),
                                         pointer<float>(scale),
                                         attention_gradients<T>(gradients, gradients.pointer<T>(0), 1)};
    of_type<T>(kernels().backward_f32, kernels().backward_bf16)(problem, arguments, threads, scratch.get());
  });
  return gradients.results();
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("large_kernel_channel_attention_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::attention_backward>::run));
}
