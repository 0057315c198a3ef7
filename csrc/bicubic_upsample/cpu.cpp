// Both directions are weighted sums of rows. Forward: spread the input rows along the columns (a permutation and four
// products per vector), keep the last five of them, and sum four of those for each output row. Backward: sum 4 * scale
// gradient rows for each input row, then gather along the columns. The cheap direction goes first and comes last, so
// that nearly all work is contiguous vectors from L1.
#include "bicubic_upsample/cpu.h"

#include "bicubic_upsample/rows.h"
#include "common/simd.h"

namespace lkops {
namespace {

// One vector of a spread row: lane i is the sum over k of weights[k][i] * padded[start + k + index[i]].
struct Pattern {
  int32_t start;
  int32_t index[kLanes];
  float weights[kTaps][kLanes];
};

int64_t greatest_common_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

// The patterns repeat as soon as a whole number of vectors holds a whole number of input columns.
int64_t pattern_count(int64_t scale) { return scale / greatest_common_divisor(scale, kLanes); }

const Phase* phases_of(const void* plan) { return static_cast<const Phase*>(plan); }

const Pattern* patterns_of(const void* plan, int64_t scale) {
  return reinterpret_cast<const Pattern*>(phases_of(plan) + scale);
}

int64_t plan_bytes(int64_t scale) {
  return scale * static_cast<int64_t>(sizeof(Phase)) + pattern_count(scale) * static_cast<int64_t>(sizeof(Pattern));
}

void make_plan(int64_t scale, double cubic_a, void* plan) {
  Phase* phases = static_cast<Phase*>(plan);
  make_phases(scale, cubic_a, phases);
  Pattern* patterns = reinterpret_cast<Pattern*>(phases + scale);
  for (int64_t v = 0; v < pattern_count(scale); ++v) {
    const int64_t begin = v * kLanes;
    const int64_t start = begin / scale + phases[begin % scale].first;
    patterns[v].start = static_cast<int32_t>(start);
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t column = begin + lane;
      const Phase& phase = phases[column % scale];
      patterns[v].index[lane] = static_cast<int32_t>(column / scale + phase.first - start);
      for (int k = 0; k < kTaps; ++k) patterns[v].weights[k][lane] = phase.weights[k];
    }
  }
}

// Between float and bfloat16, or the same.
template <class In, class Out>
LKOPS_INLINE void copy_row(const In* in, int64_t width, Out* out) {
  int64_t c = 0;
  for (; c + kLanes <= width; c += kLanes) store(out + c, load(in + c));
  if (c < width) store_partial(out + c, load_partial(in + c, width - c), width - c);
}

// out[c] = sum over i of weights[i] * rows[i][c], in the order of i, for 0 <= c < width.
template <class In, class Out>
LKOPS_INLINE void weighted_sum(const In* const* rows, const float* weights, int64_t count, int64_t width, Out* out) {
  constexpr int kBlock = 4;  // independent sums, to hide the latency of fma
  int64_t c = 0;
  for (; c + kBlock * kLanes <= width; c += kBlock * kLanes) {
    Floats sum[kBlock];
    for (int b = 0; b < kBlock; ++b) sum[b] = broadcast(weights[0]) * load(rows[0] + c + b * kLanes);
    for (int64_t i = 1; i < count; ++i)
      for (int b = 0; b < kBlock; ++b) sum[b] = fma(broadcast(weights[i]), load(rows[i] + c + b * kLanes), sum[b]);
    for (int b = 0; b < kBlock; ++b) store(out + c + b * kLanes, sum[b]);
  }
  for (; c + kLanes <= width; c += kLanes) {
    Floats sum = broadcast(weights[0]) * load(rows[0] + c);
    for (int64_t i = 1; i < count; ++i) sum = fma(broadcast(weights[i]), load(rows[i] + c), sum);
    store(out + c, sum);
  }
  if (c < width) {
    const int64_t rest = width - c;
    Floats sum = broadcast(weights[0]) * load_partial(rows[0] + c, rest);
    for (int64_t i = 1; i < count; ++i) sum = fma(broadcast(weights[i]), load_partial(rows[i] + c, rest), sum);
    store_partial(out + c, sum, rest);
  }
}

// ---- forward --------------------------------------------------------------------------------------------------------

int64_t spread_width(const BicubicPlane& plane) { return round_up_to_lanes(plane.width * plane.scale); }

// A vector of a pattern reads kLanes + kTaps - 1 columns, however few of them its lanes pick.
int64_t padded_width(const BicubicPlane& plane) {
  return round_up_to_lanes(plane.width + 2 * kBorder + 2 * kLanes + kTaps);
}

int64_t forward_scratch(const BicubicPlane& plane) {
  return (padded_width(plane) + kWindow * spread_width(plane)) * static_cast<int64_t>(sizeof(float));
}

// padded[t + kBorder] = row[inside(t)], widened to float.
template <class T>
LKOPS_INLINE void pad_row(const T* row, const BicubicPlane& plane, float* padded) {
  const int64_t width = plane.width;
  float* middle = padded + kBorder;
  copy_row(row, width, middle);
  for (int64_t t = 1; t <= kBorder; ++t) {
    middle[-t] = middle[inside(-t, width, plane.symmetric)];
    middle[width - 1 + t] = middle[inside(width - 1 + t, width, plane.symmetric)];
  }
}

LKOPS_INLINE void spread_row(const float* padded, const Pattern* patterns, int64_t count, int64_t columns_per_round,
                             int64_t width, float* spread) {
  for (int64_t c = 0; c < width; padded += columns_per_round)
    for (int64_t v = 0; v < count && c < width; ++v, c += kLanes) {
      const Pattern& pattern = patterns[v];
      const Ints index = load(pattern.index);
      Floats sum = load(pattern.weights[0]) * permute(load(padded + pattern.start), index);
      for (int k = 1; k < kTaps; ++k)
        sum = fma(load(pattern.weights[k]), permute(load(padded + pattern.start + k), index), sum);
      store(spread + c, sum);
    }
}

template <class T>
void forward(const void* plan, const BicubicPlane& plane, const T* x, T* y, int64_t first_row, int64_t last_row,
             void* scratch) {
  const Phase* phases = phases_of(plan);
  const Pattern* patterns = patterns_of(plan, plane.scale);
  const int64_t count = pattern_count(plane.scale), columns_per_round = count * kLanes / plane.scale;
  const int64_t height = plane.height, out_width = plane.width * plane.scale, stride = spread_width(plane);
  float* padded = static_cast<float*>(scratch);
  float* ring = padded + padded_width(plane);  // row t is spread into slot t % kWindow
  for (int64_t c = 0; c < padded_width(plane); ++c) padded[c] = 0;

  int64_t next = 0;  // the next row of this plane to spread
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t t = row % height;
    const T* x_plane = x + (row - t) * plane.width;
    if (row == first_row || t == 0) next = t < kBorder ? 0 : t - kBorder;
    for (; next < height && next <= t + kBorder; ++next) {
      pad_row(x_plane + next * plane.width, plane, padded);
      spread_row(padded, patterns, count, columns_per_round, out_width, ring + next % kWindow * stride);
    }
    const float* window[kWindow];
    for (int k = 0; k < kWindow; ++k)
      window[k] = ring + inside(t - kBorder + k, height, plane.symmetric) % kWindow * stride;
    for (int64_t p = 0; p < plane.scale; ++p)
      weighted_sum(window + phases[p].first, phases[p].weights, kTaps, out_width,
                   y + (row * plane.scale + p) * out_width);
  }
}

