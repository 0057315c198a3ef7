// bicubic_upsample: tensors in, pointers out.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "bicubic/cpu.h"
#include "bindings/checks.h"
#include "bindings/dense.h"
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

// Runs `kernel` on all rows of all planes of the small image.
template <class T, class Kernel>
void run(Kernel kernel, int64_t scratch_bytes, const BicubicPlane& plane, double cubic_a, const Tensor& in,
         const Tensor& out) {
  const Scratch plan = allocate_scratch(kernels().plan_bytes(plane.scale));
  kernels().make_plan(plane.scale, cubic_a, plan.get());
  const T* from = static_cast<const T*>(in.const_data_ptr());
  T* to = static_cast<T*>(out.mutable_data_ptr());
  const int64_t rows = in.size(0) * in.size(1) * plane.height;
  const int64_t grain = grain_of(plane.width * plane.scale * plane.scale);
  torch::stable::parallel_for(0, rows, grain, [&](int64_t first, int64_t last) {
    const Scratch scratch = allocate_scratch(scratch_bytes);
    kernel(plan.get(), plane, from, to, first, last, scratch.get());
  });
}

Tensor forward(const Tensor& x, int64_t scale, double cubic_a, bool symmetric) {
  check("x", x, scale);
  const BicubicPlane plane{x.size(2), x.size(3), scale, symmetric};
  const int64_t sizes[] = {x.size(0), x.size(1), multiply(plane.height, scale), multiply(plane.width, scale)};
  if (sizes[1] == 0 || sizes[2] == 0 || sizes[3] == 0)
    fail("x must have at least one channel, row and column, got ", shape_of(x));
  Tensor y = torch::stable::new_empty(x, {sizes, 4});
  if (y.numel() == 0) return y;
  const int64_t scratch = kernels().forward_scratch(plane);
  if (x.scalar_type() == ScalarType::Float)
    run<float>(kernels().forward_f32, scratch, plane, cubic_a, x, y);
  else
    run<BFloat16>(kernels().forward_bf16, scratch, plane, cubic_a, x, y);
  return y;
}

Tensor backward(const Tensor& grad, int64_t scale, double cubic_a, bool symmetric) {
  check("grad", grad, scale);
  if (grad.size(2) % scale != 0 || grad.size(3) % scale != 0)
    fail("grad must have a height and a width that scale = ", scale, " divides, got ", shape_of(grad));
  const BicubicPlane plane{grad.size(2) / scale, grad.size(3) / scale, scale, symmetric};
  const int64_t sizes[] = {grad.size(0), grad.size(1), plane.height, plane.width};
  if (sizes[2] == 0 || sizes[3] == 0) fail("grad must have at least one pixel, got ", shape_of(grad));
  Tensor dx = torch::stable::new_empty(grad, {sizes, 4});
  if (dx.numel() == 0) return dx;
  const int64_t scratch = kernels().backward_scratch(plane);
  if (grad.scalar_type() == ScalarType::Float)
    run<float>(kernels().backward_f32, scratch, plane, cubic_a, grad, dx);
  else
    run<BFloat16>(kernels().backward_bf16, scratch, plane, cubic_a, grad, dx);
  return dx;
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("bicubic_upsample_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("bicubic_upsample_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
