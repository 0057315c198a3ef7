#include <cmath>

#include "large_kernel_channel_attention.h"
#include "lk_block/cpu.h"

namespace lkops {
namespace {

struct Shape {
  ImageSize size;  // of x
  int64_t inside;  // channels of the attention
  AttentionSizes sizes;
  bool biases, keep;
};

const Shape kShapes[] = {{{1, 2, 1, 1}, 1, {1, 1, 1, 1, 1, 1, 1, 1, false}, false, false},
                         {{2, 3, 5, 7}, 4, {3, 3, 2, 5, 5, 3, 2, 2, true}, true, true},
                         {{3, 5, 7, 3}, 3, {5, 5, 5, 7, 7, 7, 3, 1, false}, true, false},
                         {{1, 7, 1, 17}, 6, {3, 5, 1, 3, 3, 1000, 2, 3, true}, true, true},
                         {{5, 2, 4, 3}, 2, {3, 3, 1, 3, 3, 2, 1, 2, false}, true, true},
                         {{1, 16, 9, 11}, 8, {5, 5, 5, 7, 7, 7, 5, 8, true}, true, false},
                         {{1, 35, 3, 5}, 45, {3, 3, 1, 3, 3, 2, 4, 1, false}, true, true},
                         {{2, 3, 29, 31}, 2, {3, 3, 1, 3, 3, 2, 1, 1, true}, true, true}};

template <class T>
void test_dtype(const Shape& shape) {
  const ImageSize &size = shape.size, inner{size.batch, shape.inside, size.height, size.width};
  Random random(8);
  const Doubles x = random.values<T>(size.count(), 1, 0.2), grad = random.values<T>(size.count());
  const Doubles gamma = random.values<T>(size.channels, 0.5, 1), beta = random.values<T>(size.channels);
  const Doubles in_weight = random.values<T>(shape.inside * size.channels);
  const Doubles in_bias = random.values<T>(shape.biases ? shape.inside : 0);
  const Doubles out_weight = random.values<T>(shape.inside * size.channels);
  const Doubles out_bias = random.values<T>(shape.biases ? size.channels : 0);
  const Doubles keep = random.values<T>(shape.keep ? size.batch : 0, 0.5, 1);
  tape.clear();
  const Vars vx = tape.variables(x), vgamma = tape.variables(gamma), vbeta = tape.variables(beta);
  const Vars vin_weight = tape.variables(in_weight), vin_bias = tape.variables(in_bias);
  const Vars vout_weight = tape.variables(out_weight), vout_bias = tape.variables(out_bias);
  const Vars vkeep = tape.variables(keep);
  AttentionValues values;
  values.fill<T>(random, shape.inside, shape.sizes, shape.biases);
  constexpr double kEps = 1e-2;
  const Vars t = project(size, vx, vgamma, vbeta, vin_weight, vin_bias, shape.inside, kEps);
  Vars u = t;
  for (Var& value : u) value = gelu(value);
  const Attended attended = attend(inner, shape.sizes, u, values.vars);
  Vars y = convolve(inner, attended.y, vout_weight, vout_bias, size.channels, 1, 1, 1, 1);
  for (size_t i = 0; i < y.size(); ++i) {
    const int64_t n = static_cast<int64_t>(i) / (size.channels * size.pixels());
    y[i] = vx[i] + (shape.keep ? y[i] * at(vkeep, n) : y[i]);
  }
  tape.run_back(y, grad);
  constexpr bool kSingle = sizeof(T) == sizeof(float);
  const double tolerance = kSingle ? 1e-5 : 3e-2;
  const std::pair<const char*, const Vars*> gradients[] = {
      {"dx", &vx},           {"dgamma", &vgamma},           {"dbeta", &vbeta},       {"din_weight", &vin_weight},
      {"din_bias", &vin_bias}, {"dout_weight", &vout_weight}, {"dout_bias", &vout_bias}, {"dkeep", &vkeep}};
  std::vector<Expected> expected{{"y", values_of(y), tolerance}, {"t", values_of(t), tolerance}};
  for (const auto& [name, variables] : gradients) expected.push_back({name, tape.slopes(*variables), tolerance});
  values.expect(expected, tolerance);
  const BlockProblem problem{size.channels, static_cast<float>(kEps), problem_of(inner, shape.sizes)};

  for_tables<BlockKernels>(LKOPS_TABLES(kBlock), [&](const std::string& isa, const BlockKernels& kernels) {
    const std::string name = "block " + isa + ' ' + dtype_name<T>() + " channels" + sizes_of(size.channels) +
                             ", inside:" + text_of(inner, shape.sizes, shape.biases) + ", keep" + sizes_of(shape.keep);
    check_case(name, expected, 8 + kAttentionTensors, [&](Run& run) {
      const int64_t slots = run.parallel.slots;
      const T *px = run.input<T>(x), *pgrad = run.input<T>(grad);
      const BlockParameters<T> parameters{run.input<T>(gamma),       run.input<T>(beta),
                                          run.input<T>(in_weight),   run.optional<T>(in_bias),
                                          values.inputs<T>(run),     run.input<T>(out_weight),
                                          run.optional<T>(out_bias), run.optional<T>(keep)};
      const size_t map = t.size(), gates = attended.mean.size();
      const BlockForward<T> plain{px, parameters, run.output<T>("y", x.size()), nullptr, nullptr, nullptr, nullptr,
                                  nullptr};
      BlockForward<T> saving = plain;
      saving.y = run.output<T>("y", x.size()), saving.t = run.output<T>("t", map);
      saving.a1 = static_cast<T*>(run.scratch(static_cast<int64_t>(map * sizeof(T))));
      saving.a2 = static_cast<T*>(run.scratch(static_cast<int64_t>(map * sizeof(T))));
      saving.mean = static_cast<float*>(run.scratch(static_cast<int64_t>(gates * sizeof(float))));
      saving.scale = static_cast<float*>(run.scratch(static_cast<int64_t>(gates * sizeof(float))));
      T *dx = run.gradient<T>(0, "dx", x), *dgamma = run.gradient<T>(1, "dgamma", gamma);
      T *dbeta = run.gradient<T>(2, "dbeta", beta), *din_weight = run.gradient<T>(3, "din_weight", in_weight);
      T *din_bias = run.gradient<T>(4, "din_bias", in_bias), *dout = run.gradient<T>(5, "dout_weight", out_weight);
      T *dout_bias = run.gradient<T>(6, "dout_bias", out_bias), *dkeep = run.gradient<T>(7, "dkeep", keep);
      const BlockBackward<T> backward{
          pgrad,        px,           parameters, saving.t, saving.a1, saving.a2, saving.mean,
          saving.scale, {dx, dgamma, dbeta, din_weight, din_bias, values.gradients<T>(run, static_cast<T*>(nullptr), 8),
                         dout, dout_bias, dkeep}};
      const auto call = [&](auto forward_bytes, auto forward, auto backward_bytes, auto back) {
        forward(problem, plain, run.parallel, run.scratch(forward_bytes(problem, false, slots)));
        forward(problem, saving, run.parallel, run.scratch(forward_bytes(problem, true, slots)));
        back(problem, backward, run.parallel, run.scratch(backward_bytes(problem, slots)));
      };
      if constexpr (kSingle)
        call(kernels.forward_bytes_f32, kernels.forward_f32, kernels.backward_bytes_f32, kernels.backward_f32);
      else
        call(kernels.forward_bytes_bf16, kernels.forward_bf16, kernels.backward_bytes_bf16, kernels.backward_bf16);
    });
  });
}

// With weights that are whole numbers times a scale; what is rounded on the way is a share of the largest numbers.
void test_int8(const Shape& shape) {
  using T = BFloat16;
  const ImageSize &size = shape.size, inner{size.batch, shape.inside, size.height, size.width};
  Random random(8);
  const Doubles x = random.values<T>(size.count(), 1, 0.2);
  const Doubles gamma = random.values<T>(size.channels, 0.5, 1), beta = random.values<T>(size.channels);
  const Doubles in_bias = random.values<T>(shape.biases ? shape.inside : 0);
  const Doubles out_bias = random.values<T>(shape.biases ? size.channels : 0);
  const auto numbers = [&](int64_t rows, int64_t depth, const Doubles& scale) {
    std::pair<Doubles, Doubles> made{random.values<float>(rows * depth, 127), {}};
    for (size_t i = 0; i < made.first.size(); ++i) {
      made.first[i] = std::floor(made.first[i] + 0.5);
      made.second.push_back(made.first[i] * scale[i / static_cast<size_t>(depth)]);
    }
    return made;
  };
  const Doubles in_scale = random.values<float>(shape.inside, 0.004, 0.008);
  const Doubles out_scale = random.values<float>(size.channels, 0.004, 0.008);
  const auto [in_weight, in_values] = numbers(shape.inside, size.channels, in_scale);
  const auto [out_weight, out_values] = numbers(size.channels, shape.inside, out_scale);
  tape.clear();
  const Vars vx = tape.variables(x);
  AttentionValues values;
  values.fill<T>(random, shape.inside, shape.sizes, shape.biases);
  constexpr double kEps = 1e-2;
  Vars u = project(size, vx, tape.variables(gamma), tape.variables(beta), tape.variables(in_values),
                   tape.variables(in_bias), shape.inside, kEps);
  for (Var& value : u) value = gelu(value);
  const Attended attended = attend(inner, shape.sizes, u, values.vars);
  Vars y = convolve(inner, attended.y, tape.variables(out_values), tape.variables(out_bias), size.channels, 1, 1, 1, 1);
  for (size_t i = 0; i < y.size(); ++i) y[i] = vx[i] + y[i];
  const BlockProblem problem{size.channels, static_cast<float>(kEps), problem_of(inner, shape.sizes)};
  for_tables<BlockKernels>(LKOPS_TABLES(kBlock), [&](const std::string& isa, const BlockKernels& kernels) {
    const std::string name = "block " + isa + " int8 channels" + sizes_of(size.channels) +
                             ", inside:" + text_of(inner, shape.sizes, shape.biases);
    check_case(name, {{"y", values_of(y), 3e-2}}, 0, [&](Run& run) {
      BlockInt8 tensors{};
      tensors.x = run.input<T>(x);
      tensors.parameters = {run.input<T>(gamma),   run.input<T>(beta), nullptr, run.optional<T>(in_bias),
                            values.inputs<T>(run), nullptr,            run.optional<T>(out_bias), nullptr};
      tensors.in_weight = run.input<int8_t>(in_weight), tensors.out_weight = run.input<int8_t>(out_weight);
      tensors.in_scale = run.input<float>(in_scale), tensors.out_scale = run.input<float>(out_scale);
      tensors.y = run.output<T>("y", x.size());
      kernels.int8(problem, tensors, run.parallel, run.scratch(kernels.int8_bytes(problem, run.parallel.slots)));
    });
  });
}

const Test kTest("block", [] {
  for (const Shape& shape : kShapes) {
    test_int8(shape);
    test_dtype<float>(shape);
    test_dtype<BFloat16>(shape);
  }
});

}  // namespace
}  // namespace lkops
