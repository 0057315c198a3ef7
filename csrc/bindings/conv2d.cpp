// conv2d: tensors in, pointers out.
#include "conv2d/cpu.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/conv2d.h"
#include "bindings/dense.h"
#include "bindings/gradients.h"
#include "bindings/layouts.h"
#include "bindings/packed_weights.h"
#include "bindings/parallel.h"
#include "common/isa.h"
#include "conv2d/algorithm.h"

namespace lkops {
namespace {

// Calls body(entries of the table for the dtype, a zero of it).
template <class Body>
void with_kernels(ScalarType dtype, const Body& body) {
  const Conv2dKernels& kernels = LKOPS_CHOOSE(kConv2d);
  with_type<Device::kCpu>(dtype,
                          [&](auto zero) { body(of_type<decltype(zero)>(kernels.f32, kernels.bf16), zero); });
}

bool has_jump(Activation activation) {
  return activation == Activation::kRelu || activation == Activation::kLeakyRelu || activation == Activation::kPRelu;
}

int64_t add(int64_t a, int64_t b) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) fail("a size overflows 64 bits: ", a, " + ", b);
  return sum;
}

// Pixels of the image that a kernel reaches over.
int64_t reach_of(int64_t kernel, int64_t dilation) { return add(multiply(dilation, kernel - 1), 1); }

struct Options {
  int64_t stride_height, stride_width, top, left, dilation_height, dilation_width, groups, activation;
  double slope, residual_scale;
  bool relaxed, saving;
};

ConvLayout layout_of(bool channels_last) { return channels_last ? ConvLayout::kChannelsLast : ConvLayout::kPlanar; }

Conv2dProblem problem_of(const Image& image, const Tensor& weight, const Optional& bias, const Optional& prelu,
                         const Options& options) {
  const Tensor& input = image.tensor();
  check_image(Device::kCpu, "input", input, Strides::kAny);
  if (weight.dim() != 4 || weight.numel() == 0) fail("weight must have four sizes, none 0, got ", shape_of(weight));
  if (options.groups < 1 || input.size(1) % options.groups != 0 || weight.size(0) % options.groups != 0)
    fail("groups must divide the channels of input and the outputs, got ", options.groups);
  if (options.stride_height < 1 || options.stride_width < 1 || options.dilation_height < 1 ||
      options.dilation_width < 1 || options.top < 0 || options.left < 0)
    fail("stride and dilation must be 1 or more, padding 0 or more");
  if (options.activation < 0 || options.activation > static_cast<int64_t>(Activation::kSigmoid))
    fail("activation must be one of the known numbers, got ", options.activation);
  Conv2dProblem p{};
  p.layout = layout_of(image.channels_last());
  p.n = input.size(0), p.inputs = input.size(1), p.height = input.size(2), p.width = input.size(3);
  p.outputs = weight.size(0), p.groups = options.groups;
  p.kernel_height = weight.size(2), p.kernel_width = weight.size(3);
  p.stride_height = options.stride_height, p.stride_width = options.stride_width;
  p.dilation_height = options.dilation_height, p.dilation_width = options.dilation_width;
  p.spread_height = p.spread_width = 1;
  p.top = options.top, p.left = options.left;
  const int64_t rows = reach_of(p.kernel_height, p.dilation_height);
  const int64_t columns = reach_of(p.kernel_width, p.dilation_width);
  const int64_t padded_height = add(p.height, multiply(2, p.top)), padded_width = add(p.width, multiply(2, p.left));
  if (padded_height < rows || padded_width < columns)
    fail("weight's kernel is larger than the padded input, ", shape_of(input));
  p.out_height = (padded_height - rows) / p.stride_height + 1;
  p.out_width = (padded_width - columns) / p.stride_width + 1;
  // a stride that is never taken may be of any size
  if (p.out_height == 1) p.stride_height = 1;
  if (p.out_width == 1) p.stride_width = 1;
  // kernels count scratch by what a block of outputs reaches over, in vectors of channels, for every thread
  if (product_or_none(product_or_none(padded_height, padded_width),
                      product_or_none(add(std::max(p.inputs, p.outputs), 64), int64_t{1} << 20)) < 0)
    fail_of_memory("scratch", -1);
  check_tensor("weight", weight, {p.outputs, p.inputs / p.groups, p.kernel_height, p.kernel_width}, input);
  check_tensor("bias", bias, {p.outputs}, input);
  check_tensor("prelu_weight", prelu, {p.outputs}, input);
  p.activation = static_cast<Activation>(options.activation);
  if ((p.activation == Activation::kPRelu) != prelu.has_value())
    fail("prelu_weight must be given for prelu and for no other activation");
  p.slope = static_cast<float>(options.slope), p.residual_scale = static_cast<float>(options.residual_scale);
  choose_algorithm(p, input.scalar_type() == ScalarType::Float, options.relaxed,
                   options.saving && has_jump(p.activation));
  return p;
}

PackedWeights& packed_weights() {
  static PackedWeights* all = new PackedWeights;  // never destroyed: threads may outlive the library's statics
  return *all;
}

