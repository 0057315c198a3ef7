// Backward. By the features: for each tap the transposed weights times a tile of the gradient, taken apart into phases
// on the way into L1, added where the tap came from. By the weights: gradient tiles times the transposed gathered
// features. An item of either is a block of the result's channels, for which the tiles are made again: a few percent,
// against no memory for half-done results, and no two items that write to one place.
#pragma once

#include "upsample/tile.h"

namespace lkops {
namespace {

constexpr int64_t kGatheredRows = 144;   // channels times taps that an item works on, about; twice where there are many
constexpr int64_t kGradientRows = 128;   // output channels whose gradient is in L1 together
constexpr int64_t kFeatureTiles = 4;     // tiles that a block of weights is used for
constexpr int64_t kBlockOutputs = 256;   // output channels of an item of the weights' gradient
constexpr int64_t kBlockTiles = 3;       // tiles that are summed before they are added to the rest
constexpr int64_t kBlockPixels = kBlockTiles * kTilePixels;
constexpr int64_t kPartialBytes = 64 << 20;

// Cuts [0, count) into parts of about `size`, as equal as can be.
struct Parts {
  Parts(int64_t total, int64_t size) : total(total), count(ceil_div(total, size)) {}
  int64_t begin(int64_t part) const { return part * total / count; }
  int64_t longest() const { return ceil_div(total, count); }
  int64_t total, count;
};

// ---- by the features ------------------------------------------------------------------------------------------------

template <class E>
struct FeaturesPlan {
  explicit FeaturesPlan(const UpsampleProblem& problem)
      : taps(taps_of(problem)), channels(problem.inputs, most(1, kGatheredRows * (problem.n * problem.groups >= 8 ? 2 : 1) / taps)), tiles(pixels_of(problem)) {
    margin = round_up_to_lanes(problem.kernel_width - 1);
    stride = kTilePixels + margin;
    guard = round_up_to_lanes(problem.kernel_height / 2 * problem.width + kTilePixels + margin + kLanes);
    plane = guard + round_up_to_lanes(pixels_of(problem)) + guard;
    block_tiles = least(kFeatureTiles, tiles.count);
    items = problem.n * problem.groups * channels.count;
  }
  int64_t taps;
  Parts channels;
  Tiles tiles;
  int64_t margin, stride, guard, plane, block_tiles, items;
};

template <class E>
struct FeaturesSlot {
  FeaturesSlot(Workspace& space, const UpsampleProblem& problem, const FeaturesPlan<E>& plan) {
    grad = space.take<float>(kGradientRows * kTilePixels);
    pairs = space.take<E>(__is_same(E, float) ? 0 : depth_of<E>(kGradientRows) * kTilePixels);
    weights = space.take<E>(depth_of<E>(kGradientRows) * plan.channels.longest() * plan.taps);
    masks = space.take<int32_t>(problem.kernel_width * kTilePixels);
    product = space.take<float>(plan.margin + plan.block_tiles * plan.channels.longest() * plan.taps * plan.stride);
    sums = space.take<float>(plan.channels.longest() * plan.plane);
  }
  float* grad;
  E* pairs;
  E* weights;
  int32_t* masks;
  float* product;  // of each tile, with `margin` zeros before and after every row
  float* sums;     // the gradient of some channels, each between rows that stand for the padding
};

template <class T, class G>
class FeaturesGradient {
  using E = Element<T>;

 public:
  FeaturesGradient(const UpsampleProblem& problem, const G* grad, const E* weight, T* dfeatures)
      : problem_(problem), plan_(problem), grad_(grad), weight_(weight), dfeatures_(dfeatures) {}

  int64_t items() const { return plan_.items; }

