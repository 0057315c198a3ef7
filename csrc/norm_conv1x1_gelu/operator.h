// norm_conv1x1_gelu, forward and backward, over the tiles of a batch.
#pragma once

#include "norm_conv1x1_gelu/cpu.h"
#include "norm_conv1x1_gelu/tiles.h"

namespace lkops {
namespace {

// Of runs of so many tiles.
inline int64_t projection_grain(const ProjectionProblem& problem, int64_t tiles) {
  return grain_of(kWorthOfProducts, problem.channels, problem.outputs, kTilePixels, tiles);
}

// The conv's weight for `multiply`: where it lies if its rows consist of E, else made in `room`, which may be null only
// for floats.
inline Weights<float> conv_weights(const float* matrix, int64_t, int64_t depth, float*) { return {matrix, depth, 1}; }
inline Weights<float> conv_weights(const BFloat16* matrix, int64_t rows, int64_t depth, float* room) {
  return {as_floats(matrix, rows * depth, room), depth, 1};
}
inline Weights<Pair> conv_weights(const BFloat16* matrix, int64_t rows, int64_t depth, Pair* room) {
  if (depth % 2 == 0 && reinterpret_cast<uintptr_t>(matrix) % sizeof(Pair) == 0)
    return {reinterpret_cast<const Pair*>(matrix), depth / 2, 1};
  prepare(matrix, depth, 1, rows, depth, nullptr, room);
  return {room, depth_of<Pair>(depth), 1};
}

// Parameters as the tiles read them.
template <class T>
struct ProjectionSpace {
  using E = Element<T>;
  static constexpr int64_t kWide = __is_same(T, float) ? 0 : 1;

  ProjectionSpace(const ProjectionProblem& problem, Workspace& memory)
      : gamma_room(memory.take<float>(kWide * problem.channels)),
        beta_room(memory.take<float>(kWide * problem.channels)),
        bias_room(memory.take<float>(kWide * problem.outputs)),
        weight_room(memory.take<E>(kWide * problem.outputs * depth_of<E>(problem.channels))) {}

  float *gamma_room, *beta_room, *bias_room;
  E* weight_room;
};

// ---- forward --------------------------------------------------------------------------------------------------------

// A slab beside the floats that it is made from, or in their place.
template <class E>
E* take_slab(Workspace& memory, int64_t channels, float* centred) {
  if constexpr (__is_same(E, float))
    return centred;
  else
    return memory.take<E>(depth_of<E>(channels) * kTilePixels);
}

template <class E>
struct ForwardRoom {
  ForwardRoom(const ProjectionProblem& problem, Workspace& memory)
      : centred(memory.take<float>(problem.channels * kTilePixels)),
        slab(take_slab<E>(memory, problem.channels, centred)),
        product(memory.take<float>(kProductBlock * kTilePixels)) {}

