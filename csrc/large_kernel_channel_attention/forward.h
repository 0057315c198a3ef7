// Forward of the attention in two stages, which the block runs behind its projection: planes (both depthwise convs and
// the sums of their results), and tiles (the gate of a sample, its mix, the product with u). What happens to a finished
// tile, the caller says.
#pragma once

#include "large_kernel_channel_attention/cpu.h"
#include "large_kernel_channel_attention/mix.h"
#include "common/parallel.h"
#include "depthwise_conv2d/planes.h"
#include "channel_attention/gate.h"
#include "norm_conv1x1_gelu/tiles.h"

namespace lkops {
namespace {

inline PlaneSize size_of(const AttentionProblem& problem) { return {problem.height, problem.width}; }
inline Window first_window(const AttentionProblem& problem) {
  return {problem.rows1, problem.columns1, problem.dilation1};
}
inline Window second_window(const AttentionProblem& problem) {
  return {problem.rows2, problem.columns2, problem.dilation2};
}
inline Mix mix_of(const AttentionProblem& problem) { return {problem.channels, problem.groups, problem.interleave}; }
inline int64_t pixels_of(const AttentionProblem& problem) { return problem.height * problem.width; }

inline int64_t mix_grain(const AttentionProblem& problem) {  // of tiles
  return grain_of(kWorthOfProducts, problem.channels, mix_of(problem).members(), kTilePixels);
}
inline int64_t plane_grain(const AttentionProblem& problem) {
  const int64_t taps = problem.rows1 * problem.columns1 + problem.rows2 * problem.columns2;
  return grain_of(4 * kWorthOfProducts, pixels_of(problem), taps);  // at the border of an image, taps are skipped
}

// Whether threads take whole samples, whose maps then stay in their caches from stage to stage, or share each stage.
inline bool by_sample(int64_t batch, int64_t slots) { return batch % slots == 0 || batch >= 8 * slots; }

// The maps that the stages hand on, each (batch, channels) planes, and per channel of the concat its mean and scale.
template <class T>
struct AttentionMaps {
  const T* u;
  T *a1, *a2;
  float *mean, *scale;
};

// ---- planes ---------------------------------------------------------------------------------------------------------

// Memory of one thread in this stage.
struct PlaneRoom {
  PlaneRoom(const AttentionProblem& problem, Workspace& memory)
      : margin1(margin_of(size_of(problem), first_window(problem))),
        margin2(margin_of(size_of(problem), second_window(problem))),
        u(memory.take<float>(padded_floats(size_of(problem), margin1))),
        a1(memory.take<float>(padded_floats(size_of(problem), margin2))),
        a2(memory.take<float>(pixels_of(problem))),
        weights1(memory.take<float>(problem.rows1 * problem.columns1)),
        weights2(memory.take<float>(problem.rows2 * problem.columns2)) {}

