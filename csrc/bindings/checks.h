// Checks that every binding needs.
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

inline std::string shape_of(const torch::stable::Tensor& tensor) {
  std::ostringstream text;
  text << '(';
  for (int64_t d = 0; d < tensor.dim(); ++d) text << (d == 0 ? "" : ", ") << tensor.size(d);
  text << ')';
  return text.str();
}

inline int64_t multiply(int64_t a, int64_t b) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) fail("a size overflows 64 bits: ", a, " * ", b);
  return product;
}

// Rows per thread, so that a thread gets work worth waking it for: about 32 thousand elements.
inline int64_t grain_of(int64_t elements_per_row) {
  constexpr int64_t kElements = 32768;
  return elements_per_row < kElements ? kElements / (elements_per_row < 1 ? 1 : elements_per_row) : 1;
}

}  // namespace lkops
