// Convs of one plane, compiled once for each instruction set: what the rooms with depthwise convs among their stages
// take from this room's tables. planes.h says how to use them. No torch, no std.
#pragma once

#include <cstdint>

#include "common/isas.h"

namespace lkops {

struct PlaneSize {
  int64_t height, width;  // 1 or more each
};

// A depthwise conv of stride 1 with zero padding that keeps the size. Rows and columns are odd.
struct Window {
  int64_t rows, columns, dilation;
};

// Weight (p, q) of a conv, 0 <= p < rows, 0 <= q < columns, is data[p * row + q * column].
struct Taps {
  const float* data;
  int64_t row, column;
};

// Rows of floats, `stride` apart; without margins. `pixels` is row `first_row` of the image.
struct PlaneView {
  float* pixels;
  int64_t stride;
  int64_t first_row = 0;
};

// A plane between zeros: pixels[i * stride + j] is 0 for -margin <= j < 0 and width <= j < width + margin. Its vectors
// may be read up to the end of the vector that a readable pixel is in.
struct PaddedPlane {
  float* pixels;
  int64_t stride;
  int64_t first_row = 0;
};

// Rows [first, last) of an image.
struct Rows {
  int64_t first, last;
};

struct PlaneKernels {
  // out = conv(x) + bias, or *base + conv(x) + bias, in these rows, of which the first is a multiple of the dilation,
  // and the last too where it is not the image's end; `out` may be `*base`, but must not overlap x. The bits of a row
  // do not depend on which others are computed with it.
  void (*correlate)(const PlaneSize& size, const Window& window, const Rows& rows, const Taps& weights,
                    const PaddedPlane& x, float bias, const PlaneView* base, const PlaneView& out);
};

struct PlaneGradientKernels {
  // dw[p * columns + q] = sum over pixels (i, j) of dy[i, j] x[i + d (p - rows / 2), j + d (q - columns / 2)], with i
  // in these rows, chosen as those of correlate. `scratch`: gradient_floats (planes.h).
  void (*weight_gradient)(const PlaneSize& size, const Window& window, const Rows& rows, const PaddedPlane& x,
                          const PlaneView& dy, float* scratch, float* dw);
};

LKOPS_DECLARE_TABLES(PlaneKernels, kPlanes, Floats);
LKOPS_DECLARE_TABLES(PlaneGradientKernels, kPlaneGradients, Floats);

}  // namespace lkops
