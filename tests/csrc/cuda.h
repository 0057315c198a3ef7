// CUDA kernels on the host: the bodies of csrc/common/cuda.cuh, block by block and thread by thread.
#pragma once

#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "common/cuda.cuh"
#include "test.h"

namespace lkops {

inline float to_float(Float16 value) { return widen(value); }
template <>
inline Float16 from_double<Float16>(double value) {
  return narrow<Float16>(static_cast<float>(value));
}
template <>
inline const char* dtype_name<Float16>() {
  return "float16";
}

// Of values that are sums of few products, in units of the largest.
template <class T>
double tolerance_of() {
  return sizeof(T) == sizeof(float) ? 2e-6 : std::is_same_v<T, Float16> ? 8e-4 : 6e-3;
}

// The threads of a block, one after the other: first to last, last to first, or the odd ones first. What one of them
// reads that another wrote without a sync between is not the same in all.
struct HostBlock {
  int64_t number;
  int order;

  template <class Body>
  void each(int count, const Body& body) const {
    if (order == 0)
      for (int i = 0; i < count; ++i) body(i);
    else if (order == 1)
      for (int i = count; i-- > 0;) body(i);
    else
      for (int first = 1; first >= 0; --first)
        for (int i = first; i < count; i += 2) body(i);
  }
  void sync() const {}
  int64_t index() const { return number; }
};

// Runs all blocks, in one order or the other, each in shared memory of its own that is full of NaN and ends where the
// launcher says. `limit` as a GPU's: floats of shared memory.
class HostLaunch {
 public:
  HostLaunch(int64_t limit, int order) : limit_(limit), order_(order) {}

  int64_t limit() const { return limit_; }

  template <class Body>
  void operator()(const Body& body, int64_t blocks, int64_t floats) {
    if (floats > limit_) std::printf("FAILED: %lld floats of shared memory\n", static_cast<long long>(floats)), std::exit(1);
    for (int64_t i = 0; i < blocks; ++i) {
      const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
      void* shared = nullptr;
      if (posix_memalign(&shared, 64, bytes + (bytes == 0)) != 0) std::abort();
      std::memset(shared, 0xff, bytes);
      body(HostBlock{order_ == 0 ? i : blocks - 1 - i, order_}, static_cast<float*>(shared));
      std::free(shared);
    }
    ++launches;
  }

  int launches = 0;

 private:
  int64_t limit_;
  int order_;
};

// The launch that belongs to a way of running a case.
inline HostLaunch launch_of(const Run& run, int64_t limit) {
  return {limit, run.parallel.slots == 1 ? 0 : run.parallel.slots == 3 ? 1 : 2};
}

// Floats of shared memory: of sm_90 and sm_100, of sm_89 and sm_120, and so few that planes are cut into tiles.
constexpr int64_t kLimits[] = {227 * 256, 99 * 256, 6000};

}  // namespace lkops
