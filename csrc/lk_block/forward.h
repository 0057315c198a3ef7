// Forward of the block in three stages: tiles (layer norm, 1x1 conv, GELU), planes (the depthwise convs), tiles (mix,
// product with u, output conv, residual). The last two are the attention's.
#pragma once

#include "large_kernel_channel_attention/forward.h"
#include "lk_block/cpu.h"
#include "norm_conv1x1_gelu/tiles.h"

namespace lkops {
namespace {

// ---- weights of 1x1 convs -------------------------------------------------------------------------------------------

// Elements of memory that `weights_of` needs.
template <class T, class E>
int64_t weights_elements(int64_t rows, int64_t depth) {
  return __is_same(T, float) ? 0 : rows * depth_of<E>(depth);
}

// A dense (rows, depth) matrix for `multiply`: where it lies if its rows consist of E, else in `room`.
inline Weights<float> weights_of(const float* matrix, int64_t, int64_t depth, float*) { return {matrix, depth, 1}; }
inline Weights<float> weights_of(const BFloat16* matrix, int64_t rows, int64_t depth, float* room) {
  widen_row(matrix, rows * depth, room);
  return {room, depth, 1};
}
inline Weights<Pair> weights_of(const BFloat16* matrix, int64_t rows, int64_t depth, Pair* room) {
  if (depth % 2 == 0 && reinterpret_cast<uintptr_t>(matrix) % sizeof(Pair) == 0)
    return {reinterpret_cast<const Pair*>(matrix), depth / 2, 1};
  prepare(matrix, depth, 1, rows, depth, nullptr, room);
  return {room, depth_of<Pair>(depth), 1};
}

// ---- memory ---------------------------------------------------------------------------------------------------------

// Memory of one thread in the first stage.
template <class T, class E>
struct ProjectionRoom {
  ProjectionRoom(const BlockProblem& problem, Workspace& memory)
      : centred(memory.take<float>(problem.channels * kTilePixels)),
        slab(in_place(memory, problem)),
        product(memory.take<float>(kProductBlock * kTilePixels)) {}

  E* in_place(Workspace& memory, const BlockProblem& problem) {
    if constexpr (__is_same(E, float))
      return centred;
    else
      return memory.take<E>(depth_of<E>(problem.channels) * kTilePixels);
  }

  float* centred;
  E* slab;
  float* product;
};

// Memory of one thread in the last.
template <class T, class E>
struct OutputRoom {
  OutputRoom(const BlockProblem& problem, Workspace& memory)
      : mix(problem.attention, memory), product(memory.take<float>(kProductBlock * kTilePixels)) {}

  MixRoom<T, E> mix;
  float* product;
};

template <class T>
struct BlockSpace {
  using E = Element<T>;

  BlockSpace(const BlockProblem& problem, bool saving, int64_t slots, Workspace& memory) {
    const AttentionProblem& inner = problem.attention;
    const int64_t samples = by_sample(inner.batch, slots) ? slots : inner.batch;
    gate = memory.take<float>(gate_floats(3 * inner.channels, inner.hidden));
    gamma = memory.take<float>(problem.channels), beta = memory.take<float>(problem.channels);
    in_bias = memory.take<float>(inner.channels);
    in_weights = memory.take<E>(weights_elements<T, E>(inner.channels, problem.channels));
    out_weights = memory.take<E>(weights_elements<T, E>(problem.channels, inner.channels));
    map = inner.channels * pixels_of(inner), gates = 3 * inner.channels;
    maps.u = u = memory.take<T>(samples * map);
    maps.a1 = saving ? nullptr : memory.take<T>(samples * map);
    maps.a2 = saving ? nullptr : memory.take<T>(samples * map);
    maps.mean = saving ? nullptr : memory.take<float>(samples * gates);
    maps.scale = saving ? nullptr : memory.take<float>(samples * gates);
    Workspace first, planes, last;
    ProjectionRoom<T, E>(problem, first);
    PlaneRoom(inner, planes);
    OutputRoom<T, E>(problem, last);
    slot_bytes = larger(first.bytes(), larger(planes.bytes(), last.bytes()));
    slot_memory = memory.take<char>(slots * slot_bytes);
  }

  Workspace slot(int64_t i) const { return Workspace(slot_memory + i * slot_bytes); }

