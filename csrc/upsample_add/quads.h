// A tile of the upsampler's conv as whole numbers of 8 bits: 127 steps of the largest number that each pixel's conv reads
// (norm_conv1x1_gelu/quads.h).
#pragma once

#include "norm_conv1x1_gelu/quads.h"
#include "upsample_add/tile.h"

namespace lkops {
namespace {

// As `gather`; step gets what a step is of each pixel.
template <class T>
void gather_quads(const UpsampleProblem& problem, const T* planes, int64_t first, int vectors, const int32_t* masks,
                  Quad* x, float* step) {
  const int64_t depth = depth_of(problem);
  Floats largest[kTileVectors] = {}, inverse[kTileVectors];
  Taps<T> all(problem, planes, first, masks);
  for (int64_t k = 0; k < depth; ++k, all.next())
    for (int v = 0; v < vectors; ++v) largest[v] = larger_of(size_of_lanes(all.vector(v)), largest[v]);
  for (int v = 0; v < vectors; ++v) {
    const Steps steps = steps_of(largest[v]);
    store(step + v * kLanes, steps.step);
    inverse[v] = steps.inverse;
  }
  Taps<T> taps(problem, planes, first, masks);
  for (int64_t k = 0; k < depth; k += 4, x += kTilePixels) {
    Floats four[4][kTileVectors] = {};
    for (int64_t i = 0; i < 4 && k + i < depth; ++i, taps.next())
      for (int v = 0; v < vectors; ++v) four[i][v] = taps.vector(v) * inverse[v] + float{kMiddle};
    for (int v = 0; v < vectors; ++v) put_quads(x + v * kLanes, four[0][v], four[1][v], four[2][v], four[3][v]);
  }
}

// Rows of sums, those of the weights' rows from `first` on, become floats where they lie.
inline void to_products(const QuadWeights& weights, int64_t first, int64_t rows, int vectors, const float* step,
                        int32_t* sums) {
  for (int64_t r = 0; r < rows; ++r)
    for (int v = 0; v < vectors; ++v) {
      int32_t* at = sums + r * kTilePixels + v * kLanes;
      const Floats product = product_of(at, weights.offsets[first + r], weights.scale[first + r], step + v * kLanes);
      store(reinterpret_cast<float*>(at), product);
    }
}

}  // namespace
}  // namespace lkops
