// large_kernel_channel_attention, backward: tensors in, pointers out.
#include <torch/csrc/stable/library.h>

#include <vector>

#include "bindings/large_kernel_channel_attention.h"
#include "bindings/dense.h"
#include "bindings/gradients.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

constexpr size_t kTensors = 11;

const AttentionKernels& kernels() { return LKOPS_CHOOSE(kAttention); }

struct Saved {
  const Tensor &grad, &u, &a1, &a2, &mean, &scale;
};

template <class T, class Bytes, class Kernel>
void run(Bytes bytes, Kernel kernel, const AttentionProblem& problem, const AttentionTensors& tensors,
         const Saved& saved, const Gradients& gradients) {
  const Parallel threads = torch_threads();
  const Scratch scratch = allocate_scratch(bytes(problem, threads.slots));
  kernel(problem,
         AttentionBackward<T>{pointer<T>(saved.grad), pointer<T>(saved.u), tensors.pointers<T>(), pointer<T>(saved.a1),
                              pointer<T>(saved.a2), pointer<float>(saved.mean), pointer<float>(saved.scale),
                              attention_gradients<T>(gradients, gradients.pointer<T>(0), 1)},
         threads, scratch.get());
}

auto attention_backward(const Tensor& grad, const Tensor& u, const Tensor& dw1_weight, const Optional& dw1_bias,
                        const Tensor& dw2_weight, const Optional& dw2_bias, const Tensor& reduce_weight,
                        const Optional& reduce_bias, const Tensor& expand_weight, const Optional& expand_bias,
                        const Tensor& mix_weight, const Optional& mix_bias, const Tensor& a1, const Tensor& a2,
                        const Tensor& mean, const Tensor& scale, int64_t dilation1, int64_t dilation2, bool interleave,
                        const std::vector<bool>& needs) {
  check_image("u", u);
  check_needs(needs, kTensors);
  const ScalarType dtype = u.scalar_type();
  const AttentionTensors tensors{dw1_weight,  dw1_bias,      dw2_weight,  dw2_bias,   reduce_weight,
                                 reduce_bias, expand_weight, expand_bias, mix_weight, mix_bias};
  const AttentionProblem problem =
      tensors.problem(u.size(0), u.size(1), u.size(2), u.size(3), dtype, dilation1, dilation2, interleave);
  check_tensor("grad", grad, {u.size(0), u.size(1), u.size(2), u.size(3)}, dtype);
  check_tensor("a1", a1, {u.size(0), u.size(1), u.size(2), u.size(3)}, dtype);
  check_tensor("a2", a2, {u.size(0), u.size(1), u.size(2), u.size(3)}, dtype);
  check_tensor("mean", mean, {u.size(0), 3 * u.size(1)}, ScalarType::Float);
  check_tensor("scale", scale, {u.size(0), 3 * u.size(1)}, ScalarType::Float);

  Gradients gradients(u, needs, problem.batch == 0);
  gradients.add(u);
  gradients.add(dw1_weight), gradients.add(dw1_bias), gradients.add(dw2_weight), gradients.add(dw2_bias);
  gradients.add(reduce_weight), gradients.add(reduce_bias), gradients.add(expand_weight), gradients.add(expand_bias);
  gradients.add(mix_weight), gradients.add(mix_bias);
  const Saved saved{grad, u, a1, a2, mean, scale};
  if (problem.batch > 0 && gradients.any()) {
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
  m.impl("large_kernel_channel_attention_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::attention_backward>::run));
}
