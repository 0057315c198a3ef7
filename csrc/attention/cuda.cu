// The cascade of large-kernel channel attention on the GPU.
#include "attention/cuda.cuh"
#include "common/cuda_launch.cuh"

namespace lkops {

template <class T>
const char* cascade_forward_cuda(const CascadeProblem& problem, const CascadeForward<T>& arguments, void* stream) {
  DeviceLaunch launch(stream);
  cascade_forward(launch, problem, arguments);
  return launch.error();
}

template <class T>
const char* cascade_backward_cuda(const CascadeProblem& problem, const CascadeBackward<T>& arguments, float* workspace,
                                  void* stream) {
  DeviceLaunch launch(stream);
  cascade_backward(launch, problem, arguments, workspace);
  return launch.error();
}

int64_t cascade_parts_cuda(const CascadeProblem& problem) {
  return cascade_parts(problem, DeviceLaunch(nullptr).limit());
}
int64_t cascade_workspace_cuda(const CascadeProblem& problem) { return cascade_workspace(problem); }

#define LKOPS_INSTANTIATE(T)                                                                               \
  template const char* cascade_forward_cuda(const CascadeProblem&, const CascadeForward<T>&, void*);       \
  template const char* cascade_backward_cuda(const CascadeProblem&, const CascadeBackward<T>&, float*, void*);
LKOPS_INSTANTIATE(float)
LKOPS_INSTANTIATE(BFloat16)
LKOPS_INSTANTIATE(Float16)

}  // namespace lkops
