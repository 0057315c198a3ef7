#include "lk_block/cpu.h"

#include "lk_block/backward.h"
#include "lk_block/forward.h"

namespace lkops {
namespace {

constexpr BlockInference kInference = {
    block_forward_bytes<float>,
    block_forward_bytes<BFloat16>,
    block_forward<float>,
    block_forward<BFloat16>,
};

}  // namespace

LKOPS_TABLE(BlockInference, kBlockInference) = kInference;
LKOPS_TABLE(BlockKernels, kBlock) = {
    kInference,
    block_backward_bytes<float>, block_backward_bytes<BFloat16>, block_backward<float>, block_backward<BFloat16>,
};

}  // namespace lkops
