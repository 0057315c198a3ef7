// Forward: a tile of pixels is gathered once for a group, stays in cache, and is multiplied with the weights of a few
// bands at a time. Their products are in L1 when the bias and the bicubic image are added and the phases are shuffled
// into rows of the image.
#pragma once

#include "upsample_add/image.h"
#include "upsample_add/quads.h"
#include "upsample_add/tile.h"

namespace lkops {
namespace {

constexpr int64_t kChunkRows = 64;    // output channels whose products are in L1 together
constexpr int64_t kBlockDepth = 160;  // inputs whose gathered pixels are in L1 together
constexpr int64_t kSlabBytes = 480 << 10;

// How the work is cut. An item is (sample, unit, split, block of tiles), the last fastest: a unit is the bands of a
// group, or all bands where groups and bands share channels of one another; a split is part of a unit's bands.
template <class E>
struct ForwardPlan {
  explicit ForwardPlan(const UpsampleProblem& problem) : tiles(pixels_of(problem)) {
    phases = problem.scale * problem.scale;
    depth = depth_of<E>(depth_of(problem));
    const bool aligned = problem.outputs % phases == 0;
    units = aligned ? problem.groups : 1;
    unit_bands = problem.bands / units;
    chunk_bands = ceil_div(kChunkRows, phases);
    while (phases < kChunkRows && chunk_bands * phases % kProductRows != 0) ++chunk_bands;  // whole blocks of rows
    chunk_bands = least(chunk_bands, unit_bands);
    const int64_t slab = depth * kTilePixels * static_cast<int64_t>(sizeof(E));
    block_tiles = aligned ? most(1, least(least(tiles.count, 4), kSlabBytes / slab)) : 1;
    if (slab <= (32 << 10)) block_tiles = 1;  // it stays in L1, and the weights of a group in L2
    blocks = ceil_div(tiles.count, block_tiles);
    const int64_t wanted =
        aligned ? ceil_div(32, most(1, problem.n) * units * blocks) : ceil_div(unit_bands * phases, problem.outputs);
    split_bands = ceil_div(ceil_div(unit_bands, most(1, wanted)), chunk_bands) * chunk_bands;
    splits = ceil_div(unit_bands, split_bands);
  }

  int64_t phases, depth, units, unit_bands, chunk_bands, block_tiles, blocks, split_bands, splits;
  Tiles tiles;
};

template <class E>
struct ForwardSlot {
  ForwardSlot(Workspace& space, const UpsampleProblem& problem, const ForwardPlan<E>& plan) {
    slab = space.take<E>(plan.block_tiles * plan.depth * kTilePixels);
    masks = space.take<int32_t>(problem.kernel_width * kTilePixels);
    z = space.take<float>(plan.chunk_bands * plan.phases * kTilePixels + kLanes);
    image = space.take<float>(plan.chunk_bands * problem.scale * kImageStride);
    steps = space.take<float>(__is_same(E, Quad) ? plan.block_tiles * kTilePixels : 0);
  }
  E* slab;
  int32_t* masks;
  float* z;
  float* image;
  float* steps;  // of the pixels of the slabs of whole numbers
};

template <class T, class E>
struct ForwardSpace {
  ForwardSpace(Workspace& space, const UpsampleProblem& problem, const ForwardPlan<E>& plan, int64_t slots) {
    phases = space.take<Phase>(problem.scale);
    weight = __is_same(T, float) ? nullptr : space.take<E>(problem.groups * problem.outputs * plan.depth);
    offsets = space.take<int32_t>(__is_same(E, Quad) ? problem.groups * problem.outputs : 0);
    const int64_t shared = space.bytes();
    ForwardSlot<E>(space, problem, plan);
    slot_bytes = space.bytes() - shared;
    for (int64_t slot = 1; slot < slots; ++slot) ForwardSlot<E>(space, problem, plan);
    first = shared;
  }
  Phase* phases;
  E* weight;
  int32_t* offsets;
  int64_t first, slot_bytes;
};

template <class T, class E = Element<T>>
int64_t forward_scratch(const UpsampleProblem& problem, int64_t slots) {
  Workspace space;
  ForwardSpace<T, E>(space, problem, ForwardPlan<E>(problem), slots);
  return space.bytes();
}

// `numbers` are the weights' scales where E is Quad.
template <class T, class G, class E = Element<T>>
class Forward {
 public:
  Forward(const UpsampleProblem& problem, const T* features, const E* weight, const QuadWeights* numbers, const T* bias,
          const void* lowres, const Phase* phases, G* out)
      : problem_(problem),
        plan_(problem),
        features_(features),
        weight_(weight),
        numbers_(numbers),
        bias_(bias),
        lowres_(lowres),
        phases_(phases),
        out_(out) {}

