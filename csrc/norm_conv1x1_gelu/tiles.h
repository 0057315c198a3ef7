// Layer norm over channels, 1x1 conv and GELU of one tile of pixels, and their backward: what `norm_conv1x1_gelu` and
// the block share.
//
//     xhat = (x - mean_c(x)) rstd,   z = xhat gamma + beta,   t = W z + b,   u = gelu(t)
//
// A tile is the part of all planes of a sample between two pixels (`Place`). In cache it is an array of rows, one per
// channel, kTilePixels apart, whole vectors; lanes beyond the plane's end hold finite numbers that are never stored, and
// gradients there are 0, so that sums over a tile's pixels need no masks.
//
// Forward of one tile (E = Element<T>, slab and centred may be the same memory where E is float):
//
//     load_normalised(x, plane, place, channels, eps, gamma, beta, centred, slab);
//     project_rows(w, bias, outputs, depth_of<E>(channels), slab, place, plane, product, u, t);
//
// Backward of one tile, from du (float rows in cache, zeros beyond the end):
//
//     load_xhat(x, plane, place, channels, eps, xhat, rstd);
//     times_gelu_slope(t + place.begin, plane, place, outputs, du, bias_sums);      du becomes dt; sums of dt for db
//     transpose_tile(xhat, kTilePixels, channels, place.vectors, transposed, round_up_to_lanes(channels));
//     add_outer(du, outputs, place.vectors, transposed, channels, sums, ..., accumulate);           Q += dt xhat^T
//     multiply_tile(Weights<float>{w, 1, channels}, channels, outputs, du, place.vectors, dz);         dz = W^T dt
//     norm_backward(dz, xhat, rstd, gamma, channels, place, plane, residual, dx);
//
// All parameters' gradients follow from Q = sum of dt xhat^T and db = sum of dt over all pixels (finish_outputs,
// finish_channels):
//
//     dW = Q gamma + db beta^T,   dgamma[c] = sum_k W[k][c] Q[k][c],   dbeta[c] = sum_k W[k][c] db[k]
#pragma once

#include "common/math.h"
#include "common/matmul.h"

namespace lkops {
namespace {

// Where a tile lies in its plane.
struct Place {
  Place(const Tiles& tiles, int64_t tile)
      : begin(tiles.begin(tile)), vectors(tiles.vectors_of(tile)), last_lanes(tiles.lanes_of(tile, vectors - 1)) {}

  int64_t lanes_of(int v) const { return v + 1 < vectors ? kLanes : last_lanes; }

  int64_t begin;
  int vectors;
  int64_t last_lanes;  // of the last vector
};

// Values of any type as floats: themselves where they are floats, else widened into `room`. Null stays null.
inline const float* as_floats(const float* values, int64_t, float*) { return values; }
inline const float* as_floats(const BFloat16* values, int64_t count, float* room) {
  if (values == nullptr) return nullptr;
  for (int64_t i = 0; i < count; ++i) room[i] = widen(values[i]);
  return room;
}

// The rows of a tile from its planes, zeros beyond the end. `from` is the first row, at place.begin.
template <class T>
void load_rows(const T* from, int64_t plane, const Place& place, int64_t rows, float* to) {
  for (int64_t r = 0; r < rows; ++r)
    for (int v = 0; v < place.vectors; ++v)
      store(to + r * kTilePixels + v * kLanes, load_lanes(from + r * plane + v * kLanes, place.lanes_of(v)));
}

// ---- layer norm -----------------------------------------------------------------------------------------------------

// Per pixel: xhat = centred * rstd + offset.
struct Moments {
  float rstd[kTilePixels], offset[kTilePixels];
};

// mean square - left^2, for the mean square and the mean of centred numbers. Their difference is all cancellation where
// the numbers are alike: no less of the mean square is left than the roundings of `left` leave, so never a number below
// 0. Where left^2 would overflow, and so the mean square did, it is taken as a large number: infinity less infinity is
// none.
LKOPS_INLINE Floats variance_of(Floats mean_square, Floats left) {
  constexpr float kRootOfMost = 1.8e19f, kRoundings = 1e-6f;
  const Floats most = broadcast(kRootOfMost), least = mean_square * kRoundings;
  left = choose(left > most, most, choose(left < -most, -most, left));
  const Floats variance = fma(-left, left, mean_square);
  return choose(variance < least, least, variance);  // NaN stays
}

// centred[c] = x[c] - m, where m is the mean as far as one sum over the channels gives it. The mean of `centred` is what
// that sum's roundings left: taking it off, by `offset`, makes the result as good as the inputs allow, far from 0 too.
template <int kVectors, class T>
void centre(const T* x, int64_t plane, int64_t last_lanes, int64_t channels, float eps, float* centred,
            Moments& moments) {
  const float inverse = 1.0f / static_cast<float>(channels);
  Floats sum[2][kVectors] = {};  // of even and of odd channels
  for (int64_t c = 0; c < channels; c += 2)
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      if (c + odd == channels) break;
      const T* from = x + (c + odd) * plane;
      float* to = centred + (c + odd) * kTilePixels;
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        const Floats value = load_lanes(from + v * kLanes, v + 1 < kVectors ? kLanes : last_lanes);
        store(to + v * kLanes, value);
        sum[odd][v] += value;
      }
    }
  Floats mean[kVectors], square[2][kVectors] = {};
  for (int v = 0; v < kVectors; ++v) {
    mean[v] = (sum[0][v] + sum[1][v]) * inverse;
    sum[0][v] = sum[1][v] = Floats{};
  }
  for (int64_t c = 0; c < channels; c += 2)
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      if (c + odd == channels) break;
      float* row = centred + (c + odd) * kTilePixels;
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        const Floats value = load(row + v * kLanes) - mean[v];
        store(row + v * kLanes, value);
        sum[odd][v] += value;
        square[odd][v] = fma(value, value, square[odd][v]);
      }
    }
  for (int v = 0; v < kVectors; ++v) {
    const Floats left = (sum[0][v] + sum[1][v]) * inverse;
    const Floats variance = variance_of((square[0][v] + square[1][v]) * inverse, left);
    const Floats rstd = 1.0f / square_root(variance + eps);
    store(moments.rstd + v * kLanes, rstd);
    store(moments.offset + v * kLanes, -left * rstd);
  }
}

