// Three stages: sums over planes, the gate of each sample, planes times their gates.
#include "channel_attention/cpu.h"

#include "common/simd.h"
#include "common/sums.h"
#include "channel_attention/gate.h"

namespace lkops {
namespace {

struct Layout {
  Layout(const GatingProblem& problem, bool is_backward, Workspace& workspace) {
    const int64_t planes = problem.batch * problem.channels, hidden_units = problem.batch * problem.hidden;
    gate = workspace.take<float>(gate_floats(problem.channels, problem.hidden));
    hidden = workspace.take<float>(hidden_units);
    scale = workspace.take<float>(planes);
    if (!is_backward) return;
    dhidden = workspace.take<float>(hidden_units);
    dscale = workspace.take<float>(planes);
    dz = workspace.take<float>(planes);
    dmean = workspace.take<float>(planes);
  }

  float *gate, *hidden, *scale;
  float *dhidden = nullptr, *dscale = nullptr, *dz = nullptr, *dmean = nullptr;
};

template <bool kBackward>
int64_t scratch_bytes(const GatingProblem& problem) {
  Workspace workspace;
  Layout(problem, kBackward, workspace);
  return workspace.bytes();
}

// y = factor * x + shift
template <class T>
LKOPS_INLINE void scale_plane(const T* x, int64_t pixels, float factor, float shift, T* y) {
  int64_t i = 0;
  for (; i + kLanes <= pixels; i += kLanes) store(y + i, fma(broadcast(factor), load(x + i), broadcast(shift)));
  if (i < pixels)
    store_partial(y + i, fma(broadcast(factor), load_partial(x + i, pixels - i), broadcast(shift)), pixels - i);
}

template <class T>
void forward(const GatingProblem& problem, const GatingTensors<T>& in, T* y, float* mean, const Parallel& parallel,
             void* scratch) {
  Workspace workspace(scratch);
  const Layout layout(problem, false, workspace);
  const int64_t channels = problem.channels, pixels = problem.pixels, planes = problem.batch * channels;
  for_ranges(parallel, planes, grain_of(kWorthOfNumbers, pixels), [&](int64_t, int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) mean[p] = sum_of(in.x + p * pixels, pixels) / static_cast<float>(pixels);
  });
  const Gate gate = make_gate(layout.gate, channels, problem.hidden, in.w1, in.b1, in.w2, in.b2);
  const int64_t work = 2 * channels * problem.hidden;
  for_ranges(parallel, problem.batch, grain_of(kWorthOfNumbers, work), [&](int64_t, int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n)
      gate_forward(gate, mean + n * channels, layout.hidden + n * problem.hidden, layout.scale + n * channels);
  });
  for_ranges(parallel, planes, grain_of(kWorthOfNumbers, pixels), [&](int64_t, int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p)
      scale_plane(in.x + p * pixels, pixels, layout.scale[p], 0.0f, y + p * pixels);
  });
}

template <class T>
void backward(const GatingProblem& problem, const T* grad, const GatingTensors<T>& in, const float* mean,
              const GatingGradients<T>& out, const Parallel& parallel, void* scratch) {
  Workspace workspace(scratch);
  const Layout layout(problem, true, workspace);
  const int64_t channels = problem.channels, pixels = problem.pixels, planes = problem.batch * channels;
  for_ranges(parallel, planes, grain_of(kWorthOfNumbers, 2 * pixels), [&](int64_t, int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) layout.dscale[p] = dot_of(grad + p * pixels, in.x + p * pixels, pixels);
  });
  const Gate gate = make_gate(layout.gate, channels, problem.hidden, in.w1, in.b1, in.w2, in.b2);
  const int64_t work = channels * problem.hidden;
  for_ranges(parallel, problem.batch, grain_of(kWorthOfNumbers, 4 * work), [&](int64_t, int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      float *hidden = layout.hidden + n * problem.hidden, *scale = layout.scale + n * channels;
      gate_forward(gate, mean + n * channels, hidden, scale);
      gate_backward(gate, hidden, scale, layout.dscale + n * channels, layout.dz + n * channels,
                    layout.dhidden + n * problem.hidden, layout.dmean + n * channels);
    }
  });
  if (out.w1 != nullptr || out.b1 != nullptr || out.w2 != nullptr || out.b2 != nullptr) {
    const int64_t rows = channels + problem.hidden, each = 2 * problem.batch * work / rows;
    for_ranges(parallel, rows, grain_of(kWorthOfNumbers, each), [&](int64_t, int64_t first, int64_t last) {
      gate_parameters(gate, problem.batch, layout.dz, layout.dhidden, layout.hidden, mean, first, last, out.w1, out.b1,
                      out.w2, out.b2);
    });
  }
  if (out.x == nullptr) return;
  for_ranges(parallel, planes, grain_of(kWorthOfNumbers, pixels), [&](int64_t, int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p)
      scale_plane(grad + p * pixels, pixels, layout.scale[p], layout.dmean[p] / static_cast<float>(pixels),
                  out.x + p * pixels);
  });
}

}  // namespace

LKOPS_TABLE(GatingKernels, kGating) = {
    scratch_bytes<false>, forward<float>,  forward<BFloat16>,
    scratch_bytes<true>,  backward<float>, backward<BFloat16>,
};

}  // namespace lkops