  float* centred;
  E* slab;
  float* product;
};

template <class Room>
int64_t room_bytes(const ProjectionProblem& problem) {
  Workspace memory;
  Room(problem, memory);
  return memory.bytes();
}

template <class T>
int64_t projection_forward_bytes(const ProjectionProblem& problem, int64_t slots) {
  Workspace memory;
  ProjectionSpace<T>(problem, memory);
  memory.take<char>(slots * room_bytes<ForwardRoom<Element<T>>>(problem));
  return memory.bytes();
}

template <class T>
void projection_forward(const ProjectionProblem& problem, const ProjectionParameters<T>& parameters, const T* x, T* u,
                        const Parallel& parallel, void* scratch) {
  using E = Element<T>;
  Workspace memory(scratch);
  const ProjectionSpace<T> space(problem, memory);
  const int64_t channels = problem.channels, outputs = problem.outputs, pixels = problem.pixels;
  const int64_t slot_bytes = room_bytes<ForwardRoom<E>>(problem);
  char* slots = memory.take<char>(parallel.slots * slot_bytes);
  const float* gamma = as_floats(parameters.gamma, channels, space.gamma_room);
  const float* beta = as_floats(parameters.beta, channels, space.beta_room);
  const float* bias = as_floats(parameters.bias, outputs, space.bias_room);
  const Weights<E> weights = conv_weights(parameters.weight, outputs, channels, space.weight_room);
  const Tiles tiles(pixels);
  for_ranges(parallel, problem.batch * tiles.count, projection_grain(problem, 1),
             [&](int64_t slot, int64_t first, int64_t last) {
               Workspace of_slot(slots + slot * slot_bytes);
               const ForwardRoom<E> room(problem, of_slot);
               for (int64_t item = first; item < last; ++item) {
                 const int64_t n = item / tiles.count;
                 const Place place(tiles, item % tiles.count);
                 load_normalised(x + n * channels * pixels, pixels, place, channels, problem.eps, gamma, beta,
                                 room.centred, room.slab);
                 project_rows(weights, bias, outputs, depth_of<E>(channels), room.slab, place, pixels, room.product,
                              u + n * outputs * pixels, static_cast<T*>(nullptr));
               }
             });
}

// ---- backward -------------------------------------------------------------------------------------------------------

// The tiles of a batch in chunks, each of which sums its tiles' part of the parameters' gradients: as many as the
// problem, not the number of threads, says.
inline int64_t projection_chunks(int64_t items) { return items < 1 ? 1 : items < 16 ? items : 16; }

// Tiles whose sums are added one by one; a chunk of more adds such partial sums.
constexpr int64_t kTilesOfSum = 64;

template <class E>
struct BackwardRoom {
  BackwardRoom(const ProjectionProblem& problem, Workspace& memory)
      : xhat(memory.take<float>(problem.channels * kTilePixels)),
        dt(memory.take<float>(problem.outputs * kTilePixels)),
        slab(memory.take<char>(round_up_to_lanes(problem.channels) * kTilePixels * 4)),
        product(memory.take<float>(kProductBlock * kTilePixels)),
        rstd(memory.take<float>(kTilePixels)),
        partial(memory.take<float>(sums_floats(problem.outputs, problem.channels))) {}

  E* normalised() const { return reinterpret_cast<E*>(slab); }
  float* transposed() const { return reinterpret_cast<float*>(slab); }
  float* dz() const { return reinterpret_cast<float*>(slab); }

  float *xhat, *dt;
  char* slab;
  float *product, *rstd, *partial;
};

// The floats in which chunks sum, and the weight widened for the product with its transpose.
template <class T>
struct GradientSpace {
  GradientSpace(const ProjectionProblem& problem, Workspace& memory)
      : chunks(projection_chunks(problem.batch * Tiles(problem.pixels).count)),
        sums(memory.take<float>(chunks * sums_floats(problem.outputs, problem.channels))),
        weight_room(memory.take<float>(ProjectionSpace<T>::kWide * problem.outputs * problem.channels)) {}

