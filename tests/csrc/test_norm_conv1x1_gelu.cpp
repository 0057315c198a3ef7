#include "norm_conv1x1_gelu/cpu.h"
#include "reference.h"
#include "test.h"

namespace lkops {
namespace {

struct Shape {
  int64_t batch, channels, outputs, pixels;
  bool bias;
};

// Tiles are 48, 24 or 12 pixels; slabs 160 rows.
const Shape kShapes[] = {{1, 2, 1, 1, false},   {0, 3, 2, 4, true},   {2, 3, 5, 7, true},  {1, 31, 17, 47, true},
                         {1, 17, 33, 49, true}, {3, 5, 7, 97, true},  {1, 8, 16, 48, true}, {1, 33, 31, 15, false},
                         {2, 16, 16, 16, true}, {1, 163, 7, 25, true}, {1, 7, 165, 13, true}, {2, 2, 3, 1013, true}};

template <class T>
void test_dtype(const Shape& s) {
  const ImageSize size{s.batch, s.channels, 1, s.pixels};
  Random random(3);
  const Doubles x = random.values<T>(size.count(), 1, 0.5), du = random.values<T>(s.batch * s.outputs * s.pixels);
  const Doubles gamma = random.values<T>(s.channels, 0.5, 1), beta = random.values<T>(s.channels);
  const Doubles weight = random.values<T>(s.outputs * s.channels), bias = random.values<T>(s.bias ? s.outputs : 0);
  tape.clear();
  const Vars vx = tape.variables(x), vgamma = tape.variables(gamma), vbeta = tape.variables(beta);
  const Vars vweight = tape.variables(weight), vbias = tape.variables(bias);
  constexpr double kEps = 1e-2;  // pixels of two nearly equal channels keep a gradient that float32 can hold
  Vars u = project(size, vx, vgamma, vbeta, vweight, vbias, s.outputs, kEps);
  for (Var& value : u) value = gelu(value);
  tape.run_back(u, du);
  const double tolerance = sizeof(T) == sizeof(float) ? 1e-5 : 2.5e-2;
  const std::vector<Expected> expected{{"u", values_of(u), tolerance},
                                       {"dx", tape.slopes(vx), tolerance},
                                       {"dgamma", tape.slopes(vgamma), tolerance},
                                       {"dbeta", tape.slopes(vbeta), tolerance},
                                       {"dweight", tape.slopes(vweight), tolerance},
                                       {"dbias", tape.slopes(vbias), tolerance}};
  const ProjectionProblem problem{s.batch, s.channels, s.outputs, s.pixels, static_cast<float>(kEps)};
  for_tables<ProjectionKernels>(LKOPS_TABLES(kProjection), [&](const std::string& isa, const ProjectionKernels& table) {
    const auto test = [&](const ProjectionEntries<T>& kernels) {
      const std::string name = "projection " + isa + ' ' + dtype_name<T>() + " batch, channels, outputs, pixels, bias" +
                               sizes_of(s.batch, s.channels, s.outputs, s.pixels, s.bias);
      check_case(name, expected, 5, [&](Run& run) {
        const int64_t slots = run.parallel.slots;
        const ProjectionParameters<T> parameters{run.input<T>(gamma), run.input<T>(beta), run.input<T>(weight),
                                                 run.optional<T>(bias)};
        const T *px = run.input<T>(x), *pdu = run.input<T>(du);
        T* pu = run.output<T>("u", du.size());
        const ProjectionResults<T> results{run.gradient<T>(0, "dx", x), run.gradient<T>(1, "dgamma", gamma),
                                           run.gradient<T>(2, "dbeta", beta), run.gradient<T>(3, "dweight", weight),
                                           run.gradient<T>(4, "dbias", bias)};
        kernels.forward(problem, parameters, px, pu, run.parallel, run.scratch(kernels.forward_bytes(problem, slots)));
        kernels.backward(problem, parameters, px, pdu, results, run.parallel,
                         run.scratch(kernels.backward_bytes(problem, slots)));
      });
    };
    if constexpr (sizeof(T) == sizeof(float))
      test(table.f32);
    else
      test(table.bf16);
  });
}

const Test kTest("projection", [] {
  for (const Shape& shape : kShapes) {
    test_dtype<float>(shape);
    test_dtype<BFloat16>(shape);
  }
});

}  // namespace
}  // namespace lkops
