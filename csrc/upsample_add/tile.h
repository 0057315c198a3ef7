// Tiles of a plane: features gathered for a conv, and outputs between their channels and the shuffled image.
#pragma once

#include "common/interleave.h"
#include "common/matmul.h"
#include "common/stream.h"
#include "norm_conv1x1_gelu/quads.h"
#include "upsample_add/cpu.h"

namespace lkops {
namespace {

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t taps_of(const UpsampleProblem& problem) { return problem.kernel_height * problem.kernel_width; }
inline int64_t depth_of(const UpsampleProblem& problem) { return problem.inputs * taps_of(problem); }
inline int64_t pixels_of(const UpsampleProblem& problem) { return problem.height * problem.width; }

constexpr int64_t kGatheredRows = 144;  // channels times taps that an item works on, about; twice where there are many

// Cuts [0, total) into parts of about `size`, as equal as can be.
struct Parts {
  Parts(int64_t total, int64_t size) : total(total), count(ceil_div(total, size)) {}
  int64_t begin(int64_t part) const { return part * total / count; }
  int64_t longest() const { return ceil_div(total, count); }
  int64_t total, count;
};

// ---- gathering features ---------------------------------------------------------------------------------------------

// A tile's pixels move together by dy * width + dx for a tap: a plane is read as it lies, and only columns that leave
// their row are masked. What leaves the plane at its top or bottom reads zeros.
template <class T>
LKOPS_INLINE Floats load_within(const T* plane, int64_t start, int64_t pixels) {
  if (__builtin_expect(start >= 0 && start + kLanes <= pixels, 1)) return load(plane + start);
  if (start >= pixels || start + kLanes <= 0) return Floats{};
  if (start >= 0) return load_partial(plane + start, pixels - start);
  T lanes[kLanes] = {};
  for (int64_t i = -start; i < least(kLanes, pixels - start); ++i) lanes[i] = plane[start + i];
  return load(lanes);
}

LKOPS_INLINE Floats masked(Floats v, Ints mask) { return reinterpret_cast<Floats>(reinterpret_cast<Ints>(v) & mask); }

// masks[kx * kTilePixels + i]: all bits where pixel `first` + i exists and tap kx of it stays inside its row.
inline void find_masks(const UpsampleProblem& problem, int64_t first, int vectors, int32_t* masks) {
  const int64_t width = problem.width, pixels = pixels_of(problem), half = problem.kernel_width / 2;
  int64_t column = first % width;
  for (int64_t i = 0; i < vectors * kLanes; ++i) {
    for (int64_t kx = 0; kx < problem.kernel_width; ++kx) {
      const int64_t x = column + kx - half;
      masks[kx * kTilePixels + i] = first + i < pixels && x >= 0 && x < width ? -1 : 0;
    }
    if (++column == width) column = 0;
  }
}

// Walks over the inputs (channel, row and column of the kernel) of a conv in the order of its weights.
template <class T>
class Taps {
 public:
  Taps(const UpsampleProblem& problem, const T* planes, int64_t first, const int32_t* masks)
      : problem_(problem), plane_(planes), masks_(masks), pixels_(pixels_of(problem)) {
    top_ = first - problem.kernel_height / 2 * problem.width - problem.kernel_width / 2;
    start_ = top_;
  }

  LKOPS_INLINE Floats vector(int v) const {
    return masked(load_within(plane_, start_ + v * kLanes, pixels_),
                  load(masks_ + kx_ * kTilePixels + v * kLanes));
  }

  LKOPS_INLINE void next() {
    ++start_;
    if (++kx_ < problem_.kernel_width) return;
    kx_ = 0;
    start_ += problem_.width - problem_.kernel_width;
    if (++ky_ < problem_.kernel_height) return;
    ky_ = 0;
    start_ = top_;
    plane_ += pixels_;
  }