  void run(int64_t item, const FeaturesSlot<E>& slot) const {
    const int64_t part = item % plan_.channels.count, group = item / plan_.channels.count % problem_.groups;
    const int64_t sample = item / plan_.channels.count / problem_.groups;
    const int64_t channel = plan_.channels.begin(part), channels = plan_.channels.begin(part + 1) - channel;
    const int64_t rows = channels * plan_.taps, pixels = pixels_of(problem_);
    for (int64_t i = 0; i < channels * plan_.plane; ++i) slot.sums[i] = 0;
    for (int64_t i = 0; i < plan_.margin + plan_.block_tiles * rows * plan_.stride; ++i) slot.product[i] = 0;
    float* product = slot.product + plan_.margin;
    const int64_t blocks = ceil_div(plan_.tiles.count, plan_.block_tiles);
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = block * plan_.tiles.count / blocks, last = (block + 1) * plan_.tiles.count / blocks;
      for (int64_t m = 0; m < problem_.outputs; m += kGradientRows) {
        const Weights<E> weights = weights_of(group, channel, rows, m, slot);
        for (int64_t tile = first; tile < last; ++tile) {
          if (tile + 1 < last)
            prefetch(sample, group, m, tile + 1);
          else if (m + kGradientRows < problem_.outputs)
            prefetch(sample, group, m + kGradientRows, first);
          else if (last < plan_.tiles.count)
            prefetch(sample, group, 0, last);
          multiply_tile(sample, group, m, tile, weights, rows, product + (tile - first) * rows * plan_.stride, slot);
        }
      }
      for (int64_t tile = first; tile < last; ++tile)
        add_tile(channels, tile, product + (tile - first) * rows * plan_.stride, slot);
    }
    T* to = dfeatures_ + ((sample * problem_.groups + group) * problem_.inputs + channel) * pixels;
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t i = 0; i < pixels; i += kLanes)
        store_some(to + c * pixels + i, load(slot.sums + c * plan_.plane + plan_.guard + i), pixels - i);
  }

 private:
  const G* gradient_of(int64_t sample) const {
    return grad_ + sample * problem_.bands * pixels_of(problem_) * problem_.scale * problem_.scale;
  }

  void prefetch(int64_t sample, int64_t group, int64_t m, int64_t tile) const {
    prefetch_shuffled(problem_, gradient_of(sample), group * problem_.outputs + m,
                      least(kGradientRows, problem_.outputs - m), plan_.tiles.begin(tile), plan_.tiles.vectors_of(tile));
  }

  // Those of kGradientRows output channels, transposed. Where they are a small part of a long row they are copied: else
  // each would lie in a page of its own.
  Weights<E> weights_of(int64_t group, int64_t channel, int64_t rows, int64_t m, const FeaturesSlot<E>& slot) const {
    const int64_t depth = depth_of(problem_), count = depth_of<E>(least(kGradientRows, problem_.outputs - m));
    const E* from = weight_ + (group * depth_of<E>(problem_.outputs) + depth_of<E>(m)) * depth + channel * plan_.taps;
    if (rows == depth) return {from, 1, depth};
    for (int64_t i = 0; i < count; ++i) __builtin_memcpy(slot.weights + i * rows, from + i * depth, rows * sizeof(E));
    return {slot.weights, 1, rows};
  }

  // product[c, tap][i] += sum over output channels from m on of weight[m][c, tap] grad[m][i]
  void multiply_tile(int64_t sample, int64_t group, int64_t m, int64_t tile, const Weights<E>& weights, int64_t rows,
                     float* product, const FeaturesSlot<E>& slot) const {
    const int vectors = plan_.tiles.vectors_of(tile);
    const int64_t count = least(kGradientRows, problem_.outputs - m);
    const G* grad = gradient_of(sample);
    unshuffle(problem_, grad, group * problem_.outputs + m, count, plan_.tiles.begin(tile), vectors, slot.grad,
              kTilePixels);
    const E* x;
    if constexpr (__is_same(E, float)) {
      x = slot.grad;
    } else {
      x = slot.pairs;
      for (int64_t i = 0; i < count; i += 2)
        for (int v = 0; v < vectors; ++v) {
          const float* from = slot.grad + i * kTilePixels + v * kLanes;
          put(slot.pairs + i / 2 * kTilePixels + v * kLanes, 0, load(from),
              i + 1 < count ? load(from + kTilePixels) : Floats{}, true);
        }
    }
    multiply(weights, rows, depth_of<E>(count), x, kTilePixels, vectors, product, plan_.stride, m > 0);
  }

