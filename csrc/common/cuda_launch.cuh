// Runs the bodies of common/cuda.cuh on a GPU. For .cu files.
#pragma once

#include <cuda_runtime.h>

#include "common/cuda.cuh"

namespace lkops {

template <int kThreads>
struct DeviceBlock {
  template <class Body>
  LKOPS_KERNEL void each(int count, const Body& body) const {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) body(i);
  }
  LKOPS_KERNEL void sync() const { __syncthreads(); }
  LKOPS_KERNEL int64_t index() const { return blockIdx.x; }
};

template <class Body>
__global__ void __launch_bounds__(Body::kThreads, 1) run(const __grid_constant__ Body body) {
  extern __shared__ float4 memory[];
  body(DeviceBlock<Body::kThreads>{}, reinterpret_cast<float*>(memory));
}

// Launches on a stream, whose device becomes the current one; after the first error it does nothing.
class DeviceLaunch {
 public:
  explicit DeviceLaunch(CudaStream to) : stream_(static_cast<cudaStream_t>(to.stream)) {
    int bytes = 0;
    check(cudaSetDevice(to.device));  // torch may have set it in another copy of CUDA's runtime library
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, to.device));
    limit_ = bytes / static_cast<int>(sizeof(float));
  }

  int64_t limit() const { return limit_; }  // floats of shared memory that a block may have
  const char* error() const { return error_ == cudaSuccess ? nullptr : cudaGetErrorString(error_); }

  template <class Body>
  void operator()(const Body& body, int64_t blocks, int64_t floats) {
    if (blocks == 0 || error_ != cudaSuccess) return;
    if (blocks > INT32_MAX) return check(cudaErrorInvalidConfiguration);
    const int bytes = static_cast<int>(floats * static_cast<int64_t>(sizeof(float)));
    // always the same number, so that threads that launch with other sizes cannot lower it in between
    if (bytes > (48 << 10))
      check(cudaFuncSetAttribute(run<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 limit_ * static_cast<int>(sizeof(float))));
    if (error_ != cudaSuccess) return;
    run<Body><<<static_cast<unsigned>(blocks), Body::kThreads, static_cast<size_t>(bytes), stream_>>>(body);
    check(cudaGetLastError());
  }

 private:
  void check(cudaError_t error) {
    if (error != cudaSuccess) cudaGetLastError();  // or the next launch, which may go well, would find it
    if (error_ == cudaSuccess) error_ = error;
  }
  cudaStream_t stream_;
  cudaError_t error_ = cudaSuccess;
  int limit_ = 0;
};

}  // namespace lkops
