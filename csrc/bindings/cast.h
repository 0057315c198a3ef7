// Parameters that autocast has left in float32 beside an image of bfloat16: the binding casts them all into one block of
// memory, which takes less time than a cast of one in Python. Nothing is kept between calls, so nothing can be stale.
//
//     const auto [memory, parameters] =
//         cast_parameters<T>(kernels().narrow, [&](auto& take) { return Parameters<T>{take(weight), take(bias)}; });
#pragma once

#include <type_traits>
#include <utility>

#include "bindings/arguments.h"
#include "bindings/memory.h"
#include "common/parallel.h"

namespace lkops {

// What an image's parameters must be like: float32 if this one of them is, else like the image.
inline const Tensor& like_parameters(const Tensor& one, const Tensor& image) {
  return one.scalar_type() == ScalarType::Float ? one : image;
}

// Pointers to parameters, cast where they need it; without memory it counts how much that takes.
template <class T>
class Taking {
 public:
  using Narrow = void (*)(const float* from, int64_t count, BFloat16* to);
  Taking(Narrow narrow, void* memory) : narrow_(narrow), workspace_(memory), counts_(memory == nullptr) {}

  const T* operator()(const Tensor& tensor) {
    if constexpr (std::is_same_v<T, BFloat16>)
      if (tensor.scalar_type() == ScalarType::Float) {
        T* to = workspace_.take<T>(tensor.numel());
        if (!counts_) narrow_(pointer<float>(tensor), tensor.numel(), to);
        return to;
      }
    return pointer<T>(tensor);
  }
  const T* operator()(const Optional& tensor) { return tensor ? (*this)(*tensor) : nullptr; }

  int64_t bytes() const { return workspace_.bytes(); }

 private:
  Narrow narrow_;
  Workspace workspace_;
  bool counts_;
};

// The memory to hold on to, and what `pointers(take)` gives: each of them is take(tensor).
template <class T, class Pointers>
auto cast_parameters(typename Taking<T>::Narrow narrow, const Pointers& pointers) {
  Taking<T> counting(narrow, nullptr);
  pointers(counting);
  Scratch memory;
  if (counting.bytes() > 0) memory = allocate_scratch(counting.bytes());
  Taking<T> taking(narrow, memory.get());
  auto found = pointers(taking);
  return std::make_pair(std::move(memory), found);
}

}  // namespace lkops
