// lk_block, backward: tensors in, pointers out.
#include <torch/csrc/stable/library.h>

#include <vector>

#include "bindings/dense.h"
#include "bindings/lk_block.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

const BlockKernels& kernels() { return LKOPS_CHOOSE(kBlock); }

auto block_backward(const Tensor& grad, const Tensor& x, const Tensor& norm_weight, const Tensor& norm_bias,
                    const Tensor& in_weight, const Optional& in_bias, const Tensor& dw1_weight,
                    const Optional& dw1_bias, const Tensor& dw2_weight, const Optional& dw2_bias,
                    const Tensor& reduce_weight, const Optional& reduce_bias, const Tensor& expand_weight,
                    const Optional& expand_bias, const Tensor& mix_weight, const Optional& mix_bias,
                    const Tensor& out_weight, const Optional& out_bias, const Optional& keep, const Tensor& t,
                    const Tensor& a1, const Tensor& a2, const Tensor& mean, const Tensor& scale, int64_t dilation1,
                    int64_t dilation2, bool interleave, double eps, const std::vector<bool>& needs) {
  check_image(Device::kCpu, "x", x);
  const BlockTensors tensors{
      norm_weight, norm_bias,  in_weight, in_bias,
      {dw1_weight, dw1_bias, dw2_weight, dw2_bias, reduce_weight, reduce_bias, expand_weight, expand_bias, mix_weight,
       mix_bias},
      out_weight, out_bias, keep};
  const BlockProblem problem = tensors.problem(x, x, dilation1, dilation2, interleave, eps);
  const int64_t batch = x.size(0), width = problem.attention.channels;
  check_tensor("grad", grad, {batch, x.size(1), x.size(2), x.size(3)}, x);
  check_tensor("t", t, {batch, width, x.size(2), x.size(3)}, x);
  check_tensor("a1", a1, {batch, width, x.size(2), x.size(3)}, x);
  check_tensor("a2", a2, {batch, width, x.size(2), x.size(3)}, x);
  check_tensor("mean", mean, {batch, 3 * width}, x, ScalarType::Float);
  check_tensor("scale", scale, {batch, 3 * width}, x, ScalarType::Float);
  const Gradients gradients(x, needs, x, norm_weight, norm_bias, in_weight, in_bias, dw1_weight, dw1_bias, dw2_weight,
                            dw2_bias, reduce_weight, reduce_bias, expand_weight, expand_bias, mix_weight, mix_bias,
                            out_weight, out_bias, keep);
  if (batch == 0) return gradients.zeros();
  if (!gradients.any()) return gradients.results();
  const Parallel threads = torch_threads();
  with_type<Device::kCpu>(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    Taking<T> take(nullptr, nullptr);  // all have one dtype
    const auto bytes = of_type<T>(kernels().backward_bytes_f32, kernels().backward_bytes_bf16);
    const Scratch scratch = allocate_scratch(bytes(problem, threads.slots));
    const auto at = [&](size_t i) { return gradients.pointer<T>(i); };
    const BlockBackward<T> arguments{
        pointer<T>(grad),
        pointer<T>(x),
        tensors.pointers(take),
        pointer<T>(t),
        pointer<T>(a1),
        pointer<T>(a2),
        pointer<float>(mean),
        pointer<float>(scale),
        {at(0), at(1), at(2), at(3), at(4), attention_gradients<T>(gradients, static_cast<T*>(nullptr), 5), at(15),
         at(16), at(17)}};
    of_type<T>(kernels().backward_f32, kernels().backward_bf16)(problem, arguments, threads, scratch.get());
  });
  return gradients.results();
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("lk_block_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::block_backward>::run));
}