// ---- backward -------------------------------------------------------------------------------------------------------

// One phase of a gradient row lies between zeros, so that taps that leave the row read zeros.
constexpr int64_t kFront = kLanes > kTaps ? kLanes : kTaps;

int64_t folded_width(const BicubicPlane& plane) { return round_up_to_lanes(plane.width + 2 * kBorder); }

int64_t phase_stride(const BicubicPlane& plane) { return kFront + folded_width(plane); }

// An input row has kTaps * scale taps; at the border up to two outside rows fold onto it.
int64_t max_taps(const BicubicPlane& plane) { return 3 * kTaps * plane.scale; }

int64_t backward_scratch(const BicubicPlane& plane) {
  const int64_t floats = spread_width(plane) + plane.scale * phase_stride(plane) + folded_width(plane);
  const int64_t taps = max_taps(plane) + kTaps * plane.scale;
  return floats * static_cast<int64_t>(sizeof(float)) + taps * static_cast<int64_t>(sizeof(void*) + sizeof(float));
}

// The taps by which row t of a plane was read: which gradient rows, with which weights. Returns how many.
template <class T>
int64_t find_row_taps(const Phase* phases, const BicubicPlane& plane, int64_t t, const T* grad_plane, const T** rows,
                      float* weights) {
  const int64_t height = plane.height, out_width = plane.width * plane.scale;
  const int64_t positions[1 + 2 * kBorder] = {t, -2, -1, height, height + 1};  // all that can stand for row t
  int64_t count = 0;
  for (int64_t position : positions) {
    if (inside(position, height, plane.symmetric) != t) continue;
    for (int k = 0; k < kTaps; ++k)
      for (int64_t p = 0; p < plane.scale; ++p) {
        const int64_t j = position + kBorder - phases[p].first - k;
        if (j < 0 || j >= height) continue;
        rows[count] = grad_plane + (j * plane.scale + p) * out_width;
        weights[count++] = phases[p].weights[k];
      }
  }
  return count;
}