  // sums[c][pixel + tap] += product[c, tap][pixel], for the taps of one row of the kernel at once.
  void add_tile(int64_t channels, int64_t tile, float* product, const FeaturesSlot<E>& slot) const {
    const int64_t first = plan_.tiles.begin(tile), sides = problem_.kernel_width, half = sides / 2;
    const int vectors = plan_.tiles.vectors_of(tile);
    find_masks(problem_, first, vectors, slot.masks);
    for (int64_t i = 0; i < channels * plan_.taps; ++i)
      for (int v = 0; v < kTileVectors; ++v) {
        float* values = product + i * plan_.stride + v * kLanes;
        const Ints mask = v < vectors ? load(slot.masks + i % sides * kTilePixels + v * kLanes) : Ints{};
        store(values, masked(load(values), mask));
      }
    for (int64_t i = 0; i < channels * problem_.kernel_height; ++i) {
      const int64_t c = i / problem_.kernel_height, dy = i % problem_.kernel_height - problem_.kernel_height / 2;
      float* sums = slot.sums + c * plan_.plane + plan_.guard + first + dy * problem_.width - half;
      const float* rows = product + i * sides * plan_.stride;
      for (int64_t at = 0; at < vectors * kLanes + sides - 1; at += kLanes) {
        Floats sum = load(rows + at);
        for (int64_t kx = 1; kx < sides; ++kx) sum += load(rows + kx * plan_.stride + at - kx);
        store(sums + at, load(sums + at) + sum);
      }
    }
  }

  const UpsampleProblem& problem_;
  const FeaturesPlan<E> plan_;
  const G* grad_;
  const E* weight_;
  T* dfeatures_;
};

// ---- by the weights and the bias ------------------------------------------------------------------------------------

// An item is (chunk of the pixels, group, part of its output channels, part of its input channels), the last fastest.
// Each chunk has sums of its own, added up in the end: how many there are follows from the sizes alone.
struct WeightPlan {
  explicit WeightPlan(const UpsampleProblem& problem)
      : taps(taps_of(problem)),
        channels(problem.inputs, most(1, 2 * kGatheredRows / taps)),
        outputs(problem.outputs, kBlockOutputs),
        tiles(pixels_of(problem)) {
    weights = problem.groups * problem.outputs * depth_of(problem);
    sums = weights + problem.groups * problem.outputs;
    sample_blocks = ceil_div(tiles.count, kBlockTiles);
    chunk_items = problem.groups * outputs.count * channels.count;
    const int64_t affordable = kPartialBytes / (sums * static_cast<int64_t>(sizeof(float)));
    chunks = most(1, least(least(ceil_div(16, chunk_items), affordable), problem.n * sample_blocks));
    panels = ceil_div(channels.longest() * taps, kTilePixels);
  }
  int64_t taps;
  Parts channels, outputs;
  Tiles tiles;
  int64_t weights, sums, sample_blocks, chunk_items, chunks, panels;
};

// A row of elements along pixels: kBlockPixels of them and what a transposition reads beyond. Elements are floats, or
// Pairs of neighbouring pixels.
template <class E>
struct WeightSlot {
  static constexpr int64_t kRow = (depth_of<E>(kBlockPixels) + kLanes - 1) / kLanes * kLanes + kLanes;

  WeightSlot(Workspace& space, const UpsampleProblem& problem, const WeightPlan& plan) {
    masks = space.take<int32_t>(problem.kernel_width * kTilePixels);
    x = space.take<E>(plan.channels.longest() * plan.taps * kRow);
    transposed = space.take<E>(plan.panels * kRow * kTilePixels);
    grad = space.take<E>(plan.outputs.longest() * kRow);
    rows = space.take<float>(__is_same(E, float) ? 0 : kChunkOutputs * kTilePixels);
    sum = space.take<float>(kChunkOutputs * kTilePixels);
  }
  static constexpr int64_t kChunkOutputs = 64;
  int32_t* masks;
  E* x;
  E* transposed;  // in panels of kTilePixels inputs
  E* grad;
  float* rows;
  float* sum;
};

