// The instruction sets of 64-bit ARM; common/isas.h says what the macros are. The first is NEON: every one has it.
// dotprod comes with ARMv8.2 (Cortex-A76, A78AE), bf16 and i8mm with ARMv8.6 (Cortex-A510, X2, Neoverse N2, V1).
#define LKOPS_ISAS(X, ...)                   \
  X(Portable, portable, __VA_ARGS__)         \
  X(NeonDotprod, neon_dotprod, __VA_ARGS__)  \
  X(NeonBf16, neon_bf16, __VA_ARGS__)

#define LKOPS_WIDEST_OF_Floats Portable
#define LKOPS_WIDEST_OF_Products NeonBf16

#define LKOPS_FEATURES(X)                            \
  X(dotprod, NeonDotprod, __ARM_FEATURE_DOTPROD, own) \
  X(bf16, NeonBf16, __ARM_FEATURE_BF16_VECTOR_ARITHMETIC, own) \
  X(i8mm, NeonBf16, __ARM_FEATURE_MATMUL_INT8, own)