  int64_t items() const { return problem_.n * plan_.units * plan_.splits * plan_.blocks; }

  void run(int64_t item, const ForwardSlot<E>& slot) const {
    const int64_t block = item % plan_.blocks, split = item / plan_.blocks % plan_.splits;
    const int64_t unit = item / plan_.blocks / plan_.splits % plan_.units;
    const int64_t sample = item / plan_.blocks / plan_.splits / plan_.units;
    const int64_t first_tile = block * plan_.tiles.count / plan_.blocks;
    const int64_t last_tile = (block + 1) * plan_.tiles.count / plan_.blocks;
    const int64_t unit_end = (unit + 1) * plan_.unit_bands, begin = unit * plan_.unit_bands + split * plan_.split_bands;
    const int64_t end = least(unit_end, begin + plan_.split_bands);
    int64_t gathered[4] = {-1, -1, -1, -1};  // the group whose pixels each tile's slab holds
    for (int64_t band = begin; band < end; band += plan_.chunk_bands) {
      const int64_t bands = least(plan_.chunk_bands, end - band);
      for (int64_t tile = first_tile; tile < last_tile; ++tile) {
        E* slab = slot.slab + (tile - first_tile) * plan_.depth * kTilePixels;
        float* steps = slot.steps + (tile - first_tile) * kTilePixels;
        products(sample, tile, band, bands, slab, steps, &gathered[tile - first_tile], slot);
        images(sample, tile, band, bands, slot);
      }
    }
  }

 private:
  // z of some bands at a tile, by the groups that these belong to.
  void products(int64_t sample, int64_t tile, int64_t band, int64_t bands, E* slab, float* steps, int64_t* gathered,
                const ForwardSlot<E>& slot) const {
    const int vectors = plan_.tiles.vectors_of(tile);
    const int64_t first = band * plan_.phases, last = (band + bands) * plan_.phases;
    for (int64_t row = first; row < last;) {
      const int64_t group = row / problem_.outputs, end = least(last, (group + 1) * problem_.outputs);
      if (*gathered != group) {
        find_masks(problem_, plan_.tiles.begin(tile), vectors, slot.masks);
        const T* planes = features_ + (sample * problem_.groups + group) * problem_.inputs * pixels_of(problem_);
        if constexpr (__is_same(E, Quad))
          gather_quads(problem_, planes, plan_.tiles.begin(tile), vectors, slot.masks, slab, steps);
        else
          gather(problem_, planes, plan_.tiles.begin(tile), vectors, slot.masks, slab);
        *gathered = group;
      }
      Sum<E>* sums = reinterpret_cast<Sum<E>*>(slot.z + (row - first) * kTilePixels);
      const int64_t parts = ceil_div(plan_.depth, kBlockDepth);
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t k = part * plan_.depth / parts, next = (part + 1) * plan_.depth / parts;
        multiply(Weights<E>{weight_ + row * plan_.depth + k, plan_.depth, 1}, end - row, next - k,
                 slab + k * kTilePixels, kTilePixels, vectors, sums, kTilePixels, part > 0);
      }
      if constexpr (__is_same(E, Quad)) to_products(*numbers_, row, end - row, vectors, steps, sums);
      row = end;
    }
  }

