// How the kernels work is told in forward.h and backward.h; tile.h is what both need.
#include "upsample_add/cpu.h"

#include "upsample_add/backward.h"
#include "upsample_add/forward.h"

namespace lkops {
namespace {

template <class T, class G>
constexpr UpsampleInferenceKernelsOf<T, G> kInference = {forward_scratch<T>, forward<T, G>};

template <class T, class G>
constexpr UpsampleKernelsOf<T, G> kOf = {kInference<T, G>, backward_scratch<T, G>, backward<T, G>};

}  // namespace

LKOPS_TABLE(UpsampleInferenceKernels, kUpsampleInference) = {kInference<float, float>, kInference<BFloat16, float>,
                                                             {forward_scratch<BFloat16, Quad>, forward_int8}};
LKOPS_TABLE(UpsampleKernels, kUpsample) = {kOf<float, float>, kOf<BFloat16, BFloat16>, kOf<BFloat16, float>};

}  // namespace lkops
