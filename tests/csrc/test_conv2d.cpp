#include <cmath>

#include "conv2d/cpu.h"
#include "test.h"

namespace lkops {
namespace {

struct Shape {
  int64_t n, inputs, height, width, outputs, groups, rows, columns, stride, dilation, top, left;
  ConvLayout layout, out_layout;
  Activation activation;
  bool bias, residual, before, flipped;
};

constexpr ConvLayout kPlanar = ConvLayout::kPlanar, kLast = ConvLayout::kChannelsLast, kBlocked = ConvLayout::kBlocked;
constexpr ConvLayout kShuffled = ConvLayout::kShuffled;
using A = Activation;

const Shape kShapes[] = {
    {1, 1, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1, kPlanar, kPlanar, A::kNone, false, false, false, false},
    {2, 3, 5, 7, 5, 1, 3, 3, 1, 1, 1, 1, kPlanar, kPlanar, A::kRelu, true, true, false, false},
    {1, 16, 8, 8, 32, 1, 3, 3, 1, 1, 1, 1, kPlanar, kPlanar, A::kPRelu, true, true, true, false},
    {1, 37, 9, 18, 49, 1, 3, 3, 1, 1, 1, 1, kPlanar, kPlanar, A::kGelu, true, false, false, true},
    {1, 20, 4, 33, 17, 1, 3, 3, 1, 1, 1, 1, kLast, kLast, A::kSilu, true, true, false, false},
    {2, 33, 7, 6, 20, 1, 3, 3, 1, 1, 1, 1, kBlocked, kBlocked, A::kSigmoid, true, true, true, true},
    {1, 6, 10, 5, 4, 2, 3, 3, 1, 1, 0, 2, kPlanar, kLast, A::kLeakyRelu, true, false, false, false},
    {2, 8, 3, 40, 40, 1, 3, 3, 1, 1, 2, 0, kLast, kPlanar, A::kNone, false, true, false, true},
    {1, 5, 6, 19, 7, 1, 1, 1, 1, 1, 0, 0, kPlanar, kPlanar, A::kRelu, true, true, false, false},
    {2, 18, 9, 13, 33, 1, 5, 5, 1, 1, 2, 2, kPlanar, kLast, A::kRelu, true, true, true, true},
    {1, 37, 8, 11, 17, 1, 7, 3, 1, 1, 3, 0, kLast, kPlanar, A::kNone, true, false, false, false},
    {1, 6, 17, 26, 20, 2, 3, 3, 1, 2, 2, 2, kPlanar, kPlanar, A::kGelu, true, true, false, true},
    {1, 4, 15, 24, 5, 1, 5, 3, 1, 3, 6, 1, kBlocked, kBlocked, A::kNone, true, false, false, false},
    {2, 34, 5, 9, 33, 1, 1, 1, 1, 1, 0, 0, kLast, kLast, A::kGelu, true, false, true, false},
    {1, 6, 9, 20, 6, 3, 5, 3, 2, 1, 2, 1, kPlanar, kPlanar, A::kNone, true, false, false, false},
    {1, 3, 11, 13, 18, 1, 7, 5, 3, 2, 3, 4, kLast, kPlanar, A::kSilu, true, true, false, false},
    {1, 4, 12, 12, 4, 4, 3, 3, 1, 3, 3, 3, kPlanar, kPlanar, A::kRelu, true, false, false, true},
    {1, 18, 6, 130, 3, 1, 3, 1, 1, 2, 2, 0, kBlocked, kPlanar, A::kNone, true, true, false, false},
    {1, 2, 1, 3, 2, 1, 2, 2, 2, 1, 1, 0, kPlanar, kPlanar, A::kNone, true, false, false, false},
    {2, 3, 5, 9, 32, 1, 3, 3, 1, 1, 1, 1, kPlanar, kShuffled, A::kNone, true, true, false, false},
    {1, 17, 6, 35, 36, 1, 3, 3, 1, 1, 1, 1, kPlanar, kShuffled, A::kPRelu, true, false, false, false},
    {1, 4, 7, 3, 20, 1, 3, 3, 1, 1, 1, 1, kLast, kShuffled, A::kRelu, false, true, false, true},
    {2, 6, 9, 21, 16, 2, 3, 3, 1, 1, 1, 1, kPlanar, kShuffled, A::kNone, true, true, false, false},
    {1, 5, 6, 7, 50, 1, 1, 1, 1, 1, 0, 0, kPlanar, kShuffled, A::kSigmoid, true, false, false, false}};

// The factor that a shape is shuffled by.
int64_t shuffle_of(int64_t outputs) {
  for (int64_t r : {5, 4, 3, 2})
    if (outputs % (r * r) == 0) return r;
  return 1;
}

double activate(Activation activation, double x, double slope) {
  switch (activation) {
    case A::kRelu: return x > 0 ? x : 0;
    case A::kLeakyRelu:
    case A::kPRelu: return x > 0 ? x : slope * x;
    case A::kGelu: return x * 0.5 * (1 + std::erf(x * std::sqrt(0.5)));
    case A::kSilu: return x / (1 + std::exp(-x));
    case A::kSigmoid: return 1 / (1 + std::exp(-x));
    default: return x;
  }
}

size_t place(ConvLayout layout, int64_t block, int64_t channels, int64_t height, int64_t width, int64_t n, int64_t c,
             int64_t y, int64_t x) {
  const int64_t blocks = (channels + block - 1) / block;
  const int64_t planar = ((n * channels + c) * height + y) * width + x;
  const int64_t last = ((n * height + y) * width + x) * channels + c;
  const int64_t blocked = (((n * blocks + c / block) * height + y) * width + x) * block + c % block;
  const int64_t r = shuffle_of(channels), phase = c % (r * r), band = n * (channels / (r * r)) + c / (r * r);
  const int64_t shuffled = ((band * height + y) * r + phase / r) * width * r + x * r + phase % r;
  return static_cast<size_t>(layout == kPlanar     ? planar
                             : layout == kLast     ? last
                             : layout == kShuffled ? shuffled
                                                   : blocked);
}

// A planar image in another layout; what has no channel is zero.
Doubles arrange(const Doubles& image, ConvLayout layout, int64_t block, int64_t n, int64_t channels, int64_t height,
                int64_t width) {
  if (image.empty() || layout == kPlanar) return image;
  const int64_t all = layout == kBlocked ? (channels + block - 1) / block * block : channels;
  Doubles result(static_cast<size_t>(n * all * height * width));
  size_t from = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x)
          result[place(layout, block, channels, height, width, i, c, y, x)] = image[from++];
  return result;
}

template <class T>
void test_dtype(const Shape& s, Conv2dKernelsOf<T> Conv2dKernels::*member) {
  Conv2dProblem p{};
  p.n = s.n, p.inputs = s.inputs, p.height = s.height, p.width = s.width, p.outputs = s.outputs, p.groups = s.groups;
  p.kernel_height = s.rows, p.kernel_width = s.columns, p.stride_height = p.stride_width = s.stride;
  p.dilation_height = p.dilation_width = s.dilation, p.top = s.top, p.left = s.left;
  p.spread_height = p.spread_width = 1;
  p.out_height = (s.height + 2 * s.top - s.dilation * (s.rows - 1) - 1) / s.stride + 1;
  p.out_width = (s.width + 2 * s.left - s.dilation * (s.columns - 1) - 1) / s.stride + 1;
  p.layout = s.layout, p.out_layout = s.out_layout, p.activation = s.activation, p.slope = 0.25f;
  p.residual_scale = 0.5f, p.levels = s.bias, p.shuffle = shuffle_of(s.outputs);
  const int64_t inputs = s.inputs / s.groups, outputs = s.outputs / s.groups, taps = s.rows * s.columns;
  const int64_t count = s.n * s.outputs * p.out_height * p.out_width;
  Random random(16);
  const Doubles x = random.values<T>(s.n * s.inputs * s.height * s.width);
  const Doubles weight = random.values<T>(s.outputs * inputs * taps), bias = random.values<T>(s.bias ? s.outputs : 0);
  const Doubles residual = random.values<T>(s.residual ? count : 0);
  const Doubles slopes = random.values<T>(s.activation == A::kPRelu ? s.outputs : 0);
  Doubles before, out;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t o = 0; o < s.outputs; ++o)
      for (int64_t i = 0; i < p.out_height; ++i)
        for (int64_t j = 0; j < p.out_width; ++j) {
          double sum = s.bias ? bias[static_cast<size_t>(o)] : 0;
          for (int64_t c = 0; c < inputs; ++c)
            for (int64_t tap = 0; tap < taps; ++tap) {
              const int64_t y = i * s.stride + tap / s.columns * s.dilation - s.top, group = o / outputs;
              const int64_t l = j * s.stride + tap % s.columns * s.dilation - s.left;
              if (y < 0 || y >= s.height || l < 0 || l >= s.width) continue;
              const int64_t of = s.flipped ? ((group * inputs + c) * outputs + o % outputs) * taps + taps - 1 - tap
                                           : (o * inputs + c) * taps + tap;
              sum += weight[static_cast<size_t>(of)] *
                     x[static_cast<size_t>(((n * s.inputs + group * inputs + c) * s.height + y) * s.width + l)];
            }
          const double slope = slopes.empty() ? 0.25 : slopes[static_cast<size_t>(o)];
          const double added = s.residual ? residual[before.size()] : 0;
          before.push_back(sum);
          out.push_back(added + 0.5 * activate(s.activation, sum, slope));
        }
  const bool is_winograd = s.rows >= 3 && s.columns >= 3 && s.stride == 1;
  const bool is_f32 = sizeof(T) == sizeof(float);
  const struct {
    ConvAlgorithm algorithm;
    const char* name;
    double tolerance;
  } algorithms[] = {{ConvAlgorithm::kDirect, "direct", is_f32 ? 2e-6 : 6e-3},
                    {ConvAlgorithm::kWinograd2, "winograd2", is_f32 ? 3e-6 : 1.5e-2},
                    {ConvAlgorithm::kWinograd4, "winograd4", is_f32 ? 5e-6 : 4e-2}};
  for_tables<Conv2dKernels>(LKOPS_TABLES(kConv2d), [&](const std::string& isa, const Conv2dKernels& table) {
    const Conv2dKernelsOf<T>& kernels = table.*member;
    const int64_t block = table.block_channels;
    const auto to_out = [&](const Doubles& image) {
      return arrange(image, s.out_layout, block, s.n, s.outputs, p.out_height, p.out_width);
    };
    // what lies in unused channels of a block is anything: sigmoid(0) is not 0
    const Doubles x_arranged = arrange(x, s.layout, block, s.n, s.inputs, s.height, s.width);
    for (const auto& a : algorithms) {
      if (a.algorithm != ConvAlgorithm::kDirect && !is_winograd) continue;
      Conv2dProblem problem = p;
      problem.algorithm = a.algorithm;
      const std::string name =
          "conv2d " + isa + ' ' + dtype_name<T>() + ' ' + a.name +
          " n, inputs, height, width, outputs, groups, rows, columns, stride, dilation, layout, out_layout" +
          sizes_of(s.n, s.inputs, s.height, s.width, s.outputs, s.groups, s.rows, s.columns, s.stride, s.dilation,
                   static_cast<int>(s.layout), static_cast<int>(s.out_layout));
      const std::vector<Expected> expected{{"out", to_out(out), a.tolerance}, {"before", to_out(before), a.tolerance}};
      check_case(name, expected, 0, [&](Run& run) {
        const int64_t slots = run.parallel.slots;
        const T *px = run.input<T>(x_arranged), *pweight = run.input<T>(weight), *pbias = run.optional<T>(bias);
        const T *pslopes = run.optional<T>(slopes), *presidual = run.optional<T>(to_out(residual));
        T* pbefore = s.before ? run.output<T>("before", to_out(before).size()) : nullptr;
        T* pout = run.output<T>("out", to_out(out).size());
        void* packed = run.scratch(kernels.packed_bytes(problem));
        kernels.pack(problem, run.parallel, pweight, s.flipped, packed);
        kernels.forward(problem, run.parallel, px, packed, pbias, pslopes, presidual, pbefore, pout,
                        run.scratch(kernels.forward_scratch(problem, slots)));
      });
    }
  });
}

const Test kTest("conv2d", [] {
  for (const Shape& shape : kShapes) {
    test_dtype<float>(shape, &Conv2dKernels::f32);
    test_dtype<BFloat16>(shape, &Conv2dKernels::bf16);
  }
});

}  // namespace
}  // namespace lkops
