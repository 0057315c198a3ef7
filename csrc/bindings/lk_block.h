// Tensors of the block, checked, as its kernels take them.
#pragma once

#include "bindings/large_kernel_channel_attention.h"
#include "lk_block/cpu.h"

namespace lkops {

// The parameters in the order of the schema.
struct BlockTensors {
  const Tensor &norm_weight, &norm_bias, &in_weight;
  const Optional& in_bias;
  AttentionTensors attention;
  const Tensor& out_weight;
  const Optional &out_bias, &keep;

  template <class T>
  BlockParameters<T> pointers(Taking<T>& take) const {
    return {take(norm_weight),        take(norm_bias),  take(in_weight), take(in_bias),
            attention.pointers(take), take(out_weight), take(out_bias),  take(keep)};
  }

  // The problem that they pose for x, after checks; they must have the dtype of `like`.
  BlockProblem problem(const Tensor& x, const Tensor& like, int64_t dilation1, int64_t dilation2, bool interleave,
                       double eps) const {
    const int64_t channels = x.size(1), width = in_weight.dim() == 4 ? in_weight.size(0) : 0;
    if (width == 0) fail("in_weight must be (K, C, 1, 1), got ", shape_of(in_weight));
    check_eps(eps);
    check_tensor("norm_weight", norm_weight, {channels}, x, like.scalar_type());
    check_tensor("norm_bias", norm_bias, {channels}, like);
    check_tensor("in_weight", in_weight, {width, channels, 1, 1}, like);
    check_tensor("in_bias", in_bias, {width}, like);
    check_tensor("out_weight", out_weight, {channels, width, 1, 1}, like);
    check_tensor("out_bias", out_bias, {channels}, like);
    check_tensor("keep", keep, {x.size(0)}, like);
    return {channels, static_cast<float>(eps), attention.problem(x, like, width, dilation1, dilation2, interleave)};
  }
};

}  // namespace lkops
