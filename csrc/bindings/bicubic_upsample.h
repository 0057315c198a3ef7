// Bicubic kernels on all planes of a batch: what bicubic_upsample and the gradient of upsample_add's small image share.
#pragma once

#include "bicubic_upsample/cpu.h"
#include "bindings/errors.h"
#include "bindings/memory.h"
#include "bindings/parallel.h"

namespace lkops {

inline void check_scale(int64_t scale) {
  constexpr int64_t kMost = 1 << 20;  // one pixel becomes 4 TiB: no image is refused, and no product below overflows
  if (scale < 1 || scale > kMost) fail("scale must be between 1 and ", kMost, ", got ", scale);
}

// Runs a direction of the kernels, whose scratch for a thread is `bytes`, on `planes` planes, `plane` being the small
// one.
template <class T, class Kernel>
void run_bicubic(const BicubicKernels& kernels, Kernel kernel, int64_t bytes, const BicubicPlane& plane, double cubic_a,
                 int64_t planes, const T* from, T* to) {
  const Scratch plan = allocate_scratch(kernels.plan_bytes(plane.scale));
  kernels.make_plan(plane.scale, cubic_a, plan.get());
  constexpr int64_t kLine = 64;
  const Parallel threads = torch_threads();
  const int64_t rows = planes * plane.height, of_slot = (bytes + kLine - 1) / kLine * kLine;
  const int64_t grain = grain_of(kWorthOfNumbers, plane.width, plane.scale, plane.scale);
  const int64_t most = rows / grain + 1, slots = most < threads.slots ? most : threads.slots;
  // before the threads are: an exception in one of them would lose its words on the way through torch
  const Scratch scratch = allocate_scratch(multiply(of_slot, slots));
  for_ranges(threads, rows, grain, [&](int64_t slot, int64_t first, int64_t last) {
    kernel(plan.get(), plane, from, to, first, last, static_cast<char*>(scratch.get()) + slot * of_slot);
  });
}

}  // namespace lkops
