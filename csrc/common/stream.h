// Hints for data that passes through once.
#pragma once

#include "common/simd.h"

namespace lkops {
namespace {

// Towards L2; any address will do.
LKOPS_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

// A store past the caches, for results too large to stay there until they are read: no line is fetched before it is
// written. p is as aligned as the vector is long (kLanes of its type). The thread that stored so calls stream_end()
// before others may read. To store so to a line that is in the cache is very slow.
LKOPS_INLINE void stream(float* p, Floats v) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  _mm512_stream_ps(p, v);
#elif defined(__AVX2__) && defined(__FMA__)
  _mm256_stream_ps(p, v);
#elif defined(__SSE2__)
  _mm_stream_ps(p, v);
#else
  store(p, v);
#endif
}

LKOPS_INLINE void stream(BFloat16* p, Floats v) {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(narrow(v)));
#elif defined(__AVX2__) && defined(__FMA__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), reinterpret_cast<__m128i>(narrow(v)));
#else
  store(p, v);
#endif
}

LKOPS_INLINE void stream_end() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace lkops
