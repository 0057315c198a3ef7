// Tiles of whole numbers of 8 bits for the products of blocks and upsamplers: how rows of floats become quads, with steps
// of their own for every pixel, and how weights lie.
//
//     q[k][p] = whole(x[k][p] 127 / largest[p] + 128),   largest[p] = max_k |x[k][p]|
//     sum_k w[m][k] x[k][p]  =  (sum_k w8[m][k] q[k][p] - 128 sum_k w8[m][k]) scale[m] largest[p] / 127
#pragma once

#include "norm_conv1x1_gelu/tiles.h"

namespace lkops {
namespace {

// A matrix of whole numbers: row m of w is `scale[m]` times its numbers, whose sum times kMiddle is offsets[m].
struct QuadWeights {
  Weights<Quad> w;
  const float* scale;
  const int32_t* offsets;
};

// Of quads that `quad_weights` needs; it needs as many int32_t as there are rows, too.
inline int64_t weight_quads(int64_t rows, int64_t depth) { return rows * depth_of<Quad>(depth); }

// A dense (rows, depth) matrix: where it lies if its rows consist of quads, else in `room`.
inline QuadWeights quad_weights(const int8_t* matrix, const float* scale, int64_t rows, int64_t depth, Quad* room,
                                int32_t* offsets) {
  for (int64_t m = 0; m < rows; ++m) {
    int32_t sum = 0;
    for (int64_t k = 0; k < depth; ++k) sum += matrix[m * depth + k];
    offsets[m] = kMiddle * sum;
  }
  const int64_t row = depth_of<Quad>(depth);
  if (depth % 4 == 0 && reinterpret_cast<uintptr_t>(matrix) % sizeof(Quad) == 0)
    return {{reinterpret_cast<const Quad*>(matrix), row, 1}, scale, offsets};
  for (int64_t m = 0; m < rows; ++m) {
    room[m * row + row - 1].bits = 0;  // zeros beyond the last
    __builtin_memcpy(room + m * row, matrix + m * depth, static_cast<uint64_t>(depth));
  }
  return {{room, row, 1}, scale, offsets};
}

// Rows of floats, kTilePixels apart, as quads; step gets largest / 127 (kTilePixels).
inline void put_rows(const float* rows, int64_t depth, int vectors, Quad* slab, float* step) {
  Floats inverse[kTileVectors];
  for (int v = 0; v < vectors; ++v) {
    Floats largest[2] = {};
    int64_t k = 0;
    for (; k + 2 <= depth; k += 2)
      for (int i = 0; i < 2; ++i)
        largest[i] = larger_of(size_of_lanes(load(rows + (k + i) * kTilePixels + v * kLanes)), largest[i]);
    if (k < depth) largest[0] = larger_of(size_of_lanes(load(rows + k * kTilePixels + v * kLanes)), largest[0]);
    const Steps steps = steps_of(larger_of(largest[0], largest[1]));
    store(step + v * kLanes, steps.step);
    inverse[v] = steps.inverse;
  }
  for (int64_t k = 0; k < depth; k += 4, slab += kTilePixels, rows += 4 * kTilePixels)
    for (int v = 0; v < vectors; ++v) {
      const auto at = [&](int64_t i) {
        return k + i < depth ? load(rows + i * kTilePixels + v * kLanes) * inverse[v] + float{kMiddle} : Floats{};
      };
      put_quads(slab + v * kLanes, at(0), at(1), at(2), at(3));
    }
}

// A row of a product as floats: `offset` and `scale` are those of its weights, `step` that of its pixels.
LKOPS_INLINE Floats product_of(const int32_t* sums, int32_t offset, float scale, const float* step) {
  return to_floats(load(sums) - offset) * (load(step) * scale);
}

}  // namespace
}  // namespace lkops
