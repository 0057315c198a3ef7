// Forward: a tile of pixels is gathered once for a group, stays in cache, and is multiplied with the weights of a few
// bands at a time. Their products are in L1 when the bias and the bicubic image are added and the phases are shuffled
// into rows of the image.
#pragma once

#include "bicubic_upsample/rows.h"
#include "upsample_add/tile.h"

namespace lkops {
namespace {

constexpr int64_t kChunkRows = 64;    // output channels whose products are in L1 together
constexpr int64_t kBlockDepth = 160;  // inputs whose gathered pixels are in L1 together
constexpr int64_t kSlabBytes = 480 << 10;
constexpr int64_t kImageStride = kTilePixels + 2 * kLanes;  // a tile's part of a row, with columns at both ends

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
  }
  E* slab;
  int32_t* masks;
  float* z;
  float* image;
};

template <class T, class E>
struct ForwardSpace {
  ForwardSpace(Workspace& space, const UpsampleProblem& problem, const ForwardPlan<E>& plan, int64_t slots) {
    phases = space.take<Phase>(problem.scale);
    weight = __is_same(T, float) ? nullptr : space.take<E>(problem.groups * problem.outputs * plan.depth);
    const int64_t shared = space.bytes();
    ForwardSlot<E>(space, problem, plan);
    slot_bytes = space.bytes() - shared;
    for (int64_t slot = 1; slot < slots; ++slot) ForwardSlot<E>(space, problem, plan);
    first = shared;
  }
  Phase* phases;
  E* weight;
  int64_t first, slot_bytes;
};

template <class T, class G>
int64_t forward_scratch(const UpsampleProblem& problem, int64_t slots) {
  Workspace space;
  ForwardSpace<T, Element<T>>(space, problem, ForwardPlan<Element<T>>(problem), slots);
  return space.bytes();
}

// The phases before the middle of a pixel read one row or column less far: known to the compiler where the scale is.
template <int kScale>
LKOPS_INLINE int64_t first_of(const Phase* phases, int64_t phase) {
  if constexpr (kScale > 0) return 2 * phase + 1 < kScale ? 0 : 1;
  return phases[phase].first;
}

// The rows of the enlarged image at one row of `low`, each phase p a row of kImageStride, still as wide as the small
// image: columns column - kBorder .. column + length + kBorder - 1 from index 0.
template <int kScale, class L>
LKOPS_INLINE void image_rows(const UpsampleProblem& problem, const Phase* phases, const L* low, int64_t row,
                             int64_t column, int64_t length, float* image) {
  const int64_t scale = kScale > 0 ? kScale : problem.scale, width = problem.width;
  const L* rows[kWindow];
  for (int k = 0; k < kWindow; ++k)
    rows[k] = low + inside(row - kBorder + k, problem.height, problem.symmetric) * width;
  const int64_t begin = most(0, column - kBorder), end = least(width, column + length + kBorder);
  float* at_zero = image + kBorder - column;  // where column 0 is
  for (int64_t c = begin; c < end; c += kLanes) {
    Floats window[kWindow];
    for (int k = 0; k < kWindow; ++k) window[k] = load_some(rows[k] + c, end - c);
#pragma GCC unroll 8
    for (int64_t p = 0; p < scale; ++p) {
      const Floats* from = window + first_of<kScale>(phases, p);
      Floats sum = broadcast(phases[p].weights[0]) * from[0];
      for (int k = 1; k < kTaps; ++k) sum = fma(broadcast(phases[p].weights[k]), from[k], sum);
      store(at_zero + p * kImageStride + c, sum);
    }
  }
  for (int64_t t = 1; t <= kBorder; ++t) {
    if (column + t <= kBorder)
      for (int64_t p = 0, from = inside(-t, width, problem.symmetric); p < scale; ++p)
        at_zero[p * kImageStride - t] = at_zero[p * kImageStride + from];
    if (column + length + kBorder > width - 1 + t)
      for (int64_t p = 0, from = inside(width - 1 + t, width, problem.symmetric); p < scale; ++p)
        at_zero[p * kImageStride + width - 1 + t] = at_zero[p * kImageStride + from];
  }
}

// One row of the image at part of a row of pixels: out[j scale + q] = z[q][j] + bias[q] + the bicubic image.
template <int kScale, class T, class G>
LKOPS_INLINE void finish_row(const UpsampleProblem& problem, const Phase* phases, const float* z, const T* bias,
                             const float* image, int64_t length, G* out) {
  constexpr uint64_t kAlignment = kLanes * sizeof(G);
  const bool streams = problem.streams && length % kLanes == 0 && reinterpret_cast<uint64_t>(out) % kAlignment == 0;
  const int64_t scale = kScale > 0 ? kScale : problem.scale;
  for (int64_t j = 0; j < length; j += kLanes) {
    Floats window[kWindow] = {};
    if (image != nullptr)
      for (int k = 0; k < kWindow; ++k) window[k] = load(image + j + k);
    const auto value = [&](int64_t q) {
      Floats sum = load(z + q * kTilePixels + j);
      if (bias != nullptr) sum += broadcast(widen(bias[q]));
      if (image == nullptr) return sum;
      const Floats* from = window + first_of<kScale>(phases, q);
      for (int k = 0; k < kTaps; ++k) sum = fma(broadcast(phases[q].weights[k]), from[k], sum);
      return sum;
    };
    if constexpr (kScale > 0) {
      Floats values[kScale];
#pragma GCC unroll 8
      for (int q = 0; q < kScale; ++q) values[q] = value(q);
      interleave<kScale>(values);
      if (streams) {
        for (int q = 0; q < kScale; ++q) stream(out + j * kScale + q * kLanes, values[q]);
        continue;
      }
      for (int q = 0; q < kScale; ++q)
        store_some(out + j * kScale + q * kLanes, values[q], (length - j) * kScale - q * kLanes);
    } else {
      for (int64_t q = 0; q < scale; ++q) {
        G lanes[kLanes];
        store(lanes, value(q));
        for (int64_t i = 0; i < least(kLanes, length - j); ++i) out[(j + i) * scale + q] = lanes[i];
      }
    }
  }
}

