// conv2d with bias, activation, scale and residual in one kernel. No torch, no std.
//
//     out = residual + residual_scale * act(conv(x) + bias)
//
// Weights are packed once by the caller and kept: for Winograd's algorithm they are transformed (36 numbers for 9 with
// tiles of 4x4), for the direct one only reordered.
#pragma once

#include <cstdint>

#include "common/isas.h"
#include "common/parallel.h"
#include "common/types.h"

namespace lkops {

enum class ConvLayout : int32_t {
  kPlanar,        // (n, channels, height, width)
  kChannelsLast,  // (n, height, width, channels)
  kBlocked,       // (n, blocks of block_channels channels, height, width, block_channels), zeros in unused channels
  kShuffled,      // of results: (n, channels / r^2, r height, r width), as PixelShuffle by r makes it of planes
};

enum class ConvAlgorithm : int32_t {
  kDirect,
  kWinograd2,  // stride 1 without spread: tiles of 2x4 outputs. The gradient of the weight: of 3x3 without dilation only
  kWinograd4,  // of 4x4
};

enum class Activation : int32_t { kNone, kRelu, kLeakyRelu, kPRelu, kGelu, kSilu, kSigmoid };

struct Conv2dProblem {
  int64_t n, inputs, height, width;  // channels of all groups
  int64_t outputs, out_height, out_width;
  int64_t groups;
  int64_t kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width;
  int64_t spread_height, spread_width;  // rows and columns of x are so far apart, zeros between: 1 but for gradients
  int64_t top, left;                    // rows and columns of zeros before the image; those behind follow from the sizes
  ConvAlgorithm algorithm;
  ConvLayout layout, out_layout;  // of x; of out and residual
  int64_t shuffle;                // r of kShuffled, which must divide the channels, squared
  Activation activation;
  float slope;           // of kLeakyRelu
  float residual_scale;  // of the activation's result, with or without a residual
  bool levels;           // sums over channels in levels: smaller errors, a few percent slower
};

// `scratch` belongs to one call, aligned to cache lines, as `packed` is. Null is left out: bias, slopes, residual,
// before; of the gradients what nobody needs.
template <class T>
struct Conv2dInferenceKernelsOf {
  int64_t (*packed_bytes)(const Conv2dProblem& problem);
  // The weight (outputs, inputs / groups, kernel_height, kernel_width). `flipped`: the problem is the gradient of another
  // conv's input, and the weight is that conv's, (inputs, outputs / groups, ...).
  void (*pack)(const Conv2dProblem& problem, const Parallel& parallel, const T* weight, bool flipped, void* packed);
  int64_t (*forward_scratch)(const Conv2dProblem& problem, int64_t slots);
  // slopes (outputs) of kPRelu; before (like out): conv(x) + bias is stored there too, but not kShuffled. residual
  // may be out.
  void (*forward)(const Conv2dProblem& problem, const Parallel& parallel, const T* x, const void* packed, const T* bias,
                  const T* slopes, const T* residual, T* before, T* out, void* scratch);
};

template <class T>
struct Conv2dKernelsOf : Conv2dInferenceKernelsOf<T> {
  // grad is that of out, in its layout, which is planar where there are slopes. `saved` is `before`, or out where
  // `from_out`, which needs no residual and a derivative that follows from the result: relu, leaky_relu with a
  // slope > 0 and sigmoid, with residual_scale not 0. Gradients of `before`, and of the slopes.
  void (*activation_gradient)(const Conv2dProblem& problem, const Parallel& parallel, const T* grad, const T* saved,
                              bool from_out, const T* slopes, T* dbefore, T* dslopes);
  int64_t (*weight_gradient_scratch)(const Conv2dProblem& problem, int64_t slots);
  // From the gradient of `before`, in the layout of out. The gradient of x is another conv's forward: the weight flipped,
  // x spread by the strides.
  void (*weight_gradient)(const Conv2dProblem& problem, const Parallel& parallel, const T* dbefore, const T* x,
                          T* dweight, T* dbias, void* scratch);
};

struct Conv2dInferenceKernels {
  Conv2dInferenceKernelsOf<float> f32;
  Conv2dInferenceKernelsOf<BFloat16> bf16;
};

struct Conv2dKernels {
  int64_t block_channels;
  Conv2dKernelsOf<float> f32;
  Conv2dKernelsOf<BFloat16> bf16;
};

LKOPS_DECLARE_TABLES(Conv2dInferenceKernels, kConv2dInference, Products);
LKOPS_DECLARE_TABLES(Conv2dKernels, kConv2d, Products);

}  // namespace lkops
