// Errors of bindings, and what they say of tensors.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

namespace lkops {

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

// (2, 3)
template <class Sizes>
std::string text_of(const Sizes& sizes) {
  std::ostringstream text;
  const char* separator = "";
  text << '(';
  for (int64_t size : sizes) text << separator << size, separator = ", ";
  text << ')';
  return text.str();
}

inline std::string shape_of(const torch::stable::Tensor& tensor) { return text_of(tensor.sizes()); }

inline int64_t multiply(int64_t a, int64_t b) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) fail("a size overflows 64 bits: ", a, " * ", b);
  return product;
}

}  // namespace lkops