  int64_t chunks;
  float *sums, *weight_room;
};

template <class T>
int64_t projection_backward_bytes(const ProjectionProblem& problem, int64_t slots) {
  Workspace memory;
  ProjectionSpace<T>(problem, memory);
  GradientSpace<T>(problem, memory);
  memory.take<char>(slots * room_bytes<BackwardRoom<Element<T>>>(problem));
  return memory.bytes();
}

template <class T>
void projection_backward(const ProjectionProblem& problem, const ProjectionParameters<T>& parameters, const T* x,
                         const T* du, const ProjectionResults<T>& results, const Parallel& parallel, void* scratch) {
  using E = Element<T>;
  Workspace memory(scratch);
  const ProjectionSpace<T> space(problem, memory);
  const GradientSpace<T> sums_space(problem, memory);
  const int64_t channels = problem.channels, outputs = problem.outputs, pixels = problem.pixels;
  const int64_t slot_bytes = room_bytes<BackwardRoom<E>>(problem);
  char* slots = memory.take<char>(parallel.slots * slot_bytes);
  const float* gamma = as_floats(parameters.gamma, channels, space.gamma_room);
  const float* beta = as_floats(parameters.beta, channels, space.beta_room);
  const float* bias = as_floats(parameters.bias, outputs, space.bias_room);
  const Weights<E> weights = conv_weights(parameters.weight, outputs, channels, space.weight_room);
  const float* wide = results.x == nullptr && __is_same(E, Pair)
                          ? nullptr
                          : as_floats(parameters.weight, outputs * channels, sums_space.weight_room);
  const ProjectionGradients<T> gradients{results.gamma, results.beta, results.weight, results.bias};
  const bool has_norm = results.gamma != nullptr || results.beta != nullptr;
  const bool sums_wanted = has_norm || results.weight != nullptr || results.bias != nullptr;
  const Tiles tiles(pixels);
  const int64_t items = problem.batch * tiles.count, chunks = sums_space.chunks;
  const int64_t step = sums_floats(outputs, channels);

  const auto run_tile = [&](const BackwardRoom<E>& room, int64_t item, float* sums, bool is_first) {
    const int64_t n = item / tiles.count;
    const Place place(tiles, item % tiles.count);
    float* bias_sums = sums == nullptr ? nullptr : bias_sums_of(sums, outputs, channels);
    load_xhat(x + n * channels * pixels, pixels, place, channels, problem.eps, room.xhat, room.rstd);
    scale_xhat(room.xhat, place.vectors, channels, gamma, beta, room.normalised());
    load_rows(du + n * outputs * pixels + place.begin, pixels, place, outputs, room.dt);
    for (int64_t first = 0; first < outputs; first += kProductBlock) {
      const int64_t rows = outputs - first < kProductBlock ? outputs - first : kProductBlock;
      multiply_tile(Weights<E>{weights.data + first * weights.row, weights.row, weights.depth}, rows,
                    depth_of<E>(channels), room.normalised(), place.vectors, room.product);
      times_gelu_slope(room.product, kTilePixels, place, rows, room.dt + first * kTilePixels,
                       bias_sums == nullptr ? nullptr : bias_sums + first * kLanes,
                       bias == nullptr ? nullptr : bias + first);
    }
    if (sums != nullptr) {
      transpose_tile(room.xhat, kTilePixels, channels, place.vectors, room.transposed(), round_up_to_lanes(channels));
      add_outer(room.dt, outputs, place.vectors, room.transposed(), channels, sums, !is_first);
    }
    if (results.x != nullptr) {
      multiply_tile(Weights<float>{wide, 1, channels}, channels, outputs, room.dt, place.vectors, room.dz());
      norm_backward(room.dz(), room.xhat, room.rstd, gamma, channels, place, pixels, static_cast<const T*>(nullptr),
                    results.x + n * channels * pixels);
    }
  };

  const int64_t tiles_of_chunk = items < 1 ? 1 : (items + chunks - 1) / chunks;
  const int64_t grain = projection_grain(problem, tiles_of_chunk);
  for_ranges(parallel, chunks, grain, [&](int64_t slot, int64_t first, int64_t last) {
    Workspace of_slot(slots + slot * slot_bytes);
    const BackwardRoom<E> room(problem, of_slot);
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t begin = chunk * items / chunks, end = (chunk + 1) * items / chunks;
      if (!sums_wanted) {
        for (int64_t item = begin; item < end; ++item) run_tile(room, item, nullptr, false);
        continue;
      }
      float* sums = sums_space.sums + chunk * step;
      for (int64_t i = 0; i < step && begin == end; ++i) sums[i] = 0.0f;
      for (int64_t part = begin; part < end; part += kTilesOfSum) {
        float* to = part == begin ? sums : room.partial;
        float* bias_sums = bias_sums_of(to, outputs, channels);
        for (int64_t i = 0; i < outputs * kLanes; ++i) bias_sums[i] = 0.0f;
        for (int64_t item = part; item < end && item < part + kTilesOfSum; ++item)
          run_tile(room, item, to, item == part);
        for (int64_t i = 0; i < step && to != sums; ++i) sums[i] += to[i];
      }
    }
  });
  if (!sums_wanted) return;
  const int64_t row_grain = grain_of(kWorthOfNumbers, chunks, round_up_to_lanes(channels));
  for_ranges(parallel, outputs, row_grain, [&](int64_t, int64_t first, int64_t last) {
    finish_outputs(sums_space.sums, chunks, outputs, channels, gamma, beta, gradients, first, last);
  });
  if (has_norm) finish_channels(sums_space.sums, outputs, channels, parameters.weight, gradients, 0, channels);
}

}  // namespace
}  // namespace lkops
