#include <cmath>

#include "conv2d/cpu.h"
#include "test.h"

namespace lkops {
namespace {

struct Shape {
  int64_t n, inputs, height, width, outputs, groups, rows, columns, stride, dilation, top, left;
  Activation activation;
  double slope, scale;
  bool from_out;
  ConvAlgorithm algorithm;  // of the gradients of the input and the weight; that of the weight by the direct one too
};

using A = Activation;
constexpr ConvAlgorithm kDirect = ConvAlgorithm::kDirect, kWinograd = ConvAlgorithm::kWinograd2;

const Shape kShapes[] = {
    {1, 1, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1, A::kNone, 0, 1, false, kWinograd},
    {2, 3, 5, 7, 5, 1, 3, 3, 1, 1, 1, 1, A::kRelu, 0, 0.5, true, kWinograd},
    {1, 17, 6, 21, 35, 1, 3, 3, 1, 1, 1, 1, A::kGelu, 0, 1, false, kWinograd},
    {3, 20, 4, 9, 19, 1, 3, 3, 1, 1, 0, 2, A::kPRelu, 0, 2, false, kWinograd},
    {2, 70, 5, 6, 69, 1, 3, 3, 1, 1, 1, 1, A::kRelu, 0, 1, true, kWinograd},
    {1, 10, 4, 170, 6, 2, 3, 3, 1, 1, 1, 1, A::kNone, 0, 1, false, kWinograd},
    {1, 6, 17, 18, 4, 2, 3, 3, 2, 1, 1, 1, A::kLeakyRelu, 0.25, 1, true, kDirect},
    {2, 4, 9, 20, 6, 2, 5, 3, 3, 2, 3, 1, A::kSilu, 0, 1, false, kDirect},
    {1, 5, 3, 300, 3, 1, 1, 1, 1, 1, 0, 0, A::kSigmoid, 0, 0.5, true, kDirect},
    {1, 3, 8, 9, 3, 3, 3, 3, 1, 2, 2, 2, A::kSigmoid, 0, 1, false, kDirect}};

double slope_at(Activation activation, double x, double slope) {
  const double s = 1 / (1 + std::exp(-x));
  switch (activation) {
    case A::kRelu: return x > 0 ? 1 : 0;
    case A::kLeakyRelu:
    case A::kPRelu: return x > 0 ? 1 : slope;
    case A::kGelu:
      return 0.5 * (1 + std::erf(x * std::sqrt(0.5))) + x * std::exp(-0.5 * x * x) * 0.3989422804014327;
    case A::kSilu: return s * (1 + x * (1 - s));
    case A::kSigmoid: return s * (1 - s);
    default: return 1;
  }
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
  p.activation = s.activation, p.slope = static_cast<float>(s.slope), p.residual_scale = static_cast<float>(s.scale);
  const int64_t inputs = s.inputs / s.groups, outputs = s.outputs / s.groups, taps = s.rows * s.columns;
  const int64_t pixels = p.out_height * p.out_width, count = s.n * s.outputs * pixels;
  Random random(17);
  const Doubles x = random.values<T>(s.n * s.inputs * s.height * s.width);
  const Doubles weight = random.values<T>(s.outputs * inputs * taps), grad = random.values<T>(count);
  const Doubles before = random.values<T>(count), slopes = random.values<T>(s.activation == A::kPRelu ? s.outputs : 0);

  // The activation's gradient, from a result that T holds exactly where it starts from the result.
  Doubles saved = before, dbefore, dslopes(slopes.size());
  for (size_t i = 0; i < before.size(); ++i) {
    const size_t c = i / static_cast<size_t>(pixels) % static_cast<size_t>(s.outputs);
    const double slope = slopes.empty() ? s.slope : slopes[c], z = before[i];
    double at = z;
    if (s.from_out && s.activation == A::kSigmoid) {
      saved[i] = to_float(from_double<T>(s.scale / (1 + std::exp(-z))));
      at = std::log(saved[i] / (s.scale - saved[i]));
    } else if (s.from_out) {
      saved[i] = to_float(from_double<T>(s.scale * (z > 0 ? z : slope * z)));
    }
    dbefore.push_back(s.scale * grad[i] * slope_at(s.activation, at, slope));
    if (!slopes.empty()) dslopes[c] += s.scale * grad[i] * (z > 0 ? 0 : z);
  }

  Doubles dx(x.size()), dweight(weight.size()), dbias(static_cast<size_t>(s.outputs));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t o = i / pixels % s.outputs, n = i / pixels / s.outputs, group = o / outputs;
    dbias[static_cast<size_t>(o)] += grad[static_cast<size_t>(i)];
    for (int64_t c = 0; c < inputs; ++c)
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t y = i % pixels / p.out_width * s.stride + tap / s.columns * s.dilation - s.top;
        const int64_t l = i % p.out_width * s.stride + tap % s.columns * s.dilation - s.left;
        if (y < 0 || y >= s.height || l < 0 || l >= s.width) continue;
        const size_t from = static_cast<size_t>(((n * s.inputs + group * inputs + c) * s.height + y) * s.width + l);
        const size_t of = static_cast<size_t>((o * inputs + c) * taps + tap);
        dx[from] += grad[static_cast<size_t>(i)] * weight[of];
        dweight[of] += grad[static_cast<size_t>(i)] * x[from];
      }
  }

