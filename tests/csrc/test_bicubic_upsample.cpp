#include "bicubic_upsample/cpu.h"
#include "reference.h"
#include "test.h"

namespace lkops {
namespace {

struct Shape {
  int64_t planes, height, width, scale;
  bool symmetric;
  double a;
};

const Shape kShapes[] = {{1, 1, 1, 1, true, -0.5},  {0, 2, 3, 2, true, -0.5},   {2, 1, 5, 2, false, -0.75},
                         {3, 7, 1, 3, true, -0.5},  {1, 5, 17, 4, true, -0.5},  {2, 3, 15, 8, false, -0.5},
                         {1, 2, 33, 5, true, -0.5}, {1, 4, 16, 2, true, -0.75}, {2, 2, 3, 16, false, -0.5},
                         {1, 3, 2, 17, true, -0.5}, {1, 11, 71, 1, false, -0.5}};

template <class T>
void test_dtype(const Shape& s) {
  const ImageSize size{1, s.planes, s.height, s.width};
  Random random(4);
  const Doubles x = random.values<T>(size.count()), grad = random.values<T>(size.count() * s.scale * s.scale);
  tape.clear();
  const Vars vx = tape.variables(x), y = enlarge(size, vx, s.scale, s.a, s.symmetric);
  tape.run_back(y, grad);
  constexpr bool kSingle = sizeof(T) == sizeof(float);
  const double tolerance = kSingle ? 2e-6 : 6e-3;
  const std::vector<Expected> expected{{"y", values_of(y), tolerance}, {"dx", tape.slopes(vx), tolerance}};
  const BicubicPlane plane{s.height, s.width, s.scale, s.symmetric};
  for_tables<BicubicKernels>(LKOPS_TABLES(kBicubic), [&](const std::string& isa, const BicubicKernels& kernels) {
    const std::string name = "bicubic " + isa + ' ' + dtype_name<T>() + " planes, height, width, scale, symmetric" +
                             sizes_of(s.planes, s.height, s.width, s.scale, s.symmetric);
    check_case(name, expected, 0, [&](Run& run) {
      const T *px = run.input<T>(x), *pgrad = run.input<T>(grad);
      T *py = run.output<T>("y", grad.size()), *dx = run.output<T>("dx", x.size());
      void* plan = run.scratch(kernels.plan_bytes(s.scale));
      kernels.make_plan(s.scale, s.a, plan);
      std::vector<void*> forward, backward;
      for (int64_t slot = 0; slot < run.parallel.slots; ++slot) {
        forward.push_back(run.scratch(kernels.forward_scratch(plane)));
        backward.push_back(run.scratch(kernels.backward_scratch(plane)));
      }
      for_ranges(run.parallel, s.planes * s.height, 1, [&](int64_t slot, int64_t first, int64_t last) {
        const size_t i = static_cast<size_t>(slot);
        if constexpr (kSingle) {
          kernels.forward_f32(plan, plane, px, py, first, last, forward[i]);
          kernels.backward_f32(plan, plane, pgrad, dx, first, last, backward[i]);
        } else {
          kernels.forward_bf16(plan, plane, px, py, first, last, forward[i]);
          kernels.backward_bf16(plan, plane, pgrad, dx, first, last, backward[i]);
        }
      });
    });
  });
}

const Test kTest("bicubic", [] {
  for (const Shape& shape : kShapes) {
    test_dtype<float>(shape);
    test_dtype<BFloat16>(shape);
  }
});

}  // namespace
}  // namespace lkops
