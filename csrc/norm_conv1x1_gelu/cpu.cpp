// The table of norm_conv1x1_gelu's kernels.
#include "norm_conv1x1_gelu/operator.h"

#define LKOPS_TABLE_NAME(isa) kProjection##isa
#define LKOPS_TABLE(isa) LKOPS_TABLE_NAME(isa)
#define LKOPS_ENTRIES(type)                                                                       \
  {                                                                                               \
    projection_forward_bytes<type>, projection_forward<type>, projection_backward_bytes<type>,    \
        projection_backward<type>                                                                 \
  }

namespace lkops {

extern const ProjectionKernels LKOPS_TABLE(LKOPS_ISA) = {LKOPS_ENTRIES(float), LKOPS_ENTRIES(BFloat16)};

}  // namespace lkops
