// depthwise_conv2d on the GPU.
#include "common/cuda_launch.cuh"
#include "depthwise_conv2d/cuda.cuh"

namespace lkops {

template <class T>
const char* depthwise_forward_cuda(const DepthwiseProblem& problem, const DepthwiseForward<T>& arguments,
                                   CudaStream stream) {
  DeviceLaunch launch(stream);
  depthwise_forward(launch, problem, arguments);
  return launch.error();
}

template <class T>
const char* depthwise_backward_cuda(const DepthwiseProblem& problem, const DepthwiseBackward<T>& arguments,
                                    float* workspace, CudaStream stream) {
  DeviceLaunch launch(stream);
  depthwise_backward(launch, problem, arguments, workspace);
  return launch.error();
}

int64_t depthwise_workspace_cuda(const DepthwiseProblem& problem) {
  return parts_floats(problem.channels, problem.rows * problem.columns);
}

// The first two serve attention/cuda.cu.
#define LKOPS_INSTANTIATE(T)                                                                                  \
  template void convolve(DeviceLaunch&, const DepthwiseProblem&, const Conv<T>&, const Tiling*);               \
  template void weight_gradient(DeviceLaunch&, const DepthwiseProblem&, const Slopes<T>&);                   \
  template const char* depthwise_forward_cuda(const DepthwiseProblem&, const DepthwiseForward<T>&, CudaStream);    \
  template const char* depthwise_backward_cuda(const DepthwiseProblem&, const DepthwiseBackward<T>&, float*, CudaStream);
LKOPS_INSTANTIATE(float)
LKOPS_INSTANTIATE(BFloat16)
LKOPS_INSTANTIATE(Float16)

}  // namespace lkops
