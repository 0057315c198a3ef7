#include "channel_attention/cpu.h"
#include "reference.h"
#include "test.h"

namespace lkops {
namespace {

struct Shape {
  int64_t batch, channels, pixels, hidden;
  bool bias;
};

const Shape kShapes[] = {{1, 1, 1, 1, false}, {0, 3, 4, 2, true},   {2, 3, 7, 1, true},   {3, 5, 64, 3, true},
                         {1, 17, 33, 2, true}, {2, 31, 15, 5, true}, {1, 33, 65, 17, false}, {1, 2, 4099, 3, true},
                         {5, 16, 16, 16, true}};

template <class T>
void test_dtype(const Shape& s) {
  const ImageSize size{s.batch, s.channels, 1, s.pixels};
  Random random(2);
  const Doubles x = random.values<T>(size.count(), 1, 0.3), grad = random.values<T>(size.count());
  const Doubles w1 = random.values<T>(s.hidden * s.channels), b1 = random.values<T>(s.bias ? s.hidden : 0);
  const Doubles w2 = random.values<T>(s.channels * s.hidden), b2 = random.values<T>(s.bias ? s.channels : 0);
  tape.clear();
  const Vars vx = tape.variables(x), vw1 = tape.variables(w1), vb1 = tape.variables(b1), vw2 = tape.variables(w2);
  const Vars vb2 = tape.variables(b2);
  const Gated gated = gate(size, vx, s.hidden, vw1, vb1, vw2, vb2);
  tape.run_back(gated.y, grad);
  constexpr bool kSingle = sizeof(T) == sizeof(float);
  const double tolerance = kSingle ? 2e-6 : 6e-3;
  const std::vector<Expected> expected{{"y", values_of(gated.y), tolerance},      {"mean", values_of(gated.mean), 1e-6},
                                       {"dx", tape.slopes(vx), tolerance},        {"dw1", tape.slopes(vw1), tolerance},
                                       {"db1", tape.slopes(vb1), tolerance},      {"dw2", tape.slopes(vw2), tolerance},
                                       {"db2", tape.slopes(vb2), tolerance}};
  const GatingProblem problem{s.batch, s.channels, s.pixels, s.hidden};
  for_tables<GatingKernels>(LKOPS_TABLES(kGating), [&](const std::string& isa, const GatingKernels& kernels) {
    const std::string name = "gating " + isa + ' ' + dtype_name<T>() + " batch, channels, pixels, hidden, bias" +
                             sizes_of(s.batch, s.channels, s.pixels, s.hidden, s.bias);
    check_case(name, expected, 5, [&](Run& run) {
      const GatingTensors<T> in{run.input<T>(x), run.input<T>(w1), run.optional<T>(b1), run.input<T>(w2),
                                run.optional<T>(b2)};
      const T* pgrad = run.input<T>(grad);
      T* y = run.output<T>("y", x.size());
      float* mean = run.output<float>("mean", gated.mean.size());
      const GatingGradients<T> out{run.gradient<T>(0, "dx", x), run.gradient<T>(1, "dw1", w1),
                                   run.gradient<T>(2, "db1", b1), run.gradient<T>(3, "dw2", w2),
                                   run.gradient<T>(4, "db2", b2)};
      void* forward = run.scratch(kernels.forward_bytes(problem));
      void* backward = run.scratch(kernels.backward_bytes(problem));
      if constexpr (kSingle) {
        kernels.forward_f32(problem, in, y, mean, run.parallel, forward);
        kernels.backward_f32(problem, pgrad, in, mean, out, run.parallel, backward);
      } else {
        kernels.forward_bf16(problem, in, y, mean, run.parallel, forward);
        kernels.backward_bf16(problem, pgrad, in, mean, out, run.parallel, backward);
      }
    });
  });
}

const Test kTest("gating", [] {
  for (const Shape& shape : kShapes) {
    test_dtype<float>(shape);
    test_dtype<BFloat16>(shape);
  }
});

}  // namespace
}  // namespace lkops
