#include "depthwise_conv2d/cpu.h"
#include "reference.h"
#include "test.h"

namespace lkops {
namespace {

struct Shape {
  int64_t batch, channels, height, width, rows, columns, dilation;
  bool bias;
  int64_t whole = 1 << 20;  // floats of a plane that is not cut into bands
};

const Shape kShapes[] = {
    {1, 1, 1, 1, 1, 1, 1, false},  {0, 2, 3, 4, 3, 3, 1, true},   {2, 3, 7, 5, 3, 3, 1, true},
    {1, 2, 13, 17, 5, 5, 1, true}, {3, 1, 1, 31, 1, 7, 3, true},  {1, 2, 37, 1, 11, 1, 2, false},
    {2, 2, 16, 16, 7, 7, 3, true}, {1, 2, 19, 33, 5, 3, 7, true}, {1, 1, 9, 15, 31, 31, 1, true},
    {1, 1, 40, 49, 3, 5, 5, true}, {2, 1, 6, 11, 3, 3, 1000, true}, {1, 1, 5, 6, 3, 3, int64_t{1} << 40, true},
    {1, 2, 3, 130, 9, 9, 5, false}, {1, 1, 4, 301, 3, 3, 1, true},
    // in bands: of one row, of a dilation's rows, with kernels that reach beyond the next band or take several passes
    {2, 2, 37, 9, 1, 3, 1, true, 1}, {1, 1, 40, 49, 3, 5, 5, true, 1}, {2, 1, 53, 17, 7, 7, 3, true, 1},
    {1, 2, 61, 5, 5, 5, 1, true, 1500}, {1, 1, 47, 6, 9, 3, 2, false, 1}, {1, 1, 29, 8, 31, 1, 1, true, 1},
    {3, 1, 45, 7, 3, 3, 4, true, 2000}, {1, 1, 23, 6, 3, 3, 1000, true, 1}, {1, 1, 64, 20, 5, 5, 7, true, 4096},
};

template <class T>
void test_dtype(const Shape& s) {
  const ImageSize size{s.batch, s.channels, s.height, s.width};
  Random random(1);
  const Doubles x = random.values<T>(size.count()), weight = random.values<T>(s.channels * s.rows * s.columns);
  const Doubles bias = random.values<T>(s.bias ? s.channels : 0), grad = random.values<T>(size.count());
  tape.clear();
  const Vars vx = tape.variables(x), vweight = tape.variables(weight), vbias = tape.variables(bias);
  const Vars y = depthwise(size, vx, vweight, vbias, s.rows, s.columns, s.dilation);
  tape.run_back(y, grad);
  constexpr bool kSingle = sizeof(T) == sizeof(float);
  const double tolerance = kSingle ? 2e-6 : 6e-3;
  const std::vector<Expected> expected{{"y", values_of(y), tolerance},
                                       {"dx", tape.slopes(vx), tolerance},
                                       {"dweight", tape.slopes(vweight), tolerance},
                                       {"dbias", tape.slopes(vbias), tolerance}};
  const DepthwiseProblem problem{s.batch,   s.channels, s.height,   s.width, s.rows,
                                 s.columns, s.dilation, s.whole};
  for_tables<DepthwiseKernels>(LKOPS_TABLES(kDepthwise), [&](const std::string& isa, const DepthwiseKernels& kernels) {
    const std::string name = "depthwise " + isa + ' ' + dtype_name<T>() +
                             " batch, channels, height, width, rows, columns, dilation, bias, whole" +
                             sizes_of(s.batch, s.channels, s.height, s.width, s.rows, s.columns, s.dilation, s.bias,
                                      s.whole);
    check_case(name, expected, 3, [&](Run& run) {
      const int64_t slots = run.parallel.slots;
      const T *px = run.input<T>(x), *pweight = run.input<T>(weight), *pbias = run.optional<T>(bias);
      const T* pgrad = run.input<T>(grad);
      T* py = run.output<T>("y", x.size());
      T *dx = run.gradient<T>(0, "dx", x), *dweight = run.gradient<T>(1, "dweight", weight);
      T* dbias = run.gradient<T>(2, "dbias", bias);
      void *forward = run.scratch(kernels.forward_bytes(problem, slots));
      void *backward = run.scratch(kernels.backward_bytes(problem, slots));
      if constexpr (kSingle) {
        kernels.forward_f32(problem, px, pweight, pbias, py, run.parallel, forward);
        kernels.backward_f32(problem, pgrad, px, pweight, dx, dweight, dbias, run.parallel, backward);
      } else {
        kernels.forward_bf16(problem, px, pweight, pbias, py, run.parallel, forward);
        kernels.backward_bf16(problem, pgrad, px, pweight, dx, dweight, dbias, run.parallel, backward);
      }
    });
  });
}

const Test kTest("depthwise", [] {
  for (const Shape& shape : kShapes) {
    test_dtype<float>(shape);
    test_dtype<BFloat16>(shape);
  }
});

}  // namespace
}  // namespace lkops
