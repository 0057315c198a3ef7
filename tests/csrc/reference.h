// The operators as loops that are short rather than fast (lkops/*/reference.py says the same in torch). A bias that is
// empty is none.
#pragma once

#include <cstdint>

#include "tape.h"

namespace lkops {

struct ImageSize {
  int64_t batch, channels, height, width;
  int64_t pixels() const { return height * width; }
  int64_t count() const { return batch * channels * pixels(); }
};

inline Var at(const Vars& values, int64_t i) { return values.empty() ? Var{} : values[static_cast<size_t>(i)]; }

// A conv of stride 1, zeros outside, of `groups` groups; weight (outputs, inputs of a group, rows, columns).
inline Vars convolve(const ImageSize& size, const Vars& x, const Vars& weight, const Vars& bias, int64_t outputs,
                     int64_t groups, int64_t rows, int64_t columns, int64_t dilation) {
  const int64_t inputs = size.channels / groups;
  Vars y;
  for (int64_t n = 0; n < size.batch; ++n)
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t i = 0; i < size.height; ++i)
        for (int64_t j = 0; j < size.width; ++j) {
          Var sum = at(bias, o);
          for (int64_t c = 0; c < inputs; ++c) {
            const int64_t plane = n * size.channels + o / (outputs / groups) * inputs + c;
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t s = 0; s < columns; ++s) {
                const int64_t k = i + (r - rows / 2) * dilation, l = j + (s - columns / 2) * dilation;
                if (k >= 0 && k < size.height && l >= 0 && l < size.width)
                  sum = sum + at(x, plane * size.pixels() + k * size.width + l) *
                                  at(weight, ((o * inputs + c) * rows + r) * columns + s);
              }
          }
          y.push_back(sum);
        }
  return y;
}

inline Vars depthwise(const ImageSize& size, const Vars& x, const Vars& weight, const Vars& bias, int64_t rows,
                      int64_t columns, int64_t dilation) {
  return convolve(size, x, weight, bias, size.channels, size.channels, rows, columns, dilation);
}

struct Gated {
  Vars mean, scale, y;
};

inline Gated gate(const ImageSize& size, const Vars& x, int64_t hidden, const Vars& w1, const Vars& b1, const Vars& w2,
                  const Vars& b2) {
  Gated result;
  for (int64_t plane = 0; plane < size.batch * size.channels; ++plane) {
    Var sum;
    for (int64_t i = 0; i < size.pixels(); ++i) sum = sum + at(x, plane * size.pixels() + i);
    result.mean.push_back((1.0 / static_cast<double>(size.pixels())) * sum);
  }
  const ImageSize one{size.batch, size.channels, 1, 1}, inner{size.batch, hidden, 1, 1};
  Vars h = convolve(one, result.mean, w1, b1, hidden, 1, 1, 1, 1);
  for (Var& value : h) value = relu(value);
  result.scale = convolve(inner, h, w2, b2, size.channels, 1, 1, 1, 1);
  for (Var& value : result.scale) value = sigmoid(value);
  for (int64_t i = 0; i < size.count(); ++i) result.y.push_back(at(x, i) * at(result.scale, i / size.pixels()));
  return result;
}

// norm_conv1x1_gelu without the GELU.
inline Vars project(const ImageSize& size, const Vars& x, const Vars& gamma, const Vars& beta, const Vars& weight,
                    const Vars& bias, int64_t outputs, double eps) {
  Vars normed(x.size());
  const double share = 1.0 / static_cast<double>(size.channels);
  for (int64_t n = 0; n < size.batch; ++n)
    for (int64_t i = 0; i < size.pixels(); ++i) {
      const auto place = [&](int64_t c) { return (n * size.channels + c) * size.pixels() + i; };
      Var sum, squares;
      for (int64_t c = 0; c < size.channels; ++c) sum = sum + at(x, place(c));
      const Var mean = share * sum;
      for (int64_t c = 0; c < size.channels; ++c) squares = squares + square(at(x, place(c)) - mean);
      const Var deviation = root(share * squares + eps);
      for (int64_t c = 0; c < size.channels; ++c)
        normed[static_cast<size_t>(place(c))] = (at(x, place(c)) - mean) / deviation * at(gamma, c) + at(beta, c);
    }
  return convolve(size, normed, weight, bias, outputs, 1, 1, 1, 1);
}

