// torch's threads, as kernels get them.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "common/parallel.h"

namespace lkops {

inline Parallel torch_threads() {
  const auto run = [](int64_t slots, int64_t count, int64_t grain, Parallel::Body body, const void* context) {
    const int64_t most = (count - 1) / grain + 1, ranges = most < slots ? most : slots;
    if (ranges <= 1) return body(context, 0, 0, count);  // without waking anybody
    const auto begin = [&](int64_t range) { return range * (count / ranges) + range * (count % ranges) / ranges; };
    torch::stable::parallel_for(0, ranges, 1, [&](int64_t first, int64_t last) {
      for (int64_t range = first; range < last; ++range) body(context, range, begin(range), begin(range + 1));
    });
  };
  const int64_t slots = static_cast<int64_t>(torch::stable::get_num_threads());
  return {run, slots < 1 ? 1 : slots};
}

}  // namespace lkops