// Along pixels: a vector of floats as it is, or narrowed, two pixels a Pair; `i` counts pixels.
LKOPS_INLINE void put_along(float* row, int64_t i, Floats v) { store(row + i, v); }
LKOPS_INLINE void put_along(Pair* row, int64_t i, Floats v) { store(reinterpret_cast<BFloat16*>(row) + i, v); }

template <class T, class G>
class WeightGradient {
  using E = Element<T>;
  using Slot = WeightSlot<E>;

 public:
  WeightGradient(const UpsampleProblem& problem, const G* grad, const T* features, bool by_weight, bool by_bias,
                 float* partial)
      : problem_(problem),
        plan_(problem),
        grad_(grad),
        features_(features),
        by_weight_(by_weight),
        by_bias_(by_bias),
        partial_(partial) {}

  int64_t items() const { return plan_.chunks * plan_.chunk_items; }

  void run(int64_t item, const Slot& slot) const {
    const int64_t part = item % plan_.channels.count, outputs = item / plan_.channels.count % plan_.outputs.count;
    const int64_t group = item / plan_.channels.count / plan_.outputs.count % problem_.groups;
    const int64_t chunk = item / plan_.chunk_items;
    Item at;
    at.group = group;
    at.channel = plan_.channels.begin(part);
    at.inputs = (plan_.channels.begin(part + 1) - at.channel) * plan_.taps;
    at.output = group * problem_.outputs + plan_.outputs.begin(outputs);
    at.outputs = plan_.outputs.begin(outputs + 1) - plan_.outputs.begin(outputs);
    at.by_bias = by_bias_ && part == 0;
    if (!by_weight_ && !at.by_bias) return;
    const int64_t depth = depth_of(problem_);
    at.dweight = partial_ + chunk * plan_.sums + at.output * depth + at.channel * plan_.taps;
    at.dbias = partial_ + chunk * plan_.sums + plan_.weights + at.output;
    for (int64_t m = 0; m < at.outputs; ++m) {
      if (by_weight_)
        for (int64_t k = 0; k < at.inputs; ++k) at.dweight[m * depth + k] = 0;
      if (at.by_bias) at.dbias[m] = 0;
    }
    const int64_t blocks = problem_.n * plan_.sample_blocks;
    for (int64_t block = chunk * blocks / plan_.chunks; block < (chunk + 1) * blocks / plan_.chunks; ++block)
      add_block(at, block, slot);
  }

 private:
  struct Item {
    int64_t group, channel, inputs, output, outputs;
    bool by_bias;
    float *dweight, *dbias;
  };

  void add_block(const Item& at, int64_t block, const Slot& slot) const {
    const int64_t sample = block / plan_.sample_blocks, place = block % plan_.sample_blocks;
    const int64_t first = place * plan_.tiles.count / plan_.sample_blocks;
    const int64_t last = (place + 1) * plan_.tiles.count / plan_.sample_blocks;
    const int64_t begin = plan_.tiles.begin(first);
    for (int64_t tile = first; tile < last; ++tile) {
      const int vectors = plan_.tiles.vectors_of(tile);
      gather_rows(at, sample, tile, begin, slot);
      gradient_rows(at, sample, plan_.tiles.begin(tile), plan_.tiles.begin(tile) - begin, vectors, slot);
    }
    if (!by_weight_) return;
    const int64_t pixels = plan_.tiles.begin(last - 1) + plan_.tiles.vectors_of(last - 1) * kLanes - begin;
    const int64_t rows = depth_of<E>(pixels);
    const int squares = static_cast<int>(ceil_div(rows, kLanes));
    for (int64_t k = 0, panel = 0; k < at.inputs; k += kTilePixels, ++panel)
      transpose_tile(reinterpret_cast<const float*>(slot.x + k * Slot::kRow), Slot::kRow,
                     least(kTilePixels, at.inputs - k), squares,
                     reinterpret_cast<float*>(slot.transposed + panel * Slot::kRow * kTilePixels), kTilePixels);
    const int64_t depth = depth_of(problem_);
    for (int64_t k = 0, panel = 0; k < at.inputs; k += kTilePixels, ++panel) {
      const int64_t width = least(kTilePixels, at.inputs - k);
      for (int64_t m = 0; m < at.outputs; m += Slot::kChunkOutputs) {
        const int64_t count = least(Slot::kChunkOutputs, at.outputs - m);
        if (panel == 0 && block + 1 < problem_.n * plan_.sample_blocks) prefetch(at, block + 1, m, count);
        multiply(Weights<E>{slot.grad + m * Slot::kRow, Slot::kRow, 1}, count, rows,
                 slot.transposed + panel * Slot::kRow * kTilePixels, kTilePixels,
                 static_cast<int>(ceil_div(width, kLanes)), slot.sum, kTilePixels);
        for (int64_t i = 0; i < count; ++i)
          for (int64_t j = 0; j < width; j += kLanes) {
            float* to = at.dweight + (m + i) * depth + k + j;
            store_some(to, load_some(to, width - j) + load(slot.sum + i * kTilePixels + j), width - j);
          }
      }
    }
  }

