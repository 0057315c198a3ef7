// Large outputs.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lkops {

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
