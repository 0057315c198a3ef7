// Both directions are one pass over memory. A chunk of pixels stays in the caches while bands stream by, a few of them
// at a time; what is needed of pixels and of the bands before lies in buffers of a chunk.
#include "spectral_losses/cpu.h"

#include "spectral_losses/backward.h"
#include "spectral_losses/forward.h"

namespace lkops {

LKOPS_TABLE(LossesKernels, kLosses) = {
    forward_bytes,
    backward_bytes,
    {forward<float, float>, backward<float, float>},
    {forward<BFloat16, BFloat16>, backward<BFloat16, BFloat16>},
    {forward<BFloat16, float>, backward<BFloat16, float>},
    {forward<float, BFloat16>, backward<float, BFloat16>},
};

}  // namespace lkops