 private:
  const UpsampleProblem& problem_;
  const T* plane_;
  const int32_t* masks_;
  int64_t pixels_, top_, start_, kx_ = 0, ky_ = 0;
};

// The tile that a product multiplies: kTilePixels elements a row, depth_of<E>(depth) rows. `planes` are a group's.
template <class T, class E>
void gather(const UpsampleProblem& problem, const T* planes, int64_t first, int vectors, const int32_t* masks, E* x) {
  const int64_t depth = depth_of(problem);
  Taps<T> taps(problem, planes, first, masks);
  if constexpr (__is_same(E, float)) {
    for (int64_t k = 0; k < depth; ++k, x += kTilePixels, taps.next())
      for (int v = 0; v < vectors; ++v) store(x + v * kLanes, taps.vector(v));
  } else {
    for (int64_t k = 0; k < depth; k += 2, x += kTilePixels) {
      Floats even[kTileVectors];
      for (int v = 0; v < vectors; ++v) even[v] = taps.vector(v);
      taps.next();
      const bool has_odd = k + 1 < depth;
      for (int v = 0; v < vectors; ++v) put(x + v * kLanes, 0, even[v], has_odd ? taps.vector(v) : Floats{}, true);
      if (has_odd) taps.next();
    }
  }
}

// ---- runs of pixels --------------------------------------------------------------------------------------------------

// The parts of rows that a run of pixels consists of: body(row, column, length, offset of its first pixel in the run).
template <class F>
LKOPS_INLINE void for_row_parts(int64_t width, int64_t first, int64_t count, const F& body) {
  for (int64_t offset = 0; offset < count;) {
    const int64_t row = (first + offset) / width, column = (first + offset) % width;
    const int64_t length = least(width - column, count - offset);
    body(row, column, length, offset);
    offset += length;
  }
}

// `n` lanes from p, any n: zeros beyond them.
template <class T>
LKOPS_INLINE Floats load_some(const T* p, int64_t n) {
  return n >= kLanes ? load(p) : n > 0 ? load_partial(p, n) : Floats{};
}

template <class T>
LKOPS_INLINE void store_some(T* p, Floats v, int64_t n) {
  if (n >= kLanes)
    store(p, v);
  else if (n > 0)
    store_partial(p, v, n);
}

// Asks for what unshuffle() will read, which is too scattered for the CPU to foresee.
template <class G>
void prefetch_shuffled(const UpsampleProblem& problem, const G* grad, int64_t first_m, int64_t count, int64_t first,
                       int vectors) {
  constexpr int64_t kLine = 64 / sizeof(G);
  const int64_t scale = problem.scale, width = problem.width;
  const int64_t lanes = least(vectors * kLanes, pixels_of(problem) - first);
  for (int64_t row_of_phases = first_m / scale; row_of_phases * scale < first_m + count; ++row_of_phases) {
    const G* rows = grad + (row_of_phases / scale * problem.height * scale + row_of_phases % scale) * width * scale;
    for_row_parts(width, first, lanes, [&](int64_t row, int64_t column, int64_t length, int64_t) {
      const G* from = rows + (row * scale * width + column) * scale;
      for (int64_t i = 0; i < length * scale; i += kLine) prefetch(from + i);
    });
  }
}

// z[m][i] = the gradient of output channel `first_m` + m of all, at pixel `first` + i: kTilePixels floats a row of z,
// zeros where the plane has no pixel. `grad` is the sample's (bands, scale height, scale width).
template <int kScale, class G>
void unshuffle_by(const UpsampleProblem& problem, const G* grad, int64_t first_m, int64_t count, int64_t first,
                  int vectors, float* z, int64_t stride) {
  const int64_t scale = kScale > 0 ? kScale : problem.scale, width = problem.width;
  const int64_t lanes = least(vectors * kLanes, pixels_of(problem) - first);
  if (lanes < vectors * kLanes)
    for (int64_t m = 0; m < count; ++m) store(z + m * stride + (vectors - 1) * kLanes, Floats{});
  for (int64_t m = 0; m < count;) {
    const int64_t row_of_phases = (first_m + m) / scale, q0 = (first_m + m) % scale;
    const int64_t phases = least(scale - q0, count - m), band = row_of_phases / scale, p = row_of_phases % scale;
    const G* rows = grad + (band * problem.height * scale + p) * width * scale;
    float* to = z + m * stride;
    for_row_parts(width, first, lanes, [&](int64_t row, int64_t column, int64_t length, int64_t offset) {
      const G* from = rows + (row * scale * width + column) * scale;
      if constexpr (kScale > 0) {
        if (phases == kScale) {
          for (int64_t j = 0; j < length; j += kLanes) {
            Floats values[kScale];
            for (int i = 0; i < kScale; ++i)
              values[i] = load_some(from + j * kScale + i * kLanes, (length - j) * kScale - i * kLanes);
            separate<kScale>(values);
            for (int i = 0; i < kScale; ++i) store_some(to + i * stride + offset + j, values[i], length - j);
          }
          return;
        }
      }
      for (int64_t i = 0; i < phases; ++i)
        for (int64_t j = 0; j < length; ++j) to[i * stride + offset + j] = widen(from[j * scale + q0 + i]);
    });
    m += phases;
  }
}

template <class G>
void unshuffle(const UpsampleProblem& problem, const G* grad, int64_t first_m, int64_t count, int64_t first,
               int vectors, float* z, int64_t stride) {
  switch (problem.scale) {
    case 1: return unshuffle_by<1>(problem, grad, first_m, count, first, vectors, z, stride);
    case 2: return unshuffle_by<2>(problem, grad, first_m, count, first, vectors, z, stride);
    case 4: return unshuffle_by<4>(problem, grad, first_m, count, first, vectors, z, stride);
    case 8: return unshuffle_by<8>(problem, grad, first_m, count, first, vectors, z, stride);
    default: return unshuffle_by<0>(problem, grad, first_m, count, first, vectors, z, stride);
  }
}

}  // namespace
}  // namespace lkops
