// Gradients that a backward kernel returns, of which only some are needed.
#pragma once

#include <cstring>
#include <vector>

#include "bindings/attention.h"

namespace lkops {

inline void check_needs(size_t given, size_t expected) {
  if (given != expected) fail("needs must have ", expected, " entries, got ", given);
}

// Like each tensor that is there and needs a gradient, uninitialised, or zeros where there is nothing to sum; empty for
// the others.
class Gradients {
 public:
  Gradients(const Tensor& some, const std::vector<bool>& needs, bool zeros)
      : some_(some), needs_(needs), zeros_(zeros) {}

  void add(const Tensor& like) {
    const bool needed = needs_[tensors.size()];
    tensors.push_back(needed ? torch::stable::empty_like(like) : empty_like(some_, {0}));
    if (needed && zeros_ && like.numel() > 0)
      std::memset(tensors.back().mutable_data_ptr(), 0, static_cast<size_t>(like.numel()) * like.element_size());
    wanted.push_back(needed);
  }
  void add(const Maybe& like) {
    if (like.has_value()) return add(*like);
    tensors.push_back(empty_like(some_, {0}));
    wanted.push_back(false);
  }

  template <class T>
  T* pointer(size_t i) const {
    return wanted[i] ? mutable_data_of<T>(tensors[i]) : nullptr;
  }
  bool any() const {
    for (const bool is_wanted : wanted)
      if (is_wanted) return true;
    return false;
  }

  std::vector<Tensor> tensors;
  std::vector<bool> wanted;

 private:
  const Tensor& some_;
  const std::vector<bool>& needs_;
  bool zeros_;
};

// The gradients of the ten parameters of the attention, of which the first is gradients.tensors[first].
template <class T>
AttentionGradients<T> attention_gradients(const Gradients& gradients, T* u, size_t first) {
  const auto at = [&](size_t i) { return gradients.pointer<T>(first + i); };
  return {u, at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8), at(9)};
}

// A vector as the tuple that a schema with `kCount` results returns.
template <size_t... kIndex>
auto tuple_of(const std::vector<Tensor>& tensors, std::index_sequence<kIndex...>) {
  return std::make_tuple(tensors[kIndex]...);
}

}  // namespace lkops
