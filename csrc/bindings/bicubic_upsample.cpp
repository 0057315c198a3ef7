// bicubic_upsample: tensors in, pointers out.
#include "bindings/bicubic_upsample.h"

#include <torch/csrc/stable/library.h>

#include "bindings/arguments.h"
#include "bindings/dense.h"
#include "common/isa.h"

namespace lkops {
namespace {

const BicubicKernels& kernels() { return LKOPS_CHOOSE(kBicubic); }

template <class Single, class Half>
void run(Single single, Half half, int64_t bytes, const BicubicPlane& plane, double cubic_a, const Tensor& in,
         const Tensor& out) {
  with_type<Device::kCpu>(in.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    run_bicubic(kernels(), of_type<T>(single, half), bytes, plane, cubic_a, in.size(0) * in.size(1), pointer<T>(in),
                mutable_pointer<T>(out));
  });
}

Tensor forward(const Tensor& x, int64_t scale, double cubic_a, bool symmetric) {
  check_image(Device::kCpu, "x", x);
  check_scale(scale);
  const BicubicPlane plane{x.size(2), x.size(3), scale, symmetric};
  Tensor y = new_result(x, {x.size(0), x.size(1), multiply(plane.height, scale), multiply(plane.width, scale)});
  if (y.numel() == 0) return y;
  run(kernels().forward_f32, kernels().forward_bf16, kernels().forward_scratch(plane), plane, cubic_a, x, y);
  return y;
}

Tensor backward(const Tensor& grad, int64_t scale, double cubic_a, bool symmetric) {
  check_image(Device::kCpu, "grad", grad);
  check_scale(scale);
  if (grad.size(2) % scale != 0 || grad.size(3) % scale != 0)
    fail("grad must have a height and a width that scale = ", scale, " divides, got ", shape_of(grad));
  const BicubicPlane plane{grad.size(2) / scale, grad.size(3) / scale, scale, symmetric};
  Tensor dx = new_result(grad, {grad.size(0), grad.size(1), plane.height, plane.width});
  if (dx.numel() == 0) return dx;
  run(kernels().backward_f32, kernels().backward_bf16, kernels().backward_scratch(plane), plane, cubic_a, grad, dx);
  return dx;
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("bicubic_upsample_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("bicubic_upsample_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