// Some bands at a tile of `count` pixels: z are the products of all their phases, low and out their planes. All rows of
// the bicubic image come first: read right after they were written in pieces, they would wait for the stores.
template <int kScale, class T, class L, class G>
void finish_bands(const UpsampleProblem& problem, const Phase* phases, int64_t bands, const float* z, const T* bias,
                  const L* low, int64_t first, int64_t count, float* image, G* out) {
  const int64_t scale = kScale > 0 ? kScale : problem.scale, width = problem.width, pixels = pixels_of(problem);
  for_row_parts(width, first, count, [&](int64_t row, int64_t column, int64_t length, int64_t offset) {
    for (int64_t b = 0; b < bands && low != nullptr; ++b)
      image_rows<kScale>(problem, phases, low + b * pixels, row, column, length, image + b * scale * kImageStride);
    for (int64_t p = 0; p < bands * scale; ++p) {
      const int64_t b = p / scale, row_of_image = row * scale + p % scale;
      finish_row<kScale>(problem, phases, z + p * scale * kTilePixels + offset,
                         bias == nullptr ? nullptr : bias + p * scale,
                         low == nullptr ? nullptr : image + p * kImageStride, length,
                         out + b * pixels * scale * scale + (row_of_image * width + column) * scale);
    }
  });
}

template <class T, class L, class G>
void finish(const UpsampleProblem& problem, const Phase* phases, int64_t bands, const float* z, const T* bias,
            const L* low, int64_t first, int64_t count, float* image, G* out) {
  switch (problem.scale) {
    case 1: return finish_bands<1>(problem, phases, bands, z, bias, low, first, count, image, out);
    case 2: return finish_bands<2>(problem, phases, bands, z, bias, low, first, count, image, out);
    case 4: return finish_bands<4>(problem, phases, bands, z, bias, low, first, count, image, out);
    case 8: return finish_bands<8>(problem, phases, bands, z, bias, low, first, count, image, out);
    default: return finish_bands<0>(problem, phases, bands, z, bias, low, first, count, image, out);
  }
}

template <class T, class G>
class Forward {
  using E = Element<T>;

 public:
  Forward(const UpsampleProblem& problem, const T* features, const E* weight, const T* bias, const void* lowres,
          const Phase* phases, G* out)
      : problem_(problem),
        plan_(problem),
        features_(features),
        weight_(weight),
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
        products(sample, tile, band, bands, slab, &gathered[tile - first_tile], slot);
        images(sample, tile, band, bands, slot);
      }
    }
  }

 private:
  // z of some bands at a tile, by the groups that these belong to.
  void products(int64_t sample, int64_t tile, int64_t band, int64_t bands, E* slab, int64_t* gathered,
                const ForwardSlot<E>& slot) const {
    const int vectors = plan_.tiles.vectors_of(tile);
    const int64_t first = band * plan_.phases, last = (band + bands) * plan_.phases;
    for (int64_t row = first; row < last;) {
      const int64_t group = row / problem_.outputs, end = least(last, (group + 1) * problem_.outputs);
      if (*gathered != group) {
        find_masks(problem_, plan_.tiles.begin(tile), vectors, slot.masks);
        const T* planes = features_ + (sample * problem_.groups + group) * problem_.inputs * pixels_of(problem_);
        gather(problem_, planes, plan_.tiles.begin(tile), vectors, slot.masks, slab);
        *gathered = group;
      }
      const int64_t parts = ceil_div(plan_.depth, kBlockDepth);
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t k = part * plan_.depth / parts, next = (part + 1) * plan_.depth / parts;
        multiply(Weights<E>{weight_ + row * plan_.depth + k, plan_.depth, 1}, end - row, next - k,
                 slab + k * kTilePixels, kTilePixels, vectors, slot.z + (row - first) * kTilePixels, kTilePixels,
                 part > 0);
      }
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
  const T* bias_;
  const void* lowres_;
  const Phase* phases_;
  G* out_;
};

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
  const Forward<T, G> work(problem, features, weights, bias, lowres, memory.phases, out);
  for_ranges(parallel, work.items(), 1, [&](int64_t slot, int64_t first, int64_t last) {
    Workspace own(static_cast<char*>(scratch) + memory.first + slot * memory.slot_bytes);
    const ForwardSlot<E> mine(own, problem, plan);
    for (int64_t item = first; item < last; ++item) work.run(item, mine);
    stream_end();
  });
}

}  // namespace
}  // namespace lkops