// The weight as the problem's algorithm wants it: kept where it will serve again, else packed for this call.
template <class T>
std::shared_ptr<const void> pack(const Conv2dKernelsOf<T>& of, const Conv2dProblem& p, const Parallel& parallel,
                                 const Tensor& weight, bool flipped, bool keeps) {
  const int64_t bytes = of.packed_bytes(p);
  const auto write = [&](void* to) { of.pack(p, parallel, pointer<T>(weight), flipped, to); };
  if (!keeps) {
    Scratch once = allocate_scratch(bytes);
    write(once.get());
    return std::shared_ptr<const void>(std::move(once));
  }
  PackedWeights::Key key;
  std::memset(&key, 0, sizeof key);
  key.weight = weight.const_data_ptr();
  const int64_t form[] = {p.inputs,       p.outputs,      p.groups, p.kernel_height,
                          p.kernel_width, sizeof(T) == 4, flipped,  static_cast<int64_t>(p.algorithm)};
  static_assert(sizeof form <= sizeof key.form);
  std::memcpy(key.form, form, sizeof form);
  return packed_weights().get(key, key.weight, weight.numel() * static_cast<int64_t>(sizeof(T)), bytes, parallel, write);
}

template <class T>
void run(const Conv2dKernelsOf<T>& of, const Conv2dProblem& p, const Parallel& parallel, const T* x, const void* packed,
         const T* bias, const T* prelu, const T* residual, T* before, T* out) {
  const Scratch scratch = allocate_scratch(of.forward_scratch(p, parallel.slots));
  of.forward(p, parallel, x, packed, bias, prelu, residual, before, out, scratch.get());
}

// The result and, where there will be a backward that starts from it, conv + bias.
std::tuple<Tensor, Tensor> forward(const Tensor& input, const Tensor& weight, const Optional& bias,
                                   const Optional& prelu, const Optional& residual, int64_t stride_height,
                                   int64_t stride_width, int64_t top, int64_t left, int64_t dilation_height,
                                   int64_t dilation_width, int64_t groups, int64_t activation, double slope,
                                   double residual_scale, bool relaxed, bool channels_last, bool, bool from_result,
                                   bool saving) {
  const Image image(input);
  const DenseTensor dense_weight(weight);
  const DenseOptional dense_bias(bias), dense_prelu(prelu);
  Conv2dProblem p = problem_of(image, dense_weight, dense_bias, dense_prelu,
                               {stride_height, stride_width, top, left, dilation_height, dilation_width, groups,
                                activation, slope, residual_scale, relaxed, saving});
  p.out_layout = layout_of(channels_last);
  std::optional<Image> added;
  if (residual) {
    check_tensor("residual", *residual, {p.n, p.outputs, p.out_height, p.out_width}, input, std::nullopt,
                 Strides::kAny);
    added.emplace(*residual, channels_last);
  }
  Tensor out = new_image(input, channels_last, {p.n, p.outputs, p.out_height, p.out_width});
  const bool keeps_before = saving && p.activation != Activation::kNone && !from_result;
  Tensor before = keeps_before ? image_like(out, channels_last) : new_result(input, {0});
  if (p.n == 0) return {out, before};
  const Parallel parallel = torch_threads();
  with_kernels(input.scalar_type(), [&](const auto& of, auto zero) {
    using T = decltype(zero);
    const auto packed = pack<T>(of, p, parallel, dense_weight, false, !saving);
    run<T>(of, p, parallel, pointer<T>(image.tensor()), packed.get(), pointer<T>(Optional(dense_bias)),
           pointer<T>(Optional(dense_prelu)), added ? pointer<T>(added->tensor()) : nullptr,
           keeps_before ? mutable_pointer<T>(before) : nullptr, mutable_pointer<T>(out));
  });
  return {out, before};
}

// The conv whose result is the gradient of p's input.
Conv2dProblem gradient_of_input(const Conv2dProblem& p, bool is_f32, bool relaxed) {
  Conv2dProblem back = p;
  back.inputs = p.outputs, back.height = p.out_height, back.width = p.out_width;
  back.layout = p.out_layout;
  back.outputs = p.inputs, back.out_height = p.height, back.out_width = p.width;
  back.spread_height = p.stride_height, back.spread_width = p.stride_width;
  back.stride_height = back.stride_width = 1;
  back.top = p.dilation_height * (p.kernel_height - 1) - p.top;
  back.left = p.dilation_width * (p.kernel_width - 1) - p.left;
  back.activation = Activation::kNone, back.residual_scale = 1;
  choose_algorithm(back, is_f32, relaxed, false);
  return back;
}

