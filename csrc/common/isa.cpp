#include "common/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
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

#define LKOPS_ISA_CONSTANT(name, word, ...) Isa::k##name,
constexpr Isa kAll[] = {LKOPS_ISAS(LKOPS_ISA_CONSTANT, )};
#undef LKOPS_ISA_CONSTANT

// The builtin takes a literal; it asks the operating system too (XSAVE), not just cpuid.
#define LKOPS_KNOWN_TO_builtin(feature) (__builtin_cpu_supports(#feature) != 0)
#define LKOPS_KNOWN_TO_own(feature) has_##feature()

#if defined(__x86_64__)

// The operating system's part is that of AVX.
bool has_f16c() {
  unsigned int eax, ebx, ecx, edx;
  return __builtin_cpu_supports("avx") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

#elif defined(__aarch64__)

// Bits of Linux' HWCAP and HWCAP2, by number: headers older than a feature have no name for it. Other systems: none.
bool has_capability([[maybe_unused]] int word, [[maybe_unused]] int bit) {
#if defined(__linux__)
  return getauxval(word == 1 ? AT_HWCAP : AT_HWCAP2) >> bit & 1;
#else
  return false;
#endif
}
bool has_dotprod() { return has_capability(1, 20); }  // HWCAP_ASIMDDP
bool has_i8mm() { return has_capability(2, 13); }     // HWCAP2_I8MM
bool has_bf16() { return has_capability(2, 14); }     // HWCAP2_BF16

#endif

struct Feature {
  const char* name;
  Isa first;  // the narrowest instruction set that needs it
  bool supported;
};

const auto& features() {
#define LKOPS_FEATURE(feature, isa, macro, who) {#feature, Isa::k##isa, LKOPS_KNOWN_TO_##who(feature)},
  static const std::vector<Feature> all = {LKOPS_FEATURES(LKOPS_FEATURE)};
#undef LKOPS_FEATURE
  return all;
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
    if (list(usable, "").empty())
      choice.error = "this build holds no kernels for this CPU: compiled in (LKOPS_ISAS when it was built): " +
                     list(is_compiled_in, "") + "; CPU: " + list(cpu_supports, "") +
                     "; build it on this machine, or with LKOPS_ISAS=all";
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
#define LKOPS_ISA_WORD(name, word, ...) #word,
  static const char* const words[] = {LKOPS_ISAS(LKOPS_ISA_WORD, )};
#undef LKOPS_ISA_WORD
  return words[static_cast<int>(isa)];
}

bool cpu_supports(Isa isa) {
  for (const Feature& feature : features())
    if (feature.first <= isa && !feature.supported) return false;
  return true;
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
  const char* separator = "\"";
  for (const Feature& feature : features()) {
    json += separator + std::string(feature.name) + (feature.supported ? "\": true" : "\": false");
    separator = ", \"";
  }
  return json + "}, \"compiler\": \"" LKOPS_COMPILER
         "\", \"torch_target_version\": \"" LKOPS_TEXT(TORCH_TARGET_VERSION) "\"}";
}

}  // namespace lkops
