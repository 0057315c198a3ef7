// Memory that bindings ask for: results and scratch. Where there is none, the error says for what and how many bytes;
// lkops/_core/memory.py adds which operator wanted it.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>

#include "bindings/errors.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lkops {

// `bytes` is below 0 where 63 bits do not hold them.
[[noreturn]] inline void fail_of_memory(const std::string& what, int64_t bytes) {
  if (bytes < 0) fail("out of memory: ", what, " takes 2^63 bytes or more");
  fail("out of memory: ", what, " takes ", bytes, " bytes");
}

// The product, or -1 where 63 bits do not hold it; so it stays for factors that are -1.
inline int64_t product_or_none(int64_t a, int64_t b) {
  int64_t product;
  return a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product) ? -1 : product;
}

// An uninitialised tensor of these sizes with the device of `like`, and its dtype or the one given.
inline torch::stable::Tensor new_result_of(const torch::stable::Tensor& like,
                                           torch::headeronly::IntHeaderOnlyArrayRef sizes,
                                           std::optional<torch::headeronly::ScalarType> dtype = std::nullopt,
                                           bool is_channels_last = false) {
  try {
    if (is_channels_last)
      return torch::stable::empty(sizes, dtype.value_or(like.scalar_type()), std::nullopt, like.device(), std::nullopt,
                                  torch::headeronly::MemoryFormat::ChannelsLast);
    return torch::stable::new_empty(like, sizes, dtype);
  } catch (...) {
    using torch::headeronly::ScalarType;
    int64_t bytes = dtype.value_or(like.scalar_type()) == ScalarType::Float ? 4 : 2;
    // on a GPU, the allocation is also where an earlier kernel's failure comes out
    const char* what = like.is_cpu() ? "a result of shape " : "or a failure of the device before: a result of shape ";
    for (int64_t size : sizes) bytes = product_or_none(bytes, size);
    fail_of_memory(what + text_of(sizes), bytes);
  }
}

inline torch::stable::Tensor new_result(const torch::stable::Tensor& like, std::initializer_list<int64_t> sizes,
                                        std::optional<torch::headeronly::ScalarType> dtype = std::nullopt) {
  return new_result_of(like, {sizes.begin(), sizes.size()}, dtype);
}

inline torch::stable::Tensor result_like(const torch::stable::Tensor& like) {
  return new_result_of(like, like.sizes());
}

// The gradient of a parameter over a batch of nothing.
inline void set_to_zero(const torch::stable::Tensor& tensor) {
  const size_t bytes = static_cast<size_t>(tensor.numel()) * static_cast<size_t>(tensor.element_size());
  if (bytes > 0) std::memset(tensor.mutable_data_ptr(), 0, bytes);
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Scratch = std::unique_ptr<void, Free>;

// Uninitialised memory, aligned to a cache line.
inline Scratch allocate_scratch(int64_t bytes) {
  constexpr int64_t kLine = 64;
  int64_t padded;
  void* p = bytes < 0 || __builtin_add_overflow(bytes, 2 * kLine, &padded)
                ? nullptr
                : std::aligned_alloc(kLine, static_cast<size_t>(padded / kLine * kLine));
  if (p == nullptr) fail_of_memory("scratch", bytes);
  return Scratch(p);
}

// Asks for huge pages for a tensor that was just allocated. glibc gives blocks of 32 MiB and more back to the system
// whenever they are freed, so that every page of such an output is a fault at every call: under virtualisation these
// can cost several times what a kernel does. Smaller blocks stay in the process, and are left alone. It is only advice:
// torch does the same for all its memory where THP_MEM_ALLOC_ENABLE=1 is in the environment.
inline void prefer_huge_pages(const torch::stable::Tensor& tensor) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kPage = 4096, kLeast = 32 << 20;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
  const uintptr_t bytes = static_cast<uintptr_t>(tensor.numel()) * static_cast<uintptr_t>(tensor.element_size());
  const uintptr_t first = (begin + kPage - 1) / kPage * kPage, last = (begin + bytes) / kPage * kPage;
  if (bytes >= kLeast) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)tensor;
#endif
}

}  // namespace lkops