  int64_t margin1, margin2;
  float *u, *a1, *a2, *weights1, *weights2;
};

inline float bias_at(const float* bias, int64_t i) { return bias == nullptr ? 0.0f : bias[i]; }
inline float bias_at(const BFloat16* bias, int64_t i) { return bias == nullptr ? 0.0f : widen(bias[i]); }

// A conv that ends in a dense plane: written there at once, or by way of `room`.
inline float correlate_out(const PlaneSize& size, const Window& window, const float* weights, const PaddedPlane& x,
                           float bias, float*, float* out) {
  correlate(size, window, as_given(weights, window), x, bias, nullptr, view_of(out, size));
  return sum_of(out, size.height * size.width);
}
inline float correlate_out(const PlaneSize& size, const Window& window, const float* weights, const PaddedPlane& x,
                           float bias, float* room, BFloat16* out) {
  const float sum = correlate_out(size, window, weights, x, bias, room, room);
  copy_out(view_of(room, size), size, out);
  return sum;
}

// Planes [first, last) of all samples: a1 and a2 from u, and the means of the three.
template <class T>
void attention_planes(const AttentionProblem& problem, const AttentionParameters<T>& parameters,
                      const AttentionMaps<T>& maps, Workspace memory, int64_t first, int64_t last) {
  const PlaneRoom room(problem, memory);
  const PlaneSize size = size_of(problem);
  const Window window1 = first_window(problem), window2 = second_window(problem);
  const int64_t pixels = pixels_of(problem), taps1 = window1.rows * window1.columns;
  const int64_t taps2 = window2.rows * window2.columns;
  const float inverse = 1.0f / static_cast<float>(pixels);
  const PaddedPlane u = make_padded(room.u, size, room.margin1), a1 = make_padded(room.a1, size, room.margin2);
  for (int64_t plane = first; plane < last; ++plane) {
    const int64_t n = plane / problem.channels, c = plane % problem.channels;
    const float* weights1 = as_floats(parameters.dw1_weight + c * taps1, taps1, room.weights1);
    const float* weights2 = as_floats(parameters.dw2_weight + c * taps2, taps2, room.weights2);
    float* mean = maps.mean + n * 3 * problem.channels + c;
    fill(u, size, maps.u + plane * pixels);
    mean[0] = sum_of(maps.u + plane * pixels, pixels) * inverse;
    correlate(size, window1, as_given(weights1, window1), u, bias_at(parameters.dw1_bias, c), nullptr, view_of(a1));
    copy_out(view_of(a1), size, maps.a1 + plane * pixels);
    mean[problem.channels] = plane_sum(size, view_of(a1)) * inverse;
    mean[2 * problem.channels] = correlate_out(size, window2, weights2, a1, bias_at(parameters.dw2_bias, c), room.a2,
                                               maps.a2 + plane * pixels) *
                                 inverse;
  }
}

// ---- tiles ----------------------------------------------------------------------------------------------------------

// Memory of one thread in this stage.
template <class T, class E>
struct MixRoom {
  MixRoom(const AttentionProblem& problem, Workspace& memory)
      : order(memory.take<int64_t>(3 * problem.channels)),
        rows(memory.take<const T*>(3 * problem.channels)),
        hidden(memory.take<float>(problem.hidden)),
        scale(memory.take<float>(3 * problem.channels)),
        ordered(memory.take<float>(3 * problem.channels)),
        folded(memory.take<E>(folded_elements<E>(mix_of(problem)))),
        slab(memory.take<E>(kMixRows * kTilePixels)),
        v(memory.take<float>(problem.channels * kTilePixels)) {}

  int64_t* order;
  const T** rows;
  float *hidden, *scale, *ordered;
  E *folded, *slab;
  float* v;
};

// Tiles [first, last) of all samples: calls finish(n, place, v), where v is the mix of that tile without its bias.
// The gate of a sample costs less than waking threads for it: each thread computes it for itself, and the one with the
// sample's first tile keeps it.
template <class T, class E, class Finish>
void attention_tiles(const AttentionProblem& problem, const Gate& gate, const T* mix_weight,
                     const AttentionMaps<T>& maps, const MixRoom<T, E>& room, int64_t first, int64_t last,
                     const Finish& finish) {
  const Mix mix = mix_of(problem);
  const Tiles tiles(pixels_of(problem));
  mix_order(mix, room.order);
  mix_rows(mix, room.order, maps.u, maps.a1, maps.a2, tiles.pixels, room.rows);
  int64_t ready = -1;  // the sample that the folded weights are for
  for (int64_t item = first; item < last; ++item) {
    const int64_t n = item / tiles.count, tile = item % tiles.count;
    if (n != ready) {
      gate_forward(gate, maps.mean + n * 3 * mix.channels, room.hidden, room.scale);
      fold_scale(mix, room.order, mix_weight, room.scale, room.ordered, room.folded);
      ready = n;
    }
    if (tile == 0)
      for (int64_t c = 0; c < 3 * mix.channels; ++c) maps.scale[n * 3 * mix.channels + c] = room.scale[c];
    const Place place(tiles, tile);
    mix_tile(mix, room.folded, room.rows, n * mix.channels * tiles.pixels, place, room.slab, room.v);
    finish(n, place, room.v);
  }
}

// ---- the operator ---------------------------------------------------------------------------------------------------

template <class T>
struct AttentionSpace {
  using E = Element<T>;