template <class T>
void centre(const T* x, int64_t plane, const Place& place, int64_t channels, float eps, float* centred,
            Moments& moments) {
  x += place.begin;
  switch (place.vectors) {
    case 1: return centre<1>(x, plane, place.last_lanes, channels, eps, centred, moments);
    case 2: return centre<2>(x, plane, place.last_lanes, channels, eps, centred, moments);
    default: return centre<3>(x, plane, place.last_lanes, channels, eps, centred, moments);
  }
}

// The slab z = xhat gamma + beta of a tile of x, ready for `multiply`: depth_of<E>(channels) rows. x is the sample's
// first plane, `centred` scratch of `channels` rows.
template <class T, class E>
void load_normalised(const T* x, int64_t plane, const Place& place, int64_t channels, float eps, const float* gamma,
                     const float* beta, float* centred, E* slab) {
  Moments moments;
  centre(x, plane, place, channels, eps, centred, moments);
  for (int64_t c = 0; c < channels; c += 2) {
    const bool has_odd = c + 1 < channels;
    const Floats even_gamma = broadcast(gamma[c]), odd_gamma = broadcast(has_odd ? gamma[c + 1] : 0.0f);
    const Floats even_beta = broadcast(beta[c]), odd_beta = broadcast(has_odd ? beta[c + 1] : 0.0f);
    const float* even = centred + c * kTilePixels;
    const float* odd = has_odd ? even + kTilePixels : even;
    E* to = slab + depth_of<E>(c) * kTilePixels;
    for (int v = 0; v < place.vectors; ++v) {
      const Floats rstd = load(moments.rstd + v * kLanes), offset = load(moments.offset + v * kLanes);
      const Floats even_z = fma(fma(load(even + v * kLanes), rstd, offset), even_gamma, even_beta);
      const Floats odd_z = fma(fma(load(odd + v * kLanes), rstd, offset), odd_gamma, odd_beta);
      put(to + v * kLanes, kTilePixels, even_z, has_odd ? odd_z : Floats{}, has_odd);
    }
  }
}

// xhat of a tile of x, and rstd of its pixels (kTilePixels).
template <class T>
void load_xhat(const T* x, int64_t plane, const Place& place, int64_t channels, float eps, float* xhat, float* rstd) {
  Moments moments;
  centre(x, plane, place, channels, eps, xhat, moments);
  for (int64_t c = 0; c < channels; ++c)
    for (int v = 0; v < place.vectors; ++v) {
      float* at = xhat + c * kTilePixels + v * kLanes;
      store(at, fma(load(at), load(moments.rstd + v * kLanes), load(moments.offset + v * kLanes)));
    }
  for (int v = 0; v < place.vectors; ++v) store(rstd + v * kLanes, load(moments.rstd + v * kLanes));
}

// slab = xhat gamma + beta.
template <class E>
void scale_xhat(const float* xhat, int vectors, int64_t channels, const float* gamma, const float* beta, E* slab) {
  for (int64_t c = 0; c < channels; c += 2) {
    const bool has_odd = c + 1 < channels;
    for (int v = 0; v < vectors; ++v) {
      const float* at = xhat + c * kTilePixels + v * kLanes;
      const Floats even = fma(load(at), broadcast(gamma[c]), broadcast(beta[c]));
      const Floats odd =
          has_odd ? fma(load(at + kTilePixels), broadcast(gamma[c + 1]), broadcast(beta[c + 1])) : Floats{};
      put(slab + depth_of<E>(c) * kTilePixels + v * kLanes, kTilePixels, even, odd, has_odd);
    }
  }
}