  float *gate, *gamma, *beta, *in_bias;
  E *in_weights, *out_weights;
  int64_t map, gates;      // elements of a sample
  T* u;                    // maps.u, to be written
  AttentionMaps<T> maps;   // those that are not results: of all samples, or of one per thread
  int64_t slot_bytes;
  char* slot_memory;
};

template <class T>
int64_t block_forward_bytes(const BlockProblem& problem, bool saving, int64_t slots) {
  Workspace memory;
  BlockSpace<T>(problem, saving, slots, memory);
  return memory.bytes();
}

// ---- the last stage -------------------------------------------------------------------------------------------------

// w = (v + bias) u, as elements for the output conv, whose room may be that of v: a row of pairs lies where a row of v
// was that has been read.
template <class T, class E>
void times_u(const AttentionProblem& problem, const T* bias, const T* u, const Place& place, float* v, E* w) {
  const int64_t pixels = pixels_of(problem);
  for (int64_t c = 0; c < problem.channels; c += 2) {
    const bool has_odd = c + 1 < problem.channels;
    const T* row = u + c * pixels + place.begin;
    const Floats even_shift = broadcast(bias_at(bias, c));
    const Floats odd_shift = broadcast(has_odd ? bias_at(bias, c + 1) : 0.0f);
    const float* from = v + c * kTilePixels;
    for (int i = 0; i < place.vectors; ++i) {
      const int64_t at = i * kLanes, lanes = place.lanes_of(i);
      const Floats even = (load(from + at) + even_shift) * load_lanes(row + at, lanes);
      Floats odd{};
      if (has_odd) odd = (load(from + kTilePixels + at) + odd_shift) * load_lanes(row + pixels + at, lanes);
      put(w + depth_of<E>(c) * kTilePixels + at, kTilePixels, even, odd, has_odd);
    }
  }
}

// y = x + keep (W w + bias) for a tile; x and y are first planes of a sample.
template <class T, class E>
void residual_tile(const Weights<E>& weights, const T* bias, float keep, int64_t outputs, int64_t depth, const E* w,
                   const Place& place, int64_t pixels, float* product, const T* x, T* y) {
  for (int64_t first = 0; first < outputs; first += kProductBlock) {
    const int64_t rows = outputs - first < kProductBlock ? outputs - first : kProductBlock;
    multiply_tile(Weights<E>{weights.data + first * weights.row, weights.row, weights.depth}, rows, depth, w,
                  place.vectors, product);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = (first + r) * pixels + place.begin;
      const Floats shift = broadcast(bias_at(bias, first + r));
      for (int i = 0; i < place.vectors; ++i) {
        const int64_t at = row + i * kLanes, lanes = place.lanes_of(i);
        const Floats branch = load(product + r * kTilePixels + i * kLanes) + shift;
        store_lanes(y + at, fma(branch, broadcast(keep), load_lanes(x + at, lanes)), lanes);
      }
    }
  }
}

// ---- the operator ---------------------------------------------------------------------------------------------------

// The parameters as the stages take them.
template <class T>
struct BlockOperands {
  using E = Element<T>;

  BlockOperands(const BlockProblem& problem, const BlockParameters<T>& parameters, const BlockSpace<T>& space)
      : gamma(as_floats(parameters.norm_weight, problem.channels, space.gamma)),
        beta(as_floats(parameters.norm_bias, problem.channels, space.beta)),
        in_bias(as_floats(parameters.in_bias, problem.attention.channels, space.in_bias)),
        in_weights(weights_of(parameters.in_weight, problem.attention.channels, problem.channels, space.in_weights)),
        out_weights(
            weights_of(parameters.out_weight, problem.channels, problem.attention.channels, space.out_weights)),
        gate(make_gate(space.gate, 3 * problem.attention.channels, problem.attention.hidden,
                       parameters.attention.reduce_weight, parameters.attention.reduce_bias,
                       parameters.attention.expand_weight, parameters.attention.expand_bias)) {}

