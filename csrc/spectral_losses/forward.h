// Sums over chunks of pixels: per pixel over bands first, in buffers in L1, then over pixels.
#pragma once

#include "spectral_losses/pixels.h"

namespace lkops {
namespace {

constexpr int kSums = 4;          // l1, sam, cosine, gradient
constexpr int kForwardBands = 4;  // bands that pass through registers together: one access to the buffers for all
constexpr int64_t kForwardChunk = 1024;

struct PixelSums {  // one value for each pixel of a chunk: sums over bands
  float *pp, *tt, *pt, *l1, *gradient;
};

struct ForwardScratch {
  double* partial;  // (chunks, kSums), of the whole batch
  float* sums;      // five buffers for each slot
};

inline int64_t forward_chunk(const LossesSize& size) { return chunk_pixels(size, kForwardChunk); }

inline ForwardScratch forward_layout(const LossesSize& size, int64_t slots, Workspace& workspace) {
  const int64_t chunk = forward_chunk(size);
  ForwardScratch scratch;
  scratch.partial = workspace.take<double>(size.batch * chunk_count(size, chunk) * kSums);
  scratch.sums = workspace.take<float>(slots * 5 * chunk);
  return scratch;
}

inline PixelSums pixel_sums(const ForwardScratch& scratch, int64_t chunk, int64_t slot) {
  float* sums = scratch.sums + slot * 5 * chunk;
  return {sums, sums + chunk, sums + 2 * chunk, sums + 3 * chunk, sums + 4 * chunk};
}

// Adds to the sums of one vector of pixels, from pixel i of the chunk on, what kBands bands give. p and t point to it
// in the first of them. kFirst: that is the first of the cube, which has none before, and the sums begin.
template <int kBands, bool kFirst, bool kPartial, class P, class T>
LKOPS_INLINE void add_bands(const P* p, const T* t, int64_t plane, int64_t width, int64_t n, const PixelSums& sums,
                            int64_t i) {
  Floats pp{}, tt{}, pt{}, l1{}, gradient{}, p_before{}, t_before{};
  if constexpr (!kFirst) {
    p_before = read<kPartial>(p - plane, n);
    t_before = read<kPartial>(t - plane, n);
  }
#pragma GCC unroll 8
  for (int band = 0; band < kBands; ++band, p += plane, t += plane) {
    if (kBands > 1) {  // the next group's: the hardware follows no step from band to band
      prefetch(p + kBands * plane);
      prefetch(t + kBands * plane);
    }
    const Floats x = read<kPartial>(p, n), y = read<kPartial>(t, n);
    pp = add_product(x, x, pp);
    tt = add_product(y, y, tt);
    pt = add_product(x, y, pt);
    l1 += absolute(x - y);
    if (!kFirst || band > 0) {
      const Differences of_p = differences<kPartial>(x, p_before, p, width, n);
      const Differences of_t = differences<kPartial>(y, t_before, t, width, n);
      gradient += absolute(square_root(of_p.square) - square_root(of_t.square));
    }
    p_before = x;
    t_before = y;
  }
  const auto add = [i](float* sum, Floats v) { store(sum + i, kFirst ? v : load(sum + i) + v); };
  add(sums.pp, pp);
  add(sums.tt, tt);
  add(sums.pt, pt);
  add(sums.l1, l1);
  add(sums.gradient, gradient);
}

template <int kBands, bool kFirst, class P, class T>
void add_bands_of_chunk(const P* p, const T* t, int64_t plane, int64_t width, int64_t pixels, const PixelSums& sums) {
  int64_t i = 0;
  for (; i + kLanes <= pixels; i += kLanes)
    add_bands<kBands, kFirst, false>(p + i, t + i, plane, width, kLanes, sums, i);
  if (i < pixels) add_bands<kBands, kFirst, true>(p + i, t + i, plane, width, pixels - i, sums, i);
}

// All bands of the pixels [first, last) of a plane; p and t point to the first of these in the first band.
template <class P, class T>
void add_all_bands(const P* p, const T* t, const LossesSize& size, int64_t first, int64_t last,
                   const PixelSums& sums) {
  const int64_t plane = size.height * size.width, width = size.width, pixels = last - first;
  int64_t band = 0;
  if (size.channels >= kForwardBands) {
    add_bands_of_chunk<kForwardBands, true>(p, t, plane, width, pixels, sums);
    band = kForwardBands;
  } else {
    add_bands_of_chunk<1, true>(p, t, plane, width, pixels, sums);
    band = 1;
  }
  for (; band + kForwardBands <= size.channels; band += kForwardBands)
    add_bands_of_chunk<kForwardBands, false>(p + band * plane, t + band * plane, plane, width, pixels, sums);
  for (; band < size.channels; ++band)
    add_bands_of_chunk<1, false>(p + band * plane, t + band * plane, plane, width, pixels, sums);

  // the first row and the first column have no voxel above or to the left
  for (int64_t i = first; i < smaller(last, width); ++i) sums.gradient[i - first] = 0;
  for (int64_t i = (first + width - 1) / width * width; i < last; i += width) sums.gradient[i - first] = 0;
}

// The sums of one chunk over its pixels, in blocks that lose no bits; and its part of spectra, of which `spectra`
// points to the first pixel.
inline void add_pixels(const PixelSums& sums, int64_t plane, int64_t pixels, float floor_square, float* spectra,
                       double* result) {
  constexpr int64_t kBlock = 64 * kStep;
  for (int s = 0; s < kSums; ++s) result[s] = 0;
  Ints lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  for (int64_t begin = 0; begin < pixels; begin += kBlock) {
    Floats total[kSums] = {};
    const int64_t end = smaller(begin + kBlock, pixels);
    for (int64_t i = begin; i < end; i += kLanes) {
      const Floats pp = load(sums.pp + i), tt = load(sums.tt + i), pt = load(sums.pt + i);
      const Cosine found = cosine_of(pp, tt, pt);
      const Floats c = found.cosine;
      const Floats bounded = choose(c > kBound, broadcast(kBound), choose(c < -kBound, broadcast(-kBound), c));
      const Ints inside = lane < static_cast<int32_t>(smaller(end - i, kLanes));
      total[0] += load(sums.l1 + i);
      const Floats weight = weight_of(tt, floor_square);
      total[1] += choose(inside, weight * arccos(bounded), Floats{});
      total[2] += choose(inside, weight * cosine_distance(pp, tt, pt, found), Floats{});
      total[3] += load(sums.gradient + i);
      if (end - i >= kLanes) {
        store(spectra + i, pp);
        store(spectra + plane + i, tt);
        store(spectra + 2 * plane + i, pt);
      } else {
        store_partial(spectra + i, pp, end - i);
        store_partial(spectra + plane + i, tt, end - i);
        store_partial(spectra + 2 * plane + i, pt, end - i);
      }
    }
    for (int s = 0; s < kSums; ++s)
      for (int i = 0; i < kLanes; ++i) result[s] += static_cast<double>(total[s][i]);
  }
}

inline int64_t forward_bytes(const LossesSize& size, int64_t slots) {
  Workspace workspace;
  forward_layout(size, slots, workspace);
  return workspace.bytes();
}

template <class P, class T>
void forward(const Parallel& parallel, const LossesSize& size, double floor, const P* p, const T* t, float* means,
             float* spectra, void* memory) {
  Workspace workspace(memory);
  const ForwardScratch scratch = forward_layout(size, parallel.slots, workspace);
  const int64_t plane = size.height * size.width, chunk = forward_chunk(size), chunks = chunk_count(size, chunk);
  const int64_t count = size.batch * chunks;
  const float floor_square = square_of_floor(size, floor);
  const int64_t grain = grain_of(kWorthOfNumbers, chunk, size.channels);
  for_ranges(parallel, count, grain, [&](int64_t slot, int64_t begin, int64_t end) {
    const PixelSums sums = pixel_sums(scratch, chunk, slot);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t n = item / chunks, first = item % chunks * chunk, last = smaller(first + chunk, plane);
      const int64_t start = n * size.channels * plane + first;
      add_all_bands(p + start, t + start, size, first, last, sums);
      add_pixels(sums, plane, last - first, floor_square, spectra + 3 * n * plane + first,
                 scratch.partial + item * kSums);
    }
  });
  double total[kSums] = {};
  for (int64_t item = 0; item < count; ++item)
    for (int s = 0; s < kSums; ++s) total[s] += scratch.partial[item * kSums + s];
  const double pixels = static_cast<double>(size.batch * plane);
  const double voxels = static_cast<double>(size.batch * (size.channels - 1) * (size.height - 1) * (size.width - 1));
  means[0] = mean_of(total[0], pixels * static_cast<double>(size.channels));
  means[1] = mean_of(total[1], pixels * kPi);
  means[2] = mean_of(total[2], pixels);
  means[3] = mean_of(total[3], voxels);
}

}  // namespace
}  // namespace lkops
