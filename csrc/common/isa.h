// Which instruction set the kernels run with: chosen once, at load. The list of them is in common/isas.h; which of them
// a build holds, it says through -DLKOPS_BUILT=Portable,Avx2 and so on.
#pragma once

#include <initializer_list>
#include <string>

#include "common/isas.h"

#if !defined(LKOPS_BUILT)
#error "LKOPS_BUILT lists the instruction sets that this build holds kernels for: -DLKOPS_BUILT=Portable,Avx2"
#endif

namespace lkops {

const char* name_of(Isa isa);

struct IsaChoice {
  Isa isa = Isa::kPortable;
  std::string error;  // not empty: LKOPS_CPU_ISA asks for what can't be had, or there is nothing for this CPU
};

// The widest that was compiled in and that CPU and operating system support, or what the environment variable
// LKOPS_CPU_ISA (portable, avx2, neon_bf16 and so on) asks for.
const IsaChoice& isa_choice();

// The chosen instruction set; throws std::runtime_error where there is none.
Isa chosen_isa();

// Whether this build holds the table for `isa` of a room whose widest is `widest`, which stands in for those that are
// wider.
constexpr bool has_table(Isa isa, Isa widest) {
#define LKOPS_ISA_NAME(name, word, ...) name,
  enum { LKOPS_ISAS(LKOPS_ISA_NAME, ) };  // as LKOPS_BUILT spells them
#undef LKOPS_ISA_NAME
  for (int built : {LKOPS_BUILT})
    if (isa == (static_cast<Isa>(built) < widest ? static_cast<Isa>(built) : widest)) return true;
  return false;
}

constexpr bool is_compiled_in(Isa isa) {
#define LKOPS_ONE(name, word, ...) +1
  return has_table(isa, static_cast<Isa>(LKOPS_ISAS(LKOPS_ONE, ) - 1));  // the widest
#undef LKOPS_ONE
}

bool cpu_supports(Isa isa);

// What `lkops._C_cpu.facts()` returns: a JSON object.
std::string cpu_facts_json();

}  // namespace lkops

// Calls visit(instruction set, table) for the tables of a room that this build holds, from the narrowest to the widest.
#define LKOPS_FOR_TABLES(table, visit) LKOPS_ISAS(LKOPS_VISIT_TABLE, table, visit)
#define LKOPS_VISIT_TABLE(name, word, table, visit)                       \
  if constexpr (::lkops::has_table(::lkops::Isa::k##name, table##Widest)) \
    visit(::lkops::Isa::k##name, table##name);

// The table of kernels of the chosen instruction set; of a room that has no code of its own for it, the room's widest.
#define LKOPS_CHOOSE(table)                                         \
  ([]() -> const auto& {                                            \
    decltype(&table##Portable) chosen = nullptr;                    \
    const auto widen = [&](::lkops::Isa isa, const auto& kernels) { \
      if (isa <= ::lkops::chosen_isa()) chosen = &kernels;          \
    };                                                              \
    LKOPS_FOR_TABLES(table, widen)                                  \
    return *chosen;                                                 \
  }())
