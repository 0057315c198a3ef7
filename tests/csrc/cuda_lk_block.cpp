#include "lk_block/cuda.cuh"
#include "large_kernel_channel_attention.h"
#include "cuda_grid.h"

namespace lkops {
namespace {

struct Shape {
  ImageSize size;  // of x
  int64_t inside, hidden, groups;
  bool interleave, biases, keep;
  int64_t processors, blocks;
};

// One multiprocessor makes for the largest tiles, many for the smallest.
const Shape kShapes[] = {
    {{1, 1, 1, 1}, 1, 1, 1, false, false, false, 1, 1},   {{0, 2, 3, 4}, 2, 1, 1, false, true, true, 4, 4},
    {{2, 3, 5, 7}, 4, 2, 2, true, true, true, 100, 3},    {{3, 5, 7, 3}, 6, 5, 3, false, true, false, 1, 2},
    {{1, 37, 16, 16}, 36, 7, 4, false, true, true, 1, 5}, {{2, 20, 16, 16}, 24, 3, 2, true, true, false, 100, 40},
    {{1, 9, 21, 8}, 6, 9, 1, false, false, true, 2, 100}, {{2, 3, 32, 31}, 4, 2, 1, true, true, false, 3, 7},
    {{1, 70, 3, 4}, 40, 70, 1, false, true, false, 1, 1},
};

template <class T>
void test_dtype(const Shape& s) {
  const ImageSize &size = s.size, inner{size.batch, s.inside, size.height, size.width};
  const AttentionSizes sizes{5, 5, 5, 7, 7, 7, s.hidden, s.groups, s.interleave};
  Random random(9);
  const Doubles x = random.values<T>(size.count(), 1, 0.2);
  const Doubles gamma = random.values<T>(size.channels, 0.5, 1), beta = random.values<T>(size.channels);
  const Doubles in_weight = random.values<T>(s.inside * size.channels);
  const Doubles in_bias = random.values<T>(s.biases ? s.inside : 0);
  const Doubles out_weight = random.values<T>(s.inside * size.channels);
  const Doubles out_bias = random.values<T>(s.biases ? size.channels : 0);
  const Doubles keep = random.values<T>(s.keep ? size.batch : 0, 0.5, 1);
  tape.clear();
  AttentionValues values;
  values.fill<T>(random, s.inside, sizes, s.biases);
  constexpr double kEps = 1e-2;
  const Vars vx = tape.variables(x), vkeep = tape.variables(keep);
  Vars u = project(size, vx, tape.variables(gamma), tape.variables(beta), tape.variables(in_weight),
                   tape.variables(in_bias), s.inside, kEps);
  for (Var& value : u) value = gelu(value);
  const Attended attended = attend(inner, sizes, u, values.vars);
  Vars y = convolve(inner, attended.y, tape.variables(out_weight), tape.variables(out_bias), size.channels, 1, 1, 1, 1);
  for (size_t i = 0; i < y.size(); ++i) {
    const int64_t n = static_cast<int64_t>(i) / (size.channels * size.pixels());
    y[i] = vx[i] + (s.keep ? y[i] * at(vkeep, n) : y[i]);
  }
  const double tolerance = sizeof(T) == sizeof(float) ? 1e-5 : std::is_same_v<T, Float16> ? 4e-3 : 3e-2;
  const std::vector<Expected> expected{{"y", values_of(y), tolerance},
                                       {"u", values_of(u), tolerance},
                                       {"a2", values_of(attended.a2), tolerance},
                                       {"w", values_of(attended.y), tolerance}};
  const BlockProblem problem{size.channels, static_cast<float>(kEps), problem_of(inner, sizes)};
  for (int64_t limit : {kLimits[0], kLimits[1]}) {
    const std::string name = std::string("cuda_block ") + dtype_name<T>() + " limit, channels, keep, processors, blocks" +
                             sizes_of(limit, size.channels, s.keep, s.processors, s.blocks) + ", inside:" +
                             text_of(inner, sizes, s.biases);
    check_case(name, expected, 0, [&](Run& run) {
      if (!is_small(problem)) std::printf("FAILED: %s is not small\n", name.c_str()), std::exit(1);
      const int order = run.parallel.slots == 1 ? 0 : run.parallel.slots == 3 ? 1 : 2;
      HostGrid grid(limit, order, s.processors, order == 0 ? s.blocks : order == 1 ? 1 : 1000);
      const BlockParameters<T> parameters{run.input<T>(gamma),       run.input<T>(beta),
                                          run.input<T>(in_weight),   run.optional<T>(in_bias),
                                          values.inputs<T>(run),     run.input<T>(out_weight),
                                          run.optional<T>(out_bias), run.optional<T>(keep)};
      const size_t map = u.size();
      float* sums = static_cast<float*>(run.scratch(static_cast<int64_t>(3 * size.batch * s.inside * 4)));
      T* a1 = static_cast<T*>(run.scratch(static_cast<int64_t>(map * sizeof(T))));
      block_inference(grid, problem,
                      BlockInference<T>{run.input<T>(x), parameters, run.output<T>("y", x.size()),
                                        run.output<T>("u", map), a1, run.output<T>("a2", map),
                                        run.output<T>("w", map), sums});
    });
  }
}

const Test kTest("cuda_block", [] {
  for (const Shape& shape : kShapes) {
    test_dtype<float>(shape);
    test_dtype<BFloat16>(shape);
    test_dtype<Float16>(shape);
  }
});

}  // namespace
}  // namespace lkops
