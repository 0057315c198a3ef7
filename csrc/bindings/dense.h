// Private ops take tensors of any strides. Python hands over dense ones, yet a compiler may choose others than those
// that it traced: it runs a conv before an operator in channels_last, and backward gets what was saved of it.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

namespace lkops {

// A tensor, or a dense copy of it.
class DenseTensor {
 public:
  explicit DenseTensor(const torch::stable::Tensor& given) : given_(given) {
    if (given.is_contiguous()) return;
    std::vector<int64_t> sizes;
    for (int64_t d = 0; d < given.dim(); ++d) sizes.push_back(given.size(d));
    copy_.emplace(torch::stable::new_empty(given, {sizes.data(), sizes.size()}));
    torch::stable::copy_(*copy_, given);
  }
  operator const torch::stable::Tensor&() const { return copy_ ? *copy_ : given_; }

 private:
  const torch::stable::Tensor& given_;
  std::optional<torch::stable::Tensor> copy_;
};

class DenseOptional {
 public:
  explicit DenseOptional(const std::optional<torch::stable::Tensor>& given) : given_(given) {
    if (given && !given->is_contiguous()) copy_.emplace(DenseTensor(*given));
  }
  operator const std::optional<torch::stable::Tensor>&() const { return copy_ ? copy_ : given_; }

 private:
  const std::optional<torch::stable::Tensor>& given_;
  std::optional<torch::stable::Tensor> copy_;
};

inline DenseTensor dense(const torch::stable::Tensor& tensor) { return DenseTensor(tensor); }
inline DenseOptional dense(const std::optional<torch::stable::Tensor>& tensor) { return DenseOptional(tensor); }
template <class Other>
const Other& dense(const Other& other) {
  return other;
}

// `run` is a function of tensors and options that needs its tensors dense, made one that does not.
template <auto kFunction>
struct Dense;

template <class Result, class... Arguments, Result (*kFunction)(Arguments...)>
struct Dense<kFunction> {
  static Result run(Arguments... arguments) { return kFunction(dense(arguments)...); }
};

}  // namespace lkops
