#include "large_kernel_channel_attention.h"

namespace lkops {
namespace {

struct Shape {
  ImageSize size;
  AttentionSizes sizes;
  bool biases;
};

// A slab of the mix is 128 rows of the concat: 43 channels are more.
const Shape kShapes[] = {{{1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, false}, false},
                         {{2, 3, 5, 7}, {3, 3, 2, 5, 5, 3, 2, 1, false}, true},
                         {{3, 4, 7, 3}, {5, 5, 5, 7, 7, 7, 3, 2, true}, true},
                         {{1, 6, 1, 13}, {3, 5, 1, 3, 3, 1000, 2, 3, true}, true},
                         {{1, 16, 17, 1}, {3, 3, 1, 3, 3, 3, 17, 8, false}, true},
                         {{5, 2, 3, 5}, {3, 3, 1, 3, 3, 2, 1, 2, true}, true},
                         {{1, 5, 9, 11}, {5, 5, 5, 7, 7, 7, 5, 1, false}, false},
                         {{1, 47, 5, 3}, {3, 3, 1, 3, 3, 2, 4, 1, false}, true},
                         {{2, 33, 3, 6}, {3, 3, 1, 3, 3, 2, 4, 3, true}, true},
                         {{2, 2, 29, 31}, {3, 3, 1, 3, 3, 2, 1, 1, true}, true}};

template <class T>
void test_dtype(const Shape& shape) {
  const ImageSize& size = shape.size;
  Random random(7);
  const Doubles u = random.values<T>(size.count(), 1, 0.2), grad = random.values<T>(size.count());
  tape.clear();
  const Vars vu = tape.variables(u);
  AttentionValues values;
  values.fill<T>(random, size.channels, shape.sizes, shape.biases);
  const Attended attended = attend(size, shape.sizes, vu, values.vars);
  tape.run_back(attended.y, grad);
  constexpr bool kSingle = sizeof(T) == sizeof(float);
  const double tolerance = kSingle ? 5e-6 : 1.5e-2;
  std::vector<Expected> expected{{"y", values_of(attended.y), tolerance},
                                 {"a1", values_of(attended.a1), tolerance},
                                 {"a2", values_of(attended.a2), tolerance},
                                 {"mean", values_of(attended.mean), tolerance},
                                 {"scale", values_of(attended.scale), tolerance},
                                 {"du", tape.slopes(vu), tolerance}};
  values.expect(expected, tolerance);
  const AttentionProblem problem = problem_of(size, shape.sizes);
  for_tables<AttentionKernels>(LKOPS_TABLES(kAttention), [&](const std::string& isa, const AttentionKernels& kernels) {
    const std::string name = "attention " + isa + ' ' + dtype_name<T>() + text_of(size, shape.sizes, shape.biases);
    check_case(name, expected, 1 + kAttentionTensors, [&](Run& run) {
      const int64_t slots = run.parallel.slots;
      const T *pu = run.input<T>(u), *pgrad = run.input<T>(grad);
      const AttentionParameters<T> parameters = values.inputs<T>(run);
      const AttentionForward<T> forward{pu,
                                        parameters,
                                        run.output<T>("y", u.size()),
                                        run.output<T>("a1", u.size()),
                                        run.output<T>("a2", u.size()),
                                        run.output<float>("mean", attended.mean.size()),
                                        run.output<float>("scale", attended.scale.size())};
      const AttentionBackward<T> backward{pgrad,
                                          pu,
                                          parameters,
                                          forward.a1,
                                          forward.a2,
                                          forward.mean,
                                          forward.scale,
                                          values.gradients<T>(run, run.gradient<T>(0, "du", u), 1)};
      if constexpr (kSingle) {
        kernels.forward_f32(problem, forward, run.parallel, run.scratch(kernels.forward_bytes_f32(problem, slots)));
        kernels.backward_f32(problem, backward, run.parallel, run.scratch(kernels.backward_bytes_f32(problem, slots)));
      } else {
        kernels.forward_bf16(problem, forward, run.parallel, run.scratch(kernels.forward_bytes_bf16(problem, slots)));
        kernels.backward_bf16(problem, backward, run.parallel,
                              run.scratch(kernels.backward_bytes_bf16(problem, slots)));
      }
    });
  });
}

// Rounded to the nearest, ties to even; with a part of a vector at the end.
void test_narrow(int64_t count) {
  Random random(count);
  const Doubles from = random.values<float>(count);
  Doubles expected;
  for (double value : from) expected.push_back(to_float(from_double<BFloat16>(value)));
  for_tables<AttentionKernels>(LKOPS_TABLES(kAttention), [&](const std::string& isa, const AttentionKernels& kernels) {
    check_case("narrow " + isa + sizes_of(count), {{"to", expected, 1e-9}}, 0, [&](Run& run) {
      kernels.narrow(run.input<float>(from), count, run.output<BFloat16>("to", from.size()));
    });
  });
}

const Test kTest("attention", [] {
  for (int64_t count : {1, 3, 16, 33, 100}) test_narrow(count);
  for (const Shape& shape : kShapes) {
    test_dtype<float>(shape);
    test_dtype<BFloat16>(shape);
  }
});

}  // namespace
}  // namespace lkops
