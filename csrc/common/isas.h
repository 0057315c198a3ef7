// The instruction sets that kernels are compiled for: lists by machine, which setup.py and tests/csrc/isas.mk read too;
// and the tables of kernels by instruction set, which follow from them.
//
// A room with kernels has in its cpu.h and cpu.cpp
//
//     struct RoomKernels { void (*forward)(...); ... };
//     LKOPS_DECLARE_TABLES(RoomKernels, kRoom, Floats);       // or Products: what its code has
//
//     LKOPS_TABLE(RoomKernels, kRoom) = {forward, ...};
//
// and cpu.cpp is compiled with -DLKOPS_ISA=<name> for each instruction set up to the widest of those, whose table
// serves wider ones too.
// Bindings take LKOPS_CHOOSE(kRoom) of common/isa.h, kernels of another room LKOPS_SAME_ISA(kRoom). What csrc/runtime
// calls, which has no gradients, is a table of its own, kRoomInference, with which kRoom begins: every function and table
// has a section of its own, and edge/setup.py links those that its tables lead to. No torch, no std.
#pragma once

// isas/<machine>.h has
//
//     LKOPS_ISAS(X, ...)         X(name in C++, name for users, ...), from the narrowest, which every such machine has,
//                                to the widest: each has all that those before it have
//     LKOPS_WIDEST_OF_Floats     the widest with an effect on code for floats; what is wider adds to products only, of
//     LKOPS_WIDEST_OF_Products   bfloat16 or of whole numbers
//     LKOPS_FEATURES(X)          X(feature of a CPU, the instruction set that needs it first, what a compiler that may
//                                use it defines, who knows whether a CPU has it: the compiler's `builtin` or isa.cpp's
//                                `own` function). The compiler's option has its name: -mavx2, -march=armv8.2-a+bf16
#if defined(__x86_64__)
#include "common/isas/x86_64.h"
#elif defined(__aarch64__)
#include "common/isas/aarch64.h"
#else
#include "common/isas/other.h"
#endif

namespace lkops {

#define LKOPS_ISA_CONSTANT(name, word, ...) k##name,
enum class Isa { LKOPS_ISAS(LKOPS_ISA_CONSTANT, ) };
#undef LKOPS_ISA_CONSTANT

}  // namespace lkops

// kRoomPortable, kRoomAvx2 and so on. Those wider than the widest of its `code` are declared, but there are none.
#define LKOPS_DECLARE_TABLES(Kernels, table, code) \
  LKOPS_ISAS(LKOPS_DECLARE_TABLE, Kernels, table)  \
  [[maybe_unused]] constexpr ::lkops::Isa table##Widest = LKOPS_TABLE_OF(::lkops::Isa::k, LKOPS_WIDEST_OF_##code)
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
