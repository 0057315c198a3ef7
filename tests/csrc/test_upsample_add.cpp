#include <cmath>

#include "reference.h"
#include "test.h"
#include "upsample_add/cpu.h"

namespace lkops {
namespace {

struct Shape {
  int64_t n, height, width, groups, inputs, outputs, rows, columns, scale;
  bool bias, lowres, symmetric;
};

const Shape kShapes[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 1, false, false, true}, {2, 3, 5, 1, 2, 4, 3, 3, 2, true, true, true},
    {1, 7, 1, 2, 3, 9, 3, 3, 3, true, true, false},  {1, 1, 13, 3, 1, 4, 1, 3, 2, true, false, true},
    {1, 5, 17, 2, 5, 16, 3, 3, 4, true, true, true}, {3, 4, 15, 1, 3, 8, 5, 1, 2, false, true, true},
    {1, 3, 49, 2, 7, 4, 3, 3, 2, true, true, true},  {1, 2, 33, 1, 3, 64, 3, 3, 8, true, true, false},
    {1, 3, 5, 1, 19, 68, 3, 3, 2, true, true, true}, {1, 2, 3, 1, 2, 25, 7, 7, 5, true, true, true},
    {1, 3, 4, 1, 161, 4, 1, 1, 2, true, true, true}, {2, 9, 11, 4, 4, 4, 3, 3, 1, true, true, true},
    {1, 2, 3, 1, 2, 272, 1, 1, 4, true, true, true}, {1, 14, 17, 1, 2, 4, 3, 3, 2, true, true, true},
    {0, 3, 5, 1, 2, 4, 3, 3, 2, true, true, true}};

// features of type T, out of type G, lowres of type L.
template <class T, class G, class L>
void test_dtypes(const Shape& s, UpsampleKernelsOf<T, G> UpsampleKernels::*member) {
  const int64_t channels = s.groups * s.inputs, outputs = s.groups * s.outputs, area = s.scale * s.scale;
  const int64_t bands = outputs / area, wide = s.width * s.scale;
  const ImageSize size{s.n, channels, s.height, s.width}, small{s.n, bands, s.height, s.width};
  Random random(6);
  const Doubles x = random.values<T>(size.count()), weight = random.values<T>(outputs * s.inputs * s.rows * s.columns);
  const Doubles bias = random.values<T>(s.bias ? outputs : 0), lowres = random.values<L>(s.lowres ? small.count() : 0);
  const Doubles grad = random.values<G>(small.count() * area);
  tape.clear();
  const Vars vx = tape.variables(x), vweight = tape.variables(weight), vbias = tape.variables(bias);
  const Vars z = convolve(size, vx, vweight, vbias, outputs, s.groups, s.rows, s.columns, 1);
  Vars low;
  for (double value : lowres) low.push_back({value});
  Vars out = s.lowres ? enlarge(small, low, s.scale, -0.5, s.symmetric) : Vars(grad.size());
  for (size_t i = 0; i < z.size(); ++i) {  // pixel shuffle
    const int64_t k = static_cast<int64_t>(i), column = k % s.width, row = k / s.width % s.height;
    const int64_t plane = k / (s.width * s.height), band = plane / area;
    const int64_t p = plane % area / s.scale, q = plane % s.scale;
    const int64_t to = (band * s.height * s.scale + row * s.scale + p) * wide + column * s.scale + q;
    out[static_cast<size_t>(to)] = out[static_cast<size_t>(to)] + z[i];
  }
  tape.run_back(out, grad);
  const double by_t = sizeof(T) == sizeof(float) ? 5e-6 : 6e-3, by_g = sizeof(G) == sizeof(T) ? by_t : 5e-3;
  const std::vector<Expected> expected{{"out", values_of(out), by_g},
                                       {"dx", tape.slopes(vx), by_t},
                                       {"dweight", tape.slopes(vweight), by_t},
                                       {"dbias", tape.slopes(vbias), by_t}};
  const UpsampleProblem problem{s.n, s.height, s.width, s.groups, s.inputs, s.outputs, s.rows, s.columns, s.scale,
                                bands, -0.5, s.symmetric, sizeof(L) != sizeof(float), false};
  for_tables<UpsampleKernels>(LKOPS_TABLES(kUpsample), [&](const std::string& isa, const UpsampleKernels& table) {
    const UpsampleKernelsOf<T, G>& kernels = table.*member;
    const std::string name = "upsample " + isa + ' ' + dtype_name<T>() + ' ' + dtype_name<G>() + ' ' + dtype_name<L>() +
                             " n, height, width, groups, inputs, outputs, rows, columns, scale, bias, lowres" +
                             sizes_of(s.n, s.height, s.width, s.groups, s.inputs, s.outputs, s.rows, s.columns, s.scale,
                                      s.bias, s.lowres);
    check_case(name, expected, 3, [&](Run& run) {
      const int64_t slots = run.parallel.slots;
      UpsampleProblem way = problem;
      way.streams = slots > 1;  // past the caches: the same bits
      const T *px = run.input<T>(x), *pweight = run.input<T>(weight), *pbias = run.optional<T>(bias);
      const L* plowres = run.optional<L>(lowres);
      const G* pgrad = run.input<G>(grad);
      G* pout = run.output<G>("out", grad.size());
      T *dx = run.gradient<T>(0, "dx", x), *dweight = run.gradient<T>(1, "dweight", weight);
      T* dbias = run.gradient<T>(2, "dbias", bias);
      if (s.n > 0)  // the binding asks for nothing of an empty batch but gradients
        kernels.forward(way, run.parallel, px, pweight, pbias, plowres, pout,
                        run.scratch(kernels.forward_scratch(way, slots)));
      if (dx != nullptr || dweight != nullptr || dbias != nullptr)
        kernels.backward(problem, run.parallel, pgrad, px, pweight, dx, dweight, dbias,
                         run.scratch(kernels.backward_scratch(problem, slots)));
    });
  });
}

// Of whole numbers: features whose largest around every pixel is 127 have steps of 1, so every sum is exact, and the same
// on every instruction set. Weights and features at the ends of their ranges are where 16 bits would saturate.
void test_int8(const Shape& s) {
  const int64_t outputs = s.groups * s.outputs, area = s.scale * s.scale, bands = outputs / area;
  const int64_t wide = s.width * s.scale, depth = s.inputs * s.rows * s.columns;
  const ImageSize size{s.n, s.groups * s.inputs, s.height, s.width};
  Random random(9);
  const auto whole = [](double value, double size) { return std::floor(value * size + 0.5); };
  Doubles x = random.values<float>(size.count()), weight = random.values<float>(outputs * depth);
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t channel = static_cast<int64_t>(i) / size.pixels() % s.inputs;
    x[i] = channel == 0 ? 127 : channel % 3 == 1 ? (x[i] < 0 ? -127 : 127) : whole(x[i], 127);
  }
  for (double& value : weight) value = value > 0.8 ? 127 : value < -0.8 ? -127 : whole(value, 127);
  Doubles scale(static_cast<size_t>(outputs)), all = weight;
  for (size_t m = 0; m < scale.size(); ++m) scale[m] = m % 3 == 0 ? 0.25 : 2;
  for (size_t i = 0; i < all.size(); ++i) all[i] *= scale[i / static_cast<size_t>(depth)];
  tape.clear();
  const Doubles z = values_of(convolve(size, tape.variables(x), tape.variables(all), {}, outputs, s.groups, s.rows,
                                       s.columns, 1));
  Doubles out(z.size());
  for (size_t i = 0; i < z.size(); ++i) {
    const int64_t k = static_cast<int64_t>(i), column = k % s.width, row = k / s.width % s.height;
    const int64_t plane = k / (s.width * s.height), band = plane / area;
    const int64_t p = plane % area / s.scale, q = plane % s.scale;
    out[static_cast<size_t>((band * s.height * s.scale + row * s.scale + p) * wide + column * s.scale + q)] = z[i];
  }
  const UpsampleProblem problem{s.n, s.height, s.width, s.groups, s.inputs, s.outputs, s.rows, s.columns, s.scale,
                                bands, -0.5, true, false, false};
  using Kernels = UpsampleInferenceKernels;
  for_tables<Kernels>(LKOPS_TABLES(kUpsampleInference), [&](const std::string& isa, const Kernels& table) {
    const std::string name = "upsample " + isa + " int8 n, height, width, groups, inputs, outputs, rows, columns, scale" +
                             sizes_of(s.n, s.height, s.width, s.groups, s.inputs, s.outputs, s.rows, s.columns, s.scale);
    check_case(name, {{"out", out, 0}}, 0, [&](Run& run) {
      const BFloat16* features = run.input<BFloat16>(x);
      const int8_t* numbers = run.input<int8_t>(weight);
      const float* scales = run.input<float>(scale);
      table.int8.forward(problem, run.parallel, features, numbers, scales, nullptr, nullptr,
                         run.output<float>("out", out.size()),
                         run.scratch(table.int8.forward_scratch(problem, run.parallel.slots)));
    });
  });
}

const Test kTest("upsample", [] {
  for (const Shape& shape : kShapes) {
    if (shape.n > 0) test_int8(shape);
    test_dtypes<float, float, float>(shape, &UpsampleKernels::f32);
    test_dtypes<float, float, BFloat16>(shape, &UpsampleKernels::f32);
    test_dtypes<BFloat16, BFloat16, BFloat16>(shape, &UpsampleKernels::bf16);
    test_dtypes<BFloat16, float, float>(shape, &UpsampleKernels::mixed);
  }
});

}  // namespace
}  // namespace lkops
