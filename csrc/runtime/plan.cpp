#include "runtime/plan.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "runtime/pool.h"
#include "runtime/upsampler.h"

namespace lkops {
namespace runtime {
namespace {

constexpr int64_t kMostBatch = 1 << 16, kMostSide = 1 << 20, kMostThreads = 1024;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<void, Free>;

Memory allocate(int64_t bytes) {
  Memory memory(std::aligned_alloc(64, static_cast<size_t>((bytes + 127) / 64 * 64)));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

int64_t checked(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most)
    throw Refused{LKOPS_BAD_ARGUMENT, std::string(name) + " must be " + std::to_string(least) + " to " +
                                          std::to_string(most) + ", got " + std::to_string(value)};
  return value;
}

Images images_of(const lkops_options& options) {
  return {checked("batch", options.batch, 1, kMostBatch), checked("rows", options.rows, 1, kMostSide),
          checked("columns", options.columns, 1, kMostSide)};
}

// To nearest even, every NaN to one: as the kernels narrow.
BFloat16 narrow(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return {0x7fc0};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

template <class T>
class PlanOf final : public Plan {
 public:
  PlanOf(const Graph& graph, const lkops_options& options)
      : graph_(graph), images_(images_of(options)),
        strip_rows_((checked("strip_rows", options.strip_rows, 0, kMostSide) + 1) / 2 * 2),
        pool_(checked("threads", options.threads, 1, kMostThreads), checked("pin", options.pin, 0, 1) != 0) {
    count_of(images_, graph.bands);
    choose_slots();
    Workspace counting;
    lay_out_weights(counting);
    bytes_ = counting.bytes();
    memory_ = allocate(bytes_);
    Workspace handing(memory_.get());
    lay_out_weights(handing);
    const Pool::Use use(pool_);
    const Parallel parallel = use.parallel();
    for (const Step& step : steps_)
      if (step.op->kind == Kind::kConv)
        OfType<T>::conv().pack(step.conv, parallel, graph_.data<T>(*step.op, conv::kWeight), false, step.packed);
    upsampler_->prepare(parallel);
    scratch_bytes_ = upsampler_->scratch(images_.rows, parallel.slots);
    for_strips([&](int64_t, int64_t, int64_t first, int64_t last) {
      scratch_bytes_ = std::max(scratch_bytes_, upsampler_->scratch(last - first, parallel.slots));
    });
    for (const Step& step : steps_)
      scratch_bytes_ = std::max(
          scratch_bytes_, step.op->kind == Kind::kConv    ? OfType<T>::conv().forward_scratch(step.conv, parallel.slots)
                          : step.op->kind == Kind::kBlock ? OfType<T>::block_bytes()(step.block, false, parallel.slots)
                                                          : 0);
    Workspace room;
    Room(*this, room);
    workspace_bytes_ = room.bytes();
  }

  int64_t bytes() const override { return bytes_; }
  int64_t workspace_bytes() const override { return workspace_bytes_; }

  void run(const float* lowres, float* image, void* workspace) override {
    if (image == nullptr) throw Refused{LKOPS_BAD_ARGUMENT, "image must not be null"};
    with_features(lowres, workspace, [&](const Parallel& parallel, const Room& room, const T* features) {
      upsampler_->run(parallel, features, lowres, images_.rows, image, room.scratch);
    });
  }

  void run_strips(const float* lowres, lkops_put put, void* context, void* workspace) override {
    if (put == nullptr) throw Refused{LKOPS_BAD_ARGUMENT, "put must not be null"};
    if (strip_rows_ == 0) throw Refused{LKOPS_BAD_ARGUMENT, "the plan was prepared without strip_rows"};
    with_features(lowres, workspace, [&](const Parallel& parallel, const Room& room, const T* features) {
      for_strips([&](int64_t begin, int64_t end, int64_t first, int64_t last) {
        const int64_t rows = last - first, scale = graph_.scale, wide = scale * images_.columns;
        cut(parallel, features, upsampler_->inputs(), first, last, room.features);
        if (upsampler_->adds()) cut(parallel, lowres, graph_.bands, first, last, room.lowres);
        upsampler_->run(parallel, room.features, room.lowres, rows, room.strip, room.scratch);
        if (put(context, begin * scale, (end - begin) * scale, room.strip + (begin - first) * scale * wide,
                rows * scale * wide) != 0)
          throw Refused{LKOPS_STOPPED, "stopped by the function that takes strips"};
      });
    });
  }

 private:
  struct Step {  // an operator but the last
    const Operator* op;
    Conv2dProblem conv;
    char* packed;
    BlockProblem block;
  };

  // The workspace of a run.
  struct Room {  // and slots_
    T* narrowed = nullptr;
    T* features = nullptr;
    float *lowres = nullptr, *strip = nullptr;
    char* scratch;

    Room(PlanOf& plan, Workspace& memory) {
      for (size_t i = 0; i < plan.slot_counts_.size(); ++i) plan.slots_[i] = memory.take<T>(plan.slot_counts_[i]);
      if (!OfType<T>::kIsF32) narrowed = memory.take<T>(count_of(plan.images_, plan.graph_.bands));
      if (plan.strip_rows_ > 0) {
        const int64_t rows = std::min(plan.images_.rows, plan.strip_rows_ + 2 * plan.upsampler_->halo());
        const Images part{plan.images_.n, rows, plan.images_.columns};
        features = memory.take<T>(count_of(part, plan.upsampler_->inputs()));
        if (plan.upsampler_->adds()) lowres = memory.take<float>(count_of(part, plan.graph_.bands));
        strip = memory.take<float>(count_of(part, plan.graph_.bands * plan.graph_.scale * plan.graph_.scale));
      }
      scratch = memory.take<char>(plan.scratch_bytes_);
    }
  };

  // Places of the values between operators: one is taken again when nobody needs what it holds any more.
  void choose_slots() {
    const size_t operators = graph_.operators.size();
    std::vector<size_t> last(operators, 0), free;
    for (size_t i = 0; i < operators; ++i)
      for (uint32_t value : graph_.operators[i].values)
        if (value != kNone) last[value] = i;
    slot_of_.assign(operators, 0);
    for (size_t i = 0; i + 1 < operators; ++i) {
      const size_t made = i + 1;
      if (free.empty()) free.push_back(slot_counts_.size()), slot_counts_.push_back(0);
      slot_of_[made] = free.back(), free.pop_back();
      int64_t& count = slot_counts_[slot_of_[made]];
      count = std::max(count, count_of(images_, graph_.channels[made]));
      for (size_t value = 1; value <= made; ++value)
        if (std::max(last[value], value - 1) == i) free.push_back(slot_of_[value]);
    }
    slots_.resize(slot_counts_.size());
  }

  // What the plan holds itself; run twice, to count and to hand out.
  void lay_out_weights(Workspace& memory) {
    steps_.clear();
    for (size_t i = 0; i + 1 < graph_.operators.size(); ++i) {
      const Operator& op = graph_.operators[i];
      const int64_t inputs = graph_.channels[op.values[0]];
      Step step{};
      step.op = &op;
      if (op.kind == Kind::kConv) {
        step.conv = conv_problem(images_, inputs, *graph_.tensor(op, conv::kWeight), op.dilations[0],
                                 static_cast<Activation>(op.activation), OfType<T>::kIsF32);
        step.packed = memory.take<char>(OfType<T>::conv().packed_bytes(step.conv));
      } else if (op.kind == Kind::kBlock) {
        step.block = block_problem(images_, inputs, graph_, op);
      }
      steps_.push_back(step);
    }
    upsampler_ = std::make_unique<Upsampler<T>>(graph_, images_, memory);
  }

  // visit(begin, end, first, last) for strips of rows [begin, end), which are made of those in [first, last).
  template <class Visit>
  void for_strips(const Visit& visit) const {
    if (strip_rows_ == 0) return;
    for (int64_t begin = 0; begin < images_.rows; begin += strip_rows_) {
      const int64_t end = std::min(images_.rows, begin + strip_rows_), halo = upsampler_->halo();
      visit(begin, end, std::max<int64_t>(0, begin - halo), std::min(images_.rows, end + halo));
    }
  }

  // Rows [first, last) of every plane, dense.
  template <class Number>
  void cut(const Parallel& parallel, const Number* from, int64_t channels, int64_t first, int64_t last,
           Number* to) const {
    const int64_t count = (last - first) * images_.columns, plane = images_.pixels();
    for_ranges(parallel, images_.n * channels, grain_of(kWorthOfNumbers, count), [&](int64_t, int64_t a, int64_t b) {
      for (int64_t c = a; c < b; ++c)
        std::memcpy(to + c * count, from + c * plane + first * images_.columns,
                    static_cast<size_t>(count) * sizeof(Number));
    });
  }

  // Calls finish(parallel, room, features) with what the upsampler gets.
  template <class Finish>
  void with_features(const float* lowres, void* workspace, const Finish& finish) {
    if (lowres == nullptr) throw Refused{LKOPS_BAD_ARGUMENT, "lowres must not be null"};
    if (workspace == nullptr || reinterpret_cast<uintptr_t>(workspace) % 64 != 0)
      throw Refused{LKOPS_BAD_ARGUMENT, "workspace must lie on a 64-byte line and not be null"};
    if (!pool_.is_here()) throw Refused{LKOPS_BAD_ARGUMENT, "the plan was prepared before fork(): prepare another"};
    const std::lock_guard<std::mutex> lock(mutex_);
    const Pool::Use use(pool_);
    const Parallel parallel = use.parallel();
    check_finite(parallel, lowres);
    Workspace memory(workspace);
    const Room room(*this, memory);
    const T* image = nullptr;
    if constexpr (OfType<T>::kIsF32) {
      image = lowres;
    } else {
      const int64_t count = count_of(images_, graph_.bands);
      for_ranges(parallel, count, kWorthOfNumbers, [&](int64_t, int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) room.narrowed[i] = narrow(lowres[i]);
      });
      image = room.narrowed;
    }
    const auto value = [&](uint32_t v) { return v == 0 ? image : slots_[slot_of_[v]]; };
    for (size_t i = 0; i < steps_.size(); ++i) run_step(parallel, steps_[i], value, slots_[slot_of_[i + 1]], room);
    finish(parallel, room, value(graph_.operators.back().values[0]));
  }

  template <class Value>
  void run_step(const Parallel& parallel, const Step& step, const Value& value, T* out, const Room& room) const {
    const Operator& op = *step.op;
    const T* x = value(op.values[0]);
    const T* second = op.values[1] == kNone ? nullptr : value(op.values[1]);
    if (op.kind == Kind::kConv) {
      OfType<T>::conv().forward(step.conv, parallel, x, step.packed, graph_.data<T>(op, conv::kBias), nullptr, second,
                                nullptr, out, room.scratch);
    } else if (op.kind == Kind::kBlock) {
      BlockForward<T> tensors{};
      tensors.x = x, tensors.parameters = block_parameters<T>(graph_, op), tensors.y = out;
      OfType<T>::block()(step.block, tensors, parallel, room.scratch);
    } else {
      const int64_t count = count_of(images_, graph_.channels[op.values[0]]);
      for_ranges(parallel, count, kWorthOfNumbers, [&](int64_t, int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) out[i] = sum(x[i], second[i]);
      });
    }
  }

