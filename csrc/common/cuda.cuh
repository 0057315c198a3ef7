// What CUDA kernels are written with, so that a host compiler can run them too: tests/csrc does, under sanitizers.
//
// A kernel is a struct of pointers and sizes, `Body`, whose operator()(block, shared) is the work of one block, in
// phases: block.each(count, f) calls f(i) for every i < count, in any order and by any thread, and block.sync() stands
// between what one thread writes and another reads. Nothing but shared memory lives from one phase to the next. A
// launcher is a function of the problem and of a `launch`, which runs all blocks of a body: launch(body, blocks, floats
// of shared memory). So only <<<>>> (common/cuda_launch.cuh) is not tested on the host. Memory is addressed in shared
// memory by offsets from its beginning: from pointers the compiler could not tell that it is shared.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/cuda_types.h"

#if defined(__CUDACC__)
#define LKOPS_KERNEL __device__ __forceinline__
#define LKOPS_BOTH __host__ __device__ __forceinline__
#define LKOPS_UNROLL _Pragma("unroll")
#else
#define LKOPS_KERNEL inline
#define LKOPS_BOTH inline
#define LKOPS_UNROLL
#endif

namespace lkops {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Division of 0 <= n < 2^31 by a number known before the launch, as a product (Granlund and Montgomery 1994).
struct Divider {
  uint32_t divisor = 1, factor = 1, shift = 0;

  Divider() = default;
  explicit Divider(int64_t by) : divisor(static_cast<uint32_t>(by)) {
    while ((uint64_t{1} << shift) < divisor) ++shift;
    factor = static_cast<uint32_t>((((uint64_t{1} << shift) - divisor) << 32) / divisor + 1);
  }
  LKOPS_BOTH int quotient(int n) const {
#if defined(__CUDA_ARCH__)
    return static_cast<int>((__umulhi(factor, static_cast<uint32_t>(n)) + static_cast<uint32_t>(n)) >> shift);
#else
    const uint32_t high = static_cast<uint32_t>((uint64_t{factor} * static_cast<uint32_t>(n)) >> 32);
    return static_cast<int>((high + static_cast<uint32_t>(n)) >> shift);
#endif
  }
  LKOPS_KERNEL int remainder(int n, int quotient) const { return n - quotient * size(); }
  LKOPS_BOTH int size() const { return static_cast<int>(divisor); }
};

// ---- storage types --------------------------------------------------------------------------------------------------

LKOPS_KERNEL float widen(float value) { return value; }

LKOPS_KERNEL float widen(BFloat16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
#endif
}

LKOPS_KERNEL float widen(Float16 value) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#else
  const uint32_t exponent = (value.bits >> 10) & 31u, fraction = value.bits & 1023u;
  // as if normal, by powers of two that are exact; 2^-24 is the unit of subnormal numbers
  float result = exponent == 0 ? static_cast<float>(fraction) * 0x1p-24f
                               : static_cast<float>(1024u + fraction) * 0x1p-25f * static_cast<float>(1u << exponent);
  if (exponent == 31) result = fraction == 0 ? __builtin_inff() : __builtin_nanf("");
  return (value.bits & 0x8000u) != 0 ? -result : result;
#endif
}

template <class T>
struct Narrow;

template <>
struct Narrow<float> {
  LKOPS_KERNEL static float from(float value) { return value; }
};

template <>
struct Narrow<BFloat16> {
  LKOPS_KERNEL static BFloat16 from(float value) {
#if defined(__CUDA_ARCH__)
    BFloat16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (value != value) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
    return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
#endif
  }
};

template <>
struct Narrow<Float16> {
  LKOPS_KERNEL static Float16 from(float value) {
#if defined(__CUDA_ARCH__)
    Float16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
    uint32_t half;
    if (size > 0x7f800000u) {
      half = 0x7e00u;
    } else if (size >= 0x38800000u) {  // 2^-14 and more: to nearest even, which may carry into the exponent
      half = (size - 0x38000000u + 0xfffu + ((size >> 13) & 1u)) >> 13;
      half = half > 0x7c00u ? 0x7c00u : half;
    } else {  // adding 0.5 leaves multiples of 2^-24, to nearest even, in the last bits
      float shifted;
      std::memcpy(&shifted, &size, sizeof shifted);
      shifted += 0.5f;
      std::memcpy(&bits, &shifted, sizeof bits);
      half = bits - 0x3f000000u;
    }
    return {static_cast<uint16_t>(sign | half)};
#endif
  }
};

template <class T>
LKOPS_KERNEL T narrow(float value) {
  return Narrow<T>::from(value);
}

// ---- memory ---------------------------------------------------------------------------------------------------------

struct alignas(16) Four {
  float values[4];
};

template <class T>
struct alignas(16) Pack {
  static constexpr int kCount = 16 / sizeof(T);
  T values[kCount];
};

LKOPS_KERNEL bool is_aligned(const void* pointer) { return (reinterpret_cast<uintptr_t>(pointer) & 15u) == 0; }

