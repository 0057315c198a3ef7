// The residual block for small images on the GPU.
#include "lk_block/cuda.cuh"
#include "common/cuda_grid.cuh"

namespace lkops {

template <class T>
const char* block_inference_cuda(const BlockProblem& problem, const BlockInference<T>& arguments, bool cooperative,
                                 CudaStream stream) {
  GridLaunch launch(stream, cooperative);
  block_inference(launch, problem, arguments);
  return launch.error();
}

#define LKOPS_INSTANTIATE(T) \
  template const char* block_inference_cuda(const BlockProblem&, const BlockInference<T>&, bool, CudaStream);
LKOPS_INSTANTIATE(float)
LKOPS_INSTANTIATE(BFloat16)
LKOPS_INSTANTIATE(Float16)

}  // namespace lkops
