// The instruction sets of x86-64; common/isas.h says what the macros are.
#define LKOPS_ISAS(X, ...)           \
  X(Portable, portable, __VA_ARGS__) \
  X(Avx2, avx2, __VA_ARGS__)         \
  X(Avx512, avx512, __VA_ARGS__)     \
  X(Avx512Bf16, avx512_bf16, __VA_ARGS__)

#define LKOPS_WIDEST_OF_Floats Avx512
#define LKOPS_WIDEST_OF_Products Avx512Bf16

// f16c by cpuid, since clang's builtin has no name for it before clang 17
#define LKOPS_FEATURES(X)                      \
  X(avx2, Avx2, __AVX2__, builtin)             \
  X(fma, Avx2, __FMA__, builtin)               \
  X(f16c, Avx2, __F16C__, own)                 \
  X(avx512f, Avx512, __AVX512F__, builtin)     \
  X(avx512bw, Avx512, __AVX512BW__, builtin)   \
  X(avx512dq, Avx512, __AVX512DQ__, builtin)   \
  X(avx512vl, Avx512, __AVX512VL__, builtin)   \
  X(avx512bf16, Avx512Bf16, __AVX512BF16__, builtin) \
  X(avx512vnni, Avx512Bf16, __AVX512VNNI__, builtin)