  const G* gradient_of(int64_t sample) const {
    return grad_ + sample * problem_.bands * pixels_of(problem_) * problem_.scale * problem_.scale;
  }

  void prefetch(const Item& at, int64_t block, int64_t m, int64_t count) const {
    const int64_t sample = block / plan_.sample_blocks, place = block % plan_.sample_blocks;
    const int64_t first = place * plan_.tiles.count / plan_.sample_blocks;
    const int64_t last = (place + 1) * plan_.tiles.count / plan_.sample_blocks;
    for (int64_t tile = first; tile < last; ++tile)
      prefetch_shuffled(problem_, gradient_of(sample), at.output + m, count, plan_.tiles.begin(tile),
                        plan_.tiles.vectors_of(tile));
  }

  // x[k][i] for the pixels i of a tile
  void gather_rows(const Item& at, int64_t sample, int64_t tile, int64_t begin, const Slot& slot) const {
    if (!by_weight_) return;
    const int vectors = plan_.tiles.vectors_of(tile);
    const int64_t first = plan_.tiles.begin(tile);
    find_masks(problem_, first, vectors, slot.masks);
    const int64_t plane = (sample * problem_.groups + at.group) * problem_.inputs + at.channel;
    Taps<T> taps(problem_, features_ + plane * pixels_of(problem_), first, slot.masks);
    for (int64_t k = 0; k < at.inputs; ++k, taps.next())
      for (int v = 0; v < vectors; ++v) put_along(slot.x + k * Slot::kRow, first - begin + v * kLanes, taps.vector(v));
  }

  // grad[m][i] for the pixels from `first` on, and their sums
  void gradient_rows(const Item& at, int64_t sample, int64_t first, int64_t offset, int vectors, const Slot& slot) const {
    const G* grad = gradient_of(sample);
    for (int64_t m = 0; m < at.outputs; m += Slot::kChunkOutputs) {
      const int64_t count = least(Slot::kChunkOutputs, at.outputs - m);
      float* rows = slot.rows;
      int64_t stride = kTilePixels;
      if constexpr (__is_same(E, float)) rows = slot.grad + m * Slot::kRow + offset, stride = Slot::kRow;
      unshuffle(problem_, grad, at.output + m, count, first, vectors, rows, stride);
      for (int64_t i = 0; i < count; ++i) {
        Floats sum{};
        for (int v = 0; v < vectors; ++v) {
          const Floats values = load(rows + i * stride + v * kLanes);
          sum += values;
          if constexpr (!__is_same(E, float)) put_along(slot.grad + (m + i) * Slot::kRow, offset + v * kLanes, values);
        }
        if (at.by_bias) at.dbias[m + i] += sum_of(sum);
      }
    }
  }

  const UpsampleProblem& problem_;
  const WeightPlan plan_;
  const G* grad_;
  const T* features_;
  const bool by_weight_, by_bias_;
  float* partial_;
};

// ---- both -----------------------------------------------------------------------------------------------------------