struct AttentionSizes {
  int64_t rows1, columns1, dilation1, rows2, columns2, dilation2, hidden, groups;
  bool interleave;
};

struct Attended {
  Vars a1, a2, mean, scale, y;
};

// `parameters`: dw1's weight and bias, dw2's, reduce's, expand's, mix's.
inline Attended attend(const ImageSize& size, const AttentionSizes& sizes, const Vars& u, const Vars* parameters) {
  Attended result;
  const int64_t groups = sizes.groups, part = size.channels, each = part / groups, pixels = size.pixels();
  result.a1 = depthwise(size, u, parameters[0], parameters[1], sizes.rows1, sizes.columns1, sizes.dilation1);
  result.a2 = depthwise(size, result.a1, parameters[2], parameters[3], sizes.rows2, sizes.columns2, sizes.dilation2);
  const ImageSize wide{size.batch, 3 * part, size.height, size.width};
  const Vars* parts[] = {&u, &result.a1, &result.a2};
  Vars concat, ordered;
  for (int64_t n = 0; n < size.batch; ++n)
    for (const Vars* from : parts)
      for (int64_t i = 0; i < part * pixels; ++i) concat.push_back(at(*from, n * part * pixels + i));
  const Gated gated = gate(wide, concat, sizes.hidden, parameters[4], parameters[5], parameters[6], parameters[7]);
  for (int64_t n = 0; n < size.batch; ++n)
    for (int64_t k = 0; k < 3 * part; ++k) {  // the channel of the concat that comes at place k
      const int64_t group = k / (3 * each), which = k % (3 * each) / each, inside = k % each;
      const int64_t c = sizes.interleave ? which * part + group * each + inside : k;
      for (int64_t i = 0; i < pixels; ++i) ordered.push_back(at(gated.y, (n * 3 * part + c) * pixels + i));
    }
  result.y = convolve(wide, ordered, parameters[8], parameters[9], part, groups, 1, 1, 1);
  for (size_t i = 0; i < result.y.size(); ++i) result.y[i] = result.y[i] * u[i];
  result.mean = gated.mean, result.scale = gated.scale;
  return result;
}

// Keys' cubic.
inline double keys(double t, double a) {
  t = std::fabs(t);
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0;
}

// Bicubic upsampling, with all sixteen taps of a pixel at once.
inline Vars enlarge(const ImageSize& size, const Vars& x, int64_t scale, double a, bool symmetric) {
  const auto inside = [&](int64_t i, int64_t length) {
    if (symmetric) i = (i % (2 * length) + 2 * length) % (2 * length), i = i < length ? i : 2 * length - 1 - i;
    return i < 0 ? 0 : i >= length ? length - 1 : i;
  };
  const auto place = [&](int64_t i) { return (static_cast<double>(i) + 0.5) / static_cast<double>(scale) - 0.5; };
  Vars y;
  for (int64_t plane = 0; plane < size.batch * size.channels; ++plane)
    for (int64_t i = 0; i < size.height * scale; ++i)
      for (int64_t j = 0; j < size.width * scale; ++j) {
        const int64_t row = static_cast<int64_t>(std::floor(place(i)));
        const int64_t column = static_cast<int64_t>(std::floor(place(j)));
        Var sum;
        for (int64_t k = row - 1; k <= row + 2; ++k)
          for (int64_t l = column - 1; l <= column + 2; ++l) {
            const double by = keys(place(i) - static_cast<double>(k), a) * keys(place(j) - static_cast<double>(l), a);
            sum = sum + by * at(x, plane * size.pixels() + inside(k, size.height) * size.width + inside(l, size.width));
          }
        y.push_back(sum);
      }
  return y;
}

}  // namespace lkops
