// Bicubic upsampling by an integer factor, and its transpose. No torch, no std.
//
// Output row i of a plane that is `scale` times as high reads the input at u = (i + 0.5) / scale - 0.5: the four rows
// floor(u) - 1 .. floor(u) + 2, with Keys' cubic weights (R. Keys, "Cubic convolution interpolation for digital image
// processing", IEEE TASSP 1981). The same along columns. Rows outside are mirrored with the edge repeated
// (`symmetric`) or are the edge (clamped).
#pragma once

#include <cstdint>

#include "common/isas.h"
#include "common/types.h"

namespace lkops {

struct BicubicPlane {  // the small image: one plane of it
  int64_t height, width, scale;
  bool symmetric;
};

// Work is counted in rows of the small image, over all planes: row p * height + y is row y of plane p. A range of rows
// gives the same bits wherever it begins and ends, so the number of threads does not show in the results.
//
// `plan` holds the weights: plan_bytes(scale) bytes, filled by make_plan and then shared by all threads.
// `scratch` belongs to one call: forward_scratch or backward_scratch bytes. Both as aligned as malloc's memory at least;
// 64 bytes is faster.
struct BicubicInferenceKernels {
  int64_t (*plan_bytes)(int64_t scale);
  void (*make_plan)(int64_t scale, double cubic_a, void* plan);

  int64_t (*forward_scratch)(const BicubicPlane& plane);
  void (*forward_f32)(const void* plan, const BicubicPlane& plane, const float* x, float* y, int64_t first_row,
                      int64_t last_row, void* scratch);
};

struct BicubicKernels : BicubicInferenceKernels {
  void (*forward_bf16)(const void* plan, const BicubicPlane& plane, const BFloat16* x, BFloat16* y, int64_t first_row,
                       int64_t last_row, void* scratch);

  int64_t (*backward_scratch)(const BicubicPlane& plane);
  void (*backward_f32)(const void* plan, const BicubicPlane& plane, const float* grad, float* dx, int64_t first_row,
                       int64_t last_row, void* scratch);
  void (*backward_bf16)(const void* plan, const BicubicPlane& plane, const BFloat16* grad, BFloat16* dx,
                        int64_t first_row, int64_t last_row, void* scratch);
};

LKOPS_DECLARE_TABLES(BicubicInferenceKernels, kBicubicInference, Floats);
LKOPS_DECLARE_TABLES(BicubicKernels, kBicubic, Floats);

}  // namespace lkops