// Planes of `pixels` elements each; what one thread reads at once depends on the storage type T.
template <class T>
struct Planes {
  int pixels = 0;
  Divider by_pixels, by_packs;

  Planes() = default;
  explicit Planes(int64_t count)
      : pixels(static_cast<int>(count)), by_pixels(count), by_packs(count < Pack<T>::kCount ? 1 : count / Pack<T>::kCount) {}
  LKOPS_KERNEL bool in_packs(int planes, int64_t stride) const {
    return planes == 1 || (pixels % Pack<T>::kCount == 0 && stride % Pack<T>::kCount == 0);
  }
};

// shared[to + p pixels + i] = from[p stride + i] + more[p stride + i] + shift(p) for p < planes and i < pixels, in packs
// of 16 bytes where all is aligned; `more` may be null, `to` is a multiple of 4. Of a single plane no divider is used.
template <class T, class Block, class Shift>
LKOPS_KERNEL void fill(const Block& block, float* shared, int to, const T* from, const T* more, const Planes<T>& shape,
                       int planes, int64_t stride, const Shift& shift) {
  constexpr int kCount = Pack<T>::kCount;
  const bool packed = is_aligned(from) && (more == nullptr || is_aligned(more)) && shape.in_packs(planes, stride);
  const int packs = packed ? shape.pixels / kCount : 0, rest = shape.pixels - packs * kCount;
  block.each(planes * packs, [&](int k) {
    const int p = planes == 1 ? 0 : shape.by_packs.quotient(k), i = (k - p * packs) * kCount;
    const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(from + p * stride + i);
    Pack<T> other{};
    if (more != nullptr) other = *reinterpret_cast<const Pack<T>*>(more + p * stride + i);
    const float by = shift(p);
    LKOPS_UNROLL
    for (int part = 0; part < kCount; part += 4) {
      Four four;
      LKOPS_UNROLL
      for (int e = 0; e < 4; ++e) {
        four.values[e] = widen(pack.values[part + e]) + by;
        if (more != nullptr) four.values[e] += widen(other.values[part + e]);
      }
      *reinterpret_cast<Four*>(shared + to + p * shape.pixels + i + part) = four;
    }
  });
  block.each(planes * rest, [&](int k) {
    const int p = planes == 1 ? 0 : shape.by_pixels.quotient(k), i = packs * kCount + k - p * rest;
    float value = widen(from[p * stride + i]) + shift(p);
    if (more != nullptr) value += widen(more[p * stride + i]);
    shared[to + p * shape.pixels + i] = value;
  });
}

struct NoShift {
  LKOPS_KERNEL float operator()(int) const { return 0; }
};

// to[p stride + i] = shared[from + p pixels + i], likewise.
template <class T, class Block>
LKOPS_KERNEL void drain(const Block& block, const float* shared, int from, T* to, const Planes<T>& shape, int planes,
                        int64_t stride) {
  constexpr int kCount = Pack<T>::kCount;
  const int packs = is_aligned(to) && shape.in_packs(planes, stride) ? shape.pixels / kCount : 0;
  const int rest = shape.pixels - packs * kCount;
  block.each(planes * packs, [&](int k) {
    const int p = planes == 1 ? 0 : shape.by_packs.quotient(k), i = (k - p * packs) * kCount;
    Pack<T> pack;
    LKOPS_UNROLL
    for (int part = 0; part < kCount; part += 4) {
      const Four four = *reinterpret_cast<const Four*>(shared + from + p * shape.pixels + i + part);
      LKOPS_UNROLL
      for (int e = 0; e < 4; ++e) pack.values[part + e] = narrow<T>(four.values[e]);
    }
    *reinterpret_cast<Pack<T>*>(to + p * stride + i) = pack;
  });
  block.each(planes * rest, [&](int k) {
    const int p = planes == 1 ? 0 : shape.by_pixels.quotient(k), i = packs * kCount + k - p * rest;
    to[p * stride + i] = narrow<T>(shared[from + p * shape.pixels + i]);
  });
}

// to(k, sum of shared[at + k stride + s] over s < slots), for k < count, in an order that depends on `slots` alone. What
// the slots hold must be complete (sync before); 8 count floats at `scratch` are used.
template <class Block, class To>
LKOPS_KERNEL void fold(const Block& block, float* shared, int at, int count, int stride, int slots, int scratch,
                       const To& to) {
  const int part = (slots + 7) / 8;
  block.each(8 * count, [&](int i) {
    const int k = i >> 3, first = (i & 7) * part, last = first + part < slots ? first + part : slots;
    float sum = 0;
    for (int s = first; s < last; ++s) sum += shared[at + k * stride + s];
    shared[scratch + i] = sum;
  });
  block.sync();
  block.each(count, [&](int k) {
    float sum = 0;
    LKOPS_UNROLL
    for (int s = 0; s < 8; ++s) sum += shared[scratch + 8 * k + s];
    to(k, sum);
  });
}

}  // namespace lkops
