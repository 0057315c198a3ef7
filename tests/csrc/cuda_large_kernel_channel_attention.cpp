#include "large_kernel_channel_attention/cuda.cuh"
#include "cuda.h"
#include "reference.h"

namespace lkops {
namespace {

struct Shape {
  int64_t batch, channels, height, width, rows1, columns1, dilation1, rows2, columns2, dilation2;
  bool bias;
};

const Shape kShapes[] = {
    {1, 1, 1, 1, 5, 5, 5, 7, 7, 7, true},      {0, 2, 3, 4, 3, 3, 1, 5, 5, 2, true},
    {3, 3, 16, 16, 5, 5, 5, 7, 7, 7, true},    {2, 2, 13, 17, 5, 5, 5, 7, 7, 7, false},
    {1, 2, 20, 31, 5, 5, 5, 7, 7, 7, true},    {2, 1, 21, 8, 5, 5, 5, 7, 7, 7, true},
    {1, 2, 33, 29, 5, 5, 5, 7, 7, 7, true},    {3, 2, 7, 5, 3, 5, 2, 1, 3, 1, true},
    {1, 1, 97, 101, 5, 5, 5, 7, 7, 7, true},   {1, 1, 40, 90, 3, 3, 30, 5, 3, 9, true},
    {1, 1, 90, 103, 5, 5, 5, 9, 9, 40, true},
    {300, 4, 3, 5, 5, 5, 5, 7, 7, 7, true},    {300, 4, 2, 4, 3, 3, 1, 3, 3, 1, true},
};

template <class T>
void test_dtype(const Shape& s) {
  const ImageSize size{s.batch, s.channels, s.height, s.width};
  const size_t count = static_cast<size_t>(size.count()), gates = static_cast<size_t>(3 * s.batch * s.channels);
  Random random(2);
  const Doubles u = random.values<T>(size.count()), w1 = random.values<T>(s.channels * s.rows1 * s.columns1);
  const Doubles b1 = random.values<T>(s.bias ? s.channels : 0), b2 = random.values<T>(s.bias ? s.channels : 0);
  const Doubles w2 = random.values<T>(s.channels * s.rows2 * s.columns2);
  const Doubles parts = random.values<T>(3 * size.count()), dmean = random.values<float>(static_cast<int64_t>(gates));
  const Doubles direct = random.values<T>(size.count());
  tape.clear();
  const Vars vu = tape.variables(u), vw1 = tape.variables(w1), vb1 = tape.variables(b1);
  const Vars vw2 = tape.variables(w2), vb2 = tape.variables(b2);
  const Vars a1 = depthwise(size, vu, vw1, vb1, s.rows1, s.columns1, s.dilation1);
  const Vars a2 = depthwise(size, a1, vw2, vb2, s.rows2, s.columns2, s.dilation2);
  Vars concat;
  Doubles seeds, sums(gates), rounded;
  const Vars* maps[] = {&vu, &a1, &a2};
  for (size_t map = 0; map < 3; ++map)
    for (size_t i = 0; i < count; ++i) {
      const size_t plane = i / static_cast<size_t>(size.pixels()), channels = static_cast<size_t>(s.channels);
      const size_t gate = (plane / channels * 3 + map) * channels + plane % channels;
      concat.push_back((*maps[map])[i]);
      seeds.push_back(parts[map * count + i] + dmean[gate] + (map == 0 ? direct[i] : 0));
      sums[gate] += (*maps[map])[i].value;
    }
  for (const Var& value : a1) rounded.push_back(to_float(from_double<T>(value.value)));  // as forward keeps it
  tape.run_back(concat, seeds);
  const double tolerance = tolerance_of<T>();
  const std::vector<Expected> expected{{"a1", values_of(a1), tolerance},       {"a2", values_of(a2), 2 * tolerance},
                                       {"sums", sums, 2 * tolerance},          {"du", tape.slopes(vu), 2 * tolerance},
                                       {"dw1", tape.slopes(vw1), 2 * tolerance}, {"db1", tape.slopes(vb1), 2 * tolerance},
                                       {"dw2", tape.slopes(vw2), 2 * tolerance}, {"db2", tape.slopes(vb2), 2 * tolerance}};
  const CascadeProblem problem{s.batch, s.channels, s.height, s.width, s.rows1, s.columns1, s.dilation1,
                               s.rows2, s.columns2, s.dilation2};
  for (int64_t limit : kLimits) {
    const std::string name = std::string("cuda_attention ") + dtype_name<T>() +
                             " limit, batch, channels, height, width, both kernels, bias" +
                             sizes_of(limit, s.batch, s.channels, s.height, s.width, s.rows1, s.columns1, s.dilation1,
                                      s.rows2, s.columns2, s.dilation2, s.bias);
    check_case(name, expected, 5, [&](Run& run) {
      HostLaunch launch = launch_of(run, limit);
      const T *pu = run.input<T>(u), *pw1 = run.input<T>(w1), *pw2 = run.input<T>(w2);
      const int64_t tiles = cascade_parts(problem, limit);
      const size_t all = gates * static_cast<size_t>(tiles);
      float* partial = static_cast<float*>(run.scratch(static_cast<int64_t>(4 * all)));
      cascade_forward(launch, problem,
                      CascadeForward<T>{pu, pw1, run.optional<T>(b1), pw2, run.optional<T>(b2),
                                        run.output<T>("a1", count), run.output<T>("a2", count), partial});
      float* total = run.output<float>("sums", gates);
      for (size_t i = 0; i < gates; ++i) {
        double sum = 0;
        for (int64_t k = 0; k < tiles; ++k) sum += partial[i * static_cast<size_t>(tiles) + static_cast<size_t>(k)];
        total[i] = static_cast<float>(sum);
      }
      T* pparts = static_cast<T*>(run.scratch(static_cast<int64_t>(parts.size() * sizeof(T))));
      for (size_t i = 0; i < parts.size(); ++i) pparts[i] = from_double<T>(parts[i]);
      T* du = run.gradient<T>(0, "du", u);
      for (size_t i = 0; du != nullptr && i < count; ++i) du[i] = from_double<T>(direct[i]);
      const CascadeBackward<T> backward{pu, run.input<T>(rounded), pw1, pw2, run.input<float>(dmean), pparts, du,
                                        run.gradient<T>(1, "dw1", w1), run.gradient<T>(2, "db1", b1),
                                        run.gradient<T>(3, "dw2", w2), run.gradient<T>(4, "db2", b2)};
      cascade_backward(launch, problem, backward, static_cast<float*>(run.scratch(4 * cascade_workspace(problem))));
    });
  }
}

const Test kTest("cuda_attention", [] {
  for (const Shape& shape : kShapes) {
    test_dtype<float>(shape);
    test_dtype<BFloat16>(shape);
    test_dtype<Float16>(shape);
  }
});

}  // namespace
}  // namespace lkops
