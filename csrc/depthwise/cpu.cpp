// Plane by plane: each is copied between zeros, convolved from there, and stays in cache meanwhile. A weight's gradient
// is summed over each plane first and then, in the order of the samples, over the batch.
#include "depthwise/cpu.h"

#include "common/simd.h"
#include "common/sums.h"
#include "depthwise/planes.h"

namespace lkops {
namespace {

PlaneSize size_of(const DepthwiseProblem& problem) { return {problem.height, problem.width}; }

// A dilation that takes every tap but the middle one out of the image is as good as any other that does.
Window window_of(const DepthwiseProblem& problem) {
  return {problem.rows, problem.columns, smaller(problem.dilation, larger(problem.height, problem.width))};
}

int64_t taps_of(const DepthwiseProblem& problem) { return problem.rows * problem.columns; }

// Planes that are worth waking a thread for: some microseconds of work.
int64_t grain_of(const DepthwiseProblem& problem) {
  constexpr int64_t kProducts = 1 << 19;
  const double products = static_cast<double>(problem.height * problem.width) * static_cast<double>(taps_of(problem));
  return products < kProducts ? static_cast<int64_t>(kProducts / products) : 1;
}

// What a thread needs; forward takes neither `gradient` nor `other`.
struct Slot {
  float *padded, *other;  // two padded planes
  float* plane;           // a dense one, for results that are not float
  float* taps;            // the weights of a channel as floats
  float* gradient;        // of weight_gradient
};

struct Layout {
  Layout(const DepthwiseProblem& problem, int64_t slots, bool is_backward, Workspace& workspace) {
    const int64_t padded = padded_floats(size_of(problem), margin_of(size_of(problem), window_of(problem)));
    pieces[0] = round_up(padded);
    pieces[1] = is_backward ? round_up(padded) : 0;
    pieces[2] = round_up(problem.height * problem.width);
    pieces[3] = round_up(taps_of(problem));
    pieces[4] = is_backward ? round_up(gradient_floats(window_of(problem))) : 0;
    of_slots = workspace.take<float>(slots * per_slot());
    row = round_up_to_lanes(taps_of(problem) + 1);
    partial = workspace.take<float>(is_backward ? problem.batch * problem.channels * row : 0);
  }

  Slot slot(int64_t index) const {
    float* p = of_slots + index * per_slot();
    float* piece[5];
    for (int i = 0; i < 5; ++i) piece[i] = p, p += pieces[i];
    return {piece[0], piece[1], piece[2], piece[3], piece[4]};
  }

  static int64_t round_up(int64_t floats) { return (floats + 15) / 16 * 16; }  // to cache lines
  int64_t per_slot() const { return pieces[0] + pieces[1] + pieces[2] + pieces[3] + pieces[4]; }

