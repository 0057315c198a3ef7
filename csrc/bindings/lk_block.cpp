// lk_block, forward: tensors in, pointers out.
#include "bindings/lk_block.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bindings/dense.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

const BlockKernels& kernels() { return LKOPS_CHOOSE(kBlock); }

Results block_forward(const Tensor& x, const Tensor& norm_weight, const Tensor& norm_bias, const Tensor& in_weight,
                      const Optional& in_bias, const Tensor& dw1_weight, const Optional& dw1_bias,
                      const Tensor& dw2_weight, const Optional& dw2_bias, const Tensor& reduce_weight,
                      const Optional& reduce_bias, const Tensor& expand_weight, const Optional& expand_bias,
                      const Tensor& mix_weight, const Optional& mix_bias, const Tensor& out_weight,
                      const Optional& out_bias, const Optional& keep, int64_t dilation1, int64_t dilation2,
                      bool interleave, double eps, bool saving) {
  check_image(Device::kCpu, "x", x);
  const BlockTensors tensors{
      norm_weight, norm_bias,  in_weight, in_bias,
      {dw1_weight, dw1_bias, dw2_weight, dw2_bias, reduce_weight, reduce_bias, expand_weight, expand_bias, mix_weight,
       mix_bias},
      out_weight, out_bias, keep};
  const BlockProblem problem = tensors.problem(x, like_parameters(norm_weight, x), dilation1, dilation2, interleave, eps);
  const int64_t batch = x.size(0), width = problem.attention.channels;
  const auto map = [&] {
    return saving ? new_result(x, {batch, width, x.size(2), x.size(3)}) : new_result(x, {0});
  };
  const auto gate = [&] {
    return saving ? new_result(x, {batch, 3 * width}, ScalarType::Float) : new_result(x, {0}, ScalarType::Float);
  };
  const Results results{new_result(x, {batch, x.size(1), x.size(2), x.size(3)}), map(), map(), map(), gate(), gate()};
  if (batch == 0) return results;
  const Parallel threads = torch_threads();
  with_type<Device::kCpu>(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const auto bytes = of_type<T>(kernels().forward_bytes_f32, kernels().forward_bytes_bf16);
    const Scratch scratch = allocate_scratch(bytes(problem, saving, threads.slots));
    const auto& [y, t, a1, a2, mean, scale] = results;
    BlockForward<T> arguments{};
    const auto [memory, parameters] = cast_parameters<T>(
        LKOPS_CHOOSE(kAttention).narrow, [&](Taking<T>& take) { return tensors.pointers(take); });
    arguments.x = pointer<T>(x), arguments.parameters = parameters, arguments.y = mutable_pointer<T>(y);
    if (saving) {
      arguments.t = mutable_pointer<T>(t);
      arguments.a1 = mutable_pointer<T>(a1), arguments.a2 = mutable_pointer<T>(a2);
      arguments.mean = mutable_pointer<float>(mean), arguments.scale = mutable_pointer<float>(scale);
    }
    of_type<T>(kernels().forward_f32, kernels().forward_bf16)(problem, arguments, threads, scratch.get());
  });
  return results;
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("lk_block_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::block_forward>::run));
}
