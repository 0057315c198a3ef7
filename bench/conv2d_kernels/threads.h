// A pool of threads that spin for a while before they sleep, as an OpenMP runtime's do.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "common/parallel.h"

namespace lkops {
namespace {

class Pool {
 public:
  explicit Pool(int64_t threads) {
    for (int64_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  }
  ~Pool() {
    stops_ = true;
    ++round_;
    for (std::thread& worker : workers_) worker.join();
  }

  void run(int64_t slots, int64_t count, Parallel::Body body, const void* context) {
    ranges_ = count < slots ? count : slots;
    count_ = count, body_ = body, context_ = context;
    left_ = static_cast<int64_t>(workers_.size());
    ++round_;
    part(0);
    while (left_ > 0) __builtin_ia32_pause();
  }

 private:
  void part(int64_t i) const {
    if (i < ranges_) body_(context_, i, i * count_ / ranges_, (i + 1) * count_ / ranges_);
  }
  void work(int64_t i) {
    for (int64_t seen = 0;;) {
      for (int64_t spins = 0; round_ == seen; ++spins)
        if (spins < 100000) __builtin_ia32_pause();
        else std::this_thread::yield();
      seen = round_;
      if (stops_) return;
      part(i);
      --left_;
    }
  }

  std::vector<std::thread> workers_;
  std::atomic<int64_t> round_{0}, left_{0};
  std::atomic<bool> stops_{false};
  int64_t ranges_ = 0, count_ = 0;
  Parallel::Body body_ = nullptr;
  const void* context_ = nullptr;
};

inline Pool& the_pool(int64_t threads) {
  static Pool all(threads);
  return all;
}

inline Parallel pool(int64_t threads) {
  the_pool(threads);
  return {[](int64_t slots, int64_t count, int64_t, Parallel::Body body, const void* context) {
            the_pool(slots).run(slots, count, body, context);
          },
          threads};
}

}  // namespace
}  // namespace lkops
