// Backward of the attention in three stages, which the block runs between its own: tiles (mix_backward.h), planes (the
// gate of a sample, then both depthwise convs), and the sums of what the chunks and planes have for the parameters.
#pragma once

#include "large_kernel_channel_attention/forward.h"
#include "large_kernel_channel_attention/mix_backward.h"

namespace lkops {
namespace {

// ---- gate and planes ------------------------------------------------------------------------------------------------

// What the stage of planes reads and writes. Gradients of parameters that are null are not wanted.
template <class T>
struct CascadeStage {
  const AttentionProblem* problem;
  const MixStage<T>* mix;  // its maps du, da1 and da2 lack what comes from here; du is completed in place
  const float* mix_parts;  // what its chunks sum per sample
  const AttentionParameters<T>* parameters;
  AttentionGradients<T> gradients;
  Gate gate;
  const float* mean;
  float *hidden, *dhidden, *dz;  // of all samples
  float* plane_sums;             // per plane: dw1, dw2, db1, db2
  T* du;                         // where the completed du goes, besides; or null

  int64_t taps1() const { return problem->rows1 * problem->columns1; }
  int64_t taps2() const { return problem->rows2 * problem->columns2; }
  int64_t plane_floats() const { return round_up_to_lanes(taps1() + taps2() + 2); }
  bool wants_first() const { return gradients.dw1_weight != nullptr || gradients.dw1_bias != nullptr; }
  bool wants_second() const { return gradients.dw2_weight != nullptr || gradients.dw2_bias != nullptr; }
};

// Memory of one thread.
struct CascadeRoom {
  CascadeRoom(const AttentionProblem& problem, Workspace& memory)
      : margin(larger(margin_of(size_of(problem), first_window(problem)),
                      margin_of(size_of(problem), second_window(problem)))) {
    const int64_t padded = padded_floats(size_of(problem), margin), across = 3 * problem.channels;
    x = memory.take<float>(padded), da1 = memory.take<float>(padded), da2 = memory.take<float>(padded);
    const int64_t taps1 = problem.rows1 * problem.columns1, taps2 = problem.rows2 * problem.columns2;
    weights = memory.take<float>(larger(taps1, taps2));
    gradient = memory.take<float>(
        larger(gradient_floats(first_window(problem)), gradient_floats(second_window(problem))));
    scale = memory.take<float>(across), dz = memory.take<float>(across), dmean = memory.take<float>(across);
    hidden = memory.take<float>(problem.hidden), dhidden = memory.take<float>(problem.hidden);
  }