// dx = residual + rstd (g - mean_c(g) - xhat mean_c(g xhat)),   g = dz gamma. dz is overwritten by g; `dx` and
// `residual` are first planes of a sample, `residual` may be null.
template <class T>
void norm_backward(float* dz, const float* xhat, const float* rstd, const float* gamma, int64_t channels,
                   const Place& place, int64_t plane, const T* residual, T* dx) {
  const float inverse = 1.0f / static_cast<float>(channels);
  Floats g_mean[kTileVectors] = {}, gx_mean[kTileVectors] = {};
  for (int64_t c = 0; c < channels; ++c) {
    const Floats scale = broadcast(gamma[c]);
    for (int v = 0; v < place.vectors; ++v) {
      float* at = dz + c * kTilePixels + v * kLanes;
      const Floats g = load(at) * scale;
      store(at, g);
      g_mean[v] += g;
      gx_mean[v] = fma(g, load(xhat + c * kTilePixels + v * kLanes), gx_mean[v]);
    }
  }
  Floats factor[kTileVectors];
  for (int v = 0; v < place.vectors; ++v) {
    factor[v] = load(rstd + v * kLanes);
    g_mean[v] *= inverse, gx_mean[v] *= inverse;
  }
  for (int64_t c = 0; c < channels; ++c)
    for (int v = 0; v < place.vectors; ++v) {
      const int64_t in_tile = c * kTilePixels + v * kLanes, in_plane = c * plane + place.begin + v * kLanes;
      const int64_t lanes = place.lanes_of(v);
      Floats value = fma(-load(xhat + in_tile), gx_mean[v], load(dz + in_tile) - g_mean[v]) * factor[v];
      if (residual != nullptr) value += load_lanes(residual + in_plane, lanes);
      store_lanes(dx + in_plane, value, lanes);
    }
}

// ---- products -------------------------------------------------------------------------------------------------------

// A slab of more rows than this would not stay in first-level cache: longer sums go in parts.
constexpr int64_t kSlabRows = 160;
// Outputs that are computed before their epilogue runs over them.
constexpr int64_t kProductBlock = 4 * kProductRows;

// y = w x for tiles of any depth; depth counts elements of E.
template <class E>
void multiply_tile(const Weights<E>& w, int64_t rows, int64_t depth, const E* x, int vectors, Sum<E>* y) {
  const int64_t parts = (depth + kSlabRows - 1) / kSlabRows;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = part * depth / parts, last = (part + 1) * depth / parts;
    multiply(Weights<E>{w.data + first * w.depth, w.row, w.depth}, rows, last - first, x + first * kTilePixels,
             kTilePixels, vectors, y, kTilePixels, part > 0);
  }
}

// u = gelu(t), t = w z + bias for `outputs` planes. `u` and `t` are first planes of a sample, each may be null (not
// wanted), as may `bias`; `product` is scratch of kProductBlock rows. Where the depth is beyond kSlabRows, sums wait in
// `product`, too.
template <class T, class E>
void project_rows(const Weights<E>& w, const float* bias, int64_t outputs, int64_t depth, const E* slab,
                  const Place& place, int64_t plane, float* product, T* u, T* t) {
  for (int64_t first = 0; first < outputs; first += kProductBlock) {
    const int64_t rows = outputs - first < kProductBlock ? outputs - first : kProductBlock;
    multiply_tile(Weights<E>{w.data + first * w.row, w.row, w.depth}, rows, depth, slab, place.vectors, product);
    for (int64_t r = 0; r < rows; ++r) {
      const Floats shift = broadcast(bias == nullptr ? 0.0f : bias[first + r]);
      const int64_t row = (first + r) * plane + place.begin;
      for (int v = 0; v < place.vectors; ++v) {
        const Floats value = load(product + r * kTilePixels + v * kLanes) + shift;
        if (t != nullptr) store_lanes(t + row + v * kLanes, value, place.lanes_of(v));
        if (u != nullptr) store_lanes(u + row + v * kLanes, gelu(value), place.lanes_of(v));
      }
    }
  }
}