  void images(int64_t sample, int64_t tile, int64_t band, int64_t bands, const ForwardSlot<E>& slot) const {
    const int64_t first = plan_.tiles.begin(tile), pixels = pixels_of(problem_);
    const int64_t count = least(plan_.tiles.vectors_of(tile) * kLanes, pixels - first);
    const int64_t plane = (sample * problem_.bands + band) * pixels;
    const T* bias = bias_ == nullptr ? nullptr : bias_ + band * plan_.phases;
    const auto run = [&](const auto* lowres) {
      finish(problem_, phases_, bands, slot.z, bias, lowres == nullptr ? nullptr : lowres + plane, first, count,
             slot.image, out_ + plane * plan_.phases);
    };
    if (problem_.lowres_is_bf16)
      run(static_cast<const BFloat16*>(lowres_));
    else
      run(static_cast<const float*>(lowres_));
  }

  const UpsampleProblem& problem_;
  const ForwardPlan<E> plan_;
  const T* features_;
  const E* weight_;
  const QuadWeights* numbers_;
  const T* bias_;
  const void* lowres_;
  const Phase* phases_;
  G* out_;
};

template <class Work, class T, class E>
void run_all(const Work& work, const UpsampleProblem& problem, const ForwardPlan<E>& plan,
             const ForwardSpace<T, E>& memory, const Parallel& parallel, void* scratch) {
  for_ranges(parallel, work.items(), 1, [&](int64_t slot, int64_t first, int64_t last) {
    Workspace own(static_cast<char*>(scratch) + memory.first + slot * memory.slot_bytes);
    const ForwardSlot<E> mine(own, problem, plan);
    for (int64_t item = first; item < last; ++item) work.run(item, mine);
    stream_end();
  });
}

template <class T, class G>
void forward(const UpsampleProblem& problem, const Parallel& parallel, const T* features, const T* weight,
             const T* bias, const void* lowres, G* out, void* scratch) {
  using E = Element<T>;
  const ForwardPlan<E> plan(problem);
  Workspace space(scratch);
  const ForwardSpace<T, E> memory(space, problem, plan, parallel.slots);
  make_phases(problem.scale, problem.cubic_a, memory.phases);
  const E* weights = nullptr;
  if constexpr (__is_same(T, float)) {
    weights = weight;
  } else {
    const int64_t depth = depth_of(problem), rows = problem.groups * problem.outputs;
    for_ranges(parallel, rows, grain_of(kWorthOfNumbers, depth), [&](int64_t, int64_t m, int64_t last) {
      if (!__is_same(E, float) && depth % 2 == 0)  // pairs as they lie
        __builtin_memcpy(memory.weight + m * plan.depth, weight + m * depth, (last - m) * depth * sizeof(T));
      else
        prepare(weight + m * depth, depth, 1, last - m, depth, nullptr, memory.weight + m * plan.depth);
    });
    weights = memory.weight;
  }
  run_all(Forward<T, G>(problem, features, weights, nullptr, bias, lowres, memory.phases, out), problem, plan, memory,
          parallel, scratch);
}

// With weights of whole numbers: row m is scale[m] times them.
inline void forward_int8(const UpsampleProblem& problem, const Parallel& parallel, const BFloat16* features,
                         const int8_t* weight, const float* scale, const BFloat16* bias, const float* lowres, float* out,
                         void* scratch) {
  const ForwardPlan<Quad> plan(problem);
  Workspace space(scratch);
  const ForwardSpace<BFloat16, Quad> memory(space, problem, plan, parallel.slots);
  make_phases(problem.scale, problem.cubic_a, memory.phases);
  const QuadWeights weights = quad_weights(weight, scale, problem.groups * problem.outputs, depth_of(problem),
                                           memory.weight, memory.offsets);
  run_all(Forward<BFloat16, float, Quad>(problem, features, weights.w.data, &weights, bias, lowres, memory.phases, out),
          problem, plan, memory, parallel, scratch);
}

}  // namespace
}  // namespace lkops
