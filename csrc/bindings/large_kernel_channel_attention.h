// Tensors of the attention, checked, as its kernels and those of the block take them.
#pragma once

#include "bindings/arguments.h"
#include "bindings/cast.h"
#include "bindings/gradients.h"
#include "large_kernel_channel_attention/cpu.h"

namespace lkops {

// The ten parameters in the order of the schema.
struct AttentionTensors {
  const Tensor& dw1_weight;
  const Optional& dw1_bias;
  const Tensor& dw2_weight;
  const Optional& dw2_bias;
  const Tensor& reduce_weight;
  const Optional& reduce_bias;
  const Tensor& expand_weight;
  const Optional& expand_bias;
  const Tensor& mix_weight;
  const Optional& mix_bias;

  template <class T>
  AttentionParameters<T> pointers(Taking<T>& take) const {
    return {take(dw1_weight),  take(dw1_bias),      take(dw2_weight),  take(dw2_bias),   take(reduce_weight),
            take(reduce_bias), take(expand_weight), take(expand_bias), take(mix_weight), take(mix_bias)};
  }

  // The problem that they pose for images of so many channels and else as this one, after checks; they must have the
  // device and dtype of `like`.
  AttentionProblem problem(const Tensor& image, const Tensor& like, int64_t channels, int64_t dilation1,
                           int64_t dilation2, bool interleave) const {
    constexpr int64_t kMost = int64_t{1} << 40;  // beyond any image's side; no product of offsets overflows
    for (const Tensor* weight : {&dw1_weight, &dw2_weight, &reduce_weight, &expand_weight, &mix_weight})
      if (weight->dim() != 4) fail("weights must have four dimensions, got ", shape_of(*weight));
    const AttentionProblem result{image.size(0),
                                  channels,
                                  image.size(2),
                                  image.size(3),
                                  dw1_weight.size(2),
                                  dw1_weight.size(3),
                                  dilation1 < kMost ? dilation1 : kMost,
                                  dw2_weight.size(2),
                                  dw2_weight.size(3),
                                  dilation2 < kMost ? dilation2 : kMost,
                                  reduce_weight.size(0),
                                  3 * channels / (mix_weight.size(1) < 1 ? 1 : mix_weight.size(1)),
                                  interleave};
    const int64_t across = 3 * channels;
    check_tensor("dw1_weight", dw1_weight, {channels, 1, result.rows1, result.columns1}, like);
    check_tensor("dw1_bias", dw1_bias, {channels}, like);
    check_tensor("dw2_weight", dw2_weight, {channels, 1, result.rows2, result.columns2}, like);
    check_tensor("dw2_bias", dw2_bias, {channels}, like);
    check_tensor("reduce_weight", reduce_weight, {result.hidden, across, 1, 1}, like);
    check_tensor("reduce_bias", reduce_bias, {result.hidden}, like);
    check_tensor("expand_weight", expand_weight, {across, result.hidden, 1, 1}, like);
    check_tensor("expand_bias", expand_bias, {across}, like);
    if (result.hidden < 1) fail("reduce_weight must have at least one output, got ", shape_of(reduce_weight));
    if (result.groups < 1 || channels % result.groups != 0) fail("mix_weight's groups must divide the channels");
    check_tensor("mix_weight", mix_weight, {channels, across / result.groups, 1, 1}, like);
    check_tensor("mix_bias", mix_bias, {channels}, like);
    for (int64_t side : {result.rows1, result.columns1, result.rows2, result.columns2})
      if (side % 2 == 0) fail("depthwise kernels must have odd sides");
    if (dilation1 < 1 || dilation2 < 1) fail("dilations must be 1 or more");
    return result;
  }
};

// Where the attention's gradients go: that of u, and those of the ten parameters, which begin at `first`.
template <class T, size_t kCount>
AttentionGradients<T> attention_gradients(const Gradients<kCount>& gradients, T* u, size_t first) {
  const auto at = [&](size_t i) { return gradients.template pointer<T>(first + i); };
  return {u, at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9)};
}

}  // namespace lkops
