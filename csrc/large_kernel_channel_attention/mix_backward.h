// Backward of what follows the maps u, a1, a2: the grouped 1x1 conv of the scaled concat, the product with u and, in
// the block, the output conv. Tile by tile, everything from the maps and the incoming gradient:
//
//     v = Wm (s c) + bm,   w = v u,   branch = Wo w + bo,   y = x + keep branch        (attention: y = w)
//
//     dw = Wo^T dy,   dv = keep dw u,   P = Wm^T dv          (attention: dw = dy, keep = 1)
//     du = keep dw v + s P,   da1 = s P,   da2 = s P         of the channels where a member comes from; these lack what
//                                                            the gate and the depthwise convs pass back
//     s ds = sum of P (s c)                                  the gradient of a channel's scale, times the scale
//     dWm = sum of dv (s c)^T,   dbm = sum of dv
//     dWo = sum of dy (keep w)^T,   dbo = sum of keep dy,   dkeep = sum of w dw + bo dy
//
// Sums over pixels go by chunks of tiles that the problem alone determines; each chunk has sums of its own, and whoever
// needs the total adds them in their order.
#pragma once

#include "large_kernel_channel_attention/mix.h"
#include "common/math.h"
#include "common/sums.h"

namespace lkops {
namespace {

// Tiles that a chunk sums before they join the others: long chains of float additions lose bits.
constexpr int64_t kRunTiles = 16;

// Work items in parts that do not depend on the number of threads, at most kMost.
struct Chunks {
  static constexpr int64_t kMost = 16, kItems = 4;

  explicit Chunks(int64_t items)
      : items(items), count(items >= kMost * kItems ? kMost : (items + kItems - 1) / kItems) {}

  int64_t begin(int64_t chunk) const { return chunk * items / count; }
  int64_t of(int64_t item) const { return ((item + 1) * count - 1) / items; }

  int64_t items, count;
};

// What the block has behind the attention.
template <class T>
struct OutputConv {
  int64_t outputs = 0;            // 0: there is none
  const float* weight = nullptr;  // (outputs, channels)
  const T *bias = nullptr, *keep = nullptr;
};

// What is wanted of the stage.
struct MixWants {
  bool input = false;    // du
  bool maps = false;     // da1 and da2 (and du, where it is wanted)
  bool scale = false;    // s ds
  bool weights = false;  // dWm and dbm
  bool output = false;   // dWo, dbo and dkeep
};

template <class T>
struct MixStage {
  Mix mix;
  int64_t batch, pixels;
  MixWants wants{};
  const T* grad = nullptr;  // of y
  const T *u = nullptr, *a1 = nullptr, *a2 = nullptr;
  bool before_gelu = false;  // the map u is to be taken as gelu(u)
  const float* scale = nullptr;
  const float* weight = nullptr;  // (channels, members)
  const T* bias = nullptr;
  OutputConv<T> conv{};
  float *du = nullptr, *da1 = nullptr, *da2 = nullptr;

  int64_t tiles() const { return Tiles(pixels).count; }
  Chunks chunks() const { return Chunks(batch * tiles()); }

  // A chunk's sums: dWm, rows of round_up_to_lanes(members); dbm, rows of kLanes parts; dWo and dbo likewise.
  int64_t mix_bias_sums() const { return mix.channels * round_up_to_lanes(mix.members()); }
  int64_t conv_sums() const { return mix_bias_sums() + mix.channels * kLanes; }
  int64_t conv_bias_sums() const { return conv_sums() + conv.outputs * round_up_to_lanes(mix.channels); }
  int64_t sums_floats() const { return conv_bias_sums() + conv.outputs * kLanes; }