  static float sum(float a, float b) { return a + b; }
  static BFloat16 sum(BFloat16 a, BFloat16 b) {
    const auto widen = [](BFloat16 value) {
      const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
      float result;
      std::memcpy(&result, &bits, sizeof result);
      return result;
    };
    return narrow(widen(a) + widen(b));
  }

  void check_finite(const Parallel& parallel, const float* lowres) const {
    const int64_t count = count_of(images_, graph_.bands), plane = images_.pixels();
    std::atomic<bool> finite{true};
    for_ranges(parallel, count, kWorthOfNumbers, [&](int64_t, int64_t first, int64_t last) {
      uint32_t bad = 0;
      for (int64_t i = first; i < last; ++i) {
        uint32_t bits;
        std::memcpy(&bits, lowres + i, sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
      }
      if (bad != 0) finite.store(false, std::memory_order_relaxed);
    });
    if (finite.load(std::memory_order_relaxed)) return;
    int64_t at = 0;
    while (std::isfinite(lowres[at])) ++at;
    throw Refused{LKOPS_NOT_FINITE, "lowres holds NaN or infinite pixels; the first is in band " +
                                        std::to_string(at / plane % graph_.bands) + ", row " +
                                        std::to_string(at % plane / images_.columns) + ", column " +
                                        std::to_string(at % images_.columns)};
  }

  const Graph& graph_;
  Images images_;
  int64_t strip_rows_;
  Pool pool_;
  std::mutex mutex_;  // of a run
  std::vector<size_t> slot_of_;
  std::vector<int64_t> slot_counts_;
  std::vector<T*> slots_;  // in the workspace of the run
  std::vector<Step> steps_;
  std::unique_ptr<Upsampler<T>> upsampler_;
  int64_t bytes_ = 0, workspace_bytes_ = 0, scratch_bytes_ = 0;
  Memory memory_;
};

}  // namespace

std::unique_ptr<Plan> make_plan(const Graph& graph, const lkops_options& options) {
  if (graph.dtype == Dtype::kFloat32) return std::make_unique<PlanOf<float>>(graph, options);
  return std::make_unique<PlanOf<BFloat16>>(graph, options);
}

}  // namespace runtime
}  // namespace lkops