  int64_t pieces[5];
  float* of_slots;
  float* partial;  // for each plane: the gradients of its taps, and then of the bias
  int64_t row;     // floats of `partial` a plane
};

template <bool kBackward>
int64_t scratch_bytes(const DepthwiseProblem& problem, int64_t slots) {
  Workspace workspace;
  Layout(problem, slots, kBackward, workspace);
  return workspace.bytes();
}

const float* as_floats(const float* p, int64_t, float*) { return p; }
const float* as_floats(const BFloat16* p, int64_t count, float* memory) {
  for (int64_t i = 0; i < count; i += kLanes) store_lanes(memory + i, load_lanes(p + i, count - i), count - i);
  return memory;
}

// Runs a conv that writes a plane of y, by way of `plane` where y is not float.
template <class F>
LKOPS_INLINE void write_plane(const PlaneSize& size, float*, float* y, const F& run) {
  run(view_of(y, size));
}
template <class F>
LKOPS_INLINE void write_plane(const PlaneSize& size, float* plane, BFloat16* y, const F& run) {
  run(view_of(plane, size));
  copy_out(view_of(plane, size), size, y);
}

template <class T>
void forward(const DepthwiseProblem& problem, const T* x, const T* weight, const T* bias, T* y,
             const Parallel& parallel, void* scratch) {
  Workspace workspace(scratch);
  const Layout layout(problem, parallel.slots, false, workspace);
  const PlaneSize size = size_of(problem);
  const Window window = window_of(problem);
  const int64_t pixels = size.height * size.width, taps = taps_of(problem);
  const int64_t planes = problem.batch * problem.channels;
  for_ranges(parallel, planes, grain_of(problem), [&](int64_t s, int64_t first, int64_t last) {
    const Slot slot = layout.slot(s);
    const PaddedPlane padded = make_padded(slot.padded, size, margin_of(size, window));
    for (int64_t p = first; p < last; ++p) {
      const int64_t c = p % problem.channels;
      fill(padded, size, x + p * pixels);
      const float* w = as_floats(weight + c * taps, taps, slot.taps);
      const float b = bias == nullptr ? 0.0f : load_partial(bias + c, 1)[0];
      write_plane(size, slot.plane, y + p * pixels, [&](const PlaneView& out) {
        correlate(size, window, as_given(w, window), padded, b, nullptr, out);
      });
    }
  });
}

template <class T>
void backward(const DepthwiseProblem& problem, const T* grad, const T* x, const T* weight, T* dx, T* dweight, T* dbias,
              const Parallel& parallel, void* scratch) {
  Workspace workspace(scratch);
  const Layout layout(problem, parallel.slots, true, workspace);
  const PlaneSize size = size_of(problem);
  const Window window = window_of(problem);
  const int64_t pixels = size.height * size.width, taps = taps_of(problem), channels = problem.channels;
  for_ranges(parallel, problem.batch * channels, grain_of(problem), [&](int64_t s, int64_t first, int64_t last) {
    const Slot slot = layout.slot(s);
    const PaddedPlane dy = make_padded(slot.padded, size, margin_of(size, window));
    const PaddedPlane padded = make_padded(slot.other, size, margin_of(size, window));
    for (int64_t p = first; p < last; ++p) {
      float* partial = layout.partial + p * layout.row;
      fill(dy, size, grad + p * pixels);
      if (dx != nullptr) {
        const float* w = as_floats(weight + p % channels * taps, taps, slot.taps);
        write_plane(size, slot.plane, dx + p * pixels, [&](const PlaneView& out) {
          correlate(size, window, flipped(w, window), dy, 0, nullptr, out);
        });
      }
      if (dweight != nullptr) {
        fill(padded, size, x + p * pixels);
        weight_gradient(size, window, padded, view_of(dy), slot.gradient, partial);
      }
      if (dbias != nullptr) partial[taps] = plane_sum(size, view_of(dy));
    }
  });
  if (dweight == nullptr && dbias == nullptr) return;
  const int64_t step = channels * layout.row, grain = 1 + 32768 / ((problem.batch + 1) * layout.row);
  for_ranges(parallel, channels, grain, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      const float* partial = layout.partial + c * layout.row;
      for (int64_t k = 0; dweight != nullptr && k < taps; k += kLanes)
        store_lanes(dweight + c * taps + k, sum_of_rows(partial + k, step, problem.batch, taps - k), taps - k);
      if (dbias != nullptr) store_lanes(dbias + c, sum_of_rows(partial + taps, step, problem.batch, 1), 1);
    }
  });
}

}  // namespace

#define LKOPS_TABLE_NAME(isa) kDepthwise##isa
#define LKOPS_TABLE(isa) LKOPS_TABLE_NAME(isa)
extern const DepthwiseKernels LKOPS_TABLE(LKOPS_ISA) = {
    scratch_bytes<false>, forward<float>,  forward<BFloat16>,
    scratch_bytes<true>,  backward<float>, backward<BFloat16>,
};

}  // namespace lkops
