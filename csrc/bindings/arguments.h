// Tensor arguments: the one home of the checks that bindings share, on the CPU and on GPUs, and of pointers. A kernel
// relies on all that is checked here: for small images nothing in Python has looked at the arguments before.
//
//     check_image(Device::kCpu, "x", x);                          // says which device and dtypes its kernels take
//     check_tensor("weight", weight, {outputs, channels, 1, 1}, x);   // device and dtype are those of x
//     check_tensor("mean", mean, {batch, channels}, x, ScalarType::Float);
//     with_type<Device::kCpu>(x.scalar_type(), [&](auto zero) {
//       using T = decltype(zero);
//       of_type<T>(kernels.forward_f32, kernels.forward_bf16)(pointer<T>(x), ..., mutable_pointer<T>(y));
//     });
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "bindings/errors.h"
#include "common/cuda_types.h"
#include "common/types.h"

namespace lkops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;

enum class Device { kCpu, kCuda };  // on a GPU kernels take float16 too

// ---- images ---------------------------------------------------------------------------------------------------------

// What a kernel reads besides dense tensors: its binding has looked at the strides.
enum class Strides { kDense, kAny };

// A dense image (N, C, H, W) on this device, of a dtype that its kernels take; maybe without a channel or a pixel.
inline void check_map(Device device, const char* name, const Tensor& tensor, Strides strides = Strides::kDense) {
  const bool on_gpu = device == Device::kCuda;
  if (on_gpu ? !tensor.is_cuda() : !tensor.is_cpu())
    fail(name, on_gpu ? " must be on a CUDA device" : " must be on the CPU");
  const ScalarType dtype = tensor.scalar_type();
  if (dtype != ScalarType::Float && dtype != ScalarType::BFloat16 && !(on_gpu && dtype == ScalarType::Half))
    fail(name, on_gpu ? " must be float32, bfloat16 or float16" : " must be float32 or bfloat16",
         ", got torch dtype number ", static_cast<int>(dtype));
  if (tensor.dim() != 4) fail(name, " must be (N, C, H, W), got ", shape_of(tensor));
  if (strides == Strides::kDense && !tensor.is_contiguous()) fail(name, " must be contiguous");
}

inline void check_not_empty(const char* name, const Tensor& image) {
  if (image.size(1) < 1 || image.size(2) < 1 || image.size(3) < 1)
    fail(name, " must have at least one channel, row and column, got ", shape_of(image));
}

// The same with a channel and a pixel. GPUs count the pixels of a plane in 32 bits.
inline void check_image(Device device, const char* name, const Tensor& tensor, Strides strides = Strides::kDense) {
  check_map(device, name, tensor, strides);
  check_not_empty(name, tensor);
  if (device == Device::kCuda && multiply(tensor.size(2), tensor.size(3)) > int64_t{1} << 30)
    fail(name, " must have at most 2^30 pixels a plane");
}

// ---- what belongs to an image ---------------------------------------------------------------------------------------

inline void check_shape(const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape) {
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t d = 0;
  for (int64_t size : shape) fits = fits && tensor.size(d++) == size;
  if (!fits) fail(name, " must have shape ", text_of(shape), ", got ", shape_of(tensor));
}

// A dense tensor of this shape on the device of an image, of its dtype or of the one given.
inline void check_tensor(const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape,
                         const Tensor& image, std::optional<ScalarType> dtype = std::nullopt,
                         Strides strides = Strides::kDense) {
  if (image.is_cpu() && !tensor.is_cpu()) fail(name, " must be on the CPU");
  if (!image.is_cpu() && (!tensor.is_cuda() || tensor.get_device_index() != image.get_device_index()))
    fail(name, " must be on CUDA device ", image.get_device_index(), " as the image is");
  const ScalarType expected = dtype.value_or(image.scalar_type());
  if (tensor.scalar_type() != expected)
    fail(name, " must be of torch dtype number ", static_cast<int>(expected), ", got ",
         static_cast<int>(tensor.scalar_type()));
  check_shape(name, tensor, shape);
  if (strides == Strides::kDense && !tensor.is_contiguous()) fail(name, " must be contiguous");
}

inline void check_tensor(const char* name, const Optional& tensor, std::initializer_list<int64_t> shape,
                         const Tensor& image) {
  if (tensor) check_tensor(name, *tensor, shape, image);
}

// The weight and bias of a depthwise conv over an image, and its dilation; their names begin with `prefix`.
inline void check_depthwise(const std::string& prefix, const Tensor& weight, const Optional& bias, int64_t dilation,
                            const Tensor& image) {
  const std::string weight_name = prefix + "weight", bias_name = prefix + "bias";
  if (weight.dim() != 4 || weight.size(2) % 2 == 0 || weight.size(3) % 2 == 0)
    fail(weight_name, " must be (channels, 1, rows, columns) with an odd kernel, got ", shape_of(weight));
  if (!image.is_cpu() && (multiply(weight.size(2), weight.size(3)) > int64_t{1} << 20 || weight.size(3) > 1024))
    fail(weight_name, " must have at most 2^20 taps, 1024 in a row, got ", shape_of(weight));
  const int64_t channels = image.size(1);
  check_tensor(weight_name.c_str(), weight, {channels, 1, weight.size(2), weight.size(3)}, image);
  check_tensor(bias_name.c_str(), bias, {channels}, image);
  if (dilation < 1) fail(prefix, "dilation must be 1 or more, got ", dilation);
}

// ---- options --------------------------------------------------------------------------------------------------------

inline void check_eps(double eps) {
  if (!(eps > 0)) fail("eps must be above 0, got ", eps);
}

inline void check_needs(const std::vector<bool>& needs, size_t count) {
  if (needs.size() != count) fail("needs must have ", count, " entries, got ", needs.size());
}

// ---- pointers and types ---------------------------------------------------------------------------------------------

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

// Calls call(T{}) with the storage type of a dtype that check_image lets pass on this device.
template <Device kDevice, class Call>
void with_type(ScalarType dtype, const Call& call) {
  if (dtype == ScalarType::Float) return call(float{});
  if constexpr (kDevice == Device::kCuda)
    if (dtype == ScalarType::Half) return call(Float16{});
  call(BFloat16{});
}

// The one of a table's two entries that takes T.
template <class T, class Single, class Half>
constexpr auto of_type(Single single, Half half) {
  if constexpr (std::is_same_v<T, float>)
    return single;
  else
    return half;
}

}  // namespace lkops
