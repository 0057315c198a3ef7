// Products of a 1x1 conv with pixels, tile by tile, for few pixels: all that a tile multiplies lies in shared memory, and
// the threads of a block share its tile out by sums as well as by results, so that a small tile has work for all.
#pragma once

#include "common/cuda.cuh"

namespace lkops {

template <class T>
struct alignas(4 * sizeof(T)) Quad {
  T values[4];
};

// Four values of memory, 0 from the one numbered `left` on.
template <class T>
LKOPS_KERNEL Four read_four(const T* from, int left, bool aligned) {
  Four four;
  if (aligned && left >= 4) {
    const Quad<T> quad = *reinterpret_cast<const Quad<T>*>(from);
    LKOPS_UNROLL
    for (int e = 0; e < 4; ++e) four.values[e] = widen(quad.values[e]);
  } else {
    LKOPS_UNROLL
    for (int e = 0; e < 4; ++e) four.values[e] = e < left ? widen(from[e]) : 0;
  }
  return four;
}

// The tiles of y[n, o, i] = sum over k of weight[o, k] x[n, k, i], where o and k are those of one of some groups. A tile
// has `side` outputs and as many pixels; each of 4096 / side^2 threads takes a share of the k for four by four of them.
struct Product {
  int shift = 4;                             // side = 2^shift
  int outputs = 0, inner = 0, pixels = 0;    // of a group; inputs of a group; of a plane
  int quads = 0;                             // of inputs, the last filled up with zeros
  int at_weight = 0, at_x = 0, at_sums = 0;  // in shared memory
  int64_t tiles = 0;
  Divider by_quads, by_across, by_down, by_groups;

  LKOPS_BOTH int side() const { return 1 << shift; }
  LKOPS_BOTH int slices() const { return 4096 >> (2 * shift); }
  LKOPS_BOTH int weight_apart() const { return 4 * quads + 4; }  // between rows, with few conflicts of banks
  LKOPS_BOTH int x_apart() const { return side() + 4; }
  LKOPS_BOTH int sums_apart() const { return side() * side() + 16; }

  struct Place {
    int64_t n;
    int group, output, pixel;  // the first of each; `output` in its group
  };

  Product() = default;
  Product(int64_t batch, int64_t groups, int64_t outputs_, int64_t inner_, int64_t pixels_, int shift_)
      : shift(shift_), outputs(static_cast<int>(outputs_)), inner(static_cast<int>(inner_)),
        pixels(static_cast<int>(pixels_)), quads(static_cast<int>(ceil_div(inner_, 4))) {
    by_quads = Divider(quads), by_across = Divider(ceil_div(pixels_, side()));
    by_down = Divider(ceil_div(outputs_, side())), by_groups = Divider(groups);
    tiles = batch * groups * by_down.size() * by_across.size();
  }

  // Takes its places from `at` on; returns the end.
  int64_t plan(int64_t at) {
    at_weight = static_cast<int>(at), at += int64_t{side()} * weight_apart();
    at_x = static_cast<int>(at), at += int64_t{4} * quads * x_apart();
    at_sums = static_cast<int>(at), at += int64_t{slices()} * sums_apart();
    return at;
  }

  LKOPS_KERNEL Place place(int64_t tile) const {
    int t = static_cast<int>(tile), next = by_across.quotient(t);
    Place at;
    at.pixel = by_across.remainder(t, next) << shift, t = next, next = by_down.quotient(t);
    at.output = by_down.remainder(t, next) << shift, t = next, next = by_groups.quotient(t);
    at.group = by_groups.remainder(t, next), at.n = next;
    return at;
  }

  // The weights of a tile; `weight` is the group's first row.
  template <class T, class Block>
  LKOPS_KERNEL void fill_weight(const Block& block, float* shared, const T* weight, const Place& place) const {
    const bool aligned = inner % 4 == 0 && is_aligned(weight);
    block.each(side() * quads, [&](int i) {
      const int row = by_quads.quotient(i), k = 4 * by_quads.remainder(i, row), o = place.output + row;
      const int left = o < outputs ? inner - k : 0;
      *reinterpret_cast<Four*>(shared + at_weight + row * weight_apart() + k) =
          read_four(weight + int64_t{o} * inner + k, left, aligned);
    });
  }

  // The pixels of a tile, of input k those of plane(k), times scale(k). All planes are aligned or none is.
  template <class Block, class Plane, class Scale>
  LKOPS_KERNEL void fill_x(const Block& block, float* shared, const Place& place, bool aligned, const Plane& plane,
                           const Scale& scale) const {
    const int across = shift - 2;  // log2 of the quads of pixels
    block.each((4 * quads) << across, [&](int i) {
      const int k = i >> across, p = 4 * (i - (k << across));
      Four four{};
      if (k < inner) {
        four = read_four(plane(k) + place.pixel + p, pixels - place.pixel - p, aligned);
        const float by = scale(k);
        LKOPS_UNROLL
        for (int e = 0; e < 4; ++e) four.values[e] *= by;
      }
      *reinterpret_cast<Four*>(shared + at_x + k * x_apart() + p) = four;
    });
  }

  // to(output in the group, pixel, sum) for all results of a tile. What is in shared memory must be complete (sync
  // before), and may be overwritten after another sync.
  template <class Block, class To>
  LKOPS_KERNEL void multiply(const Block& block, float* shared, const Place& place, const To& to) const {
    const int across = shift - 2, count = slices();
    block.each(256, [&](int i) {
      // neighbours take other pixels, then other inputs: what they read lies in other banks or is the same
      const int column = 4 * (i & ((1 << across) - 1)), t = i >> across, slice = t & (count - 1);
      const int row = 4 * (t / count);
      float sum[4][4] = {};
      for (int q = slice; q < quads; q += count) {
        Four a[4], b[4];
        LKOPS_UNROLL
        for (int j = 0; j < 4; ++j) {
          a[j] = *reinterpret_cast<const Four*>(shared + at_weight + (row + j) * weight_apart() + 4 * q);
          b[j] = *reinterpret_cast<const Four*>(shared + at_x + (4 * q + j) * x_apart() + column);
        }
        LKOPS_UNROLL
        for (int j = 0; j < 4; ++j)
          LKOPS_UNROLL
          for (int k = 0; k < 4; ++k)
            LKOPS_UNROLL
            for (int e = 0; e < 4; ++e) sum[j][e] += a[j].values[k] * b[k].values[e];
      }
      LKOPS_UNROLL
      for (int j = 0; j < 4; ++j) {
        Four four;
        LKOPS_UNROLL
        for (int e = 0; e < 4; ++e) four.values[e] = sum[j][e];
        *reinterpret_cast<Four*>(shared + at_sums + slice * sums_apart() + ((row + j) << shift) + column) = four;
      }
    });
    block.sync();
    block.each(side() << shift, [&](int i) {
      const int o = place.output + (i >> shift), p = place.pixel + (i & (side() - 1));
      if (o >= outputs || p >= pixels) return;
      float sum = 0;
      for (int s = 0; s < count; ++s) sum += shared[at_sums + s * sums_apart() + i];
      to(o, p, sum);
    });
  }
};

}  // namespace lkops