// split[p * stride + j] = row[j * scale + p]; a scale known to the compiler becomes permutations.
template <int kScale>
void split_phases(const float* row, int64_t width, int64_t scale, int64_t stride, float* split) {
  const int64_t step = kScale > 0 ? kScale : scale;
  for (int64_t j = 0; j < width; ++j)
    for (int64_t p = 0; p < step; ++p) split[p * stride + j] = row[j * step + p];
}

void split_phases(const float* row, const BicubicPlane& plane, float* split) {
  const int64_t stride = phase_stride(plane);
  switch (plane.scale) {
    case 2: return split_phases<2>(row, plane.width, 2, stride, split);
    case 3: return split_phases<3>(row, plane.width, 3, stride, split);
    case 4: return split_phases<4>(row, plane.width, 4, stride, split);
    case 8: return split_phases<8>(row, plane.width, 8, stride, split);
    default: return split_phases<0>(row, plane.width, plane.scale, stride, split);
  }
}

// Pointers and weights for the sum along columns: the same for every row.
void find_column_taps(const Phase* phases, const BicubicPlane& plane, const float* split, const float** parts,
                      float* weights) {
  int64_t count = 0;
  for (int k = 0; k < kTaps; ++k)
    for (int64_t p = 0; p < plane.scale; ++p) {
      parts[count] = split + p * phase_stride(plane) + kFront - phases[p].first - k;
      weights[count++] = phases[p].weights[k];
    }
}

// Columns outside the row are added to those that stand for them.
void fold_borders(float* middle, const BicubicPlane& plane) {
  const int64_t width = plane.width;
  for (int64_t t = 1; t <= kBorder; ++t) {
    middle[inside(-t, width, plane.symmetric)] += middle[-t];
    middle[inside(width - 1 + t, width, plane.symmetric)] += middle[width - 1 + t];
  }
}

template <class T>
void backward(const void* plan, const BicubicPlane& plane, const T* grad, T* dx, int64_t first_row, int64_t last_row,
              void* scratch) {
  const Phase* phases = phases_of(plan);
  const int64_t scale = plane.scale, width = plane.width;
  float* summed = static_cast<float*>(scratch);  // a sum of gradient rows, still scale * width wide
  float* split = summed + spread_width(plane);   // its columns by phase
  float* folded = split + scale * phase_stride(plane);
  const T** rows = reinterpret_cast<const T**>(folded + folded_width(plane));
  const float** parts = reinterpret_cast<const float**>(rows + max_taps(plane));
  float* row_weights = reinterpret_cast<float*>(parts + kTaps * scale);
  float* part_weights = row_weights + max_taps(plane);
  for (int64_t i = 0; i < scale * phase_stride(plane); ++i) split[i] = 0;
  find_column_taps(phases, plane, split, parts, part_weights);

  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t t = row % plane.height;
    const T* grad_plane = grad + (row - t) * width * scale * scale;
    const int64_t count = find_row_taps(phases, plane, t, grad_plane, rows, row_weights);
    weighted_sum(rows, row_weights, count, width * scale, summed);
    split_phases(summed, plane, split + kFront);
    weighted_sum(parts, part_weights, kTaps * scale, folded_width(plane), folded);
    fold_borders(folded + kBorder, plane);
    copy_row(folded + kBorder, width, dx + row * width);
  }
}

constexpr BicubicInferenceKernels kInference = {plan_bytes, make_plan, forward_scratch, forward<float>};

}  // namespace

LKOPS_TABLE(BicubicInferenceKernels, kBicubicInference) = kInference;
LKOPS_TABLE(BicubicKernels, kBicubic) = {
    kInference, forward<BFloat16>, backward_scratch, backward<float>, backward<BFloat16>,
};

}  // namespace lkops
