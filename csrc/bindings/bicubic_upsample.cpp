// bicubic_upsample: tensors in, pointers out.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "bindings/bicubic_upsample.h"
#include "bindings/checks.h"
#include "bindings/dense.h"
#include "bindings/memory.h"
#include "common/isa.h"

namespace lkops {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kMaxScale = 1 << 20;  // one pixel becomes 4 TiB: no image is refused, and no product below overflows

void check(const char* name, const Tensor& tensor, int64_t scale) {
  if (!tensor.is_cpu()) fail(name, " must be on the CPU");
  if (tensor.dim() != 4) fail(name, " must be (N, C, H, W), got ", shape_of(tensor));
  if (tensor.scalar_type() != ScalarType::Float && tensor.scalar_type() != ScalarType::BFloat16)
    fail(name, " must be float32 or bfloat16, got torch dtype number ", static_cast<int>(tensor.scalar_type()));
  if (!tensor.is_contiguous()) fail(name, " must be contiguous");
  if (scale < 1 || scale > kMaxScale) fail("scale must be between 1 and ", kMaxScale, ", got ", scale);
}

const BicubicKernels& kernels() { return LKOPS_CHOOSE(kBicubic); }

template <class Single, class Half>
void run(Single single, Half half, int64_t bytes, const BicubicPlane& plane, double cubic_a, const Tensor& in,
         const Tensor& out) {
  const int64_t planes = in.size(0) * in.size(1);
  const auto run_as = [&](auto kernel, auto zero) {
    using T = decltype(zero);
    run_bicubic(kernels(), kernel, bytes, plane, cubic_a, planes, static_cast<const T*>(in.const_data_ptr()),
                static_cast<T*>(out.mutable_data_ptr()));
  };
  if (in.scalar_type() == ScalarType::Float)
    run_as(single, float{});
  else
    run_as(half, BFloat16{});
}

Tensor forward(const Tensor& x, int64_t scale, double cubic_a, bool symmetric) {
  check("x", x, scale);
  const BicubicPlane plane{x.size(2), x.size(3), scale, symmetric};
  const int64_t sizes[] = {x.size(0), x.size(1), multiply(plane.height, scale), multiply(plane.width, scale)};
  if (sizes[1] == 0 || sizes[2] == 0 || sizes[3] == 0)
    fail("x must have at least one channel, row and column, got ", shape_of(x));
  Tensor y = new_result(x, {sizes, 4});
  if (y.numel() == 0) return y;
  run(kernels().forward_f32, kernels().forward_bf16, kernels().forward_scratch(plane), plane, cubic_a, x, y);
  return y;
}

Tensor backward(const Tensor& grad, int64_t scale, double cubic_a, bool symmetric) {
  check("grad", grad, scale);
  if (grad.size(2) % scale != 0 || grad.size(3) % scale != 0)
    fail("grad must have a height and a width that scale = ", scale, " divides, got ", shape_of(grad));
  const BicubicPlane plane{grad.size(2) / scale, grad.size(3) / scale, scale, symmetric};
  const int64_t sizes[] = {grad.size(0), grad.size(1), plane.height, plane.width};
  if (sizes[2] == 0 || sizes[3] == 0) fail("grad must have at least one pixel, got ", shape_of(grad));
  Tensor dx = new_result(grad, {sizes, 4});
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
