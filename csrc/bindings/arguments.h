// Tensor arguments of bindings whose tensors all have one dtype: checks, pointers, gradients that may be left out.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <optional>
#include <vector>

#include "bindings/checks.h"
#include "bindings/memory.h"

namespace lkops {

using Optional = std::optional<torch::stable::Tensor>;

// A dense float32 or bfloat16 image (N, C, H, W) on the CPU, with at least one channel and pixel.
inline void check_image(const char* name, const torch::stable::Tensor& tensor) {
  using torch::headeronly::ScalarType;
  if (!tensor.is_cpu()) fail(name, " must be on the CPU");
  if (tensor.scalar_type() != ScalarType::Float && tensor.scalar_type() != ScalarType::BFloat16)
    fail(name, " must be float32 or bfloat16, got torch dtype number ", static_cast<int>(tensor.scalar_type()));
  if (tensor.dim() != 4) fail(name, " must be (N, C, H, W), got ", shape_of(tensor));
  if (tensor.size(1) < 1 || tensor.size(2) < 1 || tensor.size(3) < 1)
    fail(name, " must have at least one channel, row and column, got ", shape_of(tensor));
  if (!tensor.is_contiguous()) fail(name, " must be contiguous");
}

// A dense tensor of this shape on the CPU, of the dtype of `like` or of the one given.
inline void check_tensor(const char* name, const torch::stable::Tensor& tensor, std::initializer_list<int64_t> shape,
                         torch::headeronly::ScalarType dtype) {
  if (!tensor.is_cpu()) fail(name, " must be on the CPU");
  if (tensor.scalar_type() != dtype)
    fail(name, " must be of torch dtype number ", static_cast<int>(dtype), ", got ",
         static_cast<int>(tensor.scalar_type()));
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t d = 0;
  for (int64_t size : shape) fits = fits && tensor.size(d++) == size;
  if (!fits) {
    std::ostringstream expected;
    for (int64_t size : shape) expected << (expected.tellp() == 0 ? "" : ", ") << size;
    fail(name, " must have shape (", expected.str(), "), got ", shape_of(tensor));
  }
  if (!tensor.is_contiguous()) fail(name, " must be contiguous");
}

inline void check_tensor(const char* name, const Optional& tensor, std::initializer_list<int64_t> shape,
                         torch::headeronly::ScalarType dtype) {
  if (tensor) check_tensor(name, *tensor, shape, dtype);
}

inline void check_needs(const std::vector<bool>& needs, size_t count) {
  if (needs.size() != count) fail("needs must have ", count, " entries, got ", needs.size());
}

template <class T>
const T* pointer(const torch::stable::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
const T* pointer(const Optional& tensor) {
  return tensor ? pointer<T>(*tensor) : nullptr;
}

// A gradient to be written: uninitialised like `tensor` where it is there and needed, else empty.
inline torch::stable::Tensor gradient_like(const Optional& tensor, bool is_needed, const torch::stable::Tensor& some) {
  if (tensor && is_needed) return result_like(*tensor);
  const int64_t none[] = {0};
  return torch::stable::new_empty(some, {none, 1});
}

// Where to write it, or null: what was asked for is told from what is there.
template <class T>
T* gradient_pointer(const torch::stable::Tensor& gradient, const Optional& tensor, bool is_needed) {
  return tensor && is_needed ? static_cast<T*>(gradient.mutable_data_ptr()) : nullptr;
}

}  // namespace lkops
