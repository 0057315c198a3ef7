// The cascade of large-kernel channel attention on the GPU.
#include "large_kernel_channel_attention/cuda.cuh"
#include "common/cuda_launch.cuh"

namespace lkops {

// depthwise/cuda.cu has these.
#define LKOPS_EXTERN(T)                                                                                     \
  extern template void convolve(DeviceLaunch&, const DepthwiseProblem&, const Conv<T>&, const Tiling*);     \
  extern template void weight_gradient(DeviceLaunch&, const DepthwiseProblem&, const Slopes<T>&);
LKOPS_EXTERN(float)
LKOPS_EXTERN(BFloat16)
LKOPS_EXTERN(Float16)

template <class T>
const char* cascade_forward_cuda(const CascadeProblem& problem, const CascadeForward<T>& arguments, CudaStream stream) {
  DeviceLaunch launch(stream);
  cascade_forward(launch, problem, arguments);
  return launch.error();
}

template <class T>
const char* cascade_backward_cuda(const CascadeProblem& problem, const CascadeBackward<T>& arguments, float* workspace,
                                  CudaStream stream) {
  DeviceLaunch launch(stream);
  cascade_backward(launch, problem, arguments, workspace);
  return launch.error();
}

int64_t cascade_parts_cuda(const CascadeProblem& problem, CudaStream stream) {
  return cascade_parts(problem, DeviceLaunch(stream).limit());
}
int64_t cascade_workspace_cuda(const CascadeProblem& problem) { return cascade_workspace(problem); }

#define LKOPS_INSTANTIATE(T)                                                                               \
  template const char* cascade_forward_cuda(const CascadeProblem&, const CascadeForward<T>&, CudaStream);       \
  template const char* cascade_backward_cuda(const CascadeProblem&, const CascadeBackward<T>&, float*, CudaStream);
LKOPS_INSTANTIATE(float)
LKOPS_INSTANTIATE(BFloat16)
LKOPS_INSTANTIATE(Float16)

}  // namespace lkops
