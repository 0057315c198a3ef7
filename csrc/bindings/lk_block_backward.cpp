// lk_block, backward: tensors in, pointers out.
#include <torch/csrc/stable/library.h>

#include <vector>

#include "bindings/lk_block.h"
#include "bindings/dense.h"
#include "bindings/gradients.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

constexpr size_t kTensors = 18;

const BlockKernels& kernels() { return LKOPS_CHOOSE(kBlock); }

struct Saved {
  const Tensor &grad, &x, &t, &a1, &a2, &mean, &scale;
};

template <class T, class Bytes, class Kernel>
void run(Bytes bytes, Kernel kernel, const BlockProblem& problem, const BlockTensors& tensors, const Saved& saved,
         const Gradients& gradients) {
  const Parallel threads = torch_threads();
  const Scratch scratch = allocate_scratch(bytes(problem, threads.slots));
  const auto at = [&](size_t i) { return gradients.pointer<T>(i); };
  kernel(problem,
         BlockBackward<T>{pointer<T>(saved.grad),
                          pointer<T>(saved.x),
                          tensors.pointers<T>(),
                          pointer<T>(saved.t),
                          pointer<T>(saved.a1),
                          pointer<T>(saved.a2),
                          pointer<float>(saved.mean),
                          pointer<float>(saved.scale),
                          {at(0), at(1), at(2), at(3), at(4),
                           attention_gradients<T>(gradients, static_cast<T*>(nullptr), 5), at(15), at(16), at(17)}},
         threads, scratch.get());
}

auto block_backward(const Tensor& grad, const Tensor& x, const Tensor& norm_weight, const Tensor& norm_bias,
                    const Tensor& in_weight, const Optional& in_bias, const Tensor& dw1_weight,
                    const Optional& dw1_bias, const Tensor& dw2_weight, const Optional& dw2_bias,
                    const Tensor& reduce_weight, const Optional& reduce_bias, const Tensor& expand_weight,
                    const Optional& expand_bias, const Tensor& mix_weight, const Optional& mix_bias,
                    const Tensor& out_weight, const Optional& out_bias, const Optional& keep, const Tensor& t,
                    const Tensor& a1, const Tensor& a2, const Tensor& mean, const Tensor& scale, int64_t dilation1,
                    int64_t dilation2, bool interleave, double eps, const std::vector<bool>& needs) {
  check_image("x", x);
  check_needs(needs, kTensors);
  const ScalarType dtype = x.scalar_type();
  const BlockTensors tensors{
      norm_weight, norm_bias,  in_weight, in_bias,
      {dw1_weight, dw1_bias, dw2_weight, dw2_bias, reduce_weight, reduce_bias, expand_weight, expand_bias, mix_weight,
       mix_bias},
      out_weight, out_bias, keep};
  const BlockProblem problem = tensors.problem(x, dilation1, dilation2, interleave, eps);
  const int64_t batch = x.size(0), width = problem.attention.channels;
  check_tensor("grad", grad, {batch, x.size(1), x.size(2), x.size(3)}, dtype);
  check_tensor("t", t, {batch, width, x.size(2), x.size(3)}, dtype);
  check_tensor("a1", a1, {batch, width, x.size(2), x.size(3)}, dtype);
  check_tensor("a2", a2, {batch, width, x.size(2), x.size(3)}, dtype);
  check_tensor("mean", mean, {batch, 3 * width}, ScalarType::Float);
  check_tensor("scale", scale, {batch, 3 * width}, ScalarType::Float);

  Gradients gradients(x, needs, batch == 0);
  gradients.add(x), gradients.add(norm_weight), gradients.add(norm_bias);
  gradients.add(in_weight), gradients.add(in_bias);
  gradients.add(dw1_weight), gradients.add(dw1_bias), gradients.add(dw2_weight), gradients.add(dw2_bias);
  gradients.add(reduce_weight), gradients.add(reduce_bias), gradients.add(expand_weight), gradients.add(expand_bias);
  gradients.add(mix_weight), gradients.add(mix_bias);
  gradients.add(out_weight), gradients.add(out_bias), gradients.add(keep);
  const Saved saved{grad, x, t, a1, a2, mean, scale};
  if (batch > 0 && gradients.any()) {
    if (dtype == ScalarType::Float)
      run<float>(kernels().backward_bytes_f32, kernels().backward_f32, problem, tensors, saved, gradients);
    else
      run<BFloat16>(kernels().backward_bytes_bf16, kernels().backward_bf16, problem, tensors, saved, gradients);
  }
  return tuple_of(gradients.tensors, std::make_index_sequence<kTensors>{});
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("lk_block_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::block_backward>::run));
}
