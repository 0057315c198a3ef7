// The CUDA kernels, run by the host, as a library for tests/lkops/ops/test_cuda_on_the_host.py: float32, no sanitizer.
#include "large_kernel_channel_attention/cuda.cuh"
#include "lk_block/cuda.cuh"
#include "cuda_grid.h"

using namespace lkops;

namespace {
CascadeProblem cascade_problem(const int64_t* s) { return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9]}; }
DepthwiseProblem depthwise_problem(const int64_t* s) { return {s[0], s[1], s[2], s[3], s[4], s[5], s[6]}; }
}  // namespace

extern "C" {

int64_t host_cascade_parts(const int64_t* s, int64_t limit) { return cascade_parts(cascade_problem(s), limit); }

void host_cascade_forward(const int64_t* s, int64_t limit, const float* u, const float* w1, const float* b1,
                          const float* w2, const float* b2, float* a1, float* a2, float* sums) {
  HostLaunch launch(limit, 2);
  cascade_forward(launch, cascade_problem(s), CascadeForward<float>{u, w1, b1, w2, b2, a1, a2, sums});
}

void host_cascade_backward(const int64_t* s, int64_t limit, const float* u, const float* a1, const float* w1,
                           const float* w2, const float* dmean, float* parts, float* du, float* dw1, float* db1,
                           float* dw2, float* db2) {
  HostLaunch launch(limit, 2);
  std::vector<float> workspace(static_cast<size_t>(cascade_workspace(cascade_problem(s))));
  const CascadeBackward<float> arguments{u, a1, w1, w2, dmean, parts, du, dw1, db1, dw2, db2};
  cascade_backward(launch, cascade_problem(s), arguments, workspace.data());
}

void host_depthwise_forward(const int64_t* s, int64_t limit, const float* x, const float* weight, const float* bias,
                            float* y) {
  HostLaunch launch(limit, 2);
  depthwise_forward(launch, depthwise_problem(s), DepthwiseForward<float>{x, weight, bias, y});
}

void host_depthwise_backward(const int64_t* s, int64_t limit, const float* grad, const float* x, const float* weight,
                             float* dx, float* dweight, float* dbias) {
  HostLaunch launch(limit, 2);
  const DepthwiseProblem problem = depthwise_problem(s);
  std::vector<float> workspace(static_cast<size_t>(parts_floats(problem.channels, problem.rows * problem.columns)));
  depthwise_backward(launch, problem, DepthwiseBackward<float>{grad, x, weight, dx, dweight, dbias}, workspace.data());
}

// Tensors in the order of lk_block's schema, then y, the four maps and the sums.
void host_block_inference(const int64_t* s, int64_t limit, float eps, const float* x, const float* norm_weight,
                          const float* norm_bias, const float* in_weight, const float* in_bias, const float* w1,
                          const float* b1, const float* w2, const float* b2, const float* reduce_weight,
                          const float* reduce_bias, const float* expand_weight, const float* expand_bias,
                          const float* mix_weight, const float* mix_bias, const float* out_weight,
                          const float* out_bias, const float* keep, float* y, float* u, float* a1, float* a2, float* w,
                          float* sums) {
  HostGrid grid(limit, 2, 132, 264);  // an H100's multiprocessors
  const BlockProblem problem{s[0], eps, {s[1], s[2], s[3], s[4], 5, 5, 5, 7, 7, 7, s[5], s[6], s[7] != 0}};
  const BlockParameters<float> parameters{norm_weight, norm_bias, in_weight, in_bias,
                                          {w1, b1, w2, b2, reduce_weight, reduce_bias, expand_weight, expand_bias,
                                           mix_weight, mix_bias},
                                          out_weight, out_bias, keep};
  block_inference(grid, problem, BlockInference<float>{x, parameters, y, u, a1, a2, w, sums});
}

}  // extern "C"
