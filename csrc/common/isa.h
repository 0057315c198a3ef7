// Which instruction set the kernels run with: chosen once, at load.
//
// Each kernel source is compiled once per instruction set with -DLKOPS_ISA=<name below>; setup.py says through
// LKOPS_HAVE_AVX2, LKOPS_HAVE_AVX512 and LKOPS_HAVE_AVX512BF16 which of them this build holds.
#pragma once

#include <string>

namespace lkops {

enum class Isa { kPortable, kAvx2, kAvx512, kAvx512Bf16 };

const char* name_of(Isa isa);

struct IsaChoice {
  Isa isa = Isa::kPortable;
  std::string error;  // not empty: LKOPS_CPU_ISA asks for what can't be had, and no kernel may run
};

// The widest that was compiled in and that CPU and operating system support, or what the environment variable
// LKOPS_CPU_ISA (portable, avx2, avx512, avx512_bf16) asks for.
const IsaChoice& isa_choice();

// The chosen instruction set; throws std::runtime_error where there is none.
Isa chosen_isa();

bool is_compiled_in(Isa isa);
bool cpu_supports(Isa isa);

// What `lkops._C_cpu.facts()` returns: a JSON object.
std::string cpu_facts_json();

}  // namespace lkops

// The table of kernels that `chosen_isa()` picks: LKOPS_CHOOSE(kBicubic) is kBicubicPortable, kBicubicAvx2,
// kBicubicAvx512 or kBicubicAvx512Bf16.
#if defined(LKOPS_HAVE_AVX512BF16) && defined(LKOPS_HAVE_AVX512) && defined(LKOPS_HAVE_AVX2)
#define LKOPS_CHOOSE(table)                                               \
  (::lkops::chosen_isa() == ::lkops::Isa::kAvx512Bf16 ? table##Avx512Bf16 \
   : ::lkops::chosen_isa() == ::lkops::Isa::kAvx512   ? table##Avx512     \
   : ::lkops::chosen_isa() == ::lkops::Isa::kAvx2     ? table##Avx2       \
                                                      : table##Portable)
#else
#define LKOPS_CHOOSE(table) (::lkops::chosen_isa(), table##Portable)
#endif
