// What every binding of a CUDA kernel needs besides bindings/arguments.h: the tensors' device as the current one, its
// current stream, what a launch says.
#pragma once

#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "bindings/arguments.h"
#include "bindings/memory.h"
#include "common/cuda_types.h"

namespace lkops {

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
  explicit OnDevice(const Tensor& image)
      : guard_(image.get_device_index()), stream(current_stream(image.get_device_index())) {}

 private:
  torch::stable::accelerator::DeviceGuard guard_;

 public:
  const CudaStream stream;
};

// Throws what a launcher says went wrong.
inline void check_launch(const char* name, const char* error) {
  if (error != nullptr) fail(name, ": CUDA error: ", error);
}

// Floats for partial sums. torch gives the memory to others in the order of the stream, so it may be freed at once.
inline Tensor workspace(const Tensor& like, int64_t floats) { return new_result(like, {floats}, ScalarType::Float); }

}  // namespace lkops