  int64_t margin;
  float *x, *da1, *da2;  // padded planes
  float *weights, *gradient;
  float *scale, *dz, *dmean, *hidden, *dhidden;
};

// The gate of sample n: dmean over pixels into the room, what its parameters' gradients need besides where `keeps`.
template <class T>
void gate_of_sample(const CascadeStage<T>& stage, const CascadeRoom& room, int64_t n, bool keeps) {
  const int64_t across = stage.gate.channels, hidden = stage.gate.hidden, step = stage.mix->part_floats();
  const int64_t first = stage.mix->first_part(n), count = stage.mix->last_part(n) - first + 1;
  gate_forward(stage.gate, stage.mean + n * across, room.hidden, room.scale);
  for (int64_t c = 0; c < across; c += kLanes) {
    const int64_t lanes = across - c;
    const Floats scale = load_lanes(stage.mix->scale + n * across + c, lanes);
    const Floats product = sum_of_rows(stage.mix_parts + first * step + c, step, count, lanes);  // s ds
    store_lanes(room.dz + c, product * (1.0f - scale), lanes);
  }
  // the rest of gate_backward, which would divide by the scale and multiply with it again
  gate_dots(stage.gate, stage.gate.w2, room.dz, room.dhidden);
  for (int64_t r = 0; r < hidden; ++r) room.dhidden[r] = room.hidden[r] <= 0 ? 0 : room.dhidden[r];
  const float inverse = 1.0f / static_cast<float>(stage.mix->pixels);
  for (int64_t c = 0; c < across; c += kLanes)
    store_lanes(room.dmean + c, gate_sum(stage.gate, stage.gate.w1, room.dhidden, Floats{}, c) * inverse, across - c);
  if (!keeps) return;
  for (int64_t c = 0; c < across; ++c) stage.dz[n * across + c] = room.dz[c];
  for (int64_t r = 0; r < hidden; ++r) stage.hidden[n * hidden + r] = room.hidden[r];
  for (int64_t r = 0; r < hidden; ++r) stage.dhidden[n * hidden + r] = room.dhidden[r];
}

template <class T>
void fill_map(const PaddedPlane& plane, const PlaneSize& size, const T* x, bool before_gelu) {
  fill(plane, size, x);
  for (int64_t i = 0; before_gelu && i < size.height; ++i)
    for (int64_t j = 0; j < size.width; j += kLanes) {
      float* at = plane.pixels + i * plane.stride + j;
      store_lanes(at, gelu(load_lanes(at, size.width - j)), size.width - j);
    }
}

// Channel c of sample n:
//     da2 += dmean,   da1 += dmean + conv2^T(da2),   du += dmean + conv1^T(da1),   and the weights' gradients.
template <class T>
void cascade_plane(const CascadeStage<T>& stage, const CascadeRoom& room, const PaddedPlane& x, const PaddedPlane& da1,
                   const PaddedPlane& da2, int64_t n, int64_t c) {
  const AttentionProblem& problem = *stage.problem;
  const MixStage<T>& mix = *stage.mix;
  const PlaneSize size = size_of(problem);
  const Window window1 = first_window(problem), window2 = second_window(problem);
  const int64_t taps1 = stage.taps1(), taps2 = stage.taps2();
  const int64_t plane = n * problem.channels + c, at = plane * mix.pixels;
  const float* dmean = room.dmean + c;
  float* sums = stage.plane_sums + plane * stage.plane_floats();
  float* biases = sums + taps1 + taps2;
  fill(da2, size, mix.da2 + at, dmean[2 * problem.channels]);
  if (stage.wants_second()) {
    fill(x, size, mix.a1 + at);
    weight_gradient(size, window2, x, view_of(da2), room.gradient, sums + taps1);
    biases[1] = plane_sum(size, view_of(da2));
  }
  if (!stage.wants_first() && !mix.wants.input) return;
  const PlaneView more = view_of(mix.da1 + at, size);
  const float* weights = as_floats(stage.parameters->dw2_weight + c * taps2, taps2, room.weights);
  correlate(size, window2, flipped(weights, window2), da2, dmean[problem.channels], &more, view_of(da1));
  if (stage.wants_first()) {
    fill_map(x, size, mix.u + at, mix.before_gelu);
    weight_gradient(size, window1, x, view_of(da1), room.gradient, sums);
    biases[0] = plane_sum(size, view_of(da1));
  }
  if (!mix.wants.input) return;
  const PlaneView du = view_of(mix.du + at, size);
  weights = as_floats(stage.parameters->dw1_weight + c * taps1, taps1, room.weights);
  correlate(size, window1, flipped(weights, window1), da1, dmean[0], &du, du);
  if (stage.du != nullptr) copy_out(du, size, stage.du + at);
}

// Planes [first, last) of all samples. A sample's gate costs less than waking threads for it: each thread computes it
// for itself, and the one with the sample's first plane keeps it.
template <class T>
void cascade_backward(const CascadeStage<T>& stage, Workspace memory, int64_t first, int64_t last) {
  const CascadeRoom room(*stage.problem, memory);
  const PlaneSize size = size_of(*stage.problem);
  PaddedPlane x{}, da1{}, da2{};
  if (stage.mix->wants.maps) {
    x = make_padded(room.x, size, room.margin);
    da1 = make_padded(room.da1, size, room.margin), da2 = make_padded(room.da2, size, room.margin);
  }
  int64_t ready = -1;  // the sample whose gate is in the room
  for (int64_t plane = first; plane < last; ++plane) {
    const int64_t n = plane / stage.problem->channels, c = plane % stage.problem->channels;
    if (!stage.mix->wants.maps && c != 0) continue;
    if (n != ready) gate_of_sample(stage, room, n, c == 0);
    ready = n;
    if (stage.mix->wants.maps) cascade_plane(stage, room, x, da1, da2, n, c);
  }
}

// ---- sums for the parameters ----------------------------------------------------------------------------------------

template <class T>
void store_row(const float* from, int64_t count, T* to) {
  if (to == nullptr) return;
  for (int64_t i = 0; i < count; i += kLanes) store_lanes(to + i, load_lanes(from + i, count - i), count - i);
}

// The gradients of channels [first, last) of both depthwise convs, from the sums of all their planes.
template <class T>
void finish_depthwise(const CascadeStage<T>& stage, int64_t first, int64_t last) {
  const int64_t channels = stage.problem->channels, taps1 = stage.taps1(), taps2 = stage.taps2();
  const int64_t row = stage.plane_floats(), step = channels * row;
  const AttentionGradients<T>& to = stage.gradients;
  for (int64_t c = first; c < last; ++c) {
    float* sums = stage.plane_sums + c * row;
    for (int64_t k = 0; k < row; k += kLanes)
      store(sums + k, sum_of_rows(sums + k, step, stage.problem->batch, kLanes));
    store_row(sums, taps1, to.dw1_weight == nullptr ? nullptr : to.dw1_weight + c * taps1);
    store_row(sums + taps1, taps2, to.dw2_weight == nullptr ? nullptr : to.dw2_weight + c * taps2);
    store_row(sums + taps1 + taps2, 1, to.dw1_bias == nullptr ? nullptr : to.dw1_bias + c);
    store_row(sums + taps1 + taps2 + 1, 1, to.dw2_bias == nullptr ? nullptr : to.dw2_bias + c);
  }
}

// run(first, last) for the part of [first, last) that is among the `count` items from `begin` on, counted from there;
// returns where the next items begin.
template <class F>
LKOPS_INLINE int64_t share(int64_t begin, int64_t count, int64_t first, int64_t last, const F& run) {
  const int64_t from = larger(first - begin, 0), to = smaller(last - begin, count);
  if (from < to) run(from, to);
  return begin + count;
}

// All gradients of the attention's parameters are finish_items items of work.
inline int64_t finish_items(const AttentionProblem& problem) { return 5 * problem.channels + problem.hidden; }

template <class T>
void finish_attention(const CascadeStage<T>& stage, const float* mix_sums, int64_t first, int64_t last) {
  const AttentionProblem& problem = *stage.problem;
  const MixStage<T>& mix = *stage.mix;
  const AttentionGradients<T>& to = stage.gradients;
  int64_t begin = share(0, problem.channels, first, last, [&](int64_t from, int64_t end) {
    finish_rows(mix_sums, mix_sums + mix.mix_bias_sums(), mix.chunks().count, mix.sums_floats(), mix.mix.members(),
                to.mix_weight, to.mix_bias, from, end);
  });
  begin = share(begin, problem.channels, first, last, [&](int64_t from, int64_t end) {
    if (stage.wants_first() || stage.wants_second()) finish_depthwise(stage, from, end);
  });
  share(begin, 3 * problem.channels + problem.hidden, first, last, [&](int64_t from, int64_t end) {
    gate_parameters(stage.gate, problem.batch, stage.dz, stage.dhidden, stage.hidden, stage.mean, from, end,
                    to.reduce_weight, to.reduce_bias, to.expand_weight, to.expand_bias);
  });
}

// ---- memory ---------------------------------------------------------------------------------------------------------

// What the stages hand on to each other, beyond the maps.
struct AttentionBackwardSpace {
  template <class T>
  AttentionBackwardSpace(const MixStage<T>& mix, const AttentionProblem& problem, Workspace& memory)
      : gate(memory.take<float>(gate_floats(3 * problem.channels, problem.hidden))),
        weight(memory.take<float>(__is_same(T, float) ? 0 : problem.channels * mix.mix.members())),
        sums(memory.take<float>(mix.chunks().count * mix.sums_floats())),
        parts(memory.take<float>(mix.parts() * mix.part_floats())),
        hidden(memory.take<float>(problem.batch * problem.hidden)),
        dhidden(memory.take<float>(problem.batch * problem.hidden)),
        dz(memory.take<float>(problem.batch * 3 * problem.channels)),
        planes(memory.take<float>(problem.batch * problem.channels *
                                  round_up_to_lanes(problem.rows1 * problem.columns1 +
                                                    problem.rows2 * problem.columns2 + 2))) {}

