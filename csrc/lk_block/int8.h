// Forward of the block with products of whole numbers of 8 bits, between features of bfloat16. Stages as in forward.h;
// what is rounded, and the steps of it, are found on the way:
//
//     the projection's and the output conv's inputs: 127 steps of the largest of each pixel (norm_conv1x1_gelu/quads.h)
//     the mix's inputs u, a1 and a2: 255 steps of each plane from its least value to its largest, 0 among them
//     the mix's weights: 127 steps of the largest of each output, when the gate and the steps of the planes are in them
#pragma once

#include "large_kernel_channel_attention/int8.h"
#include "lk_block/forward.h"
#include "norm_conv1x1_gelu/quads.h"

namespace lkops {
namespace {

// ---- memory ---------------------------------------------------------------------------------------------------------

struct Int8ProjectionRoom {
  Int8ProjectionRoom(const BlockProblem& problem, Workspace& memory)
      : normalised(memory.take<float>(problem.channels * kTilePixels)),
        slab(memory.take<Quad>(depth_of<Quad>(problem.channels) * kTilePixels)),
        product(memory.take<int32_t>(kProductBlock * kTilePixels)) {}

  float* normalised;
  Quad* slab;
  int32_t* product;
};

struct Int8OutputRoom {
  Int8OutputRoom(const BlockProblem& problem, Workspace& memory)
      : mix(problem.attention, memory),
        slab(memory.take<Quad>(depth_of<Quad>(problem.attention.channels) * kTilePixels)),
        product(memory.take<int32_t>(kProductBlock * kTilePixels)) {}

  Int8MixRoom mix;
  Quad* slab;
  int32_t* product;
};

struct Int8BlockSpace {
  Int8BlockSpace(const BlockProblem& problem, int64_t slots, Workspace& memory) {
    const AttentionProblem& inner = problem.attention;
    const int64_t width = inner.channels, outer = problem.channels;
    gate = memory.take<float>(gate_floats(3 * width, inner.hidden));
    gamma = memory.take<float>(outer), beta = memory.take<float>(outer), in_bias = memory.take<float>(width);
    in_weights = memory.take<Quad>(weight_quads(width, outer)), in_offsets = memory.take<int32_t>(width);
    out_weights = memory.take<Quad>(weight_quads(outer, width)), out_offsets = memory.take<int32_t>(outer);
    u = memory.take<BFloat16>(width * pixels_of(inner));
    maps.stride = byte_stride(pixels_of(inner));
    maps.bytes = memory.take<uint8_t>(3 * width * maps.stride);
    maps.mean = memory.take<float>(3 * width), maps.step = memory.take<float>(3 * width);
    maps.zero = memory.take<int32_t>(3 * width);
    Workspace first, planes, last;
    Int8ProjectionRoom(problem, first);
    PlaneRoom(inner, planes);
    Int8OutputRoom(problem, last);
    slot_bytes = larger(first.bytes(), larger(planes.bytes(), last.bytes()));
    slot_memory = memory.take<char>(slots * slot_bytes);
  }

  Workspace slot(int64_t i) const { return Workspace(slot_memory + i * slot_bytes); }

  float *gate, *gamma, *beta, *in_bias;
  Quad *in_weights, *out_weights;
  int32_t *in_offsets, *out_offsets;
  BFloat16* u;
  ByteMaps maps;
  int64_t slot_bytes;
  char* slot_memory;
};

inline int64_t block_int8_bytes(const BlockProblem& problem, int64_t slots) {
  Workspace memory;
  Int8BlockSpace(problem, slots, memory);
  return memory.bytes();
}

// ---- the first stage ------------------------------------------------------------------------------------------------

// u = gelu(W z + bias) for a tile.
inline void project_quads(const QuadWeights& weights, const float* bias, int64_t outputs, int64_t depth,
                          const Quad* slab, const float* step, const Place& place, int64_t pixels, int32_t* product,
                          BFloat16* u) {
  for (int64_t first = 0; first < outputs; first += kProductBlock) {
    const int64_t rows = outputs - first < kProductBlock ? outputs - first : kProductBlock;
    const Weights<Quad>& w = weights.w;
    multiply_tile(Weights<Quad>{w.data + first * w.row, w.row, w.depth}, rows, depth, slab, place.vectors, product);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t m = first + r;
      const Floats shift = broadcast(bias == nullptr ? 0.0f : bias[m]);
      BFloat16* to = u + m * pixels + place.begin;
      for (int v = 0; v < place.vectors; ++v) {
        const int64_t at = v * kLanes;
        const Floats value =
            product_of(product + r * kTilePixels + at, weights.offsets[m], weights.scale[m], step + at);
        store_lanes(to + at, gelu(value + shift), place.lanes_of(v));
      }
    }
  }
}

// ---- the last stage -------------------------------------------------------------------------------------------------

// w = (scale v + bias) u, in the place of v.
inline float* times_u(const AttentionProblem& problem, const BFloat16* bias, const BFloat16* u, const Place& place,
                      const Int8MixRoom& room) {
  float* w = reinterpret_cast<float*>(room.v);
  for (int64_t c = 0; c < problem.channels; ++c) {
    const Floats shift = broadcast(bias_at(bias, c)), scale = broadcast(room.scale[c]);
    const BFloat16* row = u + c * pixels_of(problem) + place.begin;
    for (int i = 0; i < place.vectors; ++i) {
      const int64_t at = c * kTilePixels + i * kLanes;
      const Floats mixed = fma(to_floats(load(room.v + at) - room.offsets[c]), scale, shift);
      store(w + at, mixed * load_lanes(row + i * kLanes, place.lanes_of(i)));
    }
  }
  return w;
}

// y = x + W w + bias for a tile; x and y are first planes.
inline void residual_quads(const QuadWeights& weights, const BFloat16* bias, int64_t outputs, int64_t depth,
                           const float* step, const Place& place, int64_t pixels, const Int8OutputRoom& room,
                           const BFloat16* x, BFloat16* y) {
  for (int64_t first = 0; first < outputs; first += kProductBlock) {
    const int64_t rows = outputs - first < kProductBlock ? outputs - first : kProductBlock;
    const Weights<Quad>& w = weights.w;
    multiply_tile(Weights<Quad>{w.data + first * w.row, w.row, w.depth}, rows, depth, room.slab, place.vectors,
                  room.product);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t m = first + r, row = m * pixels + place.begin;
      const Floats shift = broadcast(bias_at(bias, m));
      for (int i = 0; i < place.vectors; ++i) {
        const int64_t at = i * kLanes, lanes = place.lanes_of(i);
        const Floats branch =
            product_of(room.product + r * kTilePixels + at, weights.offsets[m], weights.scale[m], step + at);
        store_lanes(y + row + at, load_lanes(x + row + at, lanes) + (branch + shift), lanes);
      }
    }
  }
}