// du becomes dt = du gelu'(t); bias_sums (rows x kLanes, may be null) gets the sums of dt, lane by lane, added. t is the
// first row: of a plane (at place.begin already) or of a tile, t_stride apart; `bias`, if not null, is added to t.
template <class T>
void times_gelu_slope(const T* t, int64_t t_stride, const Place& place, int64_t rows, float* du, float* bias_sums,
                      const float* bias = nullptr) {
  for (int64_t r = 0; r < rows; ++r) {
    const Floats shift = broadcast(bias == nullptr ? 0.0f : bias[r]);
    Floats sum{};
    for (int v = 0; v < place.vectors; ++v) {
      float* at = du + r * kTilePixels + v * kLanes;
      const Floats from = load_lanes(t + r * t_stride + v * kLanes, place.lanes_of(v));
      const Floats dt = load(at) * gelu_slope(from + shift);
      store(at, dt);
      sum += dt;
    }
    if (bias_sums != nullptr) store(bias_sums + r * kLanes, load(bias_sums + r * kLanes) + sum);
  }
}

// sums[m][c] (+)= sum over the tile's pixels of dy[m] x[c], for x transposed by transpose_tile; rows of `transposed` and
// of `sums` hold round_up_to_lanes(columns) floats.
inline void add_outer(const float* dy, int64_t rows, int vectors, const float* transposed, int64_t columns, float* sums,
                      bool accumulate) {
  const int64_t stride = round_up_to_lanes(columns), count = stride / kLanes;
  for (int64_t v = 0; v < count; v += kTileVectors) {
    const int width = static_cast<int>(count - v < kTileVectors ? count - v : kTileVectors);
    multiply(Weights<float>{dy, kTilePixels, 1}, rows, static_cast<int64_t>(vectors) * kLanes, transposed + v * kLanes,
             stride, width, sums + v * kLanes, stride, accumulate);
  }
}

// ---- gradients of the parameters ------------------------------------------------------------------------------------

// What one chunk of tiles sums: Q, `outputs` rows of round_up_to_lanes(channels), then db, `outputs` rows of kLanes.
inline int64_t sums_floats(int64_t outputs, int64_t channels) {
  return outputs * (round_up_to_lanes(channels) + kLanes);
}
inline float* bias_sums_of(float* sums, int64_t outputs, int64_t channels) {
  return sums + outputs * round_up_to_lanes(channels);
}

template <class T>
struct ProjectionGradients {  // null: not wanted
  T *gamma, *beta, *weight, *bias;
};

// Adds the sums of all chunks (sums_floats apart) in their order into the first one's, for outputs [first, last), and
// writes their rows of dW and db. In bias_sums of the first chunk, db itself is left in lane 0.
template <class T>
void finish_outputs(float* sums, int64_t chunks, int64_t outputs, int64_t channels, const float* gamma,
                    const float* beta, const ProjectionGradients<T>& gradients, int64_t first, int64_t last) {
  const int64_t stride = round_up_to_lanes(channels), step = sums_floats(outputs, channels);
  float* bias_sums = bias_sums_of(sums, outputs, channels);
  for (int64_t k = first; k < last; ++k) {
    float* db_lanes = bias_sums + k * kLanes;
    Floats db_sum = load(db_lanes);
    for (int64_t i = 1; i < chunks; ++i) db_sum += load(db_lanes + i * step);
    const float db = sum_of(db_sum);
    db_lanes[0] = db;
    if (gradients.bias != nullptr) store_partial(gradients.bias + k, broadcast(db), 1);
    for (int64_t c = 0; c < channels; c += kLanes) {
      float* at = sums + k * stride + c;
      Floats q = load(at);
      for (int64_t i = 1; i < chunks; ++i) q += load(at + i * step);
      store(at, q);
      if (gradients.weight == nullptr) continue;
      const int64_t lanes = channels - c < kLanes ? channels - c : kLanes;
      const Floats dw = fma(q, load_lanes(gamma + c, lanes), load_lanes(beta + c, lanes) * db);
      store_lanes(gradients.weight + k * channels + c, dw, lanes);
    }
  }
}

// dgamma and dbeta of channels [first, last), `first` a multiple of kLanes, when finish_outputs is done for all outputs;
// w is the conv's weight as it lies, (outputs, channels).
template <class T>
void finish_channels(const float* sums, int64_t outputs, int64_t channels, const T* w,
                     const ProjectionGradients<T>& gradients, int64_t first, int64_t last) {
  const int64_t stride = round_up_to_lanes(channels);
  const float* db = sums + outputs * stride;
  for (int64_t c = first; c < last; c += kLanes) {
    const int64_t lanes = channels - c < kLanes ? channels - c : kLanes;
    Floats dgamma{}, dbeta{};
    for (int64_t k = 0; k < outputs; ++k) {
      const Floats weight = load_lanes(w + k * channels + c, lanes);
      dgamma = fma(weight, load(sums + k * stride + c), dgamma);
      dbeta = fma(weight, broadcast(db[k * kLanes]), dbeta);
    }
    if (gradients.gamma != nullptr) store_lanes(gradients.gamma + c, dgamma, lanes);
    if (gradients.beta != nullptr) store_lanes(gradients.beta + c, dbeta, lanes);
  }
}

}  // namespace
}  // namespace lkops
