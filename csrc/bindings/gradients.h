// Gradients that a backward kernel returns, of which only some are needed.
//
//     const Gradients gradients(x, needs, x, weight, bias);       // an entry of `needs` each
//     if (batch == 0) return gradients.zeros();
//     kernel(..., gradients.pointer<T>(0), gradients.pointer<T>(1), gradients.pointer<T>(2));
//     return gradients.results();
#pragma once

#include <array>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/memory.h"

namespace lkops {

// A tensor whose gradient is in channels_last, or contiguous.
struct InLayout {
  const Tensor& like;
  bool channels_last;
};

template <size_t kCount>
class Gradients {
 public:
  // Of these tensors, in the order of the schema: uninitialised where there is a tensor and its gradient is needed,
  // else empty. `some`: any tensor on their device.
  template <class... Likes>
  Gradients(const Tensor& some, const std::vector<bool>& needs, const Likes&... likes) {
    check_needs(needs, kCount);
    tensors_.reserve(kCount);
    (add(some, needs[tensors_.size()], likes), ...);
  }

  // Null: not wanted.
  template <class T>
  T* pointer(size_t i) const {
    return static_cast<T*>(pointers_[i]);
  }

  const Tensor& operator[](size_t i) const { return tensors_[i]; }

  bool any() const {
    for (const void* pointer : pointers_)
      if (pointer != nullptr) return true;
    return false;
  }

  // As the tuple that a schema of so many results returns.
  auto results() const { return results(std::make_index_sequence<kCount>{}); }

  // The same for a batch of nothing; on the CPU.
  auto zeros() const {
    for (const Tensor& tensor : tensors_) set_to_zero(tensor);
    return results();
  }

 private:
  void add(const Tensor& some, bool is_needed, const Tensor& like) {
    tensors_.push_back(is_needed ? result_like(like) : new_result(some, {0}));
    pointers_[tensors_.size() - 1] = is_needed ? tensors_.back().mutable_data_ptr() : nullptr;
  }

  void add(const Tensor& some, bool is_needed, const Optional& like) {
    add(some, is_needed && like, like ? *like : some);
  }

  void add(const Tensor& some, bool is_needed, const InLayout& of) {
    tensors_.push_back(is_needed ? new_result_of(of.like, of.like.sizes(), std::nullopt, of.channels_last)
                                 : new_result(some, {0}));
    pointers_[tensors_.size() - 1] = is_needed ? tensors_.back().mutable_data_ptr() : nullptr;
  }

  template <size_t... kIndex>
  auto results(std::index_sequence<kIndex...>) const {
    return std::make_tuple(tensors_[kIndex]...);
  }

  std::vector<Tensor> tensors_;
  std::array<void*, kCount> pointers_{};
};

template <class... Likes>
Gradients(const Tensor&, const std::vector<bool>&, const Likes&...) -> Gradients<sizeof...(Likes)>;

}  // namespace lkops
