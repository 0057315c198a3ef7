#include "runtime/pool.h"

#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#endif

namespace lkops {
namespace runtime {
namespace {

// The kernels' Parallel knows no pool: a thread's current one, set while it runs a network.
thread_local Pool* current = nullptr;

// About as long as the pause between two stages of a small image: to sleep and wake takes longer.
constexpr int kSpins = 2000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Puts the calling thread on the i-th of the CPUs that it may use, counted in circles.
void pin_to(int64_t i) {
#if defined(__linux__)
  cpu_set_t may, one;
  if (sched_getaffinity(0, sizeof may, &may) != 0 || CPU_COUNT(&may) == 0) return;
  i %= CPU_COUNT(&may);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &may) && i-- == 0) {
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      sched_setaffinity(0, sizeof one, &one);
      return;
    }
#else
  (void)i;
#endif
}

}  // namespace

Pool::Pool(int64_t threads, bool pin) : process_(getpid()) {
  try {
    for (int64_t i = 1; i < threads; ++i) {
      workers_.push_back(std::make_unique<Worker>());
      Worker& worker = *workers_.back();
      worker.thread = std::thread([this, &worker, i, pin] {
        if (pin) pin_to(i);
        work(worker, i);
      });
    }
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  for (auto& worker : workers_) {
    if (!is_here()) {  // threads of another process: there is nothing to wait for, nor to destroy
      (void)worker.release();
      continue;
    }
    if (!worker->thread.joinable()) continue;  // it did not start
    {
      const std::lock_guard<std::mutex> lock(worker->mutex);
      worker->ends = true;
    }
    worker->wake.notify_one();
    worker->thread.join();
  }
}

bool Pool::is_here() const { return getpid() == process_; }

void Pool::run_range(const Job& job, int64_t range) {
  const auto begin = [&](int64_t r) { return r * (job.count / job.ranges) + r * (job.count % job.ranges) / job.ranges; };
  job.body(job.context, range, begin(range), begin(range + 1));
}

void Pool::work(Worker& worker, int64_t number) {
  for (;;) {
    const Job* job = nullptr;
    for (int i = 0; i < kSpins && job == nullptr; ++i) pause(), job = worker.job.load(std::memory_order_acquire);
    if (job == nullptr) {
      std::unique_lock<std::mutex> lock(worker.mutex);
      worker.wake.wait(lock, [&] { return worker.job.load(std::memory_order_acquire) != nullptr || worker.ends; });
      job = worker.job.load(std::memory_order_acquire);
      if (job == nullptr) return;
    }
    run_range(*job, number);
    worker.job.store(nullptr, std::memory_order_relaxed);  // before the job ends, and another can be given
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      const std::lock_guard<std::mutex> lock(mutex_);  // the caller is before its look at `left_`, or asleep
      finished_.notify_one();
    }
  }
}

void Pool::run(int64_t slots, int64_t count, int64_t grain, Parallel::Body body, const void* context) {
  Pool& pool = *current;
  const int64_t most = (count - 1) / grain + 1, ranges = most < slots ? most : slots;
  const Job job{body, context, count, ranges};
  if (ranges > 1) pool.left_.store(ranges - 1, std::memory_order_relaxed);
  for (int64_t i = 1; i < ranges; ++i) {
    Worker& worker = *pool.workers_[static_cast<size_t>(i - 1)];
    {
      const std::lock_guard<std::mutex> lock(worker.mutex);
      worker.job.store(&job, std::memory_order_release);
    }
    worker.wake.notify_one();
  }
  run_range(job, 0);
  if (ranges == 1) return;
  for (int i = 0; i < kSpins; ++i) {
    if (pool.left_.load(std::memory_order_acquire) == 0) break;
    pause();
  }
  std::unique_lock<std::mutex> lock(pool.mutex_);  // taken in any case: the last worker may still hold it
  pool.finished_.wait(lock, [&] { return pool.left_.load(std::memory_order_acquire) == 0; });
}

Pool::Use::Use(Pool& pool) : before_(current), slots_(static_cast<int64_t>(pool.workers_.size()) + 1) {
  current = &pool;
}

Pool::Use::~Use() { current = before_; }

Parallel Pool::Use::parallel() const { return {&Pool::run, slots_}; }

}  // namespace runtime
}  // namespace lkops
