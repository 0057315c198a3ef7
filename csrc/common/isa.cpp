#include "common/isa.h"

#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(__clang__)
#define LKOPS_COMPILER "clang " __clang_version__
#else
#define LKOPS_COMPILER "gcc " __VERSION__
#endif
#define LKOPS_TEXT_OF(macro) #macro
#define LKOPS_TEXT(macro) LKOPS_TEXT_OF(macro)

namespace lkops {
namespace {

constexpr Isa kAll[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16};

// Spelled out, since the builtin takes a literal. It asks the operating system too (XSAVE), not just cpuid.
#if defined(__x86_64__)
#define LKOPS_FEATURE(name) {#name, __builtin_cpu_supports(#name) != 0}
#else
#define LKOPS_FEATURE(name) {#name, false}
#endif

// By cpuid, since clang's builtin has no name for it before clang 17; the operating system's part is that of AVX.
bool has_f16c() {
#if defined(__x86_64__)
  unsigned int eax, ebx, ecx, edx;
  return __builtin_cpu_supports("avx") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
#else
  return false;
#endif
}

struct Feature {
  std::string name;
  bool supported;
};

const Feature* features() {
  static const Feature all[] = {LKOPS_FEATURE(avx2),     LKOPS_FEATURE(fma),      {"f16c", has_f16c()},
                                LKOPS_FEATURE(avx512f),  LKOPS_FEATURE(avx512bw), LKOPS_FEATURE(avx512dq),
                                LKOPS_FEATURE(avx512vl), LKOPS_FEATURE(avx512bf16)};
  return all;
}
constexpr int kFeatures = 8;

bool all_supported(int first, int last) {
  for (int i = first; i < last; ++i)
    if (!features()[i].supported) return false;
  return true;
}

bool usable(Isa isa) { return is_compiled_in(isa) && cpu_supports(isa); }

// The names for which `accepts` holds, as words or as JSON strings.
std::string list(bool (*accepts)(Isa), const char* quote) {
  std::string names;
  for (Isa isa : kAll)
    if (accepts(isa)) names += (names.empty() ? "" : ", ") + (quote + std::string(name_of(isa)) + quote);
  return names;
}

IsaChoice choose() {
  IsaChoice choice;
  const char* asked = std::getenv("LKOPS_CPU_ISA");
  if (asked == nullptr || *asked == '\0') {
    for (Isa isa : kAll)
      if (usable(isa)) choice.isa = isa;
    return choice;
  }
  for (Isa isa : kAll)
    if (asked == std::string(name_of(isa))) {
      choice.isa = isa;
      if (usable(isa)) return choice;
    }
  choice.error = "LKOPS_CPU_ISA=" + std::string(asked) + " can't be had: this build and this CPU support " +
                 list(usable, "") + " (compiled in: " + list(is_compiled_in, "") + "; CPU: " + list(cpu_supports, "") +
                 ")";
  return choice;
}

}  // namespace

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kAvx512Bf16: return "avx512_bf16";
    default: return "portable";
  }
}

bool is_compiled_in(Isa isa) {
#if defined(LKOPS_HAVE_AVX2)
  if (isa == Isa::kAvx2) return true;
#endif
#if defined(LKOPS_HAVE_AVX512)
  if (isa == Isa::kAvx512) return true;
#endif
#if defined(LKOPS_HAVE_AVX512BF16)
  if (isa == Isa::kAvx512Bf16) return true;
#endif
  return isa == Isa::kPortable;
}

bool cpu_supports(Isa isa) {
  switch (isa) {
    case Isa::kAvx2: return all_supported(0, 3);
    case Isa::kAvx512: return all_supported(0, 7);
    case Isa::kAvx512Bf16: return all_supported(0, 8);
    default: return true;
  }
}

const IsaChoice& isa_choice() {
  static const IsaChoice choice = choose();
  return choice;
}

Isa chosen_isa() {
  if (!isa_choice().error.empty()) throw std::runtime_error(isa_choice().error);
  return isa_choice().isa;
}

std::string cpu_facts_json() {
  std::string json = "{\"isa\": \"" + std::string(name_of(isa_choice().isa)) + "\", \"compiled_in\": [" +
                     list(is_compiled_in, "\"") + "], \"cpu_supports\": [" + list(cpu_supports, "\"") +
                     "], \"features\": {";
  for (int i = 0; i < kFeatures; ++i)
    json += (i == 0 ? "\"" : ", \"") + features()[i].name + (features()[i].supported ? "\": true" : "\": false");
  return json + "}, \"compiler\": \"" LKOPS_COMPILER
         "\", \"torch_target_version\": \"" LKOPS_TEXT(TORCH_TARGET_VERSION) "\"}";
}

}  // namespace lkops
