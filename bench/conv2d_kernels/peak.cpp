// Compiled for the widest instruction set that the compiler's own CPU has (-march=native).
#include "bench/conv2d_kernels/peak.h"

#include "common/matmul.h"

namespace lkops {
namespace {

constexpr int64_t kSteps = 1 << 17;
constexpr int kSums = kLanes == 16 ? 24 : 12;

template <class V>
LKOPS_INLINE float chain(V a, V b) {
  Floats sums[kSums];
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) sums[i] = broadcast(static_cast<float>(i));
  for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) sums[i] = fma(a, b, sums[i]);
    asm volatile("");
  }
  Floats all{};
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) all += sums[i];
  return all[0];
}

}  // namespace

double fma_peak(const Parallel& parallel, bool pairs, double (*now)(int64_t threads)) {
  volatile float sink[64];
  const double begin = now(parallel.slots);
  for_ranges(parallel, parallel.slots, 1, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      sink[i] = pairs && kBf16Products ? chain(Words{} + 0x3f803f80u, Words{} + static_cast<uint32_t>(i))
                                       : chain(broadcast(1e-3f), broadcast(static_cast<float>(i)));
  });
  const double seconds = now(parallel.slots) - begin;
  const double flops = 2.0 * kSteps * kSums * kLanes * (pairs && kBf16Products ? 2 : 1);
  return flops * static_cast<double>(parallel.slots) / seconds * 1e-9;
}

}  // namespace lkops
