// Gradients that a backward kernel returns, of which only some are needed.
#pragma once

#include <tuple>
#include <utility>
#include <vector>

#include "bindings/large_kernel_channel_attention.h"

namespace lkops {

class Gradients {
 public:
  // `some`: a tensor that empty ones are made from. `zeros`: a batch of nothing, whose gradients are zeros.
  Gradients(const Tensor& some, const std::vector<bool>& needs, bool zeros)
      : some_(some), needs_(needs), zeros_(zeros) {}

  // In the order of the schema: the gradient of the next tensor.
  void add(const Optional& like) {
    const bool needed = needs_[tensors.size()];
    tensors.push_back(gradient_like(like, needed, some_));
    pointers_.push_back(like && needed ? tensors.back().mutable_data_ptr() : nullptr);
    if (zeros_) set_to_zero(tensors.back());
  }

  template <class T>
  T* pointer(size_t i) const {
    return static_cast<T*>(pointers_[i]);
  }

  bool any() const {
    for (const void* pointer : pointers_)
      if (pointer != nullptr) return true;
    return false;
  }

  std::vector<Tensor> tensors;

 private:
  const Tensor& some_;
  const std::vector<bool>& needs_;
  bool zeros_;
  std::vector<void*> pointers_;  // null: not wanted
};

// Where the attention's gradients go: that of u, and those of the ten parameters, which begin at `first`.
template <class T>
AttentionGradients<T> attention_gradients(const Gradients& gradients, T* u, size_t first) {
  const auto at = [&](size_t i) { return gradients.pointer<T>(first + i); };
  return {u, at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9)};
}

// A vector as the tuple that a schema of so many results returns.
template <size_t... kIndex>
auto tuple_of(const std::vector<Tensor>& tensors, std::index_sequence<kIndex...>) {
  return std::make_tuple(tensors[kIndex]...);
}

}  // namespace lkops