template <class T, class E>
struct BackwardSpace {
  BackwardSpace(Workspace& space, const UpsampleProblem& problem, int64_t slots) {
    const FeaturesPlan<E> features(problem);
    const WeightPlan weights(problem);
    const int64_t depth = depth_of(problem);
    transposed = __is_same(T, float) ? nullptr : space.take<E>(problem.groups * depth_of<E>(problem.outputs) * depth);
    partial = space.take<float>(weights.chunks * weights.sums);
    first = space.bytes();
    Workspace one, other;
    FeaturesSlot<E>(one, problem, features);
    WeightSlot<E>(other, problem, weights);
    slot_bytes = most(one.bytes(), other.bytes());  // the stages follow one another
    space.take<char>(slots * slot_bytes);
  }
  E* transposed;
  float* partial;
  int64_t first, slot_bytes;
};

template <class T, class G>
int64_t backward_scratch(const UpsampleProblem& problem, int64_t slots) {
  Workspace space;
  BackwardSpace<T, Element<T>>(space, problem, slots);
  return space.bytes();
}

// to[m][k] = weight[m][k] widened, or (weight[2 m][k], weight[2 m + 1][k]), of one group.
template <class T, class E>
void pair_outputs(const T* weight, int64_t outputs, int64_t depth, E* to) {
  for (int64_t m = 0; m < outputs; m += __is_same(E, float) ? 1 : 2)
    for (int64_t k = 0; k < depth; ++k, ++to) {
      if constexpr (__is_same(E, float)) {
        *to = widen(weight[m * depth + k]);
      } else {
        const uint32_t odd = m + 1 < outputs ? weight[(m + 1) * depth + k].bits : 0;
        to->bits = weight[m * depth + k].bits | odd << 16;
      }
    }
}

template <class T, class G>
void backward(const UpsampleProblem& problem, const Parallel& parallel, const G* grad, const T* features,
              const T* weight, T* dfeatures, T* dweight, T* dbias, void* scratch) {
  using E = Element<T>;
  Workspace space(scratch);
  const BackwardSpace<T, E> memory(space, problem, parallel.slots);
  const auto slot_of = [&](int64_t slot) {
    return Workspace(static_cast<char*>(scratch) + memory.first + slot * memory.slot_bytes);
  };
  if (dfeatures != nullptr) {
    const E* weights;
    if constexpr (__is_same(T, float)) {
      weights = weight;
    } else {
      const int64_t depth = depth_of(problem);
      for_ranges(parallel, problem.groups, 1, [&](int64_t, int64_t group, int64_t last) {
        for (; group < last; ++group)
          pair_outputs(weight + group * problem.outputs * depth, problem.outputs, depth,
                       memory.transposed + group * depth_of<E>(problem.outputs) * depth);
      });
      weights = memory.transposed;
    }
    const FeaturesGradient<T, G> work(problem, grad, weights, dfeatures);
    const FeaturesPlan<E> plan(problem);
    for_ranges(parallel, work.items(), 1, [&](int64_t slot, int64_t first, int64_t last) {
      Workspace own = slot_of(slot);
      const FeaturesSlot<E> mine(own, problem, plan);
      for (int64_t item = first; item < last; ++item) work.run(item, mine);
    });
  }
  if (dweight == nullptr && dbias == nullptr) return;
  const WeightPlan plan(problem);
  const WeightGradient<T, G> work(problem, grad, features, dweight != nullptr, dbias != nullptr, memory.partial);
  for_ranges(parallel, work.items(), 1, [&](int64_t slot, int64_t first, int64_t last) {
    Workspace own = slot_of(slot);
    const WeightSlot<E> mine(own, problem, plan);
    for (int64_t item = first; item < last; ++item) work.run(item, mine);
  });
  const auto add_up = [&](const float* partial, int64_t count, T* to) {
    for_ranges(parallel, ceil_div(count, kLanes), 4096, [&](int64_t, int64_t first, int64_t last) {
      for (int64_t i = first * kLanes; i < last * kLanes; i += kLanes) {
        Floats sum = load_some(partial + i, count - i);
        for (int64_t chunk = 1; chunk < plan.chunks; ++chunk) sum += load_some(partial + chunk * plan.sums + i, count - i);
        store_some(to + i, sum, count - i);
      }
    });
  };
  if (dweight != nullptr) add_up(memory.partial, plan.weights, dweight);
  if (dbias != nullptr) add_up(memory.partial + plan.weights, plan.sums - plan.weights, dbias);
}

}  // namespace
}  // namespace lkops
