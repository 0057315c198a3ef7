// spectral_losses: tensors in, pointers out.
#include "spectral_losses/cpu.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cmath>
#include <initializer_list>
#include <tuple>
#include <vector>

#include "bindings/checks.h"
#include "bindings/dense.h"
#include "bindings/memory.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

const LossesKernels& kernels() { return LKOPS_CHOOSE(kLosses); }

bool is_single(const Tensor& tensor) { return tensor.scalar_type() == ScalarType::Float; }

void check_cube(const char* name, const Tensor& tensor) {
  if (!tensor.is_cpu()) fail(name, " must be on the CPU");
  if (tensor.dim() != 4) fail(name, " must be (N, C, H, W), got ", shape_of(tensor));
  if (!is_single(tensor) && tensor.scalar_type() != ScalarType::BFloat16)
    fail(name, " must be float32 or bfloat16, got torch dtype number ", static_cast<int>(tensor.scalar_type()));
  if (!tensor.is_contiguous()) fail(name, " must be contiguous");
}

LossesSize check(const Tensor& prediction, const Tensor& target) {
  check_cube("prediction", prediction);
  check_cube("target", target);
  for (int64_t d = 0; d < 4; ++d)
    if (target.size(d) != prediction.size(d))
      fail("target must have the shape of prediction, ", shape_of(prediction), ", got ", shape_of(target));
  const LossesSize size{prediction.size(0), prediction.size(1), prediction.size(2), prediction.size(3)};
  if (size.channels == 0 || size.height == 0 || size.width == 0)
    fail("prediction must have at least one channel, row and column, got ", shape_of(prediction));
  return size;
}

void check_floor(double floor) {
  if (!(floor >= 0) || !std::isfinite(floor)) fail("floor must be a finite number, 0 or more, got ", floor);
}

float weight(const char* name, const Tensor& tensor) {
  if (!tensor.is_cpu() || !is_single(tensor) || tensor.numel() != 1)
    fail("the gradient of ", name, " must be one float32 on the CPU");
  return *static_cast<const float*>(tensor.const_data_ptr());
}

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

// call(pair of kernels, P{}, T{}) for the dtypes of both cubes.
template <class Call>
void dispatch(const Tensor& p, const Tensor& t, const Call& call) {
  if (is_single(p) && is_single(t)) return call(kernels().singles, float{}, float{});
  if (is_single(p)) return call(kernels().single_half, float{}, BFloat16{});
  if (is_single(t)) return call(kernels().half_single, BFloat16{}, float{});
  return call(kernels().halves, BFloat16{}, BFloat16{});
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> forward(const Tensor& prediction, const Tensor& target,
                                                           double floor) {
  const LossesSize size = check(prediction, target);
  check_floor(floor);
  const auto empty = [&](std::initializer_list<int64_t> sizes) {
    return new_result(prediction, {sizes.begin(), sizes.size()}, ScalarType::Float);
  };
  Tensor spectra = empty({size.batch, 3, size.height, size.width});
  Tensor losses[] = {empty({}), empty({}), empty({}), empty({})};
  const Parallel threads = torch_threads();
  const Scratch scratch = allocate_scratch(kernels().forward_bytes(size, threads.slots));
  float means[4];
  dispatch(prediction, target, [&](const auto& pair, auto p, auto t) {
    pair.forward(threads, size, floor, data<decltype(p)>(prediction), data<decltype(t)>(target), means,
                 static_cast<float*>(spectra.mutable_data_ptr()), scratch.get());
  });
  for (int i = 0; i < 4; ++i) *static_cast<float*>(losses[i].mutable_data_ptr()) = means[i];
  return {losses[0], losses[1], losses[2], losses[3], spectra};
}

std::tuple<Tensor, Tensor> backward(const Tensor& l1, const Tensor& sam, const Tensor& cosine, const Tensor& gradient,
                                    const Tensor& prediction, const Tensor& target, const Tensor& spectra,
                                    double floor, const std::vector<bool> needs) {
  const LossesSize size = check(prediction, target);
  check_floor(floor);
  if (!spectra.is_cpu() || !is_single(spectra) || !spectra.is_contiguous() ||
      spectra.numel() != size.batch * 3 * size.height * size.width)
    fail("spectra must be what forward returned");
  if (needs.size() != 2) fail("needs must have an entry for each cube");
  const LossesWeights weights{weight("l1", l1), weight("sam", sam), weight("cosine", cosine),
                              weight("gradient", gradient)};
  const Parallel threads = torch_threads();
  const Scratch scratch = allocate_scratch(kernels().backward_bytes(size, threads.slots));
  const auto gradient_of = [&](const Tensor& cube, const Tensor& other, bool exchanged) {
    const int64_t sizes[] = {size.batch, size.channels, size.height, size.width};
    Tensor result = new_result(cube, {sizes, 4});
    prefer_huge_pages(result);
    dispatch(cube, other, [&](const auto& pair, auto p, auto t) {
      using P = decltype(p);
      pair.backward(threads, size, floor, weights, data<P>(cube), data<decltype(t)>(other), data<float>(spectra), exchanged,
                    static_cast<P*>(result.mutable_data_ptr()), scratch.get());
    });
    return result;
  };
  const auto none = [&] {
    const int64_t sizes[] = {0};
    return torch::stable::new_empty(prediction, {sizes, 1});
  };
  return {needs[0] ? gradient_of(prediction, target, false) : none(),
          needs[1] ? gradient_of(target, prediction, true) : none()};
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("spectral_losses_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("spectral_losses_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
