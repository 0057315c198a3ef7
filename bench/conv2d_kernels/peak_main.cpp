// Prints the machine's own limit for benchmarks to read: `peak [threads] [seconds]` writes a line a dtype, its name and
// GFLOP/s, the best of runs for about so many seconds each: other load only ever lowers one.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "bench/conv2d_kernels/peak.h"
#include "bench/conv2d_kernels/threads.h"

namespace {

double now(int64_t) {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

int main(int count, char** arguments) {
  const int64_t threads = count > 1 ? std::atol(arguments[1]) : 1;
  const double seconds = count > 2 ? std::atof(arguments[2]) : 0.5;
  if (threads < 1 || threads > 64) return std::fprintf(stderr, "threads must be 1 to 64\n"), 2;
  const lkops::Parallel parallel = lkops::pool(threads);
  for (const bool pairs : {false, true}) {
    double best = 0;
    for (const double end = now(threads) + seconds; best == 0 || now(threads) < end;)
      best = std::max(best, lkops::fma_peak(parallel, pairs, now));
    std::printf("%s %.2f\n", pairs ? "bfloat16" : "float32", best);
  }
  return 0;
}
