// A padded region of the input in cache: kLanes channels for each pixel, whatever the layout of the image.
#pragma once

#include "conv2d/epilogue.h"

namespace lkops {
namespace {

// Where a region lies in the padded image (its rows and columns may be outside) and in memory. A conv of stride s reads
// every s-th column: columns are kept by their remainder, so that a product's rows are neighbours.
struct Region {
  int64_t y, x, rows, columns, stride;
  int64_t phase() const { return ceil_div(columns, stride); }
  int64_t row() const { return phase() * stride * kLanes; }
  int64_t floats() const { return rows * row(); }
  int64_t column(int64_t j) const { return (stride == 1 ? j : j % stride * phase() + j / stride) * kLanes; }
};

// Channels channel ..., at most kLanes, of group `group`; zeros in lanes that have no channel.
template <class T>
class Fetch {
 public:
  Fetch(const Conv2dProblem& problem, const T* x) : problem_(problem), x_(x) {
    const bool is_blocked = problem.layout == ConvLayout::kBlocked;
    all_ = is_blocked ? ceil_div(problem.inputs, kLanes) * kLanes : problem.inputs;
  }

  void run(int64_t sample, int64_t channel, int64_t channels, const Region& region, float* to) const {
    const int64_t first = least(most(0, -region.x), region.columns);
    const int64_t last = most(first, least(region.columns, problem_.width - region.x));
    if (problem_.spread_height > 1 || problem_.spread_width > 1)
      return spread(sample, channel, channels, region, to);
    const T* image = x_ + sample * all_ * problem_.height * problem_.width;
    for (int64_t i = 0; i < region.rows; ++i, to += region.row()) {
      const int64_t y = region.y + i;
      const bool is_inside = y >= 0 && y < problem_.height && channels > 0;
      const int64_t begin = is_inside ? first : region.columns, end = is_inside ? last : region.columns;
      for (int64_t j = 0; j < begin; ++j) store(to + region.column(j), Floats{});
      for (int64_t j = end; j < region.columns; ++j) store(to + region.column(j), Floats{});
      if (begin >= end) continue;
      if (problem_.layout == ConvLayout::kPlanar)
        planes(image + (channel * problem_.height + y) * problem_.width + region.x, channels, region, begin, end, to);
      else
        vectors(image, channel, channels, y, region, begin, end, to);
    }
  }

 private:
  // Pixels with zeros between them, planar or channels_last: for the gradients of strided convs, which are rare.
  void spread(int64_t sample, int64_t channel, int64_t channels, const Region& region, float* to) const {
    const int64_t plane = problem_.height * problem_.width;
    const bool is_planar = problem_.layout == ConvLayout::kPlanar;
    const int64_t pixel = is_planar ? 1 : problem_.inputs, step = is_planar ? plane : 1;
    const T* image = x_ + sample * problem_.inputs * plane + channel * step;
    for (int64_t i = 0; i < region.rows; ++i, to += region.row())
      for (int64_t j = 0; j < region.columns; ++j) {
        const int64_t y = region.y + i, x = region.x + j;
        float lanes[kLanes] = {};
        if (y >= 0 && x >= 0 && y % problem_.spread_height == 0 && x % problem_.spread_width == 0 &&
            y / problem_.spread_height < problem_.height && x / problem_.spread_width < problem_.width) {
          const int64_t place = y / problem_.spread_height * problem_.width + x / problem_.spread_width;
          for (int64_t c = 0; c < channels; ++c) lanes[c] = widen(image[c * step + place * pixel]);
        }
        store(to + region.column(j), load(lanes));
      }
  }

  void vectors(const T* image, int64_t channel, int64_t channels, int64_t y, const Region& region, int64_t begin,
               int64_t end, float* to) const {
    const bool is_blocked = problem_.layout == ConvLayout::kBlocked;
    const int64_t pixel = is_blocked ? kLanes : problem_.inputs, width = problem_.width;
    const T* row = is_blocked ? image + (channel / kLanes * problem_.height + y) * width * kLanes
                              : image + y * width * pixel + channel;
    for (int64_t j = begin; j < end; ++j)
      store(to + region.column(j), load_some(row + (region.x + j) * pixel, channels));
  }

  // row: of the first channel, where the region begins
  void planes(const T* row, int64_t channels, const Region& region, int64_t begin, int64_t end, float* to) const {
    const int64_t plane = problem_.height * problem_.width;
    for (int64_t j = begin; j < end; j += kLanes) {
      const int64_t count = least(kLanes, end - j);
      if (count <= 2) {  // what is left beside whole vectors where a region has a margin
        for (int64_t p = 0; p < count; ++p) {
          float lanes[kLanes] = {};
          for (int64_t c = 0; c < channels; ++c) lanes[c] = widen(row[c * plane + j + p]);
          store(to + region.column(j + p), load(lanes));
        }
        continue;
      }
      Floats values[kLanes];
      if (channels == kLanes && count == kLanes) {
#pragma GCC unroll 16
        for (int64_t c = 0; c < kLanes; ++c) values[c] = load(row + c * plane + j);
      } else {
#pragma GCC unroll 16
        for (int64_t c = 0; c < kLanes; ++c)
          values[c] = c < channels ? load_some(row + c * plane + j, count) : Floats{};
      }
      transpose(values);
      float lanes[kLanes][kLanes];
      if (count == kLanes && region.stride == 1) {
#pragma GCC unroll 16
        for (int64_t p = 0; p < kLanes; ++p) store(to + (j + p) * kLanes, values[p]);
        continue;
      }
      for (int64_t p = 0; p < kLanes; ++p) store(lanes[p], values[p]);
      for (int64_t p = 0; p < count; ++p) store(to + region.column(j + p), load(lanes[p]));
    }
  }

  const Conv2dProblem& problem_;
  const T* x_;
  int64_t all_;
};

}  // namespace
}  // namespace lkops
