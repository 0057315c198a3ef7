// Images that kernels take in one of two layouts, where they lie.
#pragma once

#include <optional>

#include "bindings/arguments.h"
#include "bindings/memory.h"

namespace lkops {

// (N, C, H, W) whose channels are innermost and which is not contiguous as well, as one of a single channel or pixel is.
inline bool is_channels_last(const Tensor& image) {
  if (image.dim() != 4 || image.is_contiguous()) return false;
  int64_t stride = 1;
  for (const int64_t d : {1, 3, 2, 0}) {
    if (image.size(d) > 1 && image.stride(d) != stride) return false;
    stride *= image.size(d);
  }
  return true;
}

inline Tensor new_image(const Tensor& like, bool channels_last, std::initializer_list<int64_t> sizes) {
  return new_result_of(like, {sizes.begin(), sizes.size()}, std::nullopt, channels_last);
}

inline Tensor image_like(const Tensor& like, bool channels_last) {
  return new_result_of(like, like.sizes(), std::nullopt, channels_last);
}

// An image as it is where it lies in one of the two layouts, else a planar copy; or a copy where it lies in another
// layout than the one asked for. Tensors that are no images stay as they are, for the checks to refuse.
class Image {
 public:
  explicit Image(const Tensor& given) : image_(given), channels_last_(is_channels_last(given)) {
    if (given.dim() == 4 && !channels_last_ && !given.is_contiguous()) copy(given);
  }
  Image(const Tensor& given, bool channels_last) : image_(given), channels_last_(channels_last) {
    const bool fits = channels_last ? given.is_contiguous() ? is_ambiguous(given) : is_channels_last(given)
                                    : given.is_contiguous();
    if (given.dim() == 4 && !fits) copy(given);
  }
  const Tensor& tensor() const { return image_; }
  bool channels_last() const { return channels_last_; }

 private:
  // whose numbers follow one another in the same order in both layouts
  static bool is_ambiguous(const Tensor& image) {
    return image.dim() == 4 && (image.size(1) == 1 || (image.size(2) == 1 && image.size(3) == 1));
  }
  void copy(const Tensor& given) {
    image_ = image_like(given, channels_last_);
    torch::stable::copy_(image_, given);
  }

  Tensor image_;
  bool channels_last_;
};

}  // namespace lkops
