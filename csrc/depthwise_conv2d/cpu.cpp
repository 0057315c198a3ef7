// Plane by plane, a large one band by band: each is copied between zeros, convolved from there, and stays in cache
// meanwhile. A weight's gradient is summed over each band first and then, in the order of bands and samples, over the
// batch.
#include "depthwise_conv2d/cpu.h"

#include "common/simd.h"
#include "common/sums.h"
#include "depthwise_conv2d/bands.h"
#include "depthwise_conv2d/plane_gradient.h"
#include "depthwise_conv2d/strips.h"

namespace lkops {
namespace {

PlaneSize size_of(const DepthwiseProblem& problem) { return {problem.height, problem.width}; }

// A dilation that takes every tap but the middle one out of the image is as good as any other that does.
Window window_of(const DepthwiseProblem& problem) {
  return {problem.rows, problem.columns, smaller(problem.dilation, larger(problem.height, problem.width))};
}

Bands bands_of(const DepthwiseProblem& problem) {
  return Bands(size_of(problem), window_of(problem), problem.whole_floats);
}

int64_t taps_of(const DepthwiseProblem& problem) { return problem.rows * problem.columns; }

int64_t band_grain(const DepthwiseProblem& problem, const Bands& bands) {
  return grain_of(kWorthOfProducts, bands.rows, problem.width, taps_of(problem));
}

// What a thread needs; forward takes neither `gradient` nor `other`.
struct Slot {
  float *padded, *other;  // two padded bands
  float* plane;           // a dense one, for results that are not float
  float* taps;            // the weights of a channel as floats
  float* gradient;        // of weight_gradient
};

struct Layout {
  Layout(const DepthwiseProblem& problem, int64_t slots, bool is_backward, Workspace& workspace) {
    const Bands bands = bands_of(problem);
    const PlaneSize band{bands.most_inputs(), problem.width};
    const int64_t padded = padded_floats(band, margin_of(size_of(problem), window_of(problem)));
    pieces[0] = round_up(padded);
    pieces[1] = is_backward ? round_up(padded) : 0;
    pieces[2] = round_up(bands.rows * problem.width);
    pieces[3] = round_up(taps_of(problem));
    pieces[4] = is_backward ? round_up(gradient_floats(window_of(problem))) : 0;
    of_slots = workspace.take<float>(slots * per_slot());
    row = round_up_to_lanes(taps_of(problem) + 1);
    partial = workspace.take<float>(is_backward ? problem.batch * bands.count * problem.channels * row : 0);
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
  float* partial;  // for each band of each sample, channel by channel: the gradients of its taps, then of the bias
  int64_t row;     // floats of `partial` a channel
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

// Fills `band`, made for as many rows, with rows of the plane x.
template <class T>
PaddedPlane rows_of(PaddedPlane band, const Rows& rows, int64_t width, const T* x) {
  fill(band, {count_of(rows), width}, x + rows.first * width);
  band.first_row = rows.first;
  return band;
}

// Runs a conv that writes rows of the plane y, by way of `room` where y is not float.
template <class F>
LKOPS_INLINE void write_rows(const Rows& rows, int64_t width, float*, float* y, const F& run) {
  run(PlaneView{y + rows.first * width, width, rows.first});
}
template <class F>
LKOPS_INLINE void write_rows(const Rows& rows, int64_t width, float* room, BFloat16* y, const F& run) {
  const PlaneView view{room, width, rows.first};
  run(view);
  copy_out(view, {count_of(rows), width}, y + rows.first * width);
}

template <class T>
void forward(const DepthwiseProblem& problem, const T* x, const T* weight, const T* bias, T* y,
             const Parallel& parallel, void* scratch) {
  Workspace workspace(scratch);
  const Layout layout(problem, parallel.slots, false, workspace);
  const PlaneSize size = size_of(problem);
  const Window window = window_of(problem);
  const Bands bands = bands_of(problem);
  const int64_t pixels = size.height * size.width, taps = taps_of(problem);
  const int64_t items = problem.batch * problem.channels * bands.count;
  for_ranges(parallel, items, band_grain(problem, bands), [&](int64_t s, int64_t first, int64_t last) {
    const Slot slot = layout.slot(s);
    const PaddedPlane padded = make_padded(slot.padded, {bands.most_inputs(), size.width}, margin_of(size, window));
    for (int64_t item = first; item < last; ++item) {
      const int64_t p = item / bands.count, c = p % problem.channels;
      const Rows outputs = bands.outputs(item % bands.count), inputs = bands.inputs(item % bands.count);
      const PaddedPlane band = rows_of(padded, inputs, size.width, x + p * pixels);
      const float* w = as_floats(weight + c * taps, taps, slot.taps);
      const float b = bias == nullptr ? 0.0f : load_partial(bias + c, 1)[0];
      write_rows(outputs, size.width, slot.plane, y + p * pixels, [&](const PlaneView& out) {
        correlate(size, window, outputs, as_given(w, window), band, b, nullptr, out);
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
  const Bands bands = bands_of(problem);
  const int64_t pixels = size.height * size.width, taps = taps_of(problem), channels = problem.channels;
  const int64_t items = problem.batch * channels * bands.count;
  for_ranges(parallel, items, band_grain(problem, bands), [&](int64_t s, int64_t first, int64_t last) {
    const Slot slot = layout.slot(s);
    const PlaneSize longest{bands.most_inputs(), size.width};
    const PaddedPlane of_grad = make_padded(slot.padded, longest, margin_of(size, window));
    const PaddedPlane of_x = make_padded(slot.other, longest, margin_of(size, window));
    for (int64_t item = first; item < last; ++item) {
      const int64_t p = item / bands.count, b = item % bands.count, c = p % channels;
      const Rows outputs = bands.outputs(b), inputs = bands.inputs(b);
      float* partial = layout.partial + ((p / channels * bands.count + b) * channels + c) * layout.row;
      const PaddedPlane dy = rows_of(of_grad, inputs, size.width, grad + p * pixels);
      if (dx != nullptr) {
        const float* w = as_floats(weight + c * taps, taps, slot.taps);
        write_rows(outputs, size.width, slot.plane, dx + p * pixels, [&](const PlaneView& out) {
          correlate(size, window, outputs, flipped(w, window), dy, 0, nullptr, out);
        });
      }
      if (dweight != nullptr) {
        const PaddedPlane band = rows_of(of_x, inputs, size.width, x + p * pixels);
        weight_gradient(size, window, outputs, band, view_of(dy), slot.gradient, partial);
      }
      if (dbias != nullptr) {
        const PlaneView inside{dy.pixels + (outputs.first - inputs.first) * dy.stride, dy.stride};
        partial[taps] = plane_sum({count_of(outputs), size.width}, inside);
      }
    }
  });
  if (dweight == nullptr && dbias == nullptr) return;
  const int64_t count = problem.batch * bands.count, step = channels * layout.row;
  const int64_t grain = grain_of(kWorthOfNumbers, count, layout.row);
  for_ranges(parallel, channels, grain, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      const float* partial = layout.partial + c * layout.row;
      for (int64_t k = 0; dweight != nullptr && k < taps; k += kLanes)
        store_lanes(dweight + c * taps + k, sum_of_rows(partial + k, step, count, taps - k), taps - k);
      if (dbias != nullptr) store_lanes(dbias + c, sum_of_rows(partial + taps, step, count, 1), 1);
    }
  });
}

}  // namespace

LKOPS_TABLE(PlaneKernels, kPlanes) = {correlate};
LKOPS_TABLE(PlaneGradientKernels, kPlaneGradients) = {weight_gradient};
LKOPS_TABLE(DepthwiseKernels, kDepthwise) = {
    scratch_bytes<false>, forward<float>,  forward<BFloat16>,
    scratch_bytes<true>,  backward<float>, backward<BFloat16>,
};

}  // namespace lkops
