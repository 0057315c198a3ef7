// The cascade of large-kernel channel attention on the GPU: tensors in, pointers out.
// lkops/ops/large_kernel_channel_attention/cuda_kernels.py makes the operator of it and of Triton's other stages.
#include "large_kernel_channel_attention/cuda.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bindings/cuda/device.h"
#include "bindings/gradients.h"

namespace lkops {
namespace {

CascadeProblem check(const Tensor& u, const Tensor& w1, const Optional& b1, const Tensor& w2, const Optional& b2,
                     int64_t dilation1, int64_t dilation2) {
  check_image(Device::kCuda, "u", u);
  check_depthwise("dw1_", w1, b1, dilation1, u);
  check_depthwise("dw2_", w2, b2, dilation2, u);
  return {u.size(0),  u.size(1),  u.size(2), u.size(3),  w1.size(2),
          w1.size(3), dilation1, w2.size(2), w2.size(3), dilation2};
}

// a1, a2, and the sums of u, a1 and a2, (N, 3C, parts).
std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& u, const Tensor& w1, const Optional& b1, const Tensor& w2,
                                           const Optional& b2, int64_t dilation1, int64_t dilation2) {
  const CascadeProblem problem = check(u, w1, b1, w2, b2, dilation1, dilation2);
  const OnDevice device(u);
  Tensor a1 = result_like(u), a2 = result_like(u);
  Tensor sums = new_result(u, {problem.batch, 3 * problem.channels, cascade_parts_cuda(problem, device.stream)},
                           ScalarType::Float);
  with_type<Device::kCuda>(u.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const CascadeForward<T> arguments{pointer<T>(u),          pointer<T>(w1),
                                      pointer<T>(b1),         pointer<T>(w2),
                                      pointer<T>(b2),         mutable_pointer<T>(a1),
                                      mutable_pointer<T>(a2), mutable_pointer<float>(sums)};
    check_launch("attention_cascade", cascade_forward_cuda(problem, arguments, device.stream));
  });
  return {a1, a2, sums};
}

// Completes du, if it is given, and returns the gradients of w1, b1, w2 and b2, as far as needed; writes into `parts`.
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Tensor& parts, const Optional& du, const Tensor& u,
                                                    const Tensor& a1, const Tensor& w1, const Optional& b1,
                                                    const Tensor& w2, const Optional& b2, const Tensor& dmean,
                                                    int64_t dilation1, int64_t dilation2,
                                                    const std::vector<bool>& needs) {
  const CascadeProblem problem = check(u, w1, b1, w2, b2, dilation1, dilation2);
  const auto& [n, c, h, w, rows1, columns1, d1, rows2, columns2, d2] = problem;
  check_tensor("parts", parts, {3, n, c, h, w}, u);
  check_tensor("a1", a1, {n, c, h, w}, u);
  check_tensor("dmean", dmean, {n, 3 * c}, u, ScalarType::Float);
  check_tensor("du", du, {n, c, h, w}, u);
  const OnDevice device(u);
  const Gradients gradients(u, needs, w1, b1, w2, b2);
  const bool any = needs[0] || needs[1] || needs[2] || needs[3];
  const Tensor partial = workspace(u, any ? cascade_workspace_cuda(problem) : 0);
  with_type<Device::kCuda>(u.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const CascadeBackward<T> arguments{pointer<T>(u),
                                       pointer<T>(a1),
                                       pointer<T>(w1),
                                       pointer<T>(w2),
                                       pointer<float>(dmean),
                                       mutable_pointer<T>(parts),
                                       du ? mutable_pointer<T>(*du) : nullptr,
                                       gradients.pointer<T>(0),
                                       gradients.pointer<T>(1),
                                       gradients.pointer<T>(2),
                                       gradients.pointer<T>(3)};
    check_launch("attention_cascade",
                 cascade_backward_cuda(problem, arguments, mutable_pointer<float>(partial), device.stream));
  });
  return gradients.results();
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CUDA, m) {
  m.impl("attention_cascade_cuda_fwd", TORCH_BOX(&lkops::forward));
  m.impl("attention_cascade_cuda_bwd", TORCH_BOX(&lkops::backward));
}
