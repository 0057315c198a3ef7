// Which instruction set the kernels run with: chosen once, at load.
//
// Each kernel source is compiled with -DLKOPS_ISA=<name below>, once for each instruction set that its cpu.h declares a
// table of; setup.py says through LKOPS_HAVE_AVX2, LKOPS_HAVE_AVX512 and LKOPS_HAVE_AVX512BF16 which this build holds.
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

// The table of kernels that `chosen_isa()` picks among those of this build: LKOPS_CHOOSE(kBlock) is kBlockPortable,
// kBlockAvx2, kBlockAvx512 or kBlockAvx512Bf16. No other stands in for one that is chosen.
#define LKOPS_CHOOSE(table) \
  (::lkops::chosen_isa(), LKOPS_IF_AVX512BF16(table) LKOPS_IF_AVX512(table) LKOPS_IF_AVX2(table) table##Portable)
#if defined(LKOPS_HAVE_AVX512BF16)
#define LKOPS_IF_AVX512BF16(table) ::lkops::chosen_isa() == ::lkops::Isa::kAvx512Bf16 ? table##Avx512Bf16 :
#else
#define LKOPS_IF_AVX512BF16(table)
#endif
#if defined(LKOPS_HAVE_AVX512)
#define LKOPS_IF_AVX512(table) ::lkops::chosen_isa() == ::lkops::Isa::kAvx512 ? table##Avx512 :
#else
#define LKOPS_IF_AVX512(table)
#endif
#if defined(LKOPS_HAVE_AVX2)
#define LKOPS_IF_AVX2(table) ::lkops::chosen_isa() == ::lkops::Isa::kAvx2 ? table##Avx2 :
#else
#define LKOPS_IF_AVX2(table)
#endif
