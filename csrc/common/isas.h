// The instruction sets that kernels are compiled for: the one list of them, which setup.py and tests/csrc/isas.mk read
// too; and the tables of kernels by instruction set, which follow from it.
//
// A room with kernels has in its cpu.h and cpu.cpp
//
//     struct RoomKernels { void (*forward)(...); ... };
//     LKOPS_DECLARE_TABLES(RoomKernels, kRoom, Avx512);       // the widest that it has code of its own for
//
//     LKOPS_TABLE(RoomKernels, kRoom) = {forward, ...};
//
// and cpu.cpp is compiled with -DLKOPS_ISA=<name> for each instruction set up to that one. Rooms whose code has
// products of bfloat16 say Avx512Bf16; others would be the same code as for Avx512, and their Avx512 table serves both.
// Bindings take LKOPS_CHOOSE(kRoom) of common/isa.h, kernels of another room LKOPS_SAME_ISA(kRoom). What csrc/runtime
// calls, which has no gradients, is a table of its own, kRoomInference, with which kRoom begins: every function and table
// has a section of its own, and edge/setup.py links those that its tables lead to. No torch, no std.
#pragma once

// X(name in C++, name for users), from the narrowest to the widest: each has all that those before it have. The first
// is what every machine has; the others are compiled on x86-64 only.
#define LKOPS_ISAS(X, ...)           \
  X(Portable, portable, __VA_ARGS__) \
  X(Avx2, avx2, __VA_ARGS__)         \
  X(Avx512, avx512, __VA_ARGS__)     \
  X(Avx512Bf16, avx512_bf16, __VA_ARGS__)

// X(feature of a CPU, the instruction set that needs it first, who knows whether a CPU has it: the compiler's `builtin`
// or isa.cpp's `own` function). A feature's name is that of the compiler's option too: -mavx2.
#define LKOPS_FEATURES(X)      \
  X(avx2, Avx2, builtin)       \
  X(fma, Avx2, builtin)        \
  X(f16c, Avx2, own)           \
  X(avx512f, Avx512, builtin)  \
  X(avx512bw, Avx512, builtin) \
  X(avx512dq, Avx512, builtin) \
  X(avx512vl, Avx512, builtin) \
  X(avx512bf16, Avx512Bf16, builtin)

namespace lkops {

#define LKOPS_ISA_CONSTANT(name, word, ...) k##name,
enum class Isa { LKOPS_ISAS(LKOPS_ISA_CONSTANT, ) };
#undef LKOPS_ISA_CONSTANT

}  // namespace lkops

// kRoomPortable, kRoomAvx2 and so on. Those wider than `widest` are declared, but there are none.
#define LKOPS_DECLARE_TABLES(Kernels, table, widest) \
  LKOPS_ISAS(LKOPS_DECLARE_TABLE, Kernels, table)    \
  [[maybe_unused]] constexpr ::lkops::Isa table##Widest = ::lkops::Isa::k##widest
#define LKOPS_DECLARE_TABLE(name, word, Kernels, table) extern const Kernels table##name;

// The table of the instruction set that this file is compiled for.
#define LKOPS_TABLE(Kernels, table) extern const Kernels LKOPS_TABLE_OF(table, LKOPS_ISA)
#define LKOPS_TABLE_OF(table, isa) LKOPS_TABLE_OF_NAME(table, isa)
#define LKOPS_TABLE_OF_NAME(table, name) table##name

// Another room's: that of the same instruction set, or the widest that it has.
#define LKOPS_SAME_ISA(table) ([]() -> const auto& { LKOPS_ISAS(LKOPS_RETURN_SAME_ISA, table) }())
#define LKOPS_RETURN_SAME_ISA(name, word, table)                                                            \
  if constexpr (::lkops::Isa::k##name == (LKOPS_THIS_ISA < table##Widest ? LKOPS_THIS_ISA : table##Widest)) \
    return table##name;
#define LKOPS_THIS_ISA LKOPS_TABLE_OF(::lkops::Isa::k, LKOPS_ISA)
