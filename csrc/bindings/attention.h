// Tensors of the attention, checked, as its kernels and those of the block take them.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <optional>

#include "attention/cpu.h"
#include "bindings/checks.h"

namespace lkops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;

// What kernels rely on: on the CPU, of this dtype, contiguous, of these sizes.
inline void check_tensor(const char* name, const Tensor& tensor, ScalarType dtype,
                         std::initializer_list<int64_t> sizes) {
  if (!tensor.is_cpu()) fail(name, " must be on the CPU");
  if (tensor.scalar_type() != dtype)
    fail(name, " must be of torch dtype number ", static_cast<int>(dtype), ", got number ",
         static_cast<int>(tensor.scalar_type()));
  if (!tensor.is_contiguous()) fail(name, " must be contiguous");
  bool fits = tensor.dim() == static_cast<int64_t>(sizes.size());
  for (size_t d = 0; fits && d < sizes.size(); ++d) fits = tensor.size(static_cast<int64_t>(d)) == sizes.begin()[d];
  if (fits) return;
  std::ostringstream expected;
  for (int64_t size : sizes) expected << (expected.tellp() == 0 ? "" : ", ") << size;
  fail(name, " must have shape (", expected.str(), "), got ", shape_of(tensor));
}

inline void check_tensor(const char* name, const Maybe& tensor, ScalarType dtype,
                         std::initializer_list<int64_t> sizes) {
  if (tensor.has_value()) check_tensor(name, *tensor, dtype, sizes);
}

// The image that an operator works on: (N, C, H, W) with at least one channel and pixel.
inline void check_image(const char* name, const Tensor& tensor) {
  if (tensor.dim() != 4) fail(name, " must be (N, C, H, W), got ", shape_of(tensor));
  if (tensor.scalar_type() != ScalarType::Float && tensor.scalar_type() != ScalarType::BFloat16)
    fail(name, " must be float32 or bfloat16, got torch dtype number ", static_cast<int>(tensor.scalar_type()));
  check_tensor(name, tensor, tensor.scalar_type(), {tensor.size(0), tensor.size(1), tensor.size(2), tensor.size(3)});
  if (tensor.size(1) == 0 || tensor.size(2) == 0 || tensor.size(3) == 0)
    fail(name, " must have at least one channel, row and column, got ", shape_of(tensor));
}

template <class T>
const T* data_of(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
const T* data_of(const Maybe& tensor) {
  return tensor.has_value() ? data_of<T>(*tensor) : nullptr;
}
template <class T>
T* mutable_data_of(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

inline Tensor empty_like(const Tensor& like, std::initializer_list<int64_t> sizes,
                         std::optional<ScalarType> dtype = std::nullopt) {
  return torch::stable::new_empty(like, {sizes.begin(), sizes.size()}, dtype);
}

// The ten parameters in the order of the schema.
struct AttentionTensors {
  const Tensor& dw1_weight;
  const Maybe& dw1_bias;
  const Tensor& dw2_weight;
  const Maybe& dw2_bias;
  const Tensor& reduce_weight;
  const Maybe& reduce_bias;
  const Tensor& expand_weight;
  const Maybe& expand_bias;
  const Tensor& mix_weight;
  const Maybe& mix_bias;

  template <class T>
  AttentionParameters<T> pointers() const {
    return {data_of<T>(dw1_weight),    data_of<T>(dw1_bias),    data_of<T>(dw2_weight),    data_of<T>(dw2_bias),
            data_of<T>(reduce_weight), data_of<T>(reduce_bias), data_of<T>(expand_weight), data_of<T>(expand_bias),
            data_of<T>(mix_weight),    data_of<T>(mix_bias)};
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
    check_tensor("dw1_weight", dw1_weight, dtype, {channels, 1, result.rows1, result.columns1});
    check_tensor("dw1_bias", dw1_bias, dtype, {channels});
    check_tensor("dw2_weight", dw2_weight, dtype, {channels, 1, result.rows2, result.columns2});
    check_tensor("dw2_bias", dw2_bias, dtype, {channels});
    check_tensor("reduce_weight", reduce_weight, dtype, {result.hidden, across, 1, 1});
    check_tensor("reduce_bias", reduce_bias, dtype, {result.hidden});
    check_tensor("expand_weight", expand_weight, dtype, {across, result.hidden, 1, 1});
    check_tensor("expand_bias", expand_bias, dtype, {across});
    if (result.groups < 1 || channels % result.groups != 0) fail("mix_weight's groups must divide the channels");
    check_tensor("mix_weight", mix_weight, dtype, {channels, across / result.groups, 1, 1});
    check_tensor("mix_bias", mix_bias, dtype, {channels});
    for (int64_t side : {result.rows1, result.columns1, result.rows2, result.columns2})
      if (side % 2 == 0) fail("depthwise kernels must have odd sides");
    if (dilation1 < 1 || dilation2 < 1) fail("dilations must be 1 or more");
    return result;
  }
};

}  // namespace lkops