  AttentionSpace(const AttentionProblem& problem, int64_t slots, Workspace& memory)
      : gate(memory.take<float>(gate_floats(3 * problem.channels, problem.hidden))) {
    Workspace planes, tiles;
    PlaneRoom(problem, planes);
    MixRoom<T, E>(problem, tiles);
    slot_bytes = larger(planes.bytes(), tiles.bytes());
    slot_memory = memory.take<char>(slots * slot_bytes);
  }

  Workspace slot(int64_t i) const { return Workspace(slot_memory + i * slot_bytes); }

  float* gate;
  int64_t slot_bytes;
  char* slot_memory;
};

template <class T>
int64_t attention_forward_bytes(const AttentionProblem& problem, int64_t slots) {
  Workspace memory;
  AttentionSpace<T>(problem, slots, memory);
  return memory.bytes();
}

// y = (v + bias) u for a tile.
template <class T>
void attention_finish(const AttentionProblem& problem, const T* bias, const T* u, int64_t n, const Place& place,
                      const float* v, T* y) {
  const int64_t pixels = pixels_of(problem);
  for (int64_t c = 0; c < problem.channels; ++c) {
    const int64_t row = (n * problem.channels + c) * pixels + place.begin;
    const Floats shift = broadcast(bias_at(bias, c));
    for (int i = 0; i < place.vectors; ++i) {
      const int64_t at = row + i * kLanes, lanes = place.lanes_of(i);
      store_lanes(y + at, (load(v + c * kTilePixels + i * kLanes) + shift) * load_lanes(u + at, lanes), lanes);
    }
  }
}

// Both stages for some samples, the first of which the tensors begin with. `run(count, grain, body)` is a for_ranges.
template <class T, class Run>
void attention_stages(const AttentionProblem& problem, const AttentionForward<T>& tensors, const Gate& gate,
                      const AttentionSpace<T>& space, int64_t samples, const Run& run) {
  using E = Element<T>;
  const AttentionParameters<T>& parameters = tensors.parameters;
  const AttentionMaps<T> maps{tensors.u, tensors.a1, tensors.a2, tensors.mean, tensors.scale};
  run(samples * problem.channels, plane_grain(problem), [&](int64_t slot, int64_t first, int64_t last) {
    attention_planes(problem, parameters, maps, space.slot(slot), first, last);
  });
  const int64_t tiles = Tiles(pixels_of(problem)).count;
  run(samples * tiles, mix_grain(problem), [&](int64_t slot, int64_t first, int64_t last) {
    Workspace of_slot = space.slot(slot);
    const MixRoom<T, E> room(problem, of_slot);
    attention_tiles(problem, gate, parameters.mix_weight, maps, room, first, last,
                    [&](int64_t n, const Place& place, const float* v) {
                      attention_finish(problem, parameters.mix_bias, maps.u, n, place, v, tensors.y);
                    });
  });
}

template <class T>
void attention_forward(const AttentionProblem& problem, const AttentionForward<T>& tensors, const Parallel& parallel,
                       void* scratch) {
  Workspace memory(scratch);
  const AttentionSpace<T> space(problem, parallel.slots, memory);
  const AttentionParameters<T>& parameters = tensors.parameters;
  const Gate gate = make_gate(space.gate, 3 * problem.channels, problem.hidden, parameters.reduce_weight,
                              parameters.reduce_bias, parameters.expand_weight, parameters.expand_bias);
  if (!by_sample(problem.batch, parallel.slots))
    return attention_stages(problem, tensors, gate, space, problem.batch,
                            [&](int64_t count, int64_t grain, const auto& body) {
                              for_ranges(parallel, count, grain, body);
                            });
  const int64_t map = problem.channels * pixels_of(problem), gates = 3 * problem.channels;
  const int64_t grain = grain_of(kWorthOfProducts, problem.channels, mix_of(problem).members(), pixels_of(problem));
  for_ranges(parallel, problem.batch, grain, [&](int64_t slot, int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      AttentionForward<T> sample = tensors;
      sample.u += n * map, sample.y += n * map, sample.a1 += n * map, sample.a2 += n * map;
      sample.mean += n * gates, sample.scale += n * gates;
      attention_stages(problem, sample, gate, space, 1,
                       [&](int64_t count, int64_t, const auto& body) { body(slot, int64_t{0}, count); });
    }
  });
}

}  // namespace
}  // namespace lkops
