// The attention's planes and mix with products of whole numbers of 8 bits, for the block (lk_block/int8.h):
//
//     u, a1 and a2: 255 steps of each plane from its least value to its largest, 0 among them
//     the mix's weights: 127 steps of the largest of each output, when the gate and the steps of the planes are in them
#pragma once

#include "large_kernel_channel_attention/forward.h"
#include "norm_conv1x1_gelu/quads.h"

namespace lkops {
namespace {

// u, a1 and a2 of a sample as bytes, and per channel of the concat what a step is, and which step is 0.
struct ByteMaps {
  uint8_t* bytes;
  int64_t stride;  // of planes: whole vectors can be read from any pixel
  float *mean, *step;
  int32_t* zero;
};

inline int64_t byte_stride(int64_t pixels) { return (pixels + 127) / 64 * 64; }

// ---- planes ---------------------------------------------------------------------------------------------------------

// The bytes of a plane, its step and its zero, as channel c of the concat.
inline void put_plane(const PlaneSize& size, const PlaneView& plane, const ByteMaps& maps, int64_t c) {
  Floats least{}, most{};
  for (int64_t i = 0; i < size.height; ++i) {
    const float* row = plane.pixels + i * plane.stride;
    for (int64_t j = 0; j < size.width; j += kLanes) {
      const Floats value = load_lanes(row + j, size.width - j);
      least = smaller_of(value, least), most = larger_of(value, most);
    }
  }
  float low = 0, high = 0;
  for (int i = 0; i < kLanes; ++i) low = least[i] < low ? least[i] : low, high = most[i] > high ? most[i] : high;
  const float range = high - low, inverse = range > 0 ? 255.0f / range : 0.0f;
  const Words zeros = whole(broadcast(-low * inverse));
  const float zero = static_cast<float>(zeros[0]);
  maps.step[c] = range * (1.0f / 255), maps.zero[c] = static_cast<int32_t>(zeros[0]);
  uint8_t* to = maps.bytes + c * maps.stride;
  for (int64_t i = 0; i < size.height; ++i, to += size.width) {
    const float* row = plane.pixels + i * plane.stride;
    for (int64_t j = 0; j < size.width; j += kLanes)
      store_bytes(to + j, whole(load_lanes(row + j, size.width - j) * inverse + zero), size.width - j);
  }
}

// Planes [first, last): the bytes of u, a1 and a2, and the means of the three.
inline void byte_planes(const AttentionProblem& problem, const AttentionParameters<BFloat16>& parameters,
                        const BFloat16* maps_u, const ByteMaps& maps, Workspace memory, int64_t first, int64_t last) {
  const PlaneRoom room(problem, memory);
  const PlaneSize size = size_of(problem);
  const Window window1 = first_window(problem), window2 = second_window(problem);
  const int64_t pixels = pixels_of(problem), taps1 = window1.rows * window1.columns;
  const int64_t taps2 = window2.rows * window2.columns, channels = problem.channels;
  const float inverse = 1.0f / static_cast<float>(pixels);
  const PaddedPlane u = make_padded(room.u, size, room.margin1), a1 = make_padded(room.a1, size, room.margin2);
  for (int64_t c = first; c < last; ++c) {
    const float* weights1 = as_floats(parameters.dw1_weight + c * taps1, taps1, room.weights1);
    const float* weights2 = as_floats(parameters.dw2_weight + c * taps2, taps2, room.weights2);
    fill(u, size, maps_u + c * pixels);
    maps.mean[c] = plane_sum(size, view_of(u)) * inverse;
    put_plane(size, view_of(u), maps, c);
    correlate(size, window1, as_given(weights1, window1), u, bias_at(parameters.dw1_bias, c), nullptr, view_of(a1));
    maps.mean[channels + c] = plane_sum(size, view_of(a1)) * inverse;
    put_plane(size, view_of(a1), maps, channels + c);
    const float bias2 = bias_at(parameters.dw2_bias, c);
    maps.mean[2 * channels + c] = correlate_out(size, window2, weights2, a1, bias2, room.a2, room.a2) * inverse;
    put_plane(size, view_of(room.a2, size), maps, 2 * channels + c);
  }
}

// ---- the mix --------------------------------------------------------------------------------------------------------

// Memory of one thread for it.
struct Int8MixRoom {
  Int8MixRoom(const AttentionProblem& problem, Workspace& memory) {
    const Mix mix = mix_of(problem);
    const int64_t channels = mix.channels;
    order = memory.take<int64_t>(3 * channels);
    hidden = memory.take<float>(problem.hidden);
    gate = memory.take<float>(3 * channels), factors = memory.take<float>(3 * channels);
    row = memory.take<float>(round_up_to_lanes(mix.members()));
    folded = memory.take<Quad>(weight_quads(channels, mix.members()));
    scale = memory.take<float>(channels), offsets = memory.take<int32_t>(channels);
    slab = memory.take<Quad>(depth_of<Quad>(mix.members()) * kTilePixels);
    v = memory.take<int32_t>(channels * kTilePixels);
  }

