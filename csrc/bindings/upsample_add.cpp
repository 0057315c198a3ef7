// upsample_add: tensors in, pointers out.
#include "upsample_add/cpu.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/bicubic_upsample.h"
#include "bindings/conv2d.h"
#include "bindings/dense.h"
#include "bindings/gradients.h"
#include "bindings/parallel.h"
#include "common/isa.h"
#include "upsample_add/way.h"

namespace lkops {
namespace {

bool is_bf16(const Tensor& tensor) { return tensor.scalar_type() == ScalarType::BFloat16; }

// Sizes of a call, after checking that all tensors agree with one another.
UpsampleProblem problem_of(const Tensor& features, const Tensor& weight, const Optional& bias, const Optional& lowres,
                           int64_t scale, double cubic_a, bool symmetric) {
  check_image(Device::kCpu, "features", features);
  check_map(Device::kCpu, "weight", weight);
  check_scale(scale);
  const int64_t channels = features.size(1), outputs = weight.size(0), inputs = weight.size(1);
  UpsampleProblem problem{};
  problem.n = features.size(0), problem.height = features.size(2), problem.width = features.size(3);
  problem.kernel_height = weight.size(2), problem.kernel_width = weight.size(3);
  if (problem.kernel_height % 2 == 0 || problem.kernel_width % 2 == 0)
    fail("weight must have an odd height and width, got ", shape_of(weight));
  if (inputs == 0 || outputs == 0 || channels % inputs != 0 || outputs % (channels / inputs) != 0)
    fail("weight of shape ", shape_of(weight), " does not fit ", channels, " input channels");
  if (outputs % (scale * scale) != 0) fail("weight must have a multiple of scale^2 = ", scale * scale, " outputs");
  if (weight.scalar_type() != features.scalar_type()) fail("weight must have the dtype of features");
  problem.groups = channels / inputs, problem.inputs = inputs, problem.outputs = outputs / problem.groups;
  problem.scale = scale, problem.bands = outputs / (scale * scale);
  problem.cubic_a = cubic_a, problem.symmetric = symmetric;
  check_tensor("bias", bias, {outputs}, features);
  if (lowres) {  // of another dtype under autocast
    check_map(Device::kCpu, "lowres", *lowres);
    check_shape("lowres", *lowres, {problem.n, problem.bands, problem.height, problem.width});
    problem.lowres_is_bf16 = is_bf16(*lowres);
  }
  return problem;
}

// The result has the wider dtype of features and lowres.
ScalarType result_type(const Tensor& features, const Optional& lowres) {
  return is_bf16(features) && (!lowres || is_bf16(*lowres)) ? ScalarType::BFloat16 : ScalarType::Float;
}

const UpsampleKernels& kernels() { return LKOPS_CHOOSE(kUpsample); }

template <class T, class G>
void run_forward(const UpsampleKernelsOf<T, G>& kernels, UpsampleProblem problem, const Tensor& features,
                 const Tensor& weight, const Optional& bias, const Optional& lowres, Tensor& out) {
  const Parallel threads = torch_threads();
  problem.streams = out.numel() * static_cast<int64_t>(sizeof(G)) >= kStreamed;
  const Scratch scratch = allocate_scratch(kernels.forward_scratch(problem, threads.slots));
  kernels.forward(problem, threads, pointer<T>(features), pointer<T>(weight), pointer<T>(bias),
                  pointer<void>(lowres), mutable_pointer<G>(out), scratch.get());
}

// The bicubic image of lowres, n x bands planes.
void run_image(const UpsampleProblem& problem, const Tensor& lowres, Tensor& out) {
  const BicubicKernels& bicubic = LKOPS_CHOOSE(kBicubic);
  const BicubicPlane plane{problem.height, problem.width, problem.scale, problem.symmetric};
  with_type<Device::kCpu>(out.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    run_bicubic(bicubic, of_type<T>(bicubic.forward_f32, bicubic.forward_bf16), bicubic.forward_scratch(plane), plane,
                problem.cubic_a, problem.n * problem.bands, pointer<T>(lowres), mutable_pointer<T>(out));
  });
}

Tensor forward(const Tensor& features, const Tensor& weight, const Optional& bias, const Optional& lowres,
               int64_t scale, double cubic_a, bool symmetric, bool relaxed, bool saving) {
  const UpsampleProblem problem = problem_of(features, weight, bias, lowres, scale, cubic_a, symmetric);
  const ScalarType type = result_type(features, lowres);
  Tensor out = new_result(
      features, {problem.n, problem.bands, multiply(problem.height, scale), multiply(problem.width, scale)}, type);
  if (out.numel() == 0) return out;
  const bool is_mixed = type != features.scalar_type() || (lowres && lowres->scalar_type() != type);
  if (by_conv2d(problem, is_mixed, lowres.has_value())) {
    if (lowres) run_image(problem, *lowres, out);
    conv_and_shuffle(features, weight, bias, problem.groups, scale, relaxed, !saving, lowres.has_value(), out);
  } else if (!is_bf16(features))
    run_forward(kernels().f32, problem, features, weight, bias, lowres, out);
  else if (type == ScalarType::BFloat16)
    run_forward(kernels().bf16, problem, features, weight, bias, lowres, out);
  else
    run_forward(kernels().mixed, problem, features, weight, bias, lowres, out);
  return out;
}

template <class T, class G>
void run_backward(const UpsampleKernelsOf<T, G>& kernels, const UpsampleProblem& problem, const Tensor& grad,
                  const Tensor& features, const Tensor& weight, const Gradients<4>& gradients) {
  const Parallel threads = torch_threads();
  const Scratch scratch = allocate_scratch(kernels.backward_scratch(problem, threads.slots));
  kernels.backward(problem, threads, pointer<G>(grad), pointer<T>(features), pointer<T>(weight),
                   gradients.pointer<T>(0), gradients.pointer<T>(1), gradients.pointer<T>(2), scratch.get());
}

// The gradient of the small image: bicubic_upsample's own.
void run_lowres(const UpsampleProblem& problem, const Tensor& grad, const Tensor& dlowres) {
  const BicubicKernels& bicubic = LKOPS_CHOOSE(kBicubic);
  const BicubicPlane plane{problem.height, problem.width, problem.scale, problem.symmetric};
  with_type<Device::kCpu>(grad.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    run_bicubic(bicubic, of_type<T>(bicubic.backward_f32, bicubic.backward_bf16), bicubic.backward_scratch(plane),
                plane, problem.cubic_a, problem.n * problem.bands, pointer<T>(grad), mutable_pointer<T>(dlowres));
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad, const Tensor& features, const Tensor& weight,
                                                    const Optional& bias, const Optional& lowres, int64_t scale,
                                                    double cubic_a, bool symmetric, bool,
                                                    const std::vector<bool>& needs) {
  const UpsampleProblem problem = problem_of(features, weight, bias, lowres, scale, cubic_a, symmetric);
  const ScalarType type = result_type(features, lowres);
  check_tensor("grad", grad,
               {problem.n, problem.bands, multiply(problem.height, scale), multiply(problem.width, scale)}, features,
               type);
  const Gradients gradients(features, needs, features, weight, bias, lowres);
  if (problem.n == 0) return gradients.zeros();
  if (needs[0] || needs[1] || (needs[2] && bias)) {
    if (!is_bf16(features))
      run_backward(kernels().f32, problem, grad, features, weight, gradients);
    else if (type == ScalarType::BFloat16)
      run_backward(kernels().bf16, problem, grad, features, weight, gradients);
    else
      run_backward(kernels().mixed, problem, grad, features, weight, gradients);
  }
  if (needs[3] && lowres) {
    if (lowres->scalar_type() == type) {
      run_lowres(problem, grad, gradients[3]);
    } else {
      Tensor wide = new_result(grad, {problem.n, problem.bands, problem.height, problem.width});
      run_lowres(problem, grad, wide);
      Tensor dlowres = gradients[3];
      torch::stable::copy_(dlowres, wide);
    }
  }
  return gradients.results();
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("upsample_add_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("upsample_add_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
