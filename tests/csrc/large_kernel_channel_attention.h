// The attention's parameters, for its own tests and those of the block.
#pragma once

#include "large_kernel_channel_attention/cpu.h"
#include "reference.h"
#include "test.h"

namespace lkops {

constexpr int kAttentionTensors = 10;
constexpr const char* kAttentionNames[] = {"dw1_weight",    "dw1_bias",    "dw2_weight", "dw2_bias",
                                           "reduce_weight", "reduce_bias", "expand_weight", "expand_bias",
                                           "mix_weight",    "mix_bias"};

struct AttentionValues {
  Doubles tensors[kAttentionTensors];
  Vars vars[kAttentionTensors];

  template <class T>
  void fill(Random& random, int64_t channels, const AttentionSizes& s, bool biases) {
    const int64_t across = 3 * channels, counts[] = {channels * s.rows1 * s.columns1, channels,
                                                     channels * s.rows2 * s.columns2, channels,
                                                     s.hidden * across,               s.hidden,
                                                     across * s.hidden,               across,
                                                     channels * across / s.groups,    channels};
    for (int i = 0; i < kAttentionTensors; ++i) {
      tensors[i] = random.values<T>(i % 2 == 1 && !biases ? 0 : counts[i], i == 8 ? 0.5 : 1);
      vars[i] = tape.variables(tensors[i]);
    }
  }

  template <class T>
  AttentionParameters<T> inputs(Run& run) const {
    const T* p[kAttentionTensors];
    for (int i = 0; i < kAttentionTensors; ++i) p[i] = run.optional<T>(tensors[i]);
    return {p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9]};
  }

  // `u` is the gradient of the attention's input; the others have the numbers from `first` on.
  template <class T>
  AttentionGradients<T> gradients(Run& run, T* u, int first) const {
    T* p[kAttentionTensors];
    for (int i = 0; i < kAttentionTensors; ++i) p[i] = run.gradient<T>(first + i, kAttentionNames[i], tensors[i]);
    return {u, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9]};
  }

  void expect(std::vector<Expected>& expected, double tolerance) const {
    for (int i = 0; i < kAttentionTensors; ++i)
      expected.push_back({kAttentionNames[i], tape.slopes(vars[i]), tolerance});
  }
};

inline AttentionProblem problem_of(const ImageSize& size, const AttentionSizes& s) {
  return {size.batch,  size.channels, size.height,  size.width, s.rows1,  s.columns1,  s.dilation1,
          s.rows2,     s.columns2,    s.dilation2,  s.hidden,   s.groups, s.interleave};
}

inline std::string text_of(const ImageSize& size, const AttentionSizes& s, bool biases) {
  return " batch, channels, height, width" + sizes_of(size.batch, size.channels, size.height, size.width) +
         ", rows, columns, dilations" + sizes_of(s.rows1, s.columns1, s.dilation1, s.rows2, s.columns2, s.dilation2) +
         ", hidden, groups, interleave, biases" + sizes_of(s.hidden, s.groups, s.interleave, biases);
}

}  // namespace lkops