  const float *gamma, *beta, *in_bias;
  Weights<E> in_weights, out_weights;
  Gate gate;
};

// All stages for some samples, the first of which the tensors and maps begin with; `u` is maps.u. `run(count, grain,
// body)` is a for_ranges.
template <class T, class Run>
void block_stages(const BlockProblem& problem, const BlockForward<T>& tensors, const AttentionMaps<T>& maps, T* u,
                  const BlockOperands<T>& operands, const BlockSpace<T>& space, int64_t samples, const Run& run) {
  using E = Element<T>;
  const AttentionProblem& inner = problem.attention;
  const BlockParameters<T>& parameters = tensors.parameters;
  const AttentionParameters<T>& attention = parameters.attention;
  const int64_t pixels = pixels_of(inner), outer = problem.channels, width = inner.channels;
  const Tiles tiles(pixels);
  const int64_t projection_grain = grain_of(kWorthOfProducts, outer, width, kTilePixels);
  run(samples * tiles.count, projection_grain, [&](int64_t slot, int64_t first, int64_t last) {
    Workspace of_slot = space.slot(slot);
    const ProjectionRoom<T, E> room(problem, of_slot);
    for (int64_t item = first; item < last; ++item) {
      const int64_t n = item / tiles.count, map = n * width * pixels;
      const Place place(tiles, item % tiles.count);
      load_normalised(tensors.x + n * outer * pixels, pixels, place, outer, problem.eps, operands.gamma, operands.beta,
                      room.centred, room.slab);
      project_rows(operands.in_weights, operands.in_bias, width, depth_of<E>(outer), room.slab, place, pixels,
                   room.product, u + map, tensors.t == nullptr ? nullptr : tensors.t + map);
    }
  });
  run(samples * width, plane_grain(inner), [&](int64_t slot, int64_t first, int64_t last) {
    attention_planes(inner, attention, maps, space.slot(slot), first, last);
  });
  const int64_t output_grain = grain_of(kWorthOfProducts, mix_of(inner).members() + outer, width, kTilePixels);
  run(samples * tiles.count, output_grain, [&](int64_t slot, int64_t first, int64_t last) {
    Workspace of_slot = space.slot(slot);
    const OutputRoom<T, E> room(problem, of_slot);
    attention_tiles(inner, operands.gate, attention.mix_weight, maps, room.mix, first, last,
                    [&](int64_t n, const Place& place, float* v) {
                      E* w = reinterpret_cast<E*>(v);
                      times_u(inner, attention.mix_bias, maps.u + n * width * pixels, place, v, w);
                      const float keep = parameters.keep == nullptr ? 1.0f : bias_at(parameters.keep, n);
                      const int64_t sample = n * outer * pixels;
                      residual_tile(operands.out_weights, parameters.out_bias, keep, outer, depth_of<E>(width), w,
                                    place, pixels, room.product, tensors.x + sample, tensors.y + sample);
                    });
  });
}

template <class T>
void block_forward(const BlockProblem& problem, const BlockForward<T>& tensors, const Parallel& parallel,
                   void* scratch) {
  const bool saving = tensors.a1 != nullptr;
  const int64_t batch = problem.attention.batch;
  Workspace memory(scratch);
  const BlockSpace<T> space(problem, saving, parallel.slots, memory);
  const BlockOperands<T> operands(problem, tensors.parameters, space);
  const auto maps_of = [&](const BlockForward<T>& of) {
    return saving ? AttentionMaps<T>{space.u, of.a1, of.a2, of.mean, of.scale} : space.maps;
  };
  if (!by_sample(batch, parallel.slots))
    return block_stages(problem, tensors, maps_of(tensors), space.u, operands, space, batch,
                        [&](int64_t count, int64_t grain, const auto& body) {
                          for_ranges(parallel, count, grain, body);
                        });
  const int64_t pixels = pixels_of(problem.attention), outer = problem.channels * pixels;
  const int64_t grain = grain_of(kWorthOfProducts, problem.channels, problem.attention.channels, pixels);
  for_ranges(parallel, batch, grain, [&](int64_t slot, int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      BlockForward<T> sample = tensors;
      sample.x += n * outer, sample.y += n * outer;
      if (sample.parameters.keep != nullptr) sample.parameters.keep += n;
      if (saving) {
        sample.t += n * space.map, sample.a1 += n * space.map, sample.a2 += n * space.map;
        sample.mean += n * space.gates, sample.scale += n * space.gates;
      }
      AttentionMaps<T> maps = maps_of(sample);
      T* u = space.u + slot * space.map;
      maps.u = u;
      if (!saving) {
        maps.a1 += slot * space.map, maps.a2 += slot * space.map;
        maps.mean += slot * space.gates, maps.scale += slot * space.gates;
      }
      block_stages(problem, sample, maps, u, operands, space, 1,
                   [&](int64_t count, int64_t, const auto& body) { body(slot, int64_t{0}, count); });
    }
  });
}

}  // namespace
}  // namespace lkops
