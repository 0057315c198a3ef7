// The gate of channel attention, for any number of channels:  scale = sigmoid(W2 relu(W1 mean + b1) + b2),  and its
// gradients. All in float32; `channel_attention` and `attention` share it.
//
// How to use it:
//
//     float* memory = workspace.take<float>(gate_floats(channels, hidden));
//     const Gate gate = make_gate(memory, channels, hidden, w1, b1, w2, b2);  // once a call, float or bfloat16
//     gate_forward(gate, mean, hidden, scale);                                // per sample
//     gate_backward(gate, hidden, scale, dscale, dz, dhidden, dmean);         // per sample
//     gate_parameters(gate, batch, dz, dhidden, hidden, mean, first, last, dw1, db1, dw2, db2);  // once all are done
//
// Per sample: mean, scale, dscale, dz, dmean have `channels` floats, hidden and dhidden have gate.hidden. dmean is the
// gradient of the mean: a pixel's gradient gets dmean / pixels. Arrays of all samples are dense, sample after sample.
#pragma once

#include "common/math.h"
#include "common/simd.h"
#include "common/sums.h"

namespace lkops {
namespace {

// Both weights as (hidden, channels), rows `stride` apart, padded with zeros; so are the biases.
struct Gate {
  int64_t channels, hidden, stride;
  const float *w1, *b1, *w2, *b2;
};

inline int64_t gate_floats(int64_t channels, int64_t hidden) {
  return (2 * hidden + 1) * round_up_to_lanes(channels) + round_up_to_lanes(hidden);
}

template <class T>
inline void widen_row(const T* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  if (i < count) store(to + i, load_partial(from + i, count - i));
}

inline float widen_one(const float* p) { return *p; }
inline float widen_one(const BFloat16* p) { return load_partial(p, 1)[0]; }

// The gate's parameters in `memory`, gate_floats long. w1 is (hidden, channels), w2 (channels, hidden); b1 and b2 may
// be null.
template <class T>
inline Gate make_gate(float* memory, int64_t channels, int64_t hidden, const T* w1, const T* b1, const T* w2,
                      const T* b2) {
  const int64_t stride = round_up_to_lanes(channels);
  float *first = memory, *second = first + hidden * stride, *bias2 = second + hidden * stride, *bias1 = bias2 + stride;
  for (int64_t r = 0; r < hidden; ++r) {
    widen_row(w1 + r * channels, channels, first + r * stride);
    for (int64_t c = 0; c < channels; ++c) second[r * stride + c] = widen_one(w2 + c * hidden + r);
    for (int64_t c = channels; c < stride; ++c) second[r * stride + c] = 0;
  }
  for (int64_t c = 0; c < stride; c += kLanes) store(bias2 + c, Floats{});
  for (int64_t r = 0; r < round_up_to_lanes(hidden); r += kLanes) store(bias1 + r, Floats{});
  if (b2 != nullptr) widen_row(b2, channels, bias2);
  if (b1 != nullptr) widen_row(b1, hidden, bias1);
  return {channels, hidden, stride, first, bias1, second, bias2};
}

// result[r] = sum over c of weights[r][c] v[c]
inline void gate_dots(const Gate& gate, const float* weights, const float* v, float* result) {
  constexpr int kRows = 4;  // independent sums
  const int64_t whole = gate.channels / kLanes * kLanes, rest = gate.channels - whole;
  for (int64_t r = 0; r < gate.hidden; r += kRows) {
    const int rows = static_cast<int>(gate.hidden - r < kRows ? gate.hidden - r : kRows);
    const float* row[kRows];
    Floats sum[kRows];
    for (int k = 0; k < kRows; ++k) row[k] = weights + (r + (k < rows ? k : 0)) * gate.stride, sum[k] = Floats{};
    for (int64_t c = 0; c < whole; c += kLanes)
      for (int k = 0; k < kRows; ++k) sum[k] = fma(load(row[k] + c), load(v + c), sum[k]);
    if (rest > 0)
      for (int k = 0; k < kRows; ++k) sum[k] = fma(load(row[k] + whole), load_partial(v + whole, rest), sum[k]);
    for (int k = 0; k < rows; ++k) result[r + k] = sum_of_lanes(sum[k])[0];
  }
}

// The vector at channel c of base + sum over r of v[r] weights[r]
LKOPS_INLINE Floats gate_sum(const Gate& gate, const float* weights, const float* v, Floats base, int64_t c) {
  for (int64_t r = 0; r < gate.hidden; ++r) base = fma(broadcast(v[r]), load(weights + r * gate.stride + c), base);
  return base;
}

// hidden = relu(W1 mean + b1), scale = sigmoid(W2 hidden + b2)
inline void gate_forward(const Gate& gate, const float* mean, float* hidden, float* scale) {
  gate_dots(gate, gate.w1, mean, hidden);
  for (int64_t r = 0; r < gate.hidden; ++r) {
    const float h = hidden[r] + gate.b1[r];
    hidden[r] = h <= 0 ? 0 : h;  // NaN stays
  }
  for (int64_t c = 0; c < gate.channels; c += kLanes)
    store_lanes(scale + c, sigmoid(gate_sum(gate, gate.w2, hidden, load(gate.b2 + c), c)), gate.channels - c);
}

// From dscale: dz, before the sigmoid; dhidden, before the ReLU; and dmean.
inline void gate_backward(const Gate& gate, const float* hidden, const float* scale, const float* dscale, float* dz,
                          float* dhidden, float* dmean) {
  for (int64_t c = 0; c < gate.channels; c += kLanes) {
    const int64_t lanes = gate.channels - c;
    const Floats s = load_lanes(scale + c, lanes);
    store_lanes(dz + c, load_lanes(dscale + c, lanes) * (s * (1.0f - s)), lanes);
  }
  gate_dots(gate, gate.w2, dz, dhidden);
  for (int64_t r = 0; r < gate.hidden; ++r) dhidden[r] = hidden[r] <= 0 ? 0 : dhidden[r];
  for (int64_t c = 0; c < gate.channels; c += kLanes)
    store_lanes(dmean + c, gate_sum(gate, gate.w1, dhidden, Floats{}, c), gate.channels - c);
}

// sums[k] = sum over n of a[n * a_step] b[n * b_step + k], by sixteens; 0 <= k < lanes.
LKOPS_INLINE Floats gate_products(int64_t batch, const float* a, int64_t a_step, const float* b, int64_t b_step,
                                  int64_t lanes) {
  Floats total{};
  for (int64_t first = 0; first < batch; first += 16) {
    Floats some{};
    for (int64_t n = first; n < batch && n < first + 16; ++n)
      some = fma(broadcast(a[n * a_step]), load_lanes(b + n * b_step, lanes), some);
    total += some;
  }
  return total;
}

// Gradients of the parameters, over all samples; each pointer may be null. Does the items [first, last) of
// hidden + channels, which threads may share: item r < hidden is row r of dW1 (and b1), the others are rows of dW2.
template <class T>
inline void gate_parameters(const Gate& gate, int64_t batch, const float* dz, const float* dhidden,
                            const float* hidden, const float* mean, int64_t first, int64_t last, T* dw1, T* db1, T* dw2,
                            T* db2) {
  const int64_t channels = gate.channels, rows = gate.hidden;
  for (int64_t item = first; item < last; ++item) {
    const bool is_first = item < rows;
    const int64_t i = is_first ? item : item - rows, across = is_first ? channels : rows;
    const float* one = is_first ? dhidden + i : dz + i;
    const float* many = is_first ? mean : hidden;
    const int64_t step = is_first ? rows : channels;
    T* to = is_first ? dw1 : dw2;
    T* bias = is_first ? db1 : db2;
    for (int64_t k = 0; to != nullptr && k < across; k += kLanes)
      store_lanes(to + i * across + k, gate_products(batch, one, step, many + k, across, across - k), across - k);
    if (bias != nullptr) store_partial(bias + i, sum_of_rows(one, step, batch, 1), 1);
  }
}

}  // namespace
}  // namespace lkops