  // What chunk i sums of sample n is item n + i: s ds of the concat's channels, then dkeep.
  int64_t parts() const { return batch + chunks().count; }
  int64_t part_floats() const { return 3 * mix.channels + 1; }
  int64_t first_part(int64_t n) const { return n + chunks().of(n * tiles()); }
  int64_t last_part(int64_t n) const { return n + chunks().of((n + 1) * tiles() - 1); }
};

// Memory of one thread.
template <class T>
struct MixBackwardRoom {
  MixBackwardRoom(const MixStage<T>& stage, Workspace& memory) {
    const int64_t channels = stage.mix.channels, members = stage.mix.members();
    order = memory.take<int64_t>(3 * channels);
    rows = memory.take<const T*>(3 * channels);
    u = memory.take<float>(channels * kTilePixels), dv = memory.take<float>(channels * kTilePixels);
    w = memory.take<float>(channels * kTilePixels), du = memory.take<float>(channels * kTilePixels);
    slab = memory.take<float>(members * kTilePixels), parts = memory.take<float>(members * kTilePixels);
    dy = memory.take<float>(stage.conv.outputs * kTilePixels);
    const int64_t widest = members < channels ? channels : members;
    transposed = memory.take<float>(round_up_to_lanes(widest) * kTilePixels);
    sums = memory.take<float>(stage.sums_floats());
    lanes = memory.take<float>(stage.part_floats() * kLanes);
  }

  int64_t* order;
  const T** rows;
  float *u, *dv, *w, *du;       // tiles of `channels` rows
  float *slab, *parts;          // of a group's members
  float *dy, *transposed;
  float *sums, *lanes;          // of the current run of tiles, and of the current sample
};

template <int kVectors, class T>
LKOPS_INLINE void load_tile(const T* x, int64_t plane, const Place& place, int64_t rows, bool before_gelu,
                            float* tile) {
  for (int64_t r = 0; r < rows; ++r, x += plane, tile += kTilePixels)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      const Floats value = load_lanes(x + v * kLanes, v + 1 < kVectors ? kLanes : place.last_lanes);
      store(tile + v * kLanes, before_gelu ? gelu(value) : value);
    }
}

// The scaled members of group g.
template <int kVectors, class T>
LKOPS_INLINE void load_members(const MixStage<T>& stage, const MixBackwardRoom<T>& room, int64_t g, int64_t n,
                               const Place& place) {
  const int64_t members = stage.mix.members(), offset = n * stage.mix.channels * stage.pixels + place.begin;
  const float* scale = stage.scale + n * 3 * stage.mix.channels;
  for (int64_t j = 0; j < members; ++j) {
    const int64_t channel = room.order[g * members + j];
    const Floats factor = broadcast(scale[channel]);
    float* to = room.slab + j * kTilePixels;
    if (channel < stage.mix.channels) {
      const float* from = room.u + channel * kTilePixels;
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) store(to + v * kLanes, factor * load(from + v * kLanes));
    } else {
      const T* from = room.rows[g * members + j] + offset;
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v)
        store(to + v * kLanes, factor * load_lanes(from + v * kLanes, v + 1 < kVectors ? kLanes : place.last_lanes));
    }
  }
}

// From v without its bias in `w`, and dw in `dv`: dv, keep w, the direct part of du.
template <int kVectors, class T>
LKOPS_INLINE void product_backward(const MixStage<T>& stage, const MixBackwardRoom<T>& room, int64_t g, int64_t n,
                                   float* sums) {
  const float keep = stage.conv.keep == nullptr ? 1.0f : widen(stage.conv.keep[n]);
  Floats dkeep{};
  for (int64_t r = g * stage.mix.rows(); r < (g + 1) * stage.mix.rows(); ++r) {
    const Floats bias = broadcast(stage.bias == nullptr ? 0.0f : widen(stage.bias[r]));
    float *dv = room.dv + r * kTilePixels, *w = room.w + r * kTilePixels, *du = room.du + r * kTilePixels;
    Floats sum{};
#pragma GCC unroll 3
    for (int i = 0; i < kVectors; ++i) {
      const Floats u = load(room.u + r * kTilePixels + i * kLanes), dw = load(dv + i * kLanes), kept = dw * keep;
      const Floats value = kept * u;
      store(dv + i * kLanes, value);
      sum += value;
      if (stage.wants.input || stage.wants.output) {
        const Floats v = load(w + i * kLanes) + bias, product = v * u;
        store(du + i * kLanes, fma(kept, v, load(du + i * kLanes)));
        store(w + i * kLanes, product * keep);
        dkeep = fma(product, dw, dkeep);
      }
    }
    float* dbm = sums + stage.mix_bias_sums() + r * kLanes;
    store(dbm, load(dbm) + sum);
  }
  float* at = room.lanes + 3 * stage.mix.channels * kLanes;
  store(at, load(at) + dkeep);
}

