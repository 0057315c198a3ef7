// The last operator: it makes rows of the image from as many rows of features, and some around, so it runs in strips.
#pragma once

#include "common/isa.h"
#include "common/parallel.h"
#include "runtime/problems.h"

namespace lkops {
namespace runtime {

template <class T>
struct OfType;
template <>
struct OfType<float> {
  static constexpr bool kIsF32 = true;
  static const auto& conv() { return LKOPS_CHOOSE(kConv2dInference).f32; }
  static const auto& upsample() { return LKOPS_CHOOSE(kUpsampleInference).f32; }
  static auto block_bytes() { return LKOPS_CHOOSE(kBlockInference).forward_bytes_f32; }
  static auto block() { return LKOPS_CHOOSE(kBlockInference).forward_f32; }
};
template <>
struct OfType<BFloat16> {
  static constexpr bool kIsF32 = false;
  static const auto& conv() { return LKOPS_CHOOSE(kConv2dInference).bf16; }
  static const auto& upsample() { return LKOPS_CHOOSE(kUpsampleInference).mixed; }  // images are float32
  static auto block_bytes() { return LKOPS_CHOOSE(kBlockInference).forward_bytes_bf16; }
  static auto block() { return LKOPS_CHOOSE(kBlockInference).forward_bf16; }
};

template <class T>
class Upsampler {
 public:
  // `memory` counts or hands out what the plan holds of it; prepare() fills that.
  Upsampler(const Graph& graph, const Images& images, Workspace& memory)
      : graph_(graph), op_(graph.operators.back()), inputs_(graph.channels[op_.values[0]]),
        problem_(upsample_problem(images, inputs_, graph, op_)),
        by_conv_(by_conv2d(problem_, !OfType<T>::kIsF32, adds())) {
    if (!by_conv_) return;
    conv_ = conv_problem(images, inputs_, weight(), 1, Activation::kNone, OfType<T>::kIsF32);
    if (problem_.scale > 1) conv_.out_layout = ConvLayout::kShuffled;
    conv_.shuffle = problem_.scale;
    packed_ = memory.take<char>(OfType<T>::conv().packed_bytes(conv_));
    plan_ = memory.take<char>(bicubic().plan_bytes(problem_.scale));
  }

  void prepare(const Parallel& parallel) {
    if (!by_conv_) return;
    OfType<T>::conv().pack(conv_, parallel, graph_.data<T>(op_, conv::kWeight), false, packed_);
    bicubic().make_plan(problem_.scale, problem_.cubic_a, plan_);
  }

  int64_t inputs() const { return inputs_; }
  bool adds() const { return op_.values[1] != kNone; }

  // Rows of features that a row depends on, on each side, bicubic's 2 included: even, so that a strip that begins so
  // many rows before an even one has the same tiles as the whole.
  int64_t halo() const {
    const int64_t reach = problem_.kernel_height / 2 > 2 ? problem_.kernel_height / 2 : 2;
    return (reach + 1) / 2 * 2;
  }

  int64_t scratch(int64_t rows, int64_t slots) const {
    if (op_.is_int8()) return LKOPS_CHOOSE(kUpsampleInference).int8.forward_scratch(of(rows), slots);
    if (!by_conv_) return OfType<T>::upsample().forward_scratch(of(rows), slots);
    const int64_t conv = OfType<T>::conv().forward_scratch(conv_of(rows), slots), image = slots * image_bytes(rows);
    return conv > image ? conv : image;
  }

  // features (n, inputs, rows, columns) and the low-resolution image (n, bands, rows, columns) to
  // (n, bands, scale rows, scale columns).
  void run(const Parallel& parallel, const T* features, const float* lowres, int64_t rows, float* out,
           void* scratch) const {
    if (!adds()) lowres = nullptr;
    const T* bias = graph_.data<T>(op_, conv::kBias);
    if constexpr (OfType<T>::kIsF32)
      if (by_conv_) {
        if (lowres != nullptr) enlarge(parallel, lowres, rows, out, static_cast<char*>(scratch));
        OfType<T>::conv().forward(conv_of(rows), parallel, features, packed_, bias, nullptr,
                                  lowres == nullptr ? nullptr : out, nullptr, out, scratch);
        return;
      }
    if constexpr (!OfType<T>::kIsF32)
      if (op_.is_int8())
        return LKOPS_CHOOSE(kUpsampleInference).int8.forward(of(rows), parallel, features,
                                                    graph_.data<int8_t>(op_, conv::kWeight), graph_.scales(op_, 0),
                                                    bias, lowres, out, scratch);
    OfType<T>::upsample().forward(of(rows), parallel, features, graph_.data<T>(op_, conv::kWeight), bias, lowres, out,
                                  scratch);
  }

 private:
  static const BicubicInferenceKernels& bicubic() { return LKOPS_CHOOSE(kBicubicInference); }
  const Tensor& weight() const { return *graph_.tensor(op_, conv::kWeight); }

  UpsampleProblem of(int64_t rows) const {
    UpsampleProblem p = problem_;
    p.height = rows;
    p.streams = p.n * p.bands * p.scale * p.scale * rows * p.width * int64_t{sizeof(float)} >= kStreamed;
    return p;
  }
  Conv2dProblem conv_of(int64_t rows) const {
    Conv2dProblem p = conv_;
    p.height = p.out_height = rows;
    return p;
  }
  BicubicPlane plane(int64_t rows) const { return {rows, problem_.width, problem_.scale, problem_.symmetric}; }
  int64_t image_bytes(int64_t rows) const { return (bicubic().forward_scratch(plane(rows)) + 63) / 64 * 64; }

  void enlarge(const Parallel& parallel, const float* lowres, int64_t rows, float* out, char* scratch) const {
    const int64_t of_slot = image_bytes(rows);
    const int64_t grain = grain_of(kWorthOfNumbers, problem_.width, problem_.scale, problem_.scale);
    for_ranges(parallel, problem_.n * problem_.bands * rows, grain, [&](int64_t slot, int64_t first, int64_t last) {
      bicubic().forward_f32(plan_, plane(rows), lowres, out, first, last, scratch + slot * of_slot);
    });
  }

  const Graph& graph_;
  const Operator& op_;
  int64_t inputs_;
  UpsampleProblem problem_;
  bool by_conv_;
  Conv2dProblem conv_{};
  char *packed_ = nullptr, *plan_ = nullptr;
};

}  // namespace runtime
}  // namespace lkops
