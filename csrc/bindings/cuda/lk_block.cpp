// lk_block for small images on the GPU, without what backward needs: tensors in, pointers out.
// lkops/ops/lk_block/cuda_kernels.py says when it is used.
#include "lk_block/cuda.h"

#include <torch/csrc/stable/library.h>

#include "bindings/cuda/device.h"
#include "bindings/lk_block.h"

namespace lkops {
namespace {

Tensor inference(const Tensor& x, const Tensor& norm_weight, const Tensor& norm_bias, const Tensor& in_weight,
                 const Optional& in_bias, const Tensor& dw1_weight, const Optional& dw1_bias, const Tensor& dw2_weight,
                 const Optional& dw2_bias, const Tensor& reduce_weight, const Optional& reduce_bias,
                 const Tensor& expand_weight, const Optional& expand_bias, const Tensor& mix_weight,
                 const Optional& mix_bias, const Tensor& out_weight, const Optional& out_bias, const Optional& keep,
                 int64_t dilation1, int64_t dilation2, bool interleave, double eps, bool cooperative) {
  check_image(Device::kCuda, "x", x);
  const BlockTensors tensors{
      norm_weight, norm_bias,  in_weight, in_bias,
      {dw1_weight, dw1_bias, dw2_weight, dw2_bias, reduce_weight, reduce_bias, expand_weight, expand_bias, mix_weight,
       mix_bias},
      out_weight, out_bias, keep};
  const BlockProblem problem = tensors.problem(x, x, dilation1, dilation2, interleave, eps);
  const int64_t n = x.size(0), k = problem.attention.channels, h = x.size(2), w = x.size(3);
  if (!is_small(problem))
    fail("x must be at most (", kSmallBatch, ", ", kSmallInner, ", ", kSmallSide, ", ", kSmallSide,
         ") with depthwise kernels of 5 and 7 and these dilations, got ", shape_of(x));
  const OnDevice device(x);
  Tensor y = result_like(x);
  if (n == 0) return y;
  // the four maps and the sums that phases leave for the next; torch frees memory in the order of the stream
  const Tensor maps = new_result(x, {4, n, k, h, w}), sums = workspace(x, n * 3 * k);
  with_type<Device::kCuda>(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    T* map = mutable_pointer<T>(maps);
    const int64_t each = n * k * h * w;
    Taking<T> take(nullptr, nullptr);  // all have x's dtype: nothing is cast
    const BlockInference<T> arguments{pointer<T>(x), tensors.pointers(take), mutable_pointer<T>(y), map, map + each,
                                      map + 2 * each, map + 3 * each, mutable_pointer<float>(sums)};
    check_launch("lk_block", block_inference_cuda(problem, arguments, cooperative, device.stream));
  });
  return y;
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CUDA, m) { m.impl("block_inference_cuda", TORCH_BOX(&lkops::inference)); }