// What P of group g passes on.
template <int kVectors, class T>
LKOPS_INLINE void members_backward(const MixStage<T>& stage, const MixBackwardRoom<T>& room, int64_t g, int64_t n,
                                   const Place& place) {
  const int64_t channels = stage.mix.channels, members = stage.mix.members();
  const float* scale = stage.scale + n * 3 * channels;
  for (int64_t j = 0; j < members; ++j) {
    const int64_t channel = room.order[g * members + j];
    const float *parts = room.parts + j * kTilePixels, *slab = room.slab + j * kTilePixels;
    Floats part[kVectors], sum = load(room.lanes + channel * kLanes);
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      part[v] = load(parts + v * kLanes);
      sum = fma(part[v], load(slab + v * kLanes), sum);
    }
    store(room.lanes + channel * kLanes, sum);
    const Floats factor = broadcast(scale[channel]);
    if (channel < channels) {
      float* to = room.du + channel * kTilePixels;
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) store(to + v * kLanes, fma(part[v], factor, load(to + v * kLanes)));
    } else if (stage.wants.maps) {
      float* map = channel < 2 * channels ? stage.da1 : stage.da2;
      float* to = map + (n * channels + channel % channels) * stage.pixels + place.begin;
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v)
        store_lanes(to + v * kLanes, part[v] * factor, v + 1 < kVectors ? kLanes : place.last_lanes);
    }
  }
}

// dWo, dbo and the bias' part of dkeep.
template <int kVectors, class T>
LKOPS_INLINE void conv_parameters(const MixStage<T>& stage, const MixBackwardRoom<T>& room, int64_t n, float* sums,
                                  bool accumulate) {
  const int64_t channels = stage.mix.channels, outputs = stage.conv.outputs;
  transpose_tile(room.w, kTilePixels, channels, kVectors, room.transposed, round_up_to_lanes(channels));
  add_outer(room.dy, outputs, kVectors, room.transposed, channels, sums + stage.conv_sums(), accumulate);
  const float keep = stage.conv.keep == nullptr ? 1.0f : widen(stage.conv.keep[n]);
  Floats dkeep{};
  for (int64_t o = 0; o < outputs; ++o) {
    Floats sum{};
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sum += load(room.dy + o * kTilePixels + v * kLanes);
    float* dbo = sums + stage.conv_bias_sums() + o * kLanes;
    store(dbo, fma(sum, broadcast(keep), load(dbo)));
    dkeep = fma(sum, broadcast(stage.conv.bias == nullptr ? 0.0f : widen(stage.conv.bias[o])), dkeep);
  }
  float* at = room.lanes + 3 * channels * kLanes;
  store(at, load(at) + dkeep);
}

// One tile of a sample. `sums` gets what the chunk sums: added, or for products, where not `accumulate`, written.
template <int kVectors, class T>
void mix_backward_tile(const MixStage<T>& stage, const MixBackwardRoom<T>& room, int64_t n, const Place& place,
                       float* sums, bool accumulate) {
  const Mix& mix = stage.mix;
  const MixWants& wants = stage.wants;
  const int64_t channels = mix.channels, members = mix.members(), rows = mix.rows();
  const int64_t stride = round_up_to_lanes(members);
  const int64_t offset = n * channels * stage.pixels + place.begin;
  load_tile<kVectors>(stage.u + offset, stage.pixels, place, channels, stage.before_gelu, room.u);
  if (const int64_t outputs = stage.conv.outputs) {
    load_tile<kVectors>(stage.grad + n * outputs * stage.pixels + place.begin, stage.pixels, place, outputs, false,
                        room.dy);
    multiply_tile(Weights<float>{stage.conv.weight, 1, channels}, channels, outputs, room.dy, kVectors, room.dv);
  } else {
    load_tile<kVectors>(stage.grad + offset, stage.pixels, place, channels, false, room.dv);
  }
  for (int64_t i = 0; i < channels * kTilePixels; i += kLanes) store(room.du + i, Floats{});
  for (int64_t g = 0; g < mix.groups; ++g) {
    const float* weight = stage.weight + g * rows * members;
    const float* dv = room.dv + g * rows * kTilePixels;
    load_members<kVectors>(stage, room, g, n, place);
    if (wants.input || wants.output)
      multiply_tile(Weights<float>{weight, members, 1}, rows, members, room.slab, kVectors,
                    room.w + g * rows * kTilePixels);
    product_backward<kVectors>(stage, room, g, n, sums);
    if (wants.scale || wants.maps) {
      multiply_tile(Weights<float>{weight, 1, members}, members, rows, dv, kVectors, room.parts);
      members_backward<kVectors>(stage, room, g, n, place);
    }
    if (wants.weights) {
      transpose_tile(room.slab, kTilePixels, members, kVectors, room.transposed, stride);
      add_outer(dv, rows, kVectors, room.transposed, members, sums + g * rows * stride, accumulate);
    }
  }
  if (wants.output) conv_parameters<kVectors>(stage, room, n, sums, accumulate);
  for (int64_t c = 0; wants.input && c < channels; ++c)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v)
      store_lanes(stage.du + offset + c * stage.pixels + v * kLanes, load(room.du + c * kTilePixels + v * kLanes),
                  v + 1 < kVectors ? kLanes : place.last_lanes);
}

