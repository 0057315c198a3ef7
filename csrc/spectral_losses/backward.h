// The gradient of one cube: every voxel gathers what its neighbours owe it.
//
// The gradient loss has a voxel wherever there is one before, above and to the left. With the squares q of both
// magnitudes there,
//
//     e = sign(q(p) - q(t)) / sqrt(q(p)) * weight
//
// is what every difference of p is multiplied with: dp gets e (bands + rows + columns) of its own voxel, -e bands of
// the one behind it, -e rows of the one below and -e columns of the one to the right. Pixels are walked over backwards,
// so that the one below has left its product in a ring of a little more than a row, and the one to the right in a
// register; dp of a band is complete, and stored, one band later. So every magnitude is computed once, but at the
// borders of chunks.
#pragma once

#include "spectral_losses/pixels.h"

namespace lkops {
namespace {

constexpr int kBackwardBands = 2;
constexpr int64_t kBackwardChunk = 4096;
constexpr int64_t kLeastBands = 16;  // of a part: each computes one band more than it has
constexpr int64_t kStreamed = 16 << 20;  // bytes of dp from which on it is stored past the caches

struct BackwardScratch {  // of one slot
  // For each pixel of a chunk and of the row below it. The angle's part of dp is a (t - x p).
  float *a, *x;
  int32_t* voxel;  // whether there is one: all ones, or 0
  float* pending;  // dp of the band before, but for what the voxel behind it owes
  float* ring;     // (kBackwardBands, ring_stride)
};

inline int64_t backward_chunk(const LossesSize& size) { return chunk_pixels(size, kBackwardChunk); }

// Pixels in the ring: those of a row and two vectors. The first vector is there once more at its end, so that a vector
// that wraps can be read.
inline int64_t ring_pixels(const LossesSize& size) { return round_up_to_lanes(size.width) + 2 * kLanes; }
inline int64_t ring_stride(const LossesSize& size) { return ring_pixels(size) + kLanes; }

inline BackwardScratch backward_layout(const LossesSize& size, Workspace& workspace) {
  const int64_t pixels = backward_chunk(size) + round_up_to_steps(size.width);
  BackwardScratch scratch;
  scratch.a = workspace.take<float>(pixels);
  scratch.x = workspace.take<float>(pixels);
  scratch.voxel = workspace.take<int32_t>(pixels);
  scratch.pending = workspace.take<float>(pixels);
  scratch.ring = workspace.take<float>(kBackwardBands * ring_stride(size));
  return scratch;
}

inline int64_t backward_bytes_of_slot(const LossesSize& size) {
  Workspace workspace;
  backward_layout(size, workspace);
  return workspace.bytes();
}

inline int64_t backward_bytes(const LossesSize& size, int64_t slots) { return slots * backward_bytes_of_slot(size); }

// a and x of the pixels of a chunk; pp, tt and pt point to the first. floor_of: tt, or pp where the cubes are exchanged.
inline void find_slopes(const float* pp, const float* tt, const float* pt, const float* floor_of, float floor_square,
                        int64_t pixels, const LossesWeights& weights, int64_t channels, float* a, float* x) {
  for (int64_t i = 0; i < pixels; i += kLanes) {
    const bool full = pixels - i >= kLanes;
    const auto read_lanes = [&](const float* p) { return full ? load(p + i) : load_partial(p + i, pixels - i); };
    const Cosine found = cosine_of(read_lanes(pp), read_lanes(tt), read_lanes(pt));
    const Floats c = found.cosine, one = broadcast(1.0f);
    const Ints bent = found.valid & (absolute(c) <= kBound);
    const Floats angle = choose(bent, weights.sam / square_root(choose(bent, (one - c) * (one + c), one)), Floats{});
    // spectra of one band: the angle is constant, and both terms would leave their roundings, over |p|
    const Floats slope = channels > 1 ? choose(found.valid, -angle - weights.cosine, Floats{}) : Floats{};
    const Floats counted = weight_of(read_lanes(floor_of), floor_square) * slope;
    store(a + i, counted / (found.p_norm * found.t_norm));
    store(x + i, c * (found.t_norm / found.p_norm));
  }
}

// Marks the voxels among the pixels [first, top) of a plane.
inline void find_voxels(const LossesSize& size, int64_t first, int64_t top, int32_t* voxel) {
  const int64_t width = size.width, pixels = top - first;
  for (int64_t i = 0; i < pixels; ++i) voxel[i] = -1;
  for (int64_t i = first; i < smaller(top, width); ++i) voxel[i - first] = 0;
  for (int64_t i = (first + width - 1) / width * width; i < top; i += width) voxel[i - first] = 0;
  for (int64_t i = pixels; i % kLanes != 0; ++i) voxel[i] = 0;
}

enum class Start {
  kCube,  // the first band has none before it, so no voxels
  kPart,  // the band before is another part's: nothing is pending
  kNone,  // in the middle of a part
};

template <class P, class T>
struct Cubes {
  const P* p;  // all three point to a plane: the first of a group of bands
  const T* t;
  P* dp;
  int64_t plane, width;  // pixels between bands and rows
  float l1, gradient;    // weights
  bool streamed;         // whether dp is stored past the caches
};

struct Products {
  Floats bands, rows, columns;  // e times the differences of p, 0 where there is no voxel
};

template <bool kPartial, class P, class T>
LKOPS_INLINE Products products(Floats here, Floats before, const P* p, Floats other, Floats other_before, const T* t,
                               int64_t width, float weight, Ints voxel, int64_t n) {
  const Differences of_p = differences<kPartial>(here, before, p, width, n);
  const Floats q = of_p.square, q_other = differences<kPartial>(other, other_before, t, width, n).square;
  const Floats less = choose(q < q_other, broadcast(-weight), Floats{});
  const Floats e = choose(q > q_other, broadcast(weight), less) / square_root(q);
  // not e alone: differences to pixels that are no neighbours may be infinite
  return {choose(voxel, e * of_p.bands, Floats{}), choose(voxel, e * of_p.rows, Floats{}),
          choose(voxel, e * of_p.columns, Floats{})};
}

// A place in the ring: what vector to write, and where to begin to read, which is one row below.
struct RingPlace {
  int64_t stride, write, read;
};

// One vector of n pixels in kBands bands. p, t and dp point to it in the first; a, x, voxel and pending of scratch, to
// its place there; dp of the band before the first is completed too. right: products of columns, of the vector to the
// right.
template <int kBands, Start kStart, bool kPartial, class P, class T>
LKOPS_INLINE void gather_bands(const Cubes<P, T>& cubes, const P* p, const T* t, P* dp, int64_t dp_plane, bool streamed,
                               int64_t n, const BackwardScratch& scratch, const RingPlace& place, Floats* right) {
  const int64_t plane = cubes.plane;
  const Floats a = load(scratch.a), x = load(scratch.x), l1 = broadcast(cubes.l1);
  const Ints voxel = load(scratch.voxel) != 0;
  Floats p_before{}, t_before{}, pending{};
  if constexpr (kStart != Start::kCube) {
    p_before = read<kPartial>(p - plane, n);
    t_before = read<kPartial>(t - plane, n);
  }
  if constexpr (kStart == Start::kNone) pending = load(scratch.pending);
  float* ring = scratch.ring;
#pragma GCC unroll 8
  for (int band = 0; band < kBands; ++band, p += plane, t += plane, dp += dp_plane, ring += place.stride) {
    if (kBands > 1) {
      prefetch(p + kBands * plane);
      prefetch(t + kBands * plane);
    }
    const Floats here = read<kPartial>(p, n), other = read<kPartial>(t, n);
    const Floats sign = choose(here > other, l1, choose(here < other, -l1, Floats{}));
    Floats sum = fma(a, fma(-x, here, other), sign), owed{};
    if (kStart != Start::kCube || band > 0) {
      const Products e =
          products<kPartial>(here, p_before, p, other, t_before, t, cubes.width, cubes.gradient, voxel, n);
      owed = e.bands;
      store(ring + place.write, e.rows);  // before it is read: the row below of a narrow plane is in this very vector
      if (place.write == 0) store(ring + place.stride - kLanes, e.rows);
      sum += (e.bands + e.rows + e.columns) - one_lane_on(e.columns, right[band]) - load(ring + place.read);
      right[band] = e.columns;
    }
    if (kStart == Start::kNone || band > 0) {
      if (!kPartial && streamed)
        stream(dp - dp_plane, pending - owed);
      else
        write<kPartial>(dp - dp_plane, pending - owed, n);
    }
    pending = sum;
    p_before = here;
    t_before = other;
  }
  store(scratch.pending, pending);
}

template <bool kValue>
struct Constant {
  static constexpr bool value = kValue;
};

struct Part {  // of the pixels of a plane: dp of [first, last), which takes products up to `top`
  int64_t first, last, top;
};

// A group of kBands bands of a part.
template <int kBands, Start kStart, class P, class T>
void gather_group(const Cubes<P, T>& cubes, const Part& part, const LossesSize& size, BackwardScratch scratch) {
  const int64_t ring = ring_pixels(size), last = part.last;
  for (int64_t i = 0; i < kBands * ring_stride(size); i += kLanes) store(scratch.ring + i, Floats{});
  Floats right[kBands] = {};
  P unused[kLanes];  // where dp of the row below goes

  int64_t i = part.first + (part.top - part.first - 1) / kLanes * kLanes;
  RingPlace place{ring_stride(size), i % ring, (i + size.width) % ring};
  const BackwardScratch begin = scratch;
  const auto gather = [&](auto is_partial, P* dp, int64_t dp_plane, bool streamed) {
    const int64_t k = i - part.first;
    scratch.a = begin.a + k, scratch.x = begin.x + k;
    scratch.voxel = begin.voxel + k, scratch.pending = begin.pending + k;
    gather_bands<kBands, kStart, decltype(is_partial)::value>(cubes, cubes.p + i, cubes.t + i, dp, dp_plane,
                                                              streamed, part.top - i, scratch, place, right);
    i -= kLanes;
    place.write = place.write == 0 ? ring - kLanes : place.write - kLanes;
    place.read = place.read < kLanes ? place.read + ring - kLanes : place.read - kLanes;
  };
  if (part.top - i < kLanes)
    gather(Constant<true>{}, i < last ? cubes.dp + i : unused, i < last ? cubes.plane : 0, false);
  while (i >= last) gather(Constant<false>{}, unused, 0, false);
  while (i >= part.first) gather(Constant<false>{}, cubes.dp + i, cubes.plane, cubes.streamed);
}

// dp of a part's last band: what is pending, without what is owed by the band behind it, if there is one. cubes are at
// that one.
template <bool kPartial, class P, class T>
LKOPS_INLINE void finish(const Cubes<P, T>& cubes, bool has_next, int64_t i, int64_t n, const int32_t* voxel,
                         const float* pending) {
  Floats dp = load(pending);
  if (has_next) {
    const P* p = cubes.p + i;
    const T* t = cubes.t + i;
    dp -= products<kPartial>(read<kPartial>(p, n), read<kPartial>(p - cubes.plane, n), p, read<kPartial>(t, n),
                             read<kPartial>(t - cubes.plane, n), t, cubes.width, cubes.gradient, load(voxel) != 0, n)
              .bands;
  }
  write<kPartial>(cubes.dp - cubes.plane + i, dp, n);
}

// dp of the bands [begin, end) of a part; cubes are at band `begin`.
template <class P, class T>
void gather_part(Cubes<P, T> cubes, const Part& part, const LossesSize& size, int64_t begin, int64_t end,
                 const BackwardScratch& scratch) {
  int64_t band = begin;
  const auto advance = [&](int64_t bands) {
    band += bands;
    cubes.p += bands * cubes.plane;
    cubes.t += bands * cubes.plane;
    cubes.dp += bands * cubes.plane;
  };
  constexpr int kBands = kBackwardBands;
  const bool whole = end - begin >= kBands;
  if (begin == 0 && whole) gather_group<kBands, Start::kCube>(cubes, part, size, scratch);
  if (begin == 0 && !whole) gather_group<1, Start::kCube>(cubes, part, size, scratch);
  if (begin > 0 && whole) gather_group<kBands, Start::kPart>(cubes, part, size, scratch);
  if (begin > 0 && !whole) gather_group<1, Start::kPart>(cubes, part, size, scratch);
  advance(whole ? kBands : 1);
  while (band + kBands <= end) {
    gather_group<kBands, Start::kNone>(cubes, part, size, scratch);
    advance(kBands);
  }
  while (band < end) {
    gather_group<1, Start::kNone>(cubes, part, size, scratch);
    advance(1);
  }

  const bool has_next = end < size.channels;
  for (int64_t i = part.first; i < part.last; i += kLanes) {
    const int64_t n = part.last - i, k = i - part.first;
    if (n >= kLanes)
      finish<false>(cubes, has_next, i, n, scratch.voxel + k, scratch.pending + k);
    else
      finish<true>(cubes, has_next, i, n, scratch.voxel + k, scratch.pending + k);
  }
}

template <class P, class T>
void backward(const Parallel& parallel, const LossesSize& size, double floor, const LossesWeights& weights, const P* p,
              const T* t, const float* spectra, bool exchanged, P* dp, void* memory) {
  const int64_t plane = size.height * size.width, channels = size.channels;
  const int64_t chunk = backward_chunk(size), chunks = chunk_count(size, chunk);
  // Bands are divided only to occupy all threads. Every value is computed in the same way however they are.
  const int64_t wanted = 4 * parallel.slots / larger(size.batch * chunks, 1);
  const int64_t parts = parallel.slots == 1 ? 1 : larger(1, smaller(wanted, channels / kLeastBands));

  const double pixels = static_cast<double>(size.batch * plane);
  const double voxels = static_cast<double>(size.batch * (channels - 1) * (size.height - 1) * (size.width - 1));
  const LossesWeights scaled{
      mean_of(weights.l1, pixels * static_cast<double>(channels)), mean_of(weights.sam, pixels * kPi),
      mean_of(weights.cosine, pixels), mean_of(weights.gradient, voxels)};
  const float floor_square = square_of_floor(size, floor);
  const int64_t grain = grain_of(kWorthOfNumbers * parts, chunk, channels);
  const int64_t line = 64 / static_cast<int64_t>(sizeof(P));
  const bool streamed = size.batch * channels * plane * static_cast<int64_t>(sizeof(P)) >= kStreamed &&
                        plane % line == 0 && reinterpret_cast<uintptr_t>(dp) % 64 == 0;
  for_ranges(parallel, size.batch * chunks * parts, grain, [&](int64_t slot, int64_t first, int64_t last) {
    Workspace workspace(static_cast<char*>(memory) + slot * backward_bytes_of_slot(size));
    const BackwardScratch scratch = backward_layout(size, workspace);
    for (int64_t item = first; item < last; ++item) {
      const int64_t n = item / (chunks * parts), begin = item % parts * channels / parts;
      const int64_t end = (item % parts + 1) * channels / parts;
      Part part;
      part.first = item / parts % chunks * chunk;
      part.last = smaller(part.first + chunk, plane);
      part.top = smaller(plane, round_up_to_steps(part.last + size.width));
      const float* product = spectra + 3 * n * plane + part.first;
      find_slopes(product + (exchanged ? plane : 0), product + (exchanged ? 0 : plane), product + 2 * plane,
                  product + plane, floor_square, part.last - part.first, scaled, channels, scratch.a, scratch.x);
      // the row below has none of its own: any numbers do
      for (int64_t i = round_up_to_lanes(part.last - part.first); i < part.top - part.first; ++i)
        scratch.a[i] = scratch.x[i] = 0;
      find_voxels(size, part.first, part.top, scratch.voxel);
      const int64_t start = (n * channels + begin) * plane;
      gather_part<P, T>({p + start, t + start, dp + start, plane, size.width, scaled.l1, scaled.gradient, streamed},
                        part, size, begin, end, scratch);
    }
    if (streamed) stream_end();
  });
}

}  // namespace
}  // namespace lkops
