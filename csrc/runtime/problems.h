// The kernels' problems that a graph's operators pose for images of one size, as the bindings of csrc/bindings/ pose
// them: the same problems, the same bits.
#pragma once

#include "bicubic_upsample/cpu.h"
#include "conv2d/algorithm.h"
#include "lk_block/cpu.h"
#include "runtime/plan.h"
#include "upsample_add/way.h"

namespace lkops {
namespace runtime {

// Sizes of a low-resolution batch, checked.
struct Images {
  int64_t n, rows, columns;
  int64_t pixels() const { return rows * columns; }
};

// Numbers of so many planes; no image that is larger than any memory comes through.
inline int64_t count_of(const Images& images, int64_t channels) {
  constexpr int64_t kMost = int64_t{1} << 44;
  int64_t count = images.n;
  for (int64_t factor : {channels, images.rows, images.columns})
    if (__builtin_mul_overflow(count, factor, &count) || count > kMost)
      throw Refused{LKOPS_BAD_ARGUMENT, "batch, rows and columns: the images are larger than any memory"};
  return count;
}

// Kernels count scratch by what a block of outputs reaches over, in vectors of channels, for every thread.
inline void check_reach(const Images& images, int64_t channels, int64_t rows, int64_t columns) {
  int64_t area;
  if (__builtin_mul_overflow(images.rows + rows, images.columns + columns, &area) ||
      __builtin_mul_overflow(area, (channels + 64) << 20, &area))
    throw Refused{LKOPS_BAD_ARGUMENT, "rows and columns: the images are larger than any memory"};
}

// A conv that keeps the image's size.
inline Conv2dProblem conv_problem(const Images& images, int64_t inputs, const Tensor& weight, int64_t dilation,
                                  Activation activation, bool is_f32) {
  Conv2dProblem p{};
  p.n = images.n, p.inputs = inputs, p.height = p.out_height = images.rows, p.width = p.out_width = images.columns;
  p.outputs = weight.sizes[0], p.groups = inputs / weight.sizes[1];
  p.kernel_height = weight.sizes[2], p.kernel_width = weight.sizes[3];
  p.stride_height = p.stride_width = p.spread_height = p.spread_width = 1;
  p.dilation_height = p.dilation_width = dilation;
  p.top = dilation * (p.kernel_height / 2), p.left = dilation * (p.kernel_width / 2);
  p.activation = activation, p.residual_scale = 1;
  check_reach(images, inputs > p.outputs ? inputs : p.outputs, 2 * p.top, 2 * p.left);
  choose_algorithm(p, is_f32, false, false);
  return p;
}

inline BlockProblem block_problem(const Images& images, int64_t channels, const Graph& graph, const Operator& op) {
  const Tensor &dw1 = *graph.tensor(op, block::kDw1Weight), &dw2 = *graph.tensor(op, block::kDw2Weight);
  const int64_t width = graph.tensor(op, block::kInWeight)->sizes[0];
  check_reach(images, width, op.dilations[0] * dw1.sizes[2], op.dilations[0] * dw1.sizes[3]);
  check_reach(images, width, op.dilations[1] * dw2.sizes[2], op.dilations[1] * dw2.sizes[3]);
  count_of(images, width);
  const AttentionProblem attention{images.n,
                                   width,
                                   images.rows,
                                   images.columns,
                                   dw1.sizes[2],
                                   dw1.sizes[3],
                                   op.dilations[0],
                                   dw2.sizes[2],
                                   dw2.sizes[3],
                                   op.dilations[1],
                                   graph.tensor(op, block::kReduceWeight)->sizes[0],
                                   3 * width / graph.tensor(op, block::kMixWeight)->sizes[1],
                                   op.flag};
  return {channels, op.eps, attention};
}

template <class T>
BlockParameters<T> block_parameters(const Graph& graph, const Operator& op) {
  const auto at = [&](int which) { return graph.data<T>(op, which); };
  return {at(block::kNormWeight),
          at(block::kNormBias),
          at(block::kInWeight),
          at(block::kInBias),
          {at(block::kDw1Weight), at(block::kDw1Bias), at(block::kDw2Weight), at(block::kDw2Bias),
           at(block::kReduceWeight), at(block::kReduceBias), at(block::kExpandWeight), at(block::kExpandBias),
           at(block::kMixWeight), at(block::kMixBias)},
          at(block::kOutWeight),
          at(block::kOutBias),
          nullptr};
}

inline UpsampleProblem upsample_problem(const Images& images, int64_t inputs, const Graph& graph, const Operator& op) {
  const Tensor& weight = *graph.tensor(op, conv::kWeight);
  UpsampleProblem p{};
  p.n = images.n, p.height = images.rows, p.width = images.columns;
  p.groups = inputs / weight.sizes[1], p.inputs = weight.sizes[1], p.outputs = weight.sizes[0] / p.groups;
  p.kernel_height = weight.sizes[2], p.kernel_width = weight.sizes[3];
  p.scale = graph.scale, p.bands = graph.bands;
  p.cubic_a = op.cubic_a, p.symmetric = op.flag, p.lowres_is_bf16 = false;
  count_of(images, weight.sizes[0]);
  check_reach(images, inputs > weight.sizes[0] ? inputs : weight.sizes[0], p.kernel_height, p.kernel_width);
  return p;
}

}  // namespace runtime
}  // namespace lkops
