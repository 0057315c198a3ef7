// The table of norm_conv1x1_gelu's kernels.
#include "norm_conv1x1_gelu/operator.h"

namespace lkops {
namespace {

template <class T>
constexpr ProjectionEntries<T> kOf = {projection_forward_bytes<T>, projection_forward<T>,
                                      projection_backward_bytes<T>, projection_backward<T>};

}  // namespace

LKOPS_TABLE(ProjectionKernels, kProjection) = {kOf<float>, kOf<BFloat16>};

}  // namespace lkops