  float *gate, *weight, *sums, *parts, *hidden, *dhidden, *dz, *planes;
};

template <class T>
MixStage<T> mix_stage(const AttentionProblem& problem) {
  return {mix_of(problem), problem.batch, pixels_of(problem)};
}

// Which of these gradients are wanted, as far as the mix is concerned.
template <class T>
MixWants wants_of(const AttentionGradients<T>& g) {
  MixWants wants{};
  wants.input = g.u != nullptr;
  wants.maps = wants.input || g.dw1_weight || g.dw1_bias || g.dw2_weight || g.dw2_bias;
  wants.scale = wants.maps || g.reduce_weight || g.reduce_bias || g.expand_weight || g.expand_bias;
  wants.weights = g.mix_weight || g.mix_bias;
  return wants;
}

template <class T>
CascadeStage<T> cascade_stage(const AttentionProblem& problem, const MixStage<T>& mix,
                              const AttentionBackwardSpace& space, const AttentionParameters<T>& parameters,
                              const AttentionGradients<T>& gradients, const float* mean) {
  const Gate gate = make_gate(space.gate, 3 * problem.channels, problem.hidden, parameters.reduce_weight,
                              parameters.reduce_bias, parameters.expand_weight, parameters.expand_bias);
  return {&problem, &mix,         space.parts,   &parameters, gradients,    gate, mean,
          space.hidden, space.dhidden, space.dz, space.planes, nullptr};
}

// ---- the stages, each in parallel; slot(i) is a thread's memory -----------------------------------------------------

template <class T, class Slot>
void run_mix(const MixStage<T>& stage, const AttentionBackwardSpace& space, const Parallel& parallel,
             const Slot& slot) {
  for_ranges(parallel, stage.chunks().count, 1, [&](int64_t i, int64_t first, int64_t last) {
    Workspace memory = slot(i);
    const MixBackwardRoom<T> room(stage, memory);
    mix_order(stage.mix, room.order);
    mix_rows(stage.mix, room.order, stage.u, stage.a1, stage.a2, stage.pixels, room.rows);
    for (int64_t chunk = first; chunk < last; ++chunk)
      mix_backward_chunk(stage, room, chunk, space.sums + chunk * stage.sums_floats(), space.parts);
  });
}

template <class T, class Slot>
void run_cascade(const CascadeStage<T>& stage, const Parallel& parallel, const Slot& slot) {
  const AttentionProblem& problem = *stage.problem;
  const int64_t taps = stage.taps1() + stage.taps2();
  const int64_t grain = grain_of(2 * kWorthOfProducts, pixels_of(problem), taps);
  for_ranges(parallel, problem.batch * problem.channels, grain,
             [&](int64_t i, int64_t first, int64_t last) { cascade_backward(stage, slot(i), first, last); });
}

// Rows of parameters that are worth waking a thread for; they are of unlike kinds, each a sum over chunks or planes.
constexpr int64_t kFinishGrain = grain_of(kWorthOfNumbers, 1024);

// ---- the operator ---------------------------------------------------------------------------------------------------

template <class T>
struct AttentionBackwardMemory {
  AttentionBackwardMemory(const AttentionProblem& problem, int64_t slots, Workspace& memory)
      : stage(mix_stage<T>(problem)), space(stage, problem, memory) {
    const int64_t map = problem.batch * problem.channels * pixels_of(problem);
    du = memory.take<float>(__is_same(T, float) ? 0 : map);
    da1 = memory.take<float>(map), da2 = memory.take<float>(map);
    Workspace tiles, planes;
    MixBackwardRoom<T>(stage, tiles);
    CascadeRoom(problem, planes);
    slot_bytes = larger(tiles.bytes(), planes.bytes());
    slot_memory = memory.take<char>(slots * slot_bytes);
  }

