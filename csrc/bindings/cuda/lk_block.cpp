// lk_block for small images on the GPU, without what backward needs: tensors in, pointers out.
// lkops/ops/lk_block/cuda_kernels.py says when it is used.
#include "lk_block/cuda.h"

#include <torch/csrc/stable/library.h>

#include "bindings/cuda/device.h"

namespace lkops {
namespace {

Tensor inference(const Tensor& x, const Tensor& norm_weight, const Tensor& norm_bias, const Tensor& in_weight,
                 const Optional& in_bias, const Tensor& dw1_weight, const Optional& dw1_bias, const Tensor& dw2_weight,
                 const Optional& dw2_bias, const Tensor& reduce_weight, const Optional& reduce_bias,
                 const Tensor& expand_weight, const Optional& expand_bias, const Tensor& mix_weight,
                 const Optional& mix_bias, const Tensor& out_weight, const Optional& out_bias, const Optional& keep,
                 int64_t dilation1, int64_t dilation2, bool interleave, double eps, bool cooperative) {
  check_image("x", x);
  const int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  const auto leading = [](const char* name, const Tensor& weight) {
    if (weight.dim() != 4 || weight.size(0) == 0) fail(name, " must be (outputs, inputs, 1, 1), got ", shape_of(weight));
    return weight.size(0);
  };
  const int64_t k = leading("in_weight", in_weight), hidden = leading("reduce_weight", reduce_weight);
  const int64_t members = leading("mix_weight", mix_weight) == k ? mix_weight.size(1) : 0;
  if (members == 0 || members % 3 != 0 || 3 * k % members != 0)
    fail("mix_weight must be (", k, ", ", 3 * k, " / groups, 1, 1), got ", shape_of(mix_weight));
  check_tensor("norm_weight", norm_weight, {c}, x);
  check_tensor("norm_bias", norm_bias, {c}, x);
  check_tensor("in_weight", in_weight, {k, c, 1, 1}, x);
  check_tensor("in_bias", in_bias, {k}, x);
  if (dw1_weight.dim() != 4 || dw2_weight.dim() != 4) fail("dw1_weight and dw2_weight must be (channels, 1, rows, columns)");
  check_tensor("dw1_weight", dw1_weight, {k, 1, dw1_weight.size(2), dw1_weight.size(3)}, x);
  check_tensor("dw1_bias", dw1_bias, {k}, x);
  check_tensor("dw2_weight", dw2_weight, {k, 1, dw2_weight.size(2), dw2_weight.size(3)}, x);
  check_tensor("dw2_bias", dw2_bias, {k}, x);
  check_tensor("reduce_weight", reduce_weight, {hidden, 3 * k, 1, 1}, x);
  check_tensor("reduce_bias", reduce_bias, {hidden}, x);
  check_tensor("expand_weight", expand_weight, {3 * k, hidden, 1, 1}, x);
  check_tensor("expand_bias", expand_bias, {3 * k}, x);
  check_tensor("mix_weight", mix_weight, {k, members, 1, 1}, x);
  check_tensor("mix_bias", mix_bias, {k}, x);
  check_tensor("out_weight", out_weight, {c, k, 1, 1}, x);
  check_tensor("out_bias", out_bias, {c}, x);
  check_tensor("keep", keep, {n}, x);
  const BlockProblem problem{c,
                             static_cast<float>(eps),
                             {n, k, h, w, dw1_weight.size(2), dw1_weight.size(3), dilation1, dw2_weight.size(2),
                              dw2_weight.size(3), dilation2, hidden, 3 * k / members, interleave}};
  if (!is_small(problem))
    fail("x must be at most (", kSmallBatch, ", ", kSmallInner, ", ", kSmallSide, ", ", kSmallSide,
         ") with depthwise kernels of 5 and 7 and these dilations, got ", shape_of(x));
  const OnDevice device(x);
  Tensor y = result_like(x);
  if (n == 0) return y;
  // the four maps and the sums that phases leave for the next; torch frees memory in the order of the stream
  const Tensor maps = new_tensor(x, {4, n, k, h, w}), sums = workspace(x, n * 3 * k);
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const AttentionParameters<T> attention{pointer<T>(dw1_weight),    pointer<T>(dw1_bias),    pointer<T>(dw2_weight),
                                           pointer<T>(dw2_bias),      pointer<T>(reduce_weight), pointer<T>(reduce_bias),
                                           pointer<T>(expand_weight), pointer<T>(expand_bias), pointer<T>(mix_weight),
                                           pointer<T>(mix_bias)};
    const BlockParameters<T> parameters{pointer<T>(norm_weight), pointer<T>(norm_bias), pointer<T>(in_weight),
                                        pointer<T>(in_bias),     attention,             pointer<T>(out_weight),
                                        pointer<T>(out_bias),    pointer<T>(keep)};
    T* map = mutable_pointer<T>(maps);
    const int64_t each = n * k * h * w;
    const BlockInference<T> arguments{pointer<T>(x), parameters,     mutable_pointer<T>(y), map, map + each,
                                      map + 2 * each, map + 3 * each, mutable_pointer<float>(sums)};
    check_launch("lk_block", block_inference_cuda(problem, arguments, cooperative, device.stream));
  });
  return y;
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CUDA, m) { m.impl("block_inference_cuda", TORCH_BOX(&lkops::inference)); }
