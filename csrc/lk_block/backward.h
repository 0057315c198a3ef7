// Backward of the block in four stages: tiles (output conv, product with u, mix), planes (gate, depthwise convs), tiles
// (GELU, 1x1 conv, layer norm, residual), and the sums for the parameters. The first two are the attention's.
#pragma once

#include "large_kernel_channel_attention/backward.h"
#include "lk_block/cpu.h"
#include "norm_conv1x1_gelu/tiles.h"

namespace lkops {
namespace {

// ---- back through the projection ------------------------------------------------------------------------------------

template <class T>
struct ProjectionStage {
  int64_t batch, channels, outputs, pixels;
  float eps;
  const T *grad, *x, *t;       // grad of the block's y, (batch, channels, pixels) as x; t (batch, outputs, pixels)
  const float* du;             // like t
  const float *gamma, *weight;  // (outputs, channels)
  T* dx;                       // null: not wanted
  bool wants_sums;             // those of the parameters

  int64_t tiles() const { return Tiles(pixels).count; }
  Chunks chunks() const { return Chunks(batch * tiles()); }
};

// Memory of one thread.
struct ProjectionBackwardRoom {
  ProjectionBackwardRoom(int64_t channels, int64_t outputs, Workspace& memory)
      : xhat(memory.take<float>(channels * kTilePixels)),
        dz(memory.take<float>(channels * kTilePixels)),
        du(memory.take<float>(outputs * kTilePixels)),
        transposed(memory.take<float>(round_up_to_lanes(channels) * kTilePixels)),
        rstd(memory.take<float>(kTilePixels)),
        sums(memory.take<float>(sums_floats(outputs, channels))) {}

  float *xhat, *dz, *du, *transposed, *rstd;
  float* sums;  // of the current run of tiles
};

// One tile of sample n; `sums` as the chunks have them, added to, or, for products, where not `accumulate`, written.
template <class T>
void projection_backward_tile(const ProjectionStage<T>& stage, const ProjectionBackwardRoom& room, int64_t n,
                              const Place& place, float* sums, bool accumulate) {
  const int64_t channels = stage.channels, outputs = stage.outputs, pixels = stage.pixels;
  const int64_t outer = n * channels * pixels, inner = n * outputs * pixels + place.begin;
  load_xhat(stage.x + outer, pixels, place, channels, stage.eps, room.xhat, room.rstd);
  for (int64_t k = 0; k < outputs; ++k)
    for (int v = 0; v < place.vectors; ++v)
      store(room.du + k * kTilePixels + v * kLanes,
            load_lanes(stage.du + inner + k * pixels + v * kLanes, place.lanes_of(v)));
  times_gelu_slope(stage.t + inner, pixels, place, outputs, room.du,
                   stage.wants_sums ? bias_sums_of(sums, outputs, channels) : nullptr);
  if (stage.wants_sums) {
    transpose_tile(room.xhat, kTilePixels, channels, place.vectors, room.transposed, round_up_to_lanes(channels));
    add_outer(room.du, outputs, place.vectors, room.transposed, channels, sums, accumulate);
  }
  if (stage.dx == nullptr) return;
  multiply_tile(Weights<float>{stage.weight, 1, channels}, channels, outputs, room.du, place.vectors, room.dz);
  norm_backward(room.dz, room.xhat, room.rstd, stage.gamma, channels, place, pixels, stage.grad + outer,
                stage.dx + outer);
}

template <class T>
void projection_backward_chunk(const ProjectionStage<T>& stage, const ProjectionBackwardRoom& room, int64_t chunk,
                               float* sums) {
  const Chunks chunks = stage.chunks();
  const Tiles tiles(stage.pixels);
  const int64_t first = chunks.begin(chunk), last = chunks.begin(chunk + 1);
  for (int64_t item = first; item < last; ++item) {
    const int64_t at_run = (item - first) % kRunTiles;
    float* const run = item - first < kRunTiles ? sums : room.sums;
    if (at_run == 0) clear(bias_sums_of(run, stage.outputs, stage.channels), stage.outputs * kLanes);
    projection_backward_tile(stage, room, item / tiles.count, Place(tiles, item % tiles.count), run, at_run > 0);
    const bool ends_run = at_run + 1 == kRunTiles || item + 1 == last;
    if (stage.wants_sums && ends_run && run != sums) add_to(sums, run, sums_floats(stage.outputs, stage.channels));
  }
}

// ---- memory ---------------------------------------------------------------------------------------------------------

template <class T>
struct BlockBackwardMemory {
  BlockBackwardMemory(const BlockProblem& problem, int64_t slots, Workspace& memory)
      : mix(block_mix(problem)), space(mix, problem.attention, memory) {
    const AttentionProblem& inner = problem.attention;
    const int64_t map = inner.batch * inner.channels * pixels_of(inner);
    const int64_t weights = __is_same(T, float) ? 0 : inner.channels * problem.channels;
    du = memory.take<float>(map), da1 = memory.take<float>(map), da2 = memory.take<float>(map);
    in_weight = memory.take<float>(weights), out_weight = memory.take<float>(weights);
    gamma = memory.take<float>(problem.channels), beta = memory.take<float>(problem.channels);
    projection_sums = memory.take<float>(mix.chunks().count * sums_floats(inner.channels, problem.channels));
    Workspace first, planes, last;
    MixBackwardRoom<T>(mix, first);
    CascadeRoom(inner, planes);
    ProjectionBackwardRoom(problem.channels, inner.channels, last);
    slot_bytes = larger(first.bytes(), larger(planes.bytes(), last.bytes()));
    slot_memory = memory.take<char>(slots * slot_bytes);
  }

