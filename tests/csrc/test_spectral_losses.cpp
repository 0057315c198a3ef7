#include <cmath>

#include "spectral_losses/cpu.h"
#include "reference.h"
#include "test.h"

namespace lkops {
namespace {

struct Shape {
  LossesSize size;
  bool zeros;  // whether some spectra are zero, and some equal
  double floor = 0;
};

const Shape kShapes[] = {{{1, 1, 1, 1}, false}, {{0, 3, 4, 5}, false},  {{2, 3, 1, 7}, false},  {{1, 5, 6, 1}, true},
                         {{2, 2, 2, 2}, false}, {{1, 31, 7, 5}, true},  {{1, 4, 17, 33}, true}, {{3, 3, 5, 16}, false},
                         {{1, 17, 3, 15}, false}, {{1, 2, 67, 31}, false}, {{1, 37, 4, 19}, true},
                         {{1, 3, 67, 65}, true}, {{2, 5, 6, 7}, false, 0.4}, {{1, 6, 5, 33}, true, 0.4},
                         {{2, 3, 4, 17}, false, 5}};  // values are 0.6 to the floor's 0.4, and all below 5

Vars losses(const LossesSize& size, double floor, const Vars& p, const Vars& t) {
  const int64_t plane = size.height * size.width;
  const auto mean = [](Var sum, int64_t count) { return (1.0 / static_cast<double>(count > 0 ? count : 1)) * sum; };
  Var l1, sam, cosine, gradient;
  for (size_t i = 0; i < p.size(); ++i) l1 = l1 + magnitude(p[i] - t[i]);
  for (int64_t n = 0; n < size.batch; ++n)
    for (int64_t i = 0; i < plane; ++i) {
      Var pp, tt, pt;
      for (int64_t c = 0; c < size.channels; ++c) {
        const Var a = at(p, (n * size.channels + c) * plane + i), b = at(t, (n * size.channels + c) * plane + i);
        pp = pp + a * a, tt = tt + b * b, pt = pt + a * b;
      }
      const double ratio = floor * floor * static_cast<double>(size.channels) / tt.value;
      const double weight = floor > 0 ? (ratio < 1 ? 1 - ratio : 0) : 1;
      const Var cos = pp.value >= 1e-12 && tt.value >= 1e-12 ? pt / (root(pp) * root(tt)) : Var{};
      const double most = static_cast<double>(1 - 1e-6f);
      sam = sam + (weight / 3.141592653589793) * arccos(cos.value > most ? Var{most} : cos.value < -most ? Var{-most} : cos);
      cosine = cosine + weight * (Var{1} - cos);
    }
  for (int64_t n = 0; n < size.batch; ++n)
    for (int64_t c = 1; c < size.channels; ++c)
      for (int64_t i = 1; i < size.height; ++i)
        for (int64_t j = 1; j < size.width; ++j) {
          const int64_t here = (n * size.channels + c) * plane + i * size.width + j;
          const auto of = [&](const Vars& x) {
            const Var a = at(x, here);
            return root(square(a - at(x, here - plane)) + square(a - at(x, here - size.width)) +
                        square(a - at(x, here - 1)) + 1e-6);
          };
          gradient = gradient + magnitude(of(p) - of(t));
        }
  const int64_t pixels = size.batch * plane;
  const int64_t voxels = size.batch * (size.channels - 1) * (size.height - 1) * (size.width - 1);
  return {mean(l1, pixels * size.channels), mean(sam, pixels), mean(cosine, pixels), mean(gradient, voxels)};
}

template <class P, class T>
void test_dtypes(const Shape& s, LossesPair<P, T> LossesKernels::*pair, LossesPair<T, P> LossesKernels::*other) {
  const LossesSize& size = s.size;
  const int64_t plane = size.height * size.width, count = size.batch * size.channels * plane;
  Random random(5);
  // Spectra far from parallel, whose arccos float32 can hold: those of t change signs from band to band.
  Doubles p = random.values<P>(count, 0.4, 0.6), t = random.values<T>(count, 0.4, 0.6);
  for (int64_t i = 0; i < count; ++i) t[static_cast<size_t>(i)] *= i / plane % size.channels % 2 == 0 ? 1 : -1;
  for (int64_t i = 0; s.zeros && i < count; ++i) {
    const size_t k = static_cast<size_t>(i);
    if (i % plane % 5 == 1) p[k] = 0;
    if (i % plane % 5 == 2) t[k] = 0;
    if (i % plane % 5 == 3) p[k] = t[k] = to_float(from_double<BFloat16>(p[k]));
  }
  tape.clear();
  const Vars vp = tape.variables(p), vt = tape.variables(t), means = losses(size, s.floor, vp, vt);
  const LossesWeights weights{0.5f, 2.0f, 1.5f, 0.75f};
  tape.run_back(means, {0.5, 2.0, 1.5, 0.75});
  const double wide = 3e-6, narrow = 6e-3;
  const auto tolerance = [&](size_t bytes) { return bytes == sizeof(float) ? wide : narrow; };
  const std::vector<Expected> expected{{"means", values_of(means), 5e-6},
                                       {"dp", tape.slopes(vp), tolerance(sizeof(P)), 1e-6},
                                       {"dt", tape.slopes(vt), tolerance(sizeof(T)), 1e-6}};
  for_tables<LossesKernels>(LKOPS_TABLES(kLosses), [&](const std::string& isa, const LossesKernels& kernels) {
    const std::string name = "losses " + isa + ' ' + dtype_name<P>() + ' ' + dtype_name<T>() +
                             " batch, channels, height, width, zeros, floor" +
                             sizes_of(size.batch, size.channels, size.height, size.width, s.zeros, s.floor);
    check_case(name, expected, 2, [&](Run& run) {
      const Parallel& parallel = run.parallel;
      const P* pp = run.input<P>(p);
      const T* pt = run.input<T>(t);
      float* pmeans = run.output<float>("means", 4);
      float* spectra = static_cast<float*>(run.scratch(size.batch * 3 * plane * 4));
      (kernels.*pair).forward(parallel, size, s.floor, pp, pt, pmeans, spectra,
                              run.scratch(kernels.forward_bytes(size, parallel.slots)));
      void* scratch = run.scratch(kernels.backward_bytes(size, parallel.slots));
      if (P* dp = run.gradient<P>(0, "dp", p))
        (kernels.*pair).backward(parallel, size, s.floor, weights, pp, pt, spectra, false, dp, scratch);
      if (T* dt = run.gradient<T>(1, "dt", t))
        (kernels.*other).backward(parallel, size, s.floor, weights, pt, pp, spectra, true, dt, scratch);
    });
  });
}

// NaN in one cube, beside zeros in the other and below any floor, makes NaN of the means of l1, angle and cosine.
void test_nan(double floor, bool in_target, int64_t pixel) {
  const LossesSize size{1, 3, 2, 9};
  const int64_t plane = size.height * size.width;
  Doubles p(static_cast<size_t>(3 * plane), in_target ? 0.0 : 0.5), t(p.size(), in_target ? 0.5 : 0.0);
  (in_target ? t : p)[static_cast<size_t>(plane + pixel)] = std::nan("");
  for_tables<LossesKernels>(LKOPS_TABLES(kLosses), [&](const std::string& isa, const LossesKernels& kernels) {
    const std::string name = "losses " + isa + " NaN, floor, in target, pixel" + sizes_of(floor, in_target, pixel);
    check_case(name, {{"means that are NaN", {1, 1, 1}, 0}}, 0, [&](Run& run) {
      float means[4];
      kernels.singles.forward(run.parallel, size, floor, run.input<float>(p), run.input<float>(t), means,
                              static_cast<float*>(run.scratch(3 * plane * 4)),
                              run.scratch(kernels.forward_bytes(size, run.parallel.slots)));
      float* seen = run.output<float>("means that are NaN", 3);
      for (int i = 0; i < 3; ++i) seen[i] = std::isnan(means[i]);
    });
  });
}

const Test kTest("losses", [] {
  for (const double floor : {0.0, 0.1, 10.0})
    for (const bool in_target : {false, true})
      for (const int64_t pixel : {0, 17}) test_nan(floor, in_target, pixel);  // 17: the last, in no whole vector
  for (const Shape& shape : kShapes) {
    test_dtypes<float, float>(shape, &LossesKernels::singles, &LossesKernels::singles);
    test_dtypes<BFloat16, BFloat16>(shape, &LossesKernels::halves, &LossesKernels::halves);
    test_dtypes<BFloat16, float>(shape, &LossesKernels::half_single, &LossesKernels::single_half);
    test_dtypes<float, BFloat16>(shape, &LossesKernels::single_half, &LossesKernels::half_single);
  }
});

}  // namespace
}  // namespace lkops
