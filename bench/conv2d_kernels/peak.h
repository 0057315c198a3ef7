// The machine's own limit: GFLOP/s of independent multiply-adds on registers, all threads at once.
#pragma once

#include "common/parallel.h"

namespace lkops {

// With `pairs`, products of pairs of bfloat16 where the CPU has them, else of floats. now(threads) is in seconds.
double fma_peak(const Parallel& parallel, bool pairs, double (*now)(int64_t threads));

}  // namespace lkops
