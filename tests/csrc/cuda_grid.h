// CUDA kernels of several phases on the host: csrc/common/cuda_grid.cuh.
#pragma once

#include "cuda.h"

namespace lkops {

struct GridHostBlock : HostBlock {
  int64_t count;
  int64_t blocks() const { return count; }
};

// A GPU of so many multiprocessors, which runs a phase after the other, of so many blocks at once. Shared memory is full
// of NaN at the beginning of every block's phase.
class HostGrid {
 public:
  HostGrid(int64_t limit, int order, int64_t processors, int64_t most)
      : limit_(limit), order_(order), processors_(processors), most_(most) {}
  int64_t limit() const { return limit_; }
  int64_t processors() const { return processors_; }

  template <class Body>
  void operator()(const Body& body, int64_t wanted, int64_t floats) {
    const int64_t blocks = wanted < most_ ? wanted : most_;
    for (int phase = 0; phase < Body::kPhases; ++phase) {
      HostLaunch launch(limit_, order_);
      launch(InPhase<Body>{body, phase, blocks}, blocks, floats);
    }
  }

 private:
  template <class Body>
  struct InPhase {
    const Body& body;
    int phase;
    int64_t blocks;
    void operator()(const HostBlock& block, float* shared) const {
      body(phase, GridHostBlock{block, blocks}, shared);
    }
  };
  int64_t limit_;
  int order_;
  int64_t processors_, most_;
};

}  // namespace lkops
