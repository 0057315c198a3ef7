#include "cuda.h"
#include "depthwise_conv2d/cuda.cuh"
#include "reference.h"

namespace lkops {
namespace {

struct Shape {
  int64_t batch, channels, height, width, rows, columns, dilation;
  bool bias;
};

const Shape kShapes[] = {
    {1, 1, 1, 1, 1, 1, 1, false},    {0, 2, 3, 4, 3, 3, 1, true},     {2, 3, 7, 5, 3, 3, 1, true},
    {3, 1, 1, 31, 1, 7, 3, true},    {1, 2, 37, 1, 11, 1, 2, false},  {2, 1, 6, 11, 3, 3, 1000, true},
    {1, 1, 5, 6, 3, 3, int64_t{1} << 40, true},                       {1, 1, 9, 15, 31, 31, 1, true},
    {1, 2, 13, 17, 5, 5, 1, true},   {2, 3, 16, 16, 5, 5, 5, true},   {2, 3, 16, 16, 7, 7, 7, true},
    {1, 2, 41, 23, 5, 5, 5, true},   {1, 1, 53, 47, 7, 7, 7, false},  {2, 1, 1, 3, 7, 7, 7, true},
    {1, 2, 3, 130, 9, 9, 5, false},  {1, 1, 97, 101, 7, 7, 7, true},  {1, 1, 101, 97, 5, 5, 5, true},
    {1, 1, 90, 103, 3, 3, 29, true}, {640, 2, 2, 3, 3, 3, 1, true},   {640, 2, 4, 4, 5, 5, 5, true},
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
  const double tolerance = tolerance_of<T>();
  const std::vector<Expected> expected{{"y", values_of(y), tolerance},
                                       {"dx", tape.slopes(vx), tolerance},
                                       {"dweight", tape.slopes(vweight), tolerance},
                                       {"dbias", tape.slopes(vbias), tolerance}};
  const DepthwiseProblem problem{s.batch, s.channels, s.height, s.width, s.rows, s.columns, s.dilation};
  for (int64_t limit : kLimits) {
    const std::string name = std::string("cuda_depthwise ") + dtype_name<T>() +
                             " limit, batch, channels, height, width, rows, columns, dilation, bias" +
                             sizes_of(limit, s.batch, s.channels, s.height, s.width, s.rows, s.columns, s.dilation,
                                      s.bias);
    check_case(name, expected, 3, [&](Run& run) {
      HostLaunch launch = launch_of(run, limit);
      const T *px = run.input<T>(x), *pweight = run.input<T>(weight), *pgrad = run.input<T>(grad);
      depthwise_forward(launch, problem,
                        DepthwiseForward<T>{px, pweight, run.optional<T>(bias), run.output<T>("y", x.size())});
      const DepthwiseBackward<T> backward{pgrad, px, pweight, run.gradient<T>(0, "dx", x),
                                          run.gradient<T>(1, "dweight", weight), run.gradient<T>(2, "dbias", bias)};
      const int64_t floats = parts_floats(s.channels, s.rows * s.columns);
      depthwise_backward(launch, problem, backward, static_cast<float*>(run.scratch(4 * floats)));
    });
  }
}

const Test kTest("cuda_depthwise", [] {
  for (const Shape& shape : kShapes) {
    test_dtype<float>(shape);
    test_dtype<BFloat16>(shape);
    test_dtype<Float16>(shape);
  }
});

}  // namespace
}  // namespace lkops