  Conv2dProblem back{};  // the conv that gives the gradient of the input
  back.n = s.n, back.inputs = s.outputs, back.height = p.out_height, back.width = p.out_width, back.outputs = s.inputs;
  back.out_height = s.height, back.out_width = s.width, back.groups = s.groups;
  back.kernel_height = s.rows, back.kernel_width = s.columns, back.stride_height = back.stride_width = 1;
  back.dilation_height = back.dilation_width = s.dilation, back.spread_height = back.spread_width = s.stride;
  back.top = s.dilation * (s.rows - 1) - s.top, back.left = s.dilation * (s.columns - 1) - s.left;
  back.algorithm = s.algorithm, back.residual_scale = 1, back.levels = true;

  const double tolerance = sizeof(T) == sizeof(float) ? 3e-6 : 1.5e-2;
  for_tables<Conv2dKernels>(LKOPS_TABLES(kConv2d), [&](const std::string& isa, const Conv2dKernels& table) {
    const Conv2dKernelsOf<T>& kernels = table.*member;
    const std::string name =
        "conv2d_backward " + isa + ' ' + dtype_name<T>() +
        " n, inputs, height, width, outputs, groups, rows, columns, stride, dilation, activation" +
        sizes_of(s.n, s.inputs, s.height, s.width, s.outputs, s.groups, s.rows, s.columns, s.stride, s.dilation,
                 static_cast<int>(s.activation));
    const std::vector<Expected> expected{{"dbefore", dbefore, tolerance},
                                         {"dslopes", dslopes, tolerance},
                                         {"dx", dx, tolerance},
                                         {"dweight", dweight, tolerance},
                                         {"dbias", dbias, tolerance}};
    const auto run_with = [&](ConvAlgorithm algorithm, Run& run) {
      Conv2dProblem problem = p;
      problem.algorithm = algorithm;
      const int64_t slots = run.parallel.slots;
      const T *px = run.input<T>(x), *pweight = run.input<T>(weight), *pgrad = run.input<T>(grad);
      const T *psaved = run.input<T>(saved), *pslopes = run.optional<T>(slopes);
      T* pdbefore = run.output<T>("dbefore", before.size());
      T *dx_to = run.gradient<T>(0, "dx", dx), *dweight_to = run.gradient<T>(1, "dweight", dweight);
      T *dbias_to = run.gradient<T>(2, "dbias", dbias), *dslopes_to = run.gradient<T>(3, "dslopes", slopes);
      kernels.activation_gradient(p, run.parallel, pgrad, psaved, s.from_out, pslopes, pdbefore, dslopes_to);
      if (dweight_to != nullptr || dbias_to != nullptr)
        kernels.weight_gradient(problem, run.parallel, pgrad, px, dweight_to, dbias_to,
                                run.scratch(kernels.weight_gradient_scratch(problem, slots)));
      if (dx_to == nullptr) return;
      void* packed = run.scratch(kernels.packed_bytes(back));
      kernels.pack(back, run.parallel, pweight, true, packed);
      kernels.forward(back, run.parallel, pgrad, packed, nullptr, nullptr, nullptr, nullptr, dx_to,
                      run.scratch(kernels.forward_scratch(back, slots)));
    };
    check_case(name + " direct", expected, 4, [&](Run& run) { run_with(kDirect, run); });
    if (s.algorithm != kDirect) check_case(name, expected, 4, [&](Run& run) { run_with(s.algorithm, run); });
  });
}

const Test kTest("conv2d_backward", [] {
  for (const Shape& shape : kShapes) {
    test_dtype<float>(shape, &Conv2dKernels::f32);
    test_dtype<BFloat16>(shape, &Conv2dKernels::bf16);
  }
});

}  // namespace
}  // namespace lkops
