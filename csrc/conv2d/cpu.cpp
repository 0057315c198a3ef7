#include "conv2d/cpu.h"

#include "conv2d/activation_gradient.h"
#include "conv2d/direct.h"
#include "conv2d/weight_gradient.h"
#include "conv2d/winograd.h"
#include "conv2d/winograd_gradient.h"

namespace lkops {
namespace {

// 1x1 without padding and stride: rows follow one another in every layout but one, and their length does not matter.
Conv2dProblem flattened(Conv2dProblem p) {
  if (p.out_layout != ConvLayout::kShuffled && p.kernel_height == 1 && p.kernel_width == 1 && p.stride_height == 1 &&
      p.stride_width == 1 && p.top == 0 && p.left == 0 && p.spread_height == 1 && p.spread_width == 1 &&
      p.out_height == p.height && p.out_width == p.width) {
    p.width = p.out_width = p.height * p.width;
    p.height = p.out_height = 1;
  }
  return p;
}

// call(algorithm) for the one that a problem names.
template <class T, class Call>
auto with_algorithm(const Conv2dProblem& problem, const Call& call) {
  switch (problem.algorithm) {
    case ConvAlgorithm::kWinograd2: return call(Winograd<2, 4, T>());
    case ConvAlgorithm::kWinograd4: return call(Winograd<4, 4, T>());
    default: return call(Direct<T>());
  }
}

template <class T>
int64_t packed_bytes(const Conv2dProblem& problem) {
  return with_algorithm<T>(problem, [&](auto algorithm) { return algorithm.packed_bytes(problem); });
}

template <class T>
void pack(const Conv2dProblem& problem, const Parallel& parallel, const T* weight, bool flipped, void* packed) {
  with_algorithm<T>(problem, [&](auto algorithm) { algorithm.pack(problem, parallel, weight, flipped, packed); });
}

template <class T>
int64_t forward_scratch(const Conv2dProblem& asked, int64_t slots) {
  const Conv2dProblem problem = flattened(asked);
  return with_algorithm<T>(problem, [&](auto algorithm) { return algorithm.scratch(problem, slots); });
}

template <class T>
void forward(const Conv2dProblem& asked, const Parallel& parallel, const T* x, const void* packed, const T* bias,
             const T* slopes, const T* residual, T* before, T* out, void* scratch) {
  const Conv2dProblem problem = flattened(asked);
  const Epilogue<T> epilogue(problem, bias, slopes, residual, before, out);
  with_algorithm<T>(
      problem, [&](auto algorithm) { algorithm.forward(problem, parallel, x, packed, epilogue, scratch); });
}

template <class T, class Call>
auto with_gradient(const Conv2dProblem& problem, const Call& call) {
  if (problem.algorithm == ConvAlgorithm::kDirect) return call(WeightGradient<T>());
  return call(WinogradGradient<2, 4, T>());
}

template <class T>
int64_t weight_gradient_scratch(const Conv2dProblem& problem, int64_t slots) {
  return with_gradient<T>(problem, [&](auto gradient) { return gradient.scratch(problem, slots); });
}

template <class T>
void weight_gradient(const Conv2dProblem& problem, const Parallel& parallel, const T* dbefore, const T* x, T* dweight,
                     T* dbias, void* scratch) {
  with_gradient<T>(problem,
                   [&](auto gradient) { gradient.run(problem, parallel, dbefore, x, dweight, dbias, scratch); });
}

template <class T>
constexpr Conv2dInferenceKernelsOf<T> kInference = {packed_bytes<T>, pack<T>, forward_scratch<T>, forward<T>};

template <class T>
constexpr Conv2dKernelsOf<T> kOf = {kInference<T>, activation_gradient<T>, weight_gradient_scratch<T>,
                                    weight_gradient<T>};

}  // namespace

LKOPS_TABLE(Conv2dInferenceKernels, kConv2dInference) = {kInference<float>, kInference<BFloat16>};
LKOPS_TABLE(Conv2dKernels, kConv2d) = {kLanes, kOf<float>, kOf<BFloat16>};

}  // namespace lkops
