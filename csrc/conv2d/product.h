// The product of all algorithms here. Lanes are output channels, rows are pixels (or Winograd's tiles), whose inputs are
// broadcast from where they lie:
//
//     y[r][o] = sum over chunks c and k of x[offsets[c] + r * kLanes + k] w[c][k][o]        k < depth
//
// A chunk is one vector of input channels at one tap: so a conv is a list of offsets into a padded region, and no pixel
// is copied for each tap. Elements are floats or Pairs, whose halves are input channels i and kLanes + i of two vectors.
#pragma once

#include "common/matmul.h"
#include "conv2d/cpu.h"

namespace lkops {
namespace {

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// 28 sums, 2 vectors of weights and a broadcast, of 32 registers; 12, 2 and 1 of 16
constexpr int kMostRows = kRegisters == 32 ? 14 : kLanes == 8 ? 6 : 4;
constexpr int kOutVectors = 2;  // of output channels in a product
constexpr int kDepthStep = 4;   // depths are multiples of it

struct Chunks {
  const int64_t* offsets;
  int64_t count, depth;
  int64_t full, last_depth;  // from chunk `full` on, depth is last_depth
  int64_t level;             // chunks after which a sum is added to its total
};

template <int kRows, int kVectors, class E>
void multiply_rows(const E* x, const Chunks& chunks, const E* w, float* y, int64_t y_stride) {
  for (int64_t c = 0; c < chunks.count;) {
    const bool is_first = c == 0;
    const int64_t end = least(c + chunks.level, chunks.count);
    Floats sum[kRows][kVectors];
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Floats{};
    for (; c < end; ++c) {
      const E* from = x + chunks.offsets[c];
      const int64_t depth = c < chunks.full ? chunks.depth : chunks.last_depth;
      for (int64_t k = 0; k < depth; k += kDepthStep, from += kDepthStep)
#pragma GCC unroll 4
        for (int i = 0; i < kDepthStep; ++i, w += kVectors * kLanes) {
          decltype(load(w)) weights[kVectors];
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) weights[v] = load(w + v * kLanes);
#pragma GCC unroll 14
          for (int r = 0; r < kRows; ++r) {
            const auto pixel = broadcast(from[r * kLanes + i]);
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(pixel, weights[v], sum[r][v]);
          }
        }
    }
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        float* to = y + r * y_stride + v * kLanes;
        store(to, is_first ? sum[r][v] : load(to) + sum[r][v]);
      }
  }
}

template <int kRows, class E>
LKOPS_INLINE void multiply_some_rows(int64_t rows, int vectors, const E* x, const Chunks& chunks, const E* w, float* y,
                                     int64_t y_stride) {
  if (rows == kRows)
    return vectors == 2 ? multiply_rows<kRows, 2>(x, chunks, w, y, y_stride)
                        : multiply_rows<kRows, 1>(x, chunks, w, y, y_stride);
  if constexpr (kRows > 1) multiply_some_rows<kRows - 1>(rows, vectors, x, chunks, w, y, y_stride);
}

// Any number of rows, in blocks as equal as can be; 1 or 2 vectors of outputs, so many of w in a row.
template <class E>
void multiply_chunks(int64_t rows, int vectors, const E* x, const Chunks& chunks, const E* w, float* y,
                     int64_t y_stride) {
  const int64_t blocks = ceil_div(rows, kMostRows);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = block * rows / blocks, last = (block + 1) * rows / blocks;
    multiply_some_rows<kMostRows>(last - first, vectors, x + first * kLanes, chunks, w, y + first * y_stride, y_stride);
  }
}

// How the channels of one group lie in vectors and in the packed weights.
template <class E>
struct Channels {
  explicit Channels(const Conv2dProblem& problem)
      : inputs(problem.inputs / problem.groups),
        outputs(problem.outputs / problem.groups),
        vectors(ceil_div(inputs, kLanes)),
        elements(ceil_div(vectors, kPairs ? 2 : 1)),
        last_depth(depth_of_last()),
        out_vectors(ceil_div(outputs, kLanes)) {}

  static constexpr bool kPairs = __is_same(E, Pair);

  int64_t depth(int64_t chunk) const { return chunk + 1 < elements ? kLanes : last_depth; }
  int64_t depths() const { return (elements - 1) * kLanes + last_depth; }

  // Input channel of half h of element k of a chunk.
  int64_t input(int64_t chunk, int64_t k, int h) const { return (kPairs ? chunk * 2 + h : chunk) * kLanes + k; }
  int64_t depth_of_last() const {
    const int64_t first = (elements - 1) * kLanes * (kPairs ? 2 : 1);
    return ceil_div(least(kLanes, inputs - first), kDepthStep) * kDepthStep;
  }
  int vectors_from(int64_t out_vector) const { return static_cast<int>(least(kOutVectors, out_vectors - out_vector)); }

  int64_t inputs, outputs;
  int64_t vectors, elements;  // of input channels; of elements, which hold one or two of them
  int64_t last_depth;         // elements of the last vector that are used
  int64_t out_vectors;
};

}  // namespace
}  // namespace lkops
