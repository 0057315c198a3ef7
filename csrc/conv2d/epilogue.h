// From sums to results: bias, activation, scale and residual, in the layout of the result.
#pragma once

#include "common/interleave.h"
#include "common/math.h"
#include "conv2d/product.h"

namespace lkops {
namespace {

LKOPS_INLINE Floats activate(Activation activation, Floats x, Floats slope) {
  switch (activation) {
    case Activation::kRelu: return choose(x < 0.0f, Floats{}, x);  // NaN stays
    case Activation::kLeakyRelu:
    case Activation::kPRelu: return choose(x > 0.0f, x, x * slope);
    case Activation::kGelu: return gelu(x);
    case Activation::kSilu: return x / (1.0f + exp(-x));
    case Activation::kSigmoid: return sigmoid(x);
    default: return x;
  }
}

template <class T>
LKOPS_INLINE Floats load_some(const T* p, int64_t n) {
  return n >= kLanes ? load(p) : load_partial(p, n);
}
template <class T>
LKOPS_INLINE void store_some(T* p, Floats v, int64_t n) {
  n >= kLanes ? store(p, v) : store_partial(p, v, n);
}

// A square: row k of `rows` becomes lane k of all.
LKOPS_INLINE void transpose(Floats (&rows)[kLanes]) {
  Floats next[kLanes];
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {  // a perfect shuffle of all vectors, log2(kLanes) times
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave_low(rows[i], rows[i + kLanes / 2]);
      next[2 * i + 1] = interleave_high(rows[i], rows[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

// A rectangle of output pixels of one sample.
struct Rectangle {
  int64_t sample, y, x, rows, columns;
};

template <class T>
class Epilogue {
 public:
  Epilogue(const Conv2dProblem& problem, const T* bias, const T* slopes, const T* residual, T* before, T* out)
      : problem_(problem), bias_(bias), slopes_(slopes), residual_(residual), before_(before), out_(out) {}

  // Channels channel ..., at most kLanes, of a rectangle. `sums`: kLanes for each pixel, `step` from one to the next, rows
  // without gaps.
  void finish(const Rectangle& at, int64_t channel, int64_t channels, const float* sums, int64_t step) const {
    if (problem_.out_layout == ConvLayout::kPlanar || problem_.out_layout == ConvLayout::kShuffled)
      return finish_planes(at, channel, channels, sums, step);
    const bool is_blocked = problem_.out_layout == ConvLayout::kBlocked;
    const Floats bias = bias_ == nullptr ? Floats{} : load_some(bias_ + channel, channels);
    const Floats slope = slopes_ == nullptr ? broadcast(problem_.slope) : load_some(slopes_ + channel, channels);
    Floats scale = broadcast(problem_.residual_scale);
    for (int64_t c = channels; c < kLanes; ++c) scale[c] = 0;  // the sigmoid of lanes without a channel is not 0
    const int64_t pixel = is_blocked ? kLanes : problem_.outputs, lanes = is_blocked ? kLanes : channels;
    const int64_t first = is_blocked ? channel / kLanes * kLanes * problem_.out_height * problem_.out_width : channel;
    const int64_t all = is_blocked ? ceil_div(problem_.outputs, kLanes) * kLanes : problem_.outputs;
    for (int64_t i = 0; i < at.rows; ++i) {
      const int64_t place = (at.sample * problem_.out_height * all + (at.y + i) * pixel) * problem_.out_width;
      for (int64_t j = 0; j < at.columns; ++j, sums += step)
        finish_vector(load(sums), bias, slope, scale, place + first + (at.x + j) * pixel, lanes);
    }
  }

 private:
  LKOPS_INLINE void finish_vector(Floats sum, Floats bias, Floats slope, Floats scale, int64_t at, int64_t lanes) const {
    sum += bias;
    if (before_ != nullptr) store_some(before_ + at, sum, lanes);
    Floats value = activate(problem_.activation, sum, slope) * scale;
    if (residual_ != nullptr) value += load_some(residual_ + at, lanes);
    store_some(out_ + at, value, lanes);
  }

  void finish_planes(const Rectangle& at, int64_t channel, int64_t channels, const float* sums, int64_t step) const {
    const int64_t pixels = problem_.out_height * problem_.out_width;
    const bool is_whole = at.columns == problem_.out_width;  // then its rows lie one behind another in the planes too
    const Floats scale = broadcast(problem_.residual_scale);
    const int64_t rows = is_whole ? 1 : at.rows, columns = is_whole ? at.rows * at.columns : at.columns;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; j += kLanes) {
        const int64_t count = least(kLanes, columns - j);
        const float* from = sums + (i * columns + j) * step;
        Floats values[kLanes];
#pragma GCC unroll 16
        for (int64_t p = 0; p < kLanes; ++p) values[p] = p < count ? load(from + p * step) : Floats{};
        transpose(values);
        const int64_t place = (at.y + i) * problem_.out_width + at.x + j;
        float lanes[kLanes][kLanes];
        for (int64_t c = 0; c < kLanes; ++c) store(lanes[c], values[c]);
        if (problem_.out_layout == ConvLayout::kShuffled) {
          shuffle(at.sample, channel, channels, place, count, lanes, scale);
          continue;
        }
        for (int64_t c = 0; c < channels; ++c) {
          const Floats bias = bias_ == nullptr ? Floats{} : broadcast(widen(bias_[channel + c]));
          const Floats slope = broadcast(slopes_ == nullptr ? problem_.slope : widen(slopes_[channel + c]));
          const int64_t plane = at.sample * problem_.outputs + channel + c;
          finish_vector(load(lanes[c]), bias, slope, scale, plane * pixels + place, count);
        }
      }
  }

  // Channels of `count` pixels from `place` on, of whole rows of planes, to the image r times as high and wide.
  void shuffle(int64_t sample, int64_t channel, int64_t channels, int64_t place, int64_t count,
               const float (&lanes)[kLanes][kLanes], Floats scale) const {
    const int64_t r = problem_.shuffle, width = problem_.out_width, pixels = problem_.out_height * width;
    float results[kLanes + 1][kLanes];  // one more: rows are read from the middle on
    for (int64_t c = 0; c < channels; ++c) {
      const Floats bias = bias_ == nullptr ? Floats{} : broadcast(widen(bias_[channel + c]));
      const Floats slope = broadcast(slopes_ == nullptr ? problem_.slope : widen(slopes_[channel + c]));
      store(results[c], activate(problem_.activation, load(lanes[c]) + bias, slope) * scale);
    }
    for (int64_t c = 0; c < channels;) {
      const int64_t phase = (channel + c) % (r * r), column = phase % r, band = (channel + c) / (r * r);
      const int64_t phases = least(r - column, channels - c);  // of one row of the image
      const int64_t image = (sample * problem_.outputs + band * r * r) * pixels;
      for (int64_t p = 0; p < count;) {
        const int64_t row = (place + p) / width, x = (place + p) % width, length = least(count - p, width - x);
        const int64_t to = image + ((row * r + phase / r) * width + x) * r + column;
        if (phases == 2 && r == 2)
          put_row<2>(results + c, p, length, to);
        else if (phases == 4 && r == 4)
          put_row<4>(results + c, p, length, to);
        else
          for (int64_t q = 0; q < phases; ++q)
            for (int64_t j = 0; j < length; ++j) put_one(to + j * r + q, results[c + q][p + j]);
        p += length;
      }
      c += phases;
    }
  }

  // `length` pixels from the p-th on, of kPhases channels that take turns.
  template <int kPhases>
  LKOPS_INLINE void put_row(const float (*results)[kLanes], int64_t p, int64_t length, int64_t to) const {
    Floats values[kPhases];
    for (int q = 0; q < kPhases; ++q) values[q] = load(results[q] + p);
    interleave<kPhases>(values);
    for (int q = 0; q < kPhases; ++q) {
      const int64_t j = q * kLanes, n = most(0, kPhases * length - j);
      if (residual_ != nullptr) values[q] += load_some(residual_ + to + j, n);
      store_some(out_ + to + j, values[q], n);
    }
  }

  LKOPS_INLINE void put_one(int64_t to, float value) const {
    if (residual_ != nullptr) value += widen(residual_[to]);
    store_partial(out_ + to, broadcast(value), 1);
  }

  const Conv2dProblem& problem_;
  const T *bias_, *slopes_, *residual_;
  T *before_, *out_;
};

}  // namespace
}  // namespace lkops
