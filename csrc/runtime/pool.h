// Threads of one plan: started with it, asleep when there is nothing to run.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/parallel.h"

namespace lkops {
namespace runtime {

class Pool {
 public:
  // `threads`, the caller's included. Throws std::system_error where the system gives none.
  Pool(int64_t threads, bool pin);
  ~Pool();
  Pool(const Pool&) = delete;

  // Whether the threads are there: a child of fork() has none of them.
  bool is_here() const;

  // While it lives, parallel() runs on this pool, for the thread that made it. One at a time.
  class Use {
   public:
    explicit Use(Pool& pool);
    ~Use();
    Parallel parallel() const;

   private:
    Pool* before_;
    int64_t slots_;
  };

 private:
  struct Job {
    Parallel::Body body;
    const void* context;
    int64_t count, ranges;
  };
  // A worker has one range of a job at most: the one of its number.
  struct Worker {
    std::atomic<const Job*> job{nullptr};
    std::atomic<bool> ends{false};
    std::mutex mutex;
    std::condition_variable wake;
    std::thread thread;
  };

  static void run(int64_t slots, int64_t count, int64_t grain, Parallel::Body body, const void* context);
  static void run_range(const Job& job, int64_t range);
  void work(Worker& worker, int64_t number);
  void stop();

  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<int64_t> left_{0};  // workers that have not finished the job
  std::mutex mutex_;
  std::condition_variable finished_;
  pid_t process_;
};

}  // namespace runtime
}  // namespace lkops
