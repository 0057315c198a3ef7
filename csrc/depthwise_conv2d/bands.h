// A large plane in bands of rows, so that what is copied of it is bounded: a band of outputs, and the rows that it reads.
// The bands follow from the problem alone.
#pragma once

#include "depthwise_conv2d/planes.h"

namespace lkops {
namespace {

struct Bands {
  // A padded plane of up to `most` floats is one band. Those of a larger one copy about a quarter as many, or as many
  // rows as the kernel's reach makes worth the while.
  Bands(const PlaneSize& size, const Window& window, int64_t most)
      : height(size.height), halo(reach(size, window)), rows(size.height) {
    const int64_t stride = padded_stride(size, margin_of(size, window)), d = window.dilation;
    if (size.height <= most / stride) return;
    const int64_t wanted = larger(larger(most / 4 / stride - 2 * halo, 2 * halo), 1);
    rows = smaller((wanted + d - 1) / d * d, size.height);
    count = (size.height + rows - 1) / rows;
  }

  Rows outputs(int64_t band) const { return {band * rows, smaller((band + 1) * rows, height)}; }
  Rows inputs(int64_t band) const {
    return {larger(band * rows - halo, 0), smaller((band + 1) * rows + halo, height)};
  }
  int64_t most_inputs() const { return smaller(rows + 2 * halo, height); }

  int64_t height, halo, rows, count = 1;

 private:
  // Rows beyond an output's own that it reads; a tap further away never meets the image.
  static int64_t reach(const PlaneSize& size, const Window& window) {
    const int64_t arms = window.rows / 2;
    return arms == 0 ? 0 : window.dilation > (size.height - 1) / arms ? size.height - 1 : arms * window.dilation;
  }
};

}  // namespace
}  // namespace lkops
