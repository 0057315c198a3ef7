// Tensors of the attention, checked, as its kernels and those of the block take them.
#pragma once

#include <initializer_list>

#include "large_kernel_channel_attention/cpu.h"
#include "bindings/arguments.h"

namespace lkops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class T>
T* mutable_pointer(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// Uninitialised, with the dtype of `like` or the one given.
inline Tensor new_tensor(const Tensor& like, std::initializer_list<int64_t> sizes,
                         std::optional<ScalarType> dtype = std::nullopt) {
  return new_result(like, {sizes.begin(), sizes.size()}, dtype);
}

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
  AttentionParameters<T> pointers() const {
    return {pointer<T>(dw1_weight),    pointer<T>(dw1_bias),    pointer<T>(dw2_weight),    pointer<T>(dw2_bias),
            pointer<T>(reduce_weight), pointer<T>(reduce_bias), pointer<T>(expand_weight), pointer<T>(expand_bias),
            pointer<T>(mix_weight),    pointer<T>(mix_bias)};
  }

  // The problem that they pose for (batch, channels, height, width) images, after checks.
  AttentionProblem problem(int64_t batch, int64_t channels, int64_t height, int64_t width, ScalarType dtype,
                           int64_t dilation1, int64_t dilation2, bool interleave) const {
    constexpr int64_t kMost = int64_t{1} << 40;  // beyond any image's side; no product of offsets overflows
    for (const Tensor* weight : {&dw1_weight, &dw2_weight, &reduce_weight, &expand_weight, &mix_weight})
      if (weight->dim() != 4) fail("weights must have four dimensions, got ", shape_of(*weight));
    const AttentionProblem result{batch,
                                  channels,
                                  height,
                                  width,
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
    check_tensor("dw1_weight", dw1_weight, {channels, 1, result.rows1, result.columns1}, dtype);
    check_tensor("dw1_bias", dw1_bias, {channels}, dtype);
    check_tensor("dw2_weight", dw2_weight, {channels, 1, result.rows2, result.columns2}, dtype);
    check_tensor("dw2_bias", dw2_bias, {channels}, dtype);
    check_tensor("reduce_weight", reduce_weight, {result.hidden, across, 1, 1}, dtype);
    check_tensor("reduce_bias", reduce_bias, {result.hidden}, dtype);
    check_tensor("expand_weight", expand_weight, {across, result.hidden, 1, 1}, dtype);
    check_tensor("expand_bias", expand_bias, {across}, dtype);
    if (result.hidden < 1) fail("reduce_weight must have at least one output, got ", shape_of(reduce_weight));
    if (result.groups < 1 || channels % result.groups != 0) fail("mix_weight's groups must divide the channels");
    check_tensor("mix_weight", mix_weight, {channels, across / result.groups, 1, 1}, dtype);
    check_tensor("mix_bias", mix_bias, {channels}, dtype);
    for (int64_t side : {result.rows1, result.columns1, result.rows2, result.columns2})
      if (side % 2 == 0) fail("depthwise kernels must have odd sides");
    if (dilation1 < 1 || dilation2 < 1) fail("dilations must be 1 or more");
    return result;
  }
};

}  // namespace lkops
