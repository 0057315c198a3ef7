// What every binding of a CUDA kernel needs: checks, the tensors' device as the current one, its current stream.
#pragma once

#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <optional>
#include <vector>

#include "bindings/checks.h"
#include "bindings/memory.h"
#include "common/cuda_types.h"

namespace lkops {

using Optional = std::optional<torch::stable::Tensor>;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// torch's own `aoti_torch_get_current_cuda_stream`, of the stable ABI. It lies in libtorch_cuda, which a torch without
// CUDA does not have: looked up at the first call, so that the extension builds and loads beside any torch.
inline CudaStream current_stream(int32_t device) {
  using Get = AOTITorchError (*)(int32_t, void**);
  static const Get get = [] {
    void* symbol = dlsym(RTLD_DEFAULT, "aoti_torch_get_current_cuda_stream");
    void* library = symbol == nullptr ? dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_NOLOAD) : nullptr;
    if (library != nullptr) symbol = dlsym(library, "aoti_torch_get_current_cuda_stream");
    return reinterpret_cast<Get>(symbol);
  }();
  if (get == nullptr) fail("this torch has no CUDA: aoti_torch_get_current_cuda_stream is not there");
  void* stream = nullptr;
  if (get(device, &stream) != AOTI_TORCH_SUCCESS) fail("CUDA device ", device, " gives no current stream");
  return {device, stream};
}

// The device of an image is the current one as long as this lives.
class OnDevice {
 public:
  explicit OnDevice(const Tensor& image) : guard_(image.get_device_index()), stream(current_stream(image.get_device_index())) {}

 private:
  torch::stable::accelerator::DeviceGuard guard_;

 public:
  const CudaStream stream;
};

// Throws what a launcher says went wrong.
inline void check_launch(const char* name, const char* error) {
  if (error != nullptr) fail(name, ": CUDA error: ", error);
}

// A dense float32, bfloat16 or float16 image (N, C, H, W) on a GPU, with at least one channel and pixel.
inline void check_image(const char* name, const Tensor& tensor) {
  if (!tensor.is_cuda()) fail(name, " must be on a CUDA device");
  const ScalarType dtype = tensor.scalar_type();
  if (dtype != ScalarType::Float && dtype != ScalarType::BFloat16 && dtype != ScalarType::Half)
    fail(name, " must be float32, bfloat16 or float16, got torch dtype number ", static_cast<int>(dtype));
  if (tensor.dim() != 4) fail(name, " must be (N, C, H, W), got ", shape_of(tensor));
  if (tensor.size(1) < 1 || tensor.size(2) < 1 || tensor.size(3) < 1)
    fail(name, " must have at least one channel, row and column, got ", shape_of(tensor));
  if (multiply(tensor.size(2), tensor.size(3)) > int64_t{1} << 30) fail(name, " must have at most 2^30 pixels a plane");
  if (!tensor.is_contiguous()) fail(name, " must be contiguous");
}

// A dense tensor of this shape on the device of `image`, of its dtype or of the one given.
inline void check_tensor(const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape,
                         const Tensor& image, std::optional<ScalarType> dtype = std::nullopt) {
  if (!tensor.is_cuda() || tensor.get_device_index() != image.get_device_index())
    fail(name, " must be on CUDA device ", image.get_device_index(), " as the image is");
  const ScalarType expected = dtype ? *dtype : image.scalar_type();
  if (tensor.scalar_type() != expected)
    fail(name, " must be of torch dtype number ", static_cast<int>(expected), ", got ",
         static_cast<int>(tensor.scalar_type()));
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t d = 0;
  for (int64_t size : shape) fits = fits && tensor.size(d++) == size;
  if (!fits) {
    std::ostringstream text;
    for (int64_t size : shape) text << (text.tellp() == 0 ? "" : ", ") << size;
    fail(name, " must have shape (", text.str(), "), got ", shape_of(tensor));
  }
  if (!tensor.is_contiguous()) fail(name, " must be contiguous");
}

inline void check_tensor(const char* name, const Optional& tensor, std::initializer_list<int64_t> shape,
                         const Tensor& image) {
  if (tensor) check_tensor(name, *tensor, shape, image);
}

// The weight and bias of a depthwise conv over `image`, and its dilation.
inline void check_depthwise(const std::string& name, const Tensor& weight, const Optional& bias, int64_t dilation,
                            const Tensor& image) {
  if (weight.dim() != 4 || weight.size(2) % 2 == 0 || weight.size(3) % 2 == 0)
    fail(name, "weight must be (channels, 1, rows, columns) with an odd kernel, got ", shape_of(weight));
  if (multiply(weight.size(2), weight.size(3)) > int64_t{1} << 20 || weight.size(3) > 1024)
    fail(name, "weight must have at most 2^20 taps, 1024 in a row, got ", shape_of(weight));
  const int64_t channels = image.size(1);
  check_tensor((name + "weight").c_str(), weight, {channels, 1, weight.size(2), weight.size(3)}, image);
  check_tensor((name + "bias").c_str(), bias, {channels}, image);
  if (dilation < 1) fail(name, "dilation must be 1 or more, got ", dilation);
}

inline void check_needs(const std::vector<bool>& needs, size_t count) {
  if (needs.size() != count) fail("needs must have ", count, " entries, got ", needs.size());
}

template <class T>
const T* pointer(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
const T* pointer(const Optional& tensor) {
  return tensor ? pointer<T>(*tensor) : nullptr;
}

template <class T>
T* mutable_pointer(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// Uninitialised, with the dtype of `like` or the one given.
inline Tensor new_tensor(const Tensor& like, std::initializer_list<int64_t> sizes,
                         std::optional<ScalarType> dtype = std::nullopt) {
  return new_result(like, {sizes.begin(), sizes.size()}, dtype);
}

// Floats for partial sums. torch gives the memory to others in the order of the stream, so it may be freed at once.
inline Tensor workspace(const Tensor& like, int64_t floats) { return new_tensor(like, {floats}, ScalarType::Float); }

// A gradient to be written, of a tensor that may not be there or need none: then it is empty, and `pointer` null.
struct NewGradient {
  Tensor tensor;
  bool is_wanted;

  NewGradient(const Optional& like, bool is_needed, const Tensor& some)
      : tensor(like && is_needed ? result_like(*like) : new_tensor(some, {0})),
        is_wanted(like && is_needed) {}
  template <class T>
  T* pointer() const {
    return is_wanted ? mutable_pointer<T>(tensor) : nullptr;
  }
};

// Calls call(T{}) with the storage type of a dtype that check_image lets pass.
template <class Call>
void with_type(ScalarType dtype, const Call& call) {
  if (dtype == ScalarType::Float) return call(float{});
  if (dtype == ScalarType::BFloat16) return call(BFloat16{});
  call(Float16{});
}

}  // namespace lkops
