// large_kernel_channel_attention, forward: tensors in, pointers out.
#include "bindings/large_kernel_channel_attention.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bindings/dense.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

const AttentionKernels& kernels() { return LKOPS_CHOOSE(kAttention); }

Results attention_forward(const Tensor& u, const Tensor& dw1_weight, const Optional& dw1_bias, const Tensor& dw2_weight,
                          const Optional& dw2_bias, const Tensor& reduce_weight, const Optional& reduce_bias,
                          const Tensor& expand_weight, const Optional& expand_bias, const Tensor& mix_weight,
                          const Optional& mix_bias, int64_t dilation1, int64_t dilation2, bool interleave) {
  check_image(Device::kCpu, "u", u);
  const AttentionTensors tensors{dw1_weight,  dw1_bias,      dw2_weight,  dw2_bias,   reduce_weight,
                                 reduce_bias, expand_weight, expand_bias, mix_weight, mix_bias};
  const AttentionProblem problem =
      tensors.problem(u, like_parameters(dw1_weight, u), u.size(1), dilation1, dilation2, interleave);
  const auto map = [&] { return new_result(u, {u.size(0), u.size(1), u.size(2), u.size(3)}); };
  const auto gate = [&] { return new_result(u, {u.size(0), 3 * u.size(1)}, ScalarType::Float); };
  const Results results{map(), map(), map(), gate(), gate()};
  if (problem.batch == 0) return results;
  const Parallel threads = torch_threads();
  with_type<Device::kCpu>(u.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const auto bytes = of_type<T>(kernels().forward_bytes_f32, kernels().forward_bytes_bf16);
    const Scratch scratch = allocate_scratch(bytes(problem, threads.slots));
    const auto& [y, a1, a2, mean, scale] = results;
    const auto [memory, parameters] =
        cast_parameters<T>(kernels().narrow, [&](Taking<T>& take) { return tensors.pointers(take); });
    const AttentionForward<T> arguments{pointer<T>(u),
                                        parameters,
                                        mutable_pointer<T>(y),
                                        mutable_pointer<T>(a1),
                                        mutable_pointer<T>(a2),
                                        mutable_pointer<float>(mean),
                                        mutable_pointer<float>(scale)};
    of_type<T>(kernels().forward_f32, kernels().forward_bf16)(problem, arguments, threads, scratch.get());
  });
  return results;
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("large_kernel_channel_attention_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::attention_forward>::run));
}