inline void clear(float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = 0;
}

inline void add_to(float* values, const float* more, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(values + i, load(values + i) + load(more + i));
  for (; i < count; ++i) values[i] += more[i];
}

// Chunk i: fills sums (sums_floats) and, of all samples that it meets, parts + (n + i) * part_floats.
template <class T>
void mix_backward_chunk(const MixStage<T>& stage, const MixBackwardRoom<T>& room, int64_t i, float* sums,
                        float* parts) {
  const Chunks chunks = stage.chunks();
  const Tiles tiles(stage.pixels);
  const int64_t first = chunks.begin(i), last = chunks.begin(i + 1);
  const int64_t products = stage.sums_floats(), part_floats = stage.part_floats();
  clear(room.lanes, part_floats * kLanes);
  for (int64_t item = first; item < last; ++item) {
    const int64_t n = item / tiles.count, at_run = (item - first) % kRunTiles;
    float* const run = item - first < kRunTiles ? sums : room.sums;  // the first run needs no adding
    if (at_run == 0) {
      clear(run + stage.mix_bias_sums(), stage.mix.channels * kLanes);
      clear(run + stage.conv_bias_sums(), stage.conv.outputs * kLanes);
      if (!stage.wants.weights) clear(run, stage.mix_bias_sums());
      if (!stage.wants.output) clear(run + stage.conv_sums(), stage.conv_bias_sums() - stage.conv_sums());
    }
    const Place place(tiles, item % tiles.count);
    switch (place.vectors) {
      case 1: mix_backward_tile<1>(stage, room, n, place, run, at_run > 0); break;
      case 2: mix_backward_tile<2>(stage, room, n, place, run, at_run > 0); break;
      default: mix_backward_tile<3>(stage, room, n, place, run, at_run > 0);
    }
    const bool is_first = item == first || item % tiles.count == 0;
    const bool ends_run = at_run + 1 == kRunTiles || item + 1 == last;
    float* part = parts + (n + i) * part_floats;
    if (is_first) clear(part, part_floats);
    if (ends_run || (item + 1) % tiles.count == 0) {
      for (int64_t c = 0; c < part_floats; ++c) part[c] += sum_of_lanes(load(room.lanes + c * kLanes))[0];
      clear(room.lanes, part_floats * kLanes);
    }
    if (ends_run && run != sums) add_to(sums, run, products);
  }
}

// Rows [first, last) of a weight's gradient and its bias', from all chunks: `columns` of a row that lie `stride` apart
// and kLanes parts of the bias. Gradients that are null are not wanted.
template <class T>
void finish_rows(const float* weight_sums, const float* bias_sums, int64_t chunks, int64_t step, int64_t columns,
                 T* weight, T* bias, int64_t first, int64_t last) {
  const int64_t stride = round_up_to_lanes(columns);
  for (int64_t r = first; r < last; ++r) {
    for (int64_t k = 0; weight != nullptr && k < columns; k += kLanes) {
      Floats sum = load(weight_sums + r * stride + k);
      for (int64_t i = 1; i < chunks; ++i) sum += load(weight_sums + r * stride + k + i * step);
      store_lanes(weight + r * columns + k, sum, columns - k);
    }
    if (bias == nullptr) continue;
    Floats sum = load(bias_sums + r * kLanes);
    for (int64_t i = 1; i < chunks; ++i) sum += load(bias_sums + r * kLanes + i * step);
    store_partial(bias + r, sum_of_lanes(sum), 1);
  }
}

}  // namespace
}  // namespace lkops
