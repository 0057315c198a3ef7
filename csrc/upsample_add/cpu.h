// Grouped conv, PixelShuffle and the bicubic image of a small one, in one kernel. No torch, no std.
//
//     z = conv(features)                                     (n, bands scale^2, height, width), zeros outside
//     out[b, r i + p, r j + q] = z[b r^2 + r p + q, i, j] + enlarged(lowres)[b, r i + p, r j + q],  r = scale
#pragma once

#include <cstdint>

#include "common/isas.h"
#include "common/parallel.h"
#include "common/types.h"

namespace lkops {

struct UpsampleProblem {
  int64_t n, height, width;  // of the small images
  int64_t groups, inputs;    // conv: groups, and input channels of one
  int64_t outputs;           // output channels of one group: groups * outputs = bands * scale^2
  int64_t kernel_height, kernel_width;  // odd
  int64_t scale, bands;
  double cubic_a;
  bool symmetric;
  bool lowres_is_bf16;
  bool streams;  // out is too large to stay in cache
};

// Pointers of features' type T are those of features, weight, bias and their gradients; of G, out and grad. What is
// null is left out: bias, lowres, and in `backward` the gradients that nobody needs.
//
// `scratch` belongs to one call, aligned to cache lines.
template <class T, class G>
struct UpsampleInferenceKernelsOf {
  int64_t (*forward_scratch)(const UpsampleProblem& problem, int64_t slots);
  void (*forward)(const UpsampleProblem& problem, const Parallel& parallel, const T* features, const T* weight,
                  const T* bias, const void* lowres, G* out, void* scratch);
};

template <class T, class G>
struct UpsampleKernelsOf : UpsampleInferenceKernelsOf<T, G> {
  int64_t (*backward_scratch)(const UpsampleProblem& problem, int64_t slots);
  void (*backward)(const UpsampleProblem& problem, const Parallel& parallel, const G* grad, const T* features,
                   const T* weight, T* dfeatures, T* dweight, T* dbias, void* scratch);
};

// Forward of bfloat16 features with products of whole numbers of 8 bits, whose steps are found on the way: row m of the
// weight is scale[m] times its numbers.
struct UpsampleInt8 {
  int64_t (*forward_scratch)(const UpsampleProblem& problem, int64_t slots);
  void (*forward)(const UpsampleProblem& problem, const Parallel& parallel, const BFloat16* features,
                  const int8_t* weight, const float* scale, const BFloat16* bias, const float* lowres, float* out,
                  void* scratch);
};

struct UpsampleInferenceKernels {  // of images that are float32, as below
  UpsampleInferenceKernelsOf<float, float> f32;
  UpsampleInferenceKernelsOf<BFloat16, float> mixed;
  UpsampleInt8 int8;
};

struct UpsampleKernels {
  UpsampleKernelsOf<float, float> f32;
  UpsampleKernelsOf<BFloat16, BFloat16> bf16;
  UpsampleKernelsOf<BFloat16, float> mixed;  // under autocast: the product in bfloat16, the images in float32
};

LKOPS_DECLARE_TABLES(UpsampleInferenceKernels, kUpsampleInference, Products);
LKOPS_DECLARE_TABLES(UpsampleKernels, kUpsample, Products);

}  // namespace lkops
