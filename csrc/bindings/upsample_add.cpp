// upsample_add: tensors in, pointers out.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "bindings/bicubic_upsample.h"
#include "bindings/checks.h"
#include "bindings/dense.h"
#include "bindings/memory.h"
#include "bindings/parallel.h"
#include "common/isa.h"
#include "upsample_add/cpu.h"

namespace lkops {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;

void check_tensor(const char* name, const Tensor& tensor, int64_t dims) {
  if (!tensor.is_cpu()) fail(name, " must be on the CPU");
  if (tensor.dim() != dims) fail(name, " must have ", dims, " dimensions, got ", shape_of(tensor));
  if (tensor.scalar_type() != ScalarType::Float && tensor.scalar_type() != ScalarType::BFloat16)
    fail(name, " must be float32 or bfloat16, got torch dtype number ", static_cast<int>(tensor.scalar_type()));
  if (!tensor.is_contiguous()) fail(name, " must be contiguous");
}

void check_shape(const char* name, const Tensor& tensor, std::initializer_list<int64_t> sizes) {
  std::ostringstream expected;
  bool same = true;
  int64_t d = 0;
  for (int64_t size : sizes) {
    expected << (d == 0 ? "" : ", ") << size;
    same = same && tensor.size(d++) == size;
  }
  if (!same) fail(name, " must have shape (", expected.str(), "), got ", shape_of(tensor));
}

bool is_bf16(const Tensor& tensor) { return tensor.scalar_type() == ScalarType::BFloat16; }

// Sizes of a call, after checking that all tensors agree with one another.
UpsampleProblem problem_of(const Tensor& features, const Tensor& weight, const Optional& bias, const Optional& lowres,
                           int64_t scale, double cubic_a, bool symmetric) {
  constexpr int64_t kMaxScale = 1 << 20;  // no product below overflows
  check_tensor("features", features, 4);
  check_tensor("weight", weight, 4);
  if (scale < 1 || scale > kMaxScale) fail("scale must be between 1 and ", kMaxScale, ", got ", scale);
  const int64_t channels = features.size(1), outputs = weight.size(0), inputs = weight.size(1);
  UpsampleProblem problem{};
  problem.n = features.size(0), problem.height = features.size(2), problem.width = features.size(3);
  problem.kernel_height = weight.size(2), problem.kernel_width = weight.size(3);
  if (channels == 0 || problem.height == 0 || problem.width == 0)
    fail("features must have at least one channel and one pixel, got ", shape_of(features));
  if (problem.kernel_height % 2 == 0 || problem.kernel_width % 2 == 0)
    fail("weight must have an odd height and width, got ", shape_of(weight));
  if (inputs == 0 || outputs == 0 || channels % inputs != 0 || outputs % (channels / inputs) != 0)
    fail("weight of shape ", shape_of(weight), " does not fit ", channels, " input channels");
  if (outputs % (scale * scale) != 0) fail("weight must have a multiple of scale^2 = ", scale * scale, " outputs");
  if (weight.scalar_type() != features.scalar_type()) fail("weight must have the dtype of features");
  problem.groups = channels / inputs, problem.inputs = inputs, problem.outputs = outputs / problem.groups;
  problem.scale = scale, problem.bands = outputs / (scale * scale);
  problem.cubic_a = cubic_a, problem.symmetric = symmetric;
  if (bias.has_value()) {
    check_tensor("bias", *bias, 1);
    check_shape("bias", *bias, {outputs});
    if (bias->scalar_type() != features.scalar_type()) fail("bias must have the dtype of features");
  }
  if (lowres.has_value()) {
    check_tensor("lowres", *lowres, 4);
    check_shape("lowres", *lowres, {problem.n, problem.bands, problem.height, problem.width});
    problem.lowres_is_bf16 = is_bf16(*lowres);
  }
  return problem;
}

// The result has the wider dtype of features and lowres.
ScalarType result_type(const Tensor& features, const Optional& lowres) {
  return is_bf16(features) && (!lowres.has_value() || is_bf16(*lowres)) ? ScalarType::BFloat16 : ScalarType::Float;
}

const UpsampleKernels& kernels() { return LKOPS_CHOOSE(kUpsample); }

template <class T>
const T* pointer_to(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
const T* pointer_to(const Optional& tensor) {
  return tensor.has_value() ? pointer_to<T>(*tensor) : nullptr;
}

constexpr int64_t kStreamed = 16 << 20;  // bytes of a result from which on caches hold little of it

template <class T, class G>
void run_forward(const UpsampleKernelsOf<T, G>& kernels, UpsampleProblem problem, const Tensor& features,
                 const Tensor& weight, const Optional& bias, const Optional& lowres, Tensor& out) {
  const Parallel threads = torch_threads();
  problem.streams = out.numel() * static_cast<int64_t>(sizeof(G)) >= kStreamed;
  const Scratch scratch = allocate_scratch(kernels.forward_scratch(problem, threads.slots));
  kernels.forward(problem, threads, pointer_to<T>(features), pointer_to<T>(weight), pointer_to<T>(bias),
                  pointer_to<void>(lowres), static_cast<G*>(out.mutable_data_ptr()), scratch.get());
}

Tensor forward(const Tensor& features, const Tensor& weight, const Optional& bias, const Optional& lowres,
               int64_t scale, double cubic_a, bool symmetric) {
  const UpsampleProblem problem = problem_of(features, weight, bias, lowres, scale, cubic_a, symmetric);
  const int64_t sizes[] = {problem.n, problem.bands, multiply(problem.height, scale), multiply(problem.width, scale)};
  const ScalarType type = result_type(features, lowres);
  Tensor out = new_result(features, {sizes, 4}, type);
  if (out.numel() == 0) return out;
  if (!is_bf16(features))
    run_forward(kernels().f32, problem, features, weight, bias, lowres, out);
  else if (type == ScalarType::BFloat16)
    run_forward(kernels().bf16, problem, features, weight, bias, lowres, out);
  else
    run_forward(kernels().mixed, problem, features, weight, bias, lowres, out);
  return out;
}

template <class T, class G>
void run_backward(const UpsampleKernelsOf<T, G>& kernels, const UpsampleProblem& problem, const Tensor& grad,
                  const Tensor& features, const Tensor& weight, T* dfeatures, T* dweight, T* dbias) {
  const Parallel threads = torch_threads();
  const Scratch scratch = allocate_scratch(kernels.backward_scratch(problem, threads.slots));
  kernels.backward(problem, threads, pointer_to<G>(grad), pointer_to<T>(features), pointer_to<T>(weight), dfeatures,
                   dweight, dbias, scratch.get());
}

// The gradient of the small image: bicubic_upsample's own.
template <class T, class Kernel>
void run_bicubic(Kernel kernel, const UpsampleProblem& problem, const Tensor& grad, Tensor& dlowres) {
  const BicubicKernels& bicubic = LKOPS_CHOOSE(kBicubic);
  const BicubicPlane plane{problem.height, problem.width, problem.scale, problem.symmetric};
  run_bicubic(bicubic, kernel, bicubic.backward_scratch(plane), plane, problem.cubic_a, problem.n * problem.bands,
              pointer_to<T>(grad), static_cast<T*>(dlowres.mutable_data_ptr()));
}

Tensor empty(const Tensor& like) {
  const int64_t none[] = {0};
  return torch::stable::new_empty(like, {none, 1});
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

Gradients backward(const Tensor& grad, const Tensor& features, const Tensor& weight, const Optional& bias,
                   const Optional& lowres, int64_t scale, double cubic_a, bool symmetric, std::vector<bool> needs) {
  const UpsampleProblem problem = problem_of(features, weight, bias, lowres, scale, cubic_a, symmetric);
  check_tensor("grad", grad, 4);
  check_shape("grad", grad,
              {problem.n, problem.bands, multiply(problem.height, scale), multiply(problem.width, scale)});
  const ScalarType type = result_type(features, lowres);
  if (grad.scalar_type() != type) fail("grad must have the dtype of the result");
  if (needs.size() != 4) fail("needs must have 4 entries, got ", needs.size());
  const bool by_features = needs[0], by_weight = needs[1];
  const bool by_bias = needs[2] && bias.has_value(), by_lowres = needs[3] && lowres.has_value();
  Tensor dfeatures = by_features ? result_like(features) : empty(features);
  Tensor dweight = by_weight ? result_like(weight) : empty(features);
  Tensor dbias = by_bias ? result_like(*bias) : empty(features);
  Tensor dlowres = by_lowres ? result_like(*lowres) : empty(features);
  if (problem.n == 0) {
    set_to_zero(dweight), set_to_zero(dbias);
    return {dfeatures, dweight, dbias, dlowres};
  }
  const auto run = [&](const auto& kernels, auto* of_type) {
    using T = std::remove_pointer_t<decltype(of_type)>;
    const auto target = [](bool wanted, Tensor& to) {
      return wanted ? static_cast<T*>(to.mutable_data_ptr()) : nullptr;
    };
    run_backward(kernels, problem, grad, features, weight, target(by_features, dfeatures), target(by_weight, dweight),
                 target(by_bias, dbias));
  };
  if (by_features || by_weight || by_bias) {
    if (!is_bf16(features))
      run(kernels().f32, static_cast<float*>(nullptr));
    else if (type == ScalarType::BFloat16)
      run(kernels().bf16, static_cast<BFloat16*>(nullptr));
    else
      run(kernels().mixed, static_cast<BFloat16*>(nullptr));
  }
  if (by_lowres) {
    const BicubicKernels& bicubic = LKOPS_CHOOSE(kBicubic);
    if (type == ScalarType::BFloat16) {
      run_bicubic<BFloat16>(bicubic.backward_bf16, problem, grad, dlowres);
    } else if (!is_bf16(*lowres)) {
      run_bicubic<float>(bicubic.backward_f32, problem, grad, dlowres);
    } else {
      const int64_t sizes[] = {problem.n, problem.bands, problem.height, problem.width};
      Tensor wide = new_result(grad, {sizes, 4});
      run_bicubic<float>(bicubic.backward_f32, problem, grad, wide);
      torch::stable::copy_(dlowres, wide);
    }
  }
  return {dfeatures, dweight, dbias, dlowres};
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("upsample_add_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("upsample_add_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
