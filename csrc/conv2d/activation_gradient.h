// From the gradient of the result to that of what the activation was given.
#pragma once

#include "common/sums.h"
#include "conv2d/epilogue.h"

namespace lkops {
namespace {

// The derivative at x; where `from_out`, x is the activation's result.
LKOPS_INLINE Floats derivative(Activation activation, bool from_out, Floats x, Floats slope) {
  switch (activation) {
    case Activation::kRelu: return choose(x > 0.0f, broadcast(1.0f), Floats{});
    case Activation::kLeakyRelu:
    case Activation::kPRelu: return choose(x > 0.0f, broadcast(1.0f), slope);
    case Activation::kGelu: return gelu_slope(x);
    case Activation::kSilu: {
      const Floats s = sigmoid(x);
      return s * fma(x, 1.0f - s, broadcast(1.0f));
    }
    case Activation::kSigmoid: {
      const Floats s = from_out ? x : sigmoid(x);
      return s * (1.0f - s);
    }
    default: return broadcast(1.0f);
  }
}

template <class T>
void activation_gradient(const Conv2dProblem& problem, const Parallel& parallel, const T* grad, const T* saved,
                         bool from_out, const T* slopes, T* dbefore, T* dslopes) {
  const float scale = problem.residual_scale, unscale = from_out ? 1.0f / scale : 1.0f;
  // numbers [first, last) of one slope
  const auto run = [&](int64_t first, int64_t last, Floats slope, LongSum* sum) {
    for (int64_t i = first; i < last; i += kLanes) {
      const int64_t lanes = last - i;
      const Floats g = load_some(grad + i, lanes) * scale;
      const Floats x = saved == nullptr ? Floats{} : load_some(saved + i, lanes) * unscale;
      if (sum != nullptr) sum->add(g * choose(x > 0.0f, Floats{}, x));  // lanes beyond the plane have g = 0
      if (dbefore != nullptr) store_some(dbefore + i, g * derivative(problem.activation, from_out, x, slope), lanes);
    }
  };
  const int64_t pixels = problem.out_height * problem.out_width, count = problem.n * problem.outputs * pixels;
  if (slopes == nullptr)
    return for_ranges(parallel, ceil_div(count, kWorthOfNumbers), 1, [&](int64_t, int64_t first, int64_t last) {
      run(first * kWorthOfNumbers, least(last * kWorthOfNumbers, count), broadcast(problem.slope), nullptr);
    });
  for_ranges(parallel, problem.outputs, 1, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      LongSum sum;
      for (int64_t n = 0; n < problem.n; ++n) {
        const int64_t plane = (n * problem.outputs + c) * pixels;
        run(plane, plane + pixels, broadcast(widen(slopes[c])), dslopes == nullptr ? nullptr : &sum);
      }
      if (dslopes != nullptr) store_partial(dslopes + c, broadcast(sum.result()), 1);
    }
  });
}

}  // namespace
}  // namespace lkops
