// spectral_losses: tensors in, pointers out.
#include "spectral_losses/cpu.h"

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/dense.h"
#include "bindings/gradients.h"
#include "bindings/parallel.h"
#include "common/isa.h"

namespace lkops {
namespace {

const LossesKernels& kernels() { return LKOPS_CHOOSE(kLosses); }

bool is_single(const Tensor& tensor) { return tensor.scalar_type() == ScalarType::Float; }

LossesSize check(const Tensor& prediction, const Tensor& target) {
  check_image(Device::kCpu, "prediction", prediction);
  check_map(Device::kCpu, "target", target);
  for (int64_t d = 0; d < 4; ++d)
    if (target.size(d) != prediction.size(d))
      fail("target must have the shape of prediction, ", shape_of(prediction), ", got ", shape_of(target));
  return {prediction.size(0), prediction.size(1), prediction.size(2), prediction.size(3)};
}

void check_floor(double floor) {
  if (!(floor >= 0) || !std::isfinite(floor)) fail("floor must be a finite number, 0 or more, got ", floor);
}

float weight(const char* name, const Tensor& tensor) {
  if (!tensor.is_cpu() || !is_single(tensor) || tensor.numel() != 1)
    fail("the gradient of ", name, " must be one float32 on the CPU");
  return *pointer<float>(tensor);
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
    return new_result(prediction, sizes, ScalarType::Float);
  };
  Tensor spectra = empty({size.batch, 3, size.height, size.width});
  Tensor losses[] = {empty({}), empty({}), empty({}), empty({})};
  const Parallel threads = torch_threads();
  const Scratch scratch = allocate_scratch(kernels().forward_bytes(size, threads.slots));
  float means[4];
  dispatch(prediction, target, [&](const auto& pair, auto p, auto t) {
    pair.forward(threads, size, floor, pointer<decltype(p)>(prediction), pointer<decltype(t)>(target), means,
                 mutable_pointer<float>(spectra), scratch.get());
  });
  for (int i = 0; i < 4; ++i) *mutable_pointer<float>(losses[i]) = means[i];
  return {losses[0], losses[1], losses[2], losses[3], spectra};
}

std::tuple<Tensor, Tensor> backward(const Tensor& l1, const Tensor& sam, const Tensor& cosine, const Tensor& gradient,
                                    const Tensor& prediction, const Tensor& target, const Tensor& spectra,
                                    double floor, const std::vector<bool> needs) {
  const LossesSize size = check(prediction, target);
  check_floor(floor);
  check_tensor("spectra", spectra, {size.batch, 3, size.height, size.width}, prediction, ScalarType::Float);
  const LossesWeights weights{weight("l1", l1), weight("sam", sam), weight("cosine", cosine),
                              weight("gradient", gradient)};
  const Gradients gradients(prediction, needs, prediction, target);
  const Parallel threads = torch_threads();
  const Scratch scratch = allocate_scratch(kernels().backward_bytes(size, threads.slots));
  const auto run = [&](size_t i, const Tensor& cube, const Tensor& other, bool exchanged) {
    if (!needs[i]) return;
    prefer_huge_pages(gradients[i]);
    dispatch(cube, other, [&](const auto& pair, auto p, auto t) {
      using P = decltype(p);
      pair.backward(threads, size, floor, weights, pointer<P>(cube), pointer<decltype(t)>(other),
                    pointer<float>(spectra), exchanged, gradients.pointer<P>(i), scratch.get());
    });
  };
  run(0, prediction, target, false);
  run(1, target, prediction, true);
  return gradients.results();
}

}  // namespace
}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("spectral_losses_cpu_fwd", TORCH_BOX(&lkops::Dense<&lkops::forward>::run));
  m.impl("spectral_losses_cpu_bwd", TORCH_BOX(&lkops::Dense<&lkops::backward>::run));
}