// `channels_last` is the format of the result and of what was saved of it, `input_channels_last` that of the input.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& given_grad, const Tensor& input, const Tensor& given_weight, const Optional& bias,
    const Optional& given_prelu, const Tensor& saved, int64_t stride_height, int64_t stride_width, int64_t top,
    int64_t left, int64_t dilation_height, int64_t dilation_width, int64_t groups, int64_t activation, double slope,
    double residual_scale, bool relaxed, bool channels_last, bool input_channels_last, bool from_result,
    const std::vector<bool>& needs) {
  const Image image(input);
  const DenseTensor dense_weight(given_weight);
  const DenseOptional dense_bias(bias), dense_prelu(given_prelu);
  const Tensor& weight = dense_weight;
  const Optional& prelu = dense_prelu;
  const Conv2dProblem p = problem_of(image, weight, dense_bias, prelu,
                                     {stride_height, stride_width, top, left, dilation_height, dilation_width, groups,
                                      activation, slope, residual_scale, relaxed, true});
  const bool is_linear = p.activation == Activation::kNone;
  const auto check = [&](const char* name, const Tensor& tensor) {
    check_tensor(name, tensor, {p.n, p.outputs, p.out_height, p.out_width}, input, std::nullopt, Strides::kAny);
  };
  check("grad", given_grad);
  if (!is_linear) check("before", saved);
  if (from_result && ((p.activation != Activation::kRelu && p.activation != Activation::kSigmoid) || residual_scale == 0))
    fail("from_result needs relu or sigmoid, and a residual_scale that is not 0");
  const Gradients gradients(input, needs, InLayout{input, input_channels_last}, weight, bias, prelu,
                            InLayout{given_grad, channels_last});  // the residual's is like grad
  if (p.n == 0) return gradients.zeros();
  if (needs[4]) {
    Tensor dresidual = gradients[4];
    torch::stable::copy_(dresidual, given_grad);
  }
  // the gradients of slopes are sums over planes
  const Image grad(given_grad, channels_last && !prelu);
  const Image before(is_linear ? given_grad : saved, grad.channels_last());
  const Parallel parallel = torch_threads();
  with_kernels(input.scalar_type(), [&](const auto& of, auto zero) {
    using T = decltype(zero);
    T *dinput = gradients.pointer<T>(0), *dweight = gradients.pointer<T>(1), *dbias = gradients.pointer<T>(2);
    T* dprelu = gradients.pointer<T>(3);
    const bool by_conv = dinput != nullptr || dweight != nullptr || dbias != nullptr;
    Tensor dbefore = grad.tensor();
    if ((by_conv && !(is_linear && p.residual_scale == 1)) || dprelu != nullptr) {
      if (by_conv) dbefore = image_like(grad.tensor(), grad.channels_last());
      of.activation_gradient(p, parallel, pointer<T>(grad.tensor()), is_linear ? nullptr : pointer<T>(before.tensor()),
                             from_result, pointer<T>(prelu), by_conv ? mutable_pointer<T>(dbefore) : nullptr, dprelu);
    }
    Conv2dProblem with_grad = p;
    with_grad.out_layout = layout_of(grad.channels_last());
    choose_algorithm(with_grad, sizeof(T) == sizeof(float), relaxed, false);
    if (p.kernel_height != 3 || p.kernel_width != 3 || p.dilation_height != 1 || p.dilation_width != 1)
      with_grad.algorithm = ConvAlgorithm::kDirect;
    if (dweight != nullptr || dbias != nullptr) {
      const Scratch scratch = allocate_scratch(of.weight_gradient_scratch(with_grad, parallel.slots));
      of.weight_gradient(with_grad, parallel, pointer<T>(dbefore), pointer<T>(image.tensor()), dweight, dbias,
                         scratch.get());
    }
    if (dinput == nullptr) return;
    Conv2dProblem back = gradient_of_input(with_grad, sizeof(T) == sizeof(float), relaxed);
    back.out_layout = layout_of(input_channels_last);
    const auto packed = pack<T>(of, back, parallel, weight, true, false);
    run<T>(of, back, parallel, pointer<T>(dbefore), packed.get(), nullptr, nullptr, nullptr, nullptr, dinput);
  });
  return gradients.results();
}

}  // namespace

void conv_and_shuffle(const Tensor& features, const Tensor& weight, const Optional& bias, int64_t groups, int64_t scale,
                      bool relaxed, bool keeps, bool adds, Tensor& out) {
  constexpr int64_t kNoActivation = 0;
  const Image image(features);
  Conv2dProblem p = problem_of(image, weight, bias, std::nullopt,
                               {1, 1, weight.size(2) / 2, weight.size(3) / 2, 1, 1, groups, kNoActivation, 0.0, 1.0,
                                relaxed, false});
  if (scale > 1) p.out_layout = ConvLayout::kShuffled;
  p.shuffle = scale;
  const Parallel parallel = torch_threads();
  with_kernels(features.scalar_type(), [&](const auto& of, auto zero) {
    using T = decltype(zero);
    T* to = mutable_pointer<T>(out);
    const auto packed = pack<T>(of, p, parallel, weight, false, keeps);
    run<T>(of, p, parallel, pointer<T>(image.tensor()), packed.get(), pointer<T>(bias), nullptr, adds ? to : nullptr,
           nullptr, to);
  });
}

}  // namespace lkops

STABLE_TORCH_LIBRARY_IMPL(lkops, CPU, m) {
  m.impl("conv2d_cpu_fwd", TORCH_BOX(&lkops::forward));
  m.impl("conv2d_cpu_bwd", TORCH_BOX(&lkops::backward));
}
