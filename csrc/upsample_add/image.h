// What becomes of the products of a tile: bias and bicubic image added, phases shuffled into rows of the image.
#pragma once

#include "bicubic_upsample/rows.h"
#include "upsample_add/tile.h"

namespace lkops {
namespace {

constexpr int64_t kImageStride = kTilePixels + 2 * kLanes;  // a tile's part of a row, with columns at both ends

// The phases before the middle of a pixel read one row or column less far: known to the compiler where the scale is.
template <int kScale>
LKOPS_INLINE int64_t first_of(const Phase* phases, int64_t phase) {
  if constexpr (kScale > 0) return 2 * phase + 1 < kScale ? 0 : 1;
  return phases[phase].first;
}

// The rows of the enlarged image at one row of `low`, each phase p a row of kImageStride, still as wide as the small
// image: columns column - kBorder .. column + length + kBorder - 1 from index 0.
template <int kScale, class L>
LKOPS_INLINE void image_rows(const UpsampleProblem& problem, const Phase* phases, const L* low, int64_t row,
                             int64_t column, int64_t length, float* image) {
  const int64_t scale = kScale > 0 ? kScale : problem.scale, width = problem.width;
  const L* rows[kWindow];
  for (int k = 0; k < kWindow; ++k)
    rows[k] = low + inside(row - kBorder + k, problem.height, problem.symmetric) * width;
  const int64_t begin = most(0, column - kBorder), end = least(width, column + length + kBorder);
  float* at_zero = image + kBorder - column;  // where column 0 is
  for (int64_t c = begin; c < end; c += kLanes) {
    Floats window[kWindow];
    for (int k = 0; k < kWindow; ++k) window[k] = load_some(rows[k] + c, end - c);
#pragma GCC unroll 8
    for (int64_t p = 0; p < scale; ++p) {
      const Floats* from = window + first_of<kScale>(phases, p);
      Floats sum = broadcast(phases[p].weights[0]) * from[0];
      for (int k = 1; k < kTaps; ++k) sum = fma(broadcast(phases[p].weights[k]), from[k], sum);
      store(at_zero + p * kImageStride + c, sum);
    }
  }
  for (int64_t t = 1; t <= kBorder; ++t) {
    if (column + t <= kBorder)
      for (int64_t p = 0, from = inside(-t, width, problem.symmetric); p < scale; ++p)
        at_zero[p * kImageStride - t] = at_zero[p * kImageStride + from];
    if (column + length + kBorder > width - 1 + t)
      for (int64_t p = 0, from = inside(width - 1 + t, width, problem.symmetric); p < scale; ++p)
        at_zero[p * kImageStride + width - 1 + t] = at_zero[p * kImageStride + from];
  }
}

// One row of the image at part of a row of pixels: out[j scale + q] = z[q][j] + bias[q] + the bicubic image.
template <int kScale, class T, class G>
LKOPS_INLINE void finish_row(const UpsampleProblem& problem, const Phase* phases, const float* z, const T* bias,
                             const float* image, int64_t length, G* out) {
  constexpr uint64_t kAlignment = kLanes * sizeof(G);
  const bool streams = problem.streams && length % kLanes == 0 && reinterpret_cast<uint64_t>(out) % kAlignment == 0;
  const int64_t scale = kScale > 0 ? kScale : problem.scale;
  for (int64_t j = 0; j < length; j += kLanes) {
    Floats window[kWindow] = {};
    if (image != nullptr)
      for (int k = 0; k < kWindow; ++k) window[k] = load(image + j + k);
    const auto value = [&](int64_t q) {
      Floats sum = load(z + q * kTilePixels + j);
      if (bias != nullptr) sum += broadcast(widen(bias[q]));
      if (image == nullptr) return sum;
      const Floats* from = window + first_of<kScale>(phases, q);
      for (int k = 0; k < kTaps; ++k) sum = fma(broadcast(phases[q].weights[k]), from[k], sum);
      return sum;
    };
    if constexpr (kScale > 0) {
      Floats values[kScale];
#pragma GCC unroll 8
      for (int q = 0; q < kScale; ++q) values[q] = value(q);
      interleave<kScale>(values);
      if (streams) {
        for (int q = 0; q < kScale; ++q) stream(out + j * kScale + q * kLanes, values[q]);
        continue;
      }
      for (int q = 0; q < kScale; ++q)
        store_some(out + j * kScale + q * kLanes, values[q], (length - j) * kScale - q * kLanes);
    } else {
      for (int64_t q = 0; q < scale; ++q) {
        G lanes[kLanes];
        store(lanes, value(q));
        for (int64_t i = 0; i < least(kLanes, length - j); ++i) out[(j + i) * scale + q] = lanes[i];
      }
    }
  }
}

// Some bands at a tile of `count` pixels: z are the products of all their phases, low and out their planes. All rows of
// the bicubic image come first: read right after they were written in pieces, they would wait for the stores.
template <int kScale, class T, class L, class G>
void finish_bands(const UpsampleProblem& problem, const Phase* phases, int64_t bands, const float* z, const T* bias,
                  const L* low, int64_t first, int64_t count, float* image, G* out) {
  const int64_t scale = kScale > 0 ? kScale : problem.scale, width = problem.width, pixels = pixels_of(problem);
  for_row_parts(width, first, count, [&](int64_t row, int64_t column, int64_t length, int64_t offset) {
    for (int64_t b = 0; b < bands && low != nullptr; ++b)
      image_rows<kScale>(problem, phases, low + b * pixels, row, column, length, image + b * scale * kImageStride);
    for (int64_t p = 0; p < bands * scale; ++p) {
      const int64_t b = p / scale, row_of_image = row * scale + p % scale;
      finish_row<kScale>(problem, phases, z + p * scale * kTilePixels + offset,
                         bias == nullptr ? nullptr : bias + p * scale,
                         low == nullptr ? nullptr : image + p * kImageStride, length,
                         out + b * pixels * scale * scale + (row_of_image * width + column) * scale);
    }
  });
}

template <class T, class L, class G>
void finish(const UpsampleProblem& problem, const Phase* phases, int64_t bands, const float* z, const T* bias,
            const L* low, int64_t first, int64_t count, float* image, G* out) {
  switch (problem.scale) {
    case 1: return finish_bands<1>(problem, phases, bands, z, bias, low, first, count, image, out);
    case 2: return finish_bands<2>(problem, phases, bands, z, bias, low, first, count, image, out);
    case 4: return finish_bands<4>(problem, phases, bands, z, bias, low, first, count, image, out);
    case 8: return finish_bands<8>(problem, phases, bands, z, bias, low, first, count, image, out);
    default: return finish_bands<0>(problem, phases, bands, z, bias, low, first, count, image, out);
  }
}

}  // namespace
}  // namespace lkops
