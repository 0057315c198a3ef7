#include "large_kernel_channel_attention/cpu.h"

#include "large_kernel_channel_attention/backward.h"
#include "large_kernel_channel_attention/forward.h"

namespace lkops {

LKOPS_TABLE(AttentionKernels, kAttention) = {
    attention_forward_bytes<float>,  attention_forward_bytes<BFloat16>,  attention_forward<float>,
    attention_forward<BFloat16>,     attention_backward_bytes<float>,    attention_backward_bytes<BFloat16>,
    attention_backward<float>,       attention_backward<BFloat16>};

}  // namespace lkops
