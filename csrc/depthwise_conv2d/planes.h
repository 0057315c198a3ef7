// Depthwise convs of one float32 plane: correlation, the input gradient, the weight gradient, sums. What this room
// and those with depthwise convs among their stages build on. The convs are compiled with this room only: other rooms
// call those of its table, once a plane.
//
// How to use it:
//
//     const PlaneSize size{64, 64};
//     const Window first{5, 5, 5}, second{7, 7, 7};                          // kernel rows, columns, dilation
//     const int64_t margin = larger(margin_of(size, first), margin_of(size, second));
//     float* memory = workspace.take<float>(padded_floats(size, margin));    // per thread
//     const PaddedPlane x = make_padded(memory, size, margin);               // once: clears the margins
//     fill(x, size, u);                                                      // per plane: float or bfloat16 pixels
//     correlate(size, first, as_given(weights, first), x, bias, nullptr, view_of(a1));   // a1 = conv(u) + bias
//     correlate(size, second, flipped(weights, second), dy, 0, &more, view_of(dx));      // dx = more + conv^T(dy)
//     weight_gradient(size, second, x, view_of(dy), scratch, dw);            // dw = sum over pixels of dy x
//
// A conv's input lies in a PaddedPlane, whose rows have zeros between them, so that taps in the columns beyond the
// image need no masks. A conv may write straight into the interior of another PaddedPlane (view_of): it leaves the
// zeros alone. Rows beyond the image are skipped, and so are columns of taps that fall beyond it for a whole vector.
//
// The bits of the results depend on sizes and values only. No function allocates, and none keeps anything. What is NaN
// or infinite in x reaches the outputs that have a tap on it, as in torch; in x or dy it may reach gradients of weights
// that have none, and infinite weights the columns near the image's edge (infinity times a zero beyond it).
#pragma once

#include "common/simd.h"
#include "common/sums.h"
#include "depthwise_conv2d/cpu.h"
#include "depthwise_conv2d/plane_kernels.h"

namespace lkops {
namespace {

inline PlaneView view_of(const PaddedPlane& plane) { return {plane.pixels, plane.stride, plane.first_row}; }
inline PlaneView view_of(float* dense, const PlaneSize& size) { return {dense, size.width}; }

// The conv itself, and its transpose, which takes the output's gradient to the input's.
inline Taps as_given(const float* weights, const Window& window) { return {weights, window.columns, 1}; }
inline Taps flipped(const float* weights, const Window& window) {
  return {weights + window.rows * window.columns - 1, -window.columns, -1};
}

inline int64_t count_of(const Rows& rows) { return rows.last - rows.first; }

inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// How many columns beyond the image a conv reads from. One that reads further never sees the image there.
inline int64_t margin_of(const PlaneSize& size, const Window& window) {
  const int64_t arms = window.columns / 2;
  return arms == 0 || window.dilation > (size.width - 1) / arms ? (arms == 0 ? 0 : size.width - 1)
                                                                 : arms * window.dilation;
}

// ---- padded planes --------------------------------------------------------------------------------------------------

// The zeros after a row are those before the next.
inline int64_t padded_stride(const PlaneSize& size, int64_t margin) {
  return round_up_to_lanes(size.width) + round_up_to_lanes(margin);
}

inline int64_t padded_floats(const PlaneSize& size, int64_t margin) {
  return round_up_to_lanes(margin) + size.height * padded_stride(size, margin);
}

// A padded plane in `memory`, padded_floats long; best on a cache line. Clears all of it.
inline PaddedPlane make_padded(float* memory, const PlaneSize& size, int64_t margin) {
  for (int64_t i = 0; i < padded_floats(size, margin); i += kLanes) store(memory + i, Floats{});
  return {memory + round_up_to_lanes(margin), padded_stride(size, margin)};
}

// plane = x + shift, x being dense rows of floats or bfloat16. The margins stay as they are.
template <class T>
inline void fill(const PaddedPlane& plane, const PlaneSize& size, const T* x, float shift = 0) {
  const bool shifts = shift != 0;  // NaN too
  for (int64_t i = 0; i < size.height; ++i, x += size.width) {
    float* row = plane.pixels + i * plane.stride;
    int64_t j = 0;
    for (; j + kLanes <= size.width; j += kLanes) store(row + j, shifts ? load(x + j) + shift : load(x + j));
    if (j == size.width) continue;
    const Floats rest = load_partial(x + j, size.width - j);
    store_partial(row + j, shifts ? rest + shift : rest, size.width - j);
  }
}

// x = plane, x being dense rows of floats or bfloat16.
template <class T>
inline void copy_out(const PlaneView& plane, const PlaneSize& size, T* x) {
  for (int64_t i = 0; i < size.height; ++i, x += size.width) {
    const float* row = plane.pixels + i * plane.stride;
    int64_t j = 0;
    for (; j + kLanes <= size.width; j += kLanes) store(x + j, load(row + j));
    if (j < size.width) store_partial(x + j, load_partial(row + j, size.width - j), size.width - j);
  }
}

// ---- sums -----------------------------------------------------------------------------------------------------------

// The sum of a plane.
inline float plane_sum(const PlaneSize& size, const PlaneView& plane) {
  LongSum sum;
  for (int64_t i = 0; i < size.height; ++i) {
    const float* row = plane.pixels + i * plane.stride;
    int64_t j = 0;
    for (; j + kLanes <= size.width; j += kLanes) sum.add(load(row + j));
    if (j < size.width) sum.add(load_partial(row + j, size.width - j));
  }
  return sum.result();
}

// ---- convs ----------------------------------------------------------------------------------------------------------

// For all rows of a plane.
inline void correlate(const PlaneSize& size, const Window& window, const Taps& weights, const PaddedPlane& x,
                      float bias, const PlaneView* base, const PlaneView& out) {
  LKOPS_SAME_ISA(kPlanes).correlate(size, window, {0, size.height}, weights, x, bias, base, out);
}

// Floats of scratch that weight_gradient takes, best on a cache line.
inline int64_t gradient_floats(const Window& window) {
  return window.rows * window.columns * (kLanes + 2);  // vectors of sums, and doubles
}

inline void weight_gradient(const PlaneSize& size, const Window& window, const PaddedPlane& x, const PlaneView& dy,
                            float* scratch, float* dw) {
  LKOPS_SAME_ISA(kPlaneGradients).weight_gradient(size, window, {0, size.height}, x, dy, scratch, dw);
}

}  // namespace
}  // namespace lkops
