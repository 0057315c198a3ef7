// The four spectral losses of two cubes, and their gradients. No torch, no std.
//
//     l1       = mean |p - t|
//     sam      = mean over pixels of w arccos(clamp(cos)) / pi      cos = <p, t> / (|p| |t|) of the spectra of a pixel
//     cosine   = mean over pixels of w (1 - cos)                    w = max(0, 1 - floor^2 channels / |t|^2), a constant
//     gradient = mean |g(p) - g(t)|                                 g: the magnitude of the differences to the voxels
//                                                                   before, above and to the left
#pragma once

#include <cstdint>

#include "common/isas.h"
#include "common/parallel.h"
#include "common/types.h"

namespace lkops {

struct LossesSize {
  int64_t batch, channels, height, width;
};

// What the gradients of the four losses are multiplied with.
struct LossesWeights {
  float l1, sam, cosine, gradient;
};

template <class P, class T>
struct LossesPair {
  // means: l1, sam, cosine, gradient. spectra: (N, 3, H, W) of <p, p>, <t, t> and <p, t>. floor: finite, 0 or more.
  void (*forward)(const Parallel& parallel, const LossesSize& size, double floor, const P* p, const T* t, float* means,
                  float* spectra, void* scratch);
  // The gradient of p alone. But for w, all four losses are symmetric: for that of t, exchange the cubes and set
  // `exchanged`, which says that spectra begins with that of t, and that w is that of the cube called p here.
  void (*backward)(const Parallel& parallel, const LossesSize& size, double floor, const LossesWeights& weights,
                   const P* p, const T* t, const float* spectra, bool exchanged, P* dp, void* scratch);
};

// The sums are over the same parts in the same order for any number of threads.
struct LossesKernels {
  int64_t (*forward_bytes)(const LossesSize& size, int64_t slots);
  int64_t (*backward_bytes)(const LossesSize& size, int64_t slots);
  LossesPair<float, float> singles;
  LossesPair<BFloat16, BFloat16> halves;
  LossesPair<BFloat16, float> half_single;
  LossesPair<float, BFloat16> single_half;
};

LKOPS_DECLARE_TABLES(LossesKernels, kLosses, Floats);

}  // namespace lkops
