#include "lk_block/cpu.h"

#include "lk_block/backward.h"
#include "lk_block/forward.h"
#include "lk_block/int8.h"

namespace lkops {
namespace {

constexpr BlockInferenceKernels kInference = {
    block_forward_bytes<float>,
    block_forward_bytes<BFloat16>,
    block_forward<float>,
    block_forward<BFloat16>,
    block_int8_bytes,
    block_int8,
};

}  // namespace

LKOPS_TABLE(BlockInferenceKernels, kBlockInference) = kInference;
LKOPS_TABLE(BlockKernels, kBlock) = {
    kInference,
    block_backward_bytes<float>, block_backward_bytes<BFloat16>, block_backward<float>, block_backward<BFloat16>,
};

}  // namespace lkops