  int64_t* order;
  float *hidden, *gate, *factors, *row;
  Quad* folded;
  float* scale;
  int32_t* offsets;
  Quad* slab;
  int32_t* v;
};

// The mix's weights with gate and steps in them, as whole numbers: room.folded, room.scale and room.offsets.
inline void fold_quads(const Mix& mix, const BFloat16* weights, const ByteMaps& maps, const Int8MixRoom& room) {
  const int64_t members = mix.members(), row = depth_of<Quad>(members);
  for (int64_t j = 0; j < 3 * mix.channels; ++j) {
    const int64_t c = room.order[j];
    room.factors[j] = room.gate[c] * maps.step[c];
  }
  for (int64_t m = 0; m < mix.channels; ++m, weights += members) {
    const int64_t begin = m / mix.rows() * members;
    Floats largest{};
    for (int64_t k = 0; k < members; k += kLanes) {
      const Floats value = load_lanes(weights + k, members - k) * load_lanes(room.factors + begin + k, members - k);
      store(room.row + k, value);
      largest = larger_of(size_of_lanes(value), largest);
    }
    float most = 0;
    for (int i = 0; i < kLanes; ++i) most = largest[i] > most ? largest[i] : most;
    const Steps steps = steps_of(broadcast(most));
    int8_t* to = reinterpret_cast<int8_t*>(room.folded + m * row);
    int32_t offset = 0;
    room.folded[m * row + row - 1].bits = 0;
    for (int64_t k = 0; k < members; k += kLanes) {
      const Ints numbers = to_ints(whole(load(room.row + k) * steps.inverse + float{kMiddle})) - kMiddle;
      for (int64_t i = 0; i < kLanes && k + i < members; ++i) {
        to[k + i] = static_cast<int8_t>(numbers[i]);
        offset += numbers[i] * maps.zero[room.order[begin + k + i]];
      }
    }
    room.scale[m] = steps.step[0], room.offsets[m] = offset;
  }
}

// v[m][p]: the mix's sums of whole numbers for a tile.
inline void mix_quads(const Mix& mix, const ByteMaps& maps, const Place& place, const Int8MixRoom& room) {
  const int64_t members = mix.members(), row = depth_of<Quad>(members);
  for (int64_t g = 0; g < mix.groups; ++g) {
    const int64_t* order = room.order + g * members;
    Quad* to = room.slab;
    for (int64_t k = 0; k < members; k += 4, to += kTilePixels) {
      const auto row_of = [&](int64_t i) {  // the weights beyond the last member are 0
        return maps.bytes + order[smaller(k + i, members - 1)] * maps.stride + place.begin;
      };
      const uint8_t *first = row_of(0), *second = row_of(1), *third = row_of(2), *fourth = row_of(3);
      for (int v = 0; v < place.vectors; ++v) {
        const int64_t at = v * kLanes;
        put_quads(to + at, first + at, second + at, third + at, fourth + at);
      }
    }
    multiply_tile(Weights<Quad>{room.folded + g * mix.rows() * row, row, 1}, mix.rows(), row, room.slab, place.vectors,
                  room.v + g * mix.rows() * kTilePixels);
  }
}

}  // namespace
}  // namespace lkops
