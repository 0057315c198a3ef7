// How kernels use the caller's threads without knowing whose they are: torch's pool in the extension, anything in the
// tests.
#pragma once

#include <cstdint>

namespace lkops {

struct Parallel {
  // Calls body(context, slot, first, last) on ranges that cover [0, count) without overlap, at most `slots` of them, of
  // about `grain` items or more; returns when all have returned. `slots`, `count` and `grain` are 1 or more. Ranges that
  // run at the same time have different `slot`s, 0 <= slot < slots: whoever needs scratch memory takes it by slot. Which
  // ranges there are depends on the number of threads, so results must not depend on them.
  using Body = void (*)(const void* context, int64_t slot, int64_t first, int64_t last);
  void (*run)(int64_t slots, int64_t count, int64_t grain, Body body, const void* context);
  int64_t slots;  // the number of threads
};

namespace {

// Work that is worth waking a thread for, which takes some microseconds: numbers that are read or written once each, or
// multiply-adds of what lies in caches.
constexpr int64_t kWorthOfNumbers = 1 << 15, kWorthOfProducts = 1 << 19;

// As many items of for_ranges as are worth that, 1 or more, if an item takes the product of `factors`, which is never
// computed, since it may be large.
template <class... Factors>
constexpr int64_t grain_of(int64_t worth, Factors... factors) {
  ((worth /= factors < 1 ? 1 : factors), ...);
  return worth < 1 ? 1 : worth;
}

// for_ranges(parallel, count, grain, [&](int64_t slot, int64_t first, int64_t last) { ... });
// A count below 1 is nothing to do.
template <class F>
inline void for_ranges(const Parallel& parallel, int64_t count, int64_t grain, const F& body) {
  if (count <= 0) return;
  if (parallel.slots == 1) return body(int64_t{0}, int64_t{0}, count);
  parallel.run(
      parallel.slots, count, grain,
      [](const void* context, int64_t slot, int64_t first, int64_t last) {
        (*static_cast<const F*>(context))(slot, first, last);
      },
      &body);
}

// Hands out one block of memory in pieces that begin on cache lines. A layout is written once, as a function of a
// Workspace; run on one without memory (`Workspace{}`) it counts the bytes that it takes.
class Workspace {
 public:
  explicit Workspace(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}

  template <class T>
  T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(memory_ == nullptr ? nullptr : memory_ + bytes_);
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return piece;
  }

  int64_t bytes() const { return bytes_; }

 private:
  char* memory_;
  int64_t bytes_ = 0;
};

}  // namespace
}  // namespace lkops
