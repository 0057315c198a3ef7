// Runs a body of several phases, between which all blocks of the grid wait for each other. For .cu files.
#pragma once

#include <cooperative_groups.h>

#include "common/cuda_launch.cuh"

namespace lkops {

template <int kThreads>
struct GridBlock : DeviceBlock<kThreads> {
  LKOPS_KERNEL int64_t blocks() const { return gridDim.x; }
};

template <class Body>
__global__ void __launch_bounds__(Body::kThreads, 1)
    run_phases(const __grid_constant__ Body body, const int first, const int last) {
  extern __shared__ float4 memory[];
  for (int phase = first; phase < last; ++phase) {
    if (phase > first) cooperative_groups::this_grid().sync();
    body(phase, GridBlock<Body::kThreads>{}, reinterpret_cast<float*>(memory));
  }
}

// All phases in one cooperative launch, of no more blocks than the GPU runs at once; or each in a launch of its own,
// which needs no such launch. Both can be captured in a CUDA graph: a graph's kernel nodes have known cooperative
// launches since CUDA 11.1 (CU_LAUNCH_ATTRIBUTE_COOPERATIVE, "valid for graph nodes, launches"), and nothing here
// allocates or waits. The number of blocks changes which block does what, not the results.
class GridLaunch {
 public:
  GridLaunch(CudaStream to, bool cooperative) : stream_(static_cast<cudaStream_t>(to.stream)), cooperative_(cooperative) {
    int bytes = 0, can = 0;
    check(cudaSetDevice(to.device));  // torch may have set it in another copy of CUDA's runtime library
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, to.device));
    check(cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, to.device));
    check(cudaDeviceGetAttribute(&can, cudaDevAttrCooperativeLaunch, to.device));
    limit_ = bytes / static_cast<int>(sizeof(float));
    cooperative_ = cooperative && can != 0;
  }

  int64_t limit() const { return limit_; }  // floats of shared memory that a block may have
  int64_t processors() const { return processors_; }
  const char* error() const { return error_ == cudaSuccess ? nullptr : cudaGetErrorString(error_); }

  template <class Body>
  void operator()(const Body& body, int64_t wanted, int64_t floats) {
    const int bytes = static_cast<int>(floats * static_cast<int64_t>(sizeof(float)));
    if (bytes > (48 << 10))  // as in DeviceLaunch
      check(cudaFuncSetAttribute(run_phases<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 limit_ * static_cast<int>(sizeof(float))));
    int resident = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, run_phases<Body>, Body::kThreads,
                                                        static_cast<size_t>(bytes)));
    if (error_ != cudaSuccess || wanted == 0) return;
    const int64_t most = int64_t{resident} * processors_, blocks = wanted < most ? wanted : most;
    const dim3 grid(static_cast<unsigned>(blocks)), threads(Body::kThreads);
    const int step = cooperative_ ? Body::kPhases : 1;
    for (int first = 0; first < Body::kPhases && error_ == cudaSuccess; first += step) {
      int last = first + step;
      void* arguments[] = {const_cast<Body*>(&body), &first, &last};
      const auto kernel = reinterpret_cast<const void*>(run_phases<Body>);
      check(cooperative_ ? cudaLaunchCooperativeKernel(kernel, grid, threads, arguments, static_cast<size_t>(bytes), stream_)
                         : cudaLaunchKernel(kernel, grid, threads, arguments, static_cast<size_t>(bytes), stream_));
    }
    check(cudaGetLastError());
  }

 private:
  void check(cudaError_t error) {
    if (error != cudaSuccess) cudaGetLastError();  // or the next launch, which may go well, would find it
    if (error_ == cudaSuccess) error_ = error;
  }
  cudaStream_t stream_;
  bool cooperative_;
  cudaError_t error_ = cudaSuccess;
  int limit_ = 0, processors_ = 0;
};

}  // namespace lkops
