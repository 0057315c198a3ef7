// The gradients of weights and bias: gradient tiles times the transposed gathered features.
#pragma once

#include "upsample_add/tile.h"

namespace lkops {
namespace {

constexpr int64_t kBlockOutputs = 256;  // output channels of an item of the weights' gradient
constexpr int64_t kBlockTiles = 3;  // tiles that are summed before they are added to the rest
constexpr int64_t kBlockPixels = kBlockTiles * kTilePixels;
constexpr int64_t kPartialBytes = 64 << 20;

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
  void gradient_rows(const Item& at, int64_t sample, int64_t first, int64_t offset, int vectors,
                     const Slot& slot) const {
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

}  // namespace
}  // namespace lkops
