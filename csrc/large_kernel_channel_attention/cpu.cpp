#include "large_kernel_channel_attention/cpu.h"

#include "common/sums.h"
#include "large_kernel_channel_attention/backward.h"
#include "large_kernel_channel_attention/forward.h"

namespace lkops {
namespace {

void narrow_all(const float* from, int64_t count, BFloat16* to) {
  for (int64_t i = 0; i < count; i += kLanes) store_lanes(to + i, load_lanes(from + i, count - i), count - i);
}

}  // namespace

LKOPS_TABLE(AttentionKernels, kAttention) = {
    attention_forward_bytes<float>,  attention_forward_bytes<BFloat16>,  attention_forward<float>,
    attention_forward<BFloat16>,     attention_backward_bytes<float>,    attention_backward_bytes<BFloat16>,
    attention_backward<float>,       attention_backward<BFloat16>,
    narrow_all};

}  // namespace lkops