  static MixStage<T> block_mix(const BlockProblem& problem) {
    MixStage<T> stage = mix_stage<T>(problem.attention);
    stage.conv.outputs = problem.channels;
    return stage;
  }

  MixStage<T> mix;
  AttentionBackwardSpace space;
  float *du, *da1, *da2;
  float *in_weight, *out_weight, *gamma, *beta, *projection_sums;
  int64_t slot_bytes;
  char* slot_memory;
};

template <class T>
int64_t block_backward_bytes(const BlockProblem& problem, int64_t slots) {
  Workspace memory;
  BlockBackwardMemory<T>(problem, slots, memory);
  return memory.bytes();
}

// ---- the operator ---------------------------------------------------------------------------------------------------

// dkeep of all samples.
template <class T>
void finish_keep(const MixStage<T>& mix, const float* parts, T* dkeep) {
  for (int64_t n = 0; dkeep != nullptr && n < mix.batch; ++n) {
    float sum = 0;
    for (int64_t i = mix.first_part(n); i <= mix.last_part(n); ++i) sum += parts[(i + 1) * mix.part_floats() - 1];
    store_partial(dkeep + n, broadcast(sum), 1);
  }
}

template <class T>
void block_backward(const BlockProblem& problem, const BlockBackward<T>& tensors, const Parallel& parallel,
                    void* scratch) {
  Workspace memory(scratch);
  const BlockBackwardMemory<T> own(problem, parallel.slots, memory);
  const auto slot = [&](int64_t i) { return Workspace(own.slot_memory + i * own.slot_bytes); };
  const AttentionProblem& inner = problem.attention;
  const BlockParameters<T>& parameters = tensors.parameters;
  const BlockGradients<T>& gradients = tensors.gradients;
  const int64_t outer = problem.channels, width = inner.channels, chunks = own.mix.chunks().count;
  const bool wants_sums = gradients.norm_weight || gradients.norm_bias || gradients.in_weight || gradients.in_bias;
  const bool wants_input = wants_sums || gradients.x != nullptr;

  MixStage<T> mix = own.mix;
  mix.wants = wants_of(gradients.attention);
  if (wants_input) mix.wants.input = mix.wants.maps = mix.wants.scale = true;
  mix.wants.output = gradients.out_weight || gradients.out_bias || gradients.keep;
  mix.grad = tensors.grad, mix.u = tensors.t, mix.a1 = tensors.a1, mix.a2 = tensors.a2;
  mix.before_gelu = true, mix.scale = tensors.scale;
  mix.weight = as_floats(parameters.attention.mix_weight, width * mix.mix.members(), own.space.weight);
  mix.bias = parameters.attention.mix_bias;
  mix.conv.weight = as_floats(parameters.out_weight, outer * width, own.out_weight);
  mix.conv.bias = parameters.out_bias, mix.conv.keep = parameters.keep;
  mix.du = own.du, mix.da1 = own.da1, mix.da2 = own.da2;
  run_mix(mix, own.space, parallel, slot);

  const CascadeStage<T> cascade =
      cascade_stage(inner, mix, own.space, parameters.attention, gradients.attention, tensors.mean);
  if (mix.wants.scale) run_cascade(cascade, parallel, slot);

  const float* gamma = as_floats(parameters.norm_weight, outer, own.gamma);
  const float* beta = as_floats(parameters.norm_bias, outer, own.beta);
  const ProjectionStage<T> projection{inner.batch,
                                      outer,
                                      width,
                                      mix.pixels,
                                      problem.eps,
                                      tensors.grad,
                                      tensors.x,
                                      tensors.t,
                                      own.du,
                                      gamma,
                                      as_floats(parameters.in_weight, width * outer, own.in_weight),
                                      gradients.x,
                                      wants_sums};
  const int64_t step = sums_floats(width, outer);
  if (wants_input)
    for_ranges(parallel, chunks, 1, [&](int64_t i, int64_t first, int64_t last) {
      Workspace of_slot = slot(i);
      const ProjectionBackwardRoom room(outer, width, of_slot);
      for (int64_t chunk = first; chunk < last; ++chunk)
        projection_backward_chunk(projection, room, chunk, own.projection_sums + chunk * step);
    });

  const ProjectionGradients<T> of_projection{gradients.norm_weight, gradients.norm_bias, gradients.in_weight,
                                             gradients.in_bias};
  const float* conv_sums = own.space.sums + mix.conv_sums();
  const float* conv_bias_sums = own.space.sums + mix.conv_bias_sums();
  const int64_t of_attention = finish_items(inner);
  for_ranges(parallel, of_attention + outer + width, kFinishGrain, [&](int64_t, int64_t first, int64_t last) {
    int64_t begin = share(0, of_attention, first, last, [&](int64_t from, int64_t end) {
      finish_attention(cascade, own.space.sums, from, end);
    });
    begin = share(begin, outer, first, last, [&](int64_t from, int64_t end) {
      finish_rows(conv_sums, conv_bias_sums, chunks, mix.sums_floats(), width, gradients.out_weight, gradients.out_bias,
                  from, end);
    });
    share(begin, width, first, last, [&](int64_t from, int64_t end) {
      if (wants_sums)
        finish_outputs(own.projection_sums, chunks, width, outer, gamma, beta, of_projection, from, end);
    });
  });
  if (gradients.norm_weight || gradients.norm_bias)
    finish_channels(own.projection_sums, width, outer, parameters.in_weight, of_projection, 0, outer);
  finish_keep(mix, own.space.parts, gradients.keep);
}

}  // namespace
}  // namespace lkops