// ---- the operator ---------------------------------------------------------------------------------------------------

// A sample.
inline void block_int8_sample(const BlockProblem& problem, const BlockInt8& tensors, const Int8BlockSpace& space,
                              const QuadWeights& in, const QuadWeights& out, const Gate& gate, const BFloat16* x,
                              BFloat16* y, const Parallel& parallel) {
  const AttentionProblem& inner = problem.attention;
  const BlockParameters<BFloat16>& parameters = tensors.parameters;
  const int64_t pixels = pixels_of(inner), outer = problem.channels, width = inner.channels;
  const Tiles tiles(pixels);
  const float* gamma = as_floats(parameters.norm_weight, outer, space.gamma);
  const float* beta = as_floats(parameters.norm_bias, outer, space.beta);
  const float* in_bias = as_floats(parameters.in_bias, width, space.in_bias);
  for_ranges(parallel, tiles.count, grain_of(kWorthOfProducts, outer, width, kTilePixels),
             [&](int64_t slot, int64_t first, int64_t last) {
               Workspace memory = space.slot(slot);
               const Int8ProjectionRoom room(problem, memory);
               for (int64_t tile = first; tile < last; ++tile) {
                 const Place place(tiles, tile);
                 float step[kTilePixels];
                 load_normalised(x, pixels, place, outer, problem.eps, gamma, beta, room.normalised, room.normalised);
                 put_rows(room.normalised, outer, place.vectors, room.slab, step);
                 project_quads(in, in_bias, width, depth_of<Quad>(outer), room.slab, step, place, pixels, room.product,
                               space.u);
               }
             });
  for_ranges(parallel, width, plane_grain(inner), [&](int64_t slot, int64_t first, int64_t last) {
    byte_planes(inner, parameters.attention, space.u, space.maps, space.slot(slot), first, last);
  });
  const Mix mix = mix_of(inner);
  for_ranges(parallel, tiles.count, grain_of(kWorthOfProducts, mix.members() + outer, width, kTilePixels),
             [&](int64_t slot, int64_t first, int64_t last) {
               Workspace memory = space.slot(slot);
               const Int8OutputRoom room(problem, memory);
               mix_order(mix, room.mix.order);
               gate_forward(gate, space.maps.mean, room.mix.hidden, room.mix.gate);
               fold_quads(mix, parameters.attention.mix_weight, space.maps, room.mix);
               for (int64_t tile = first; tile < last; ++tile) {
                 const Place place(tiles, tile);
                 float step[kTilePixels];
                 mix_quads(mix, space.maps, place, room.mix);
                 const float* w = times_u(inner, parameters.attention.mix_bias, space.u, place, room.mix);
                 put_rows(w, width, place.vectors, room.slab, step);
                 residual_quads(out, parameters.out_bias, outer, depth_of<Quad>(width), step, place, pixels, room, x,
                                y);
               }
             });
}

inline void block_int8(const BlockProblem& problem, const BlockInt8& tensors, const Parallel& parallel, void* scratch) {
  const AttentionProblem& inner = problem.attention;
  const int64_t width = inner.channels, outer = problem.channels, map = outer * pixels_of(inner);
  Workspace memory(scratch);
  const Int8BlockSpace space(problem, parallel.slots, memory);
  const BlockParameters<BFloat16>& parameters = tensors.parameters;
  const AttentionParameters<BFloat16>& attention = parameters.attention;
  const QuadWeights in = quad_weights(tensors.in_weight, tensors.in_scale, width, outer, space.in_weights,
                                      space.in_offsets);
  const QuadWeights out = quad_weights(tensors.out_weight, tensors.out_scale, outer, width, space.out_weights,
                                       space.out_offsets);
  const Gate gate = make_gate(space.gate, 3 * width, inner.hidden, attention.reduce_weight, attention.reduce_bias,
                              attention.expand_weight, attention.expand_bias);
  for (int64_t n = 0; n < inner.batch; ++n)
    block_int8_sample(problem, tensors, space, in, out, gate, tensors.x + n * map, tensors.y + n * map, parallel);
}

}  // namespace
}  // namespace lkops
