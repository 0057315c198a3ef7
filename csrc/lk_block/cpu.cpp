#include "lk_block/cpu.h"

#include "lk_block/backward.h"
#include "lk_block/forward.h"

namespace lkops {

#define LKOPS_TABLE_NAME(isa) kBlock##isa
#define LKOPS_TABLE(isa) LKOPS_TABLE_NAME(isa)
extern const BlockKernels LKOPS_TABLE(LKOPS_ISA) = {block_forward_bytes<float>, block_forward_bytes<BFloat16>,
                                                    block_forward<float>, block_forward<BFloat16>,
                                                    block_backward_bytes<float>, block_backward_bytes<BFloat16>,
                                                    block_backward<float>, block_backward<BFloat16>};

}  // namespace lkops