  MixStage<T> stage;
  AttentionBackwardSpace space;
  float *du, *da1, *da2;
  int64_t slot_bytes;
  char* slot_memory;
};

template <class T>
int64_t attention_backward_bytes(const AttentionProblem& problem, int64_t slots) {
  Workspace memory;
  AttentionBackwardMemory<T>(problem, slots, memory);
  return memory.bytes();
}

inline float* float_map(float* result, float*) { return result; }
inline float* float_map(BFloat16*, float* scratch) { return scratch; }
inline float* narrowed(float*) { return nullptr; }
inline BFloat16* narrowed(BFloat16* result) { return result; }

template <class T>
void attention_backward(const AttentionProblem& problem, const AttentionBackward<T>& tensors, const Parallel& parallel,
                        void* scratch) {
  Workspace memory(scratch);
  const AttentionBackwardMemory<T> own(problem, parallel.slots, memory);
  const auto slot = [&](int64_t i) { return Workspace(own.slot_memory + i * own.slot_bytes); };
  const AttentionParameters<T>& parameters = tensors.parameters;
  const int64_t weights = problem.channels * own.stage.mix.members();

  MixStage<T> mix = own.stage;
  mix.wants = wants_of(tensors.gradients);
  mix.grad = tensors.grad, mix.u = tensors.u, mix.a1 = tensors.a1, mix.a2 = tensors.a2;
  mix.scale = tensors.scale;
  mix.weight = as_floats(parameters.mix_weight, weights, own.space.weight), mix.bias = parameters.mix_bias;
  mix.du = float_map(tensors.gradients.u, own.du), mix.da1 = own.da1, mix.da2 = own.da2;
  run_mix(mix, own.space, parallel, slot);

  CascadeStage<T> cascade = cascade_stage(problem, mix, own.space, parameters, tensors.gradients, tensors.mean);
  cascade.du = narrowed(tensors.gradients.u);
  if (mix.wants.scale) run_cascade(cascade, parallel, slot);

  for_ranges(parallel, finish_items(problem), kFinishGrain, [&](int64_t, int64_t first, int64_t last) {
    finish_attention(cascade, own.space.sums, first, last);
  });
}

}  // namespace
}  // namespace lkops
