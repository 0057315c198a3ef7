// What the tests of the kernels share. They run without torch: kernels get memory that ends where the problem says, and
// threads of the tests' own.
//
// A test says what results it expects (from reference.h, in double precision) and how to run a kernel. check_case runs
// it in several ways: with memory that ends at a page nobody may touch, with memory that begins behind one, off by an
// element; in one range, in three ranges from last to first, on five threads. The first result must be near what is
// expected, the others must have the same bits.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/types.h"

namespace lkops {

using Doubles = std::vector<double>;

inline float to_float(float value) { return value; }
inline float to_float(BFloat16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

template <class T>
T from_double(double value) {
  const float single = static_cast<float>(value);
  if constexpr (sizeof(T) == sizeof(float)) {
    return single;
  } else if constexpr (sizeof(T) == 1) {
    return static_cast<T>(value);
  } else {  // to nearest even; no NaN comes here
    uint32_t bits;
    std::memcpy(&bits, &single, sizeof bits);
    return T{static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  }
}

template <class T>
const char* dtype_name() {
  return sizeof(T) == sizeof(float) ? "float32" : "bfloat16";
}

// Numbers between -size and size that T holds exactly.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}

  template <class T>
  Doubles values(int64_t count, double size = 1, double middle = 0) {
    Doubles result(static_cast<size_t>(count));
    for (double& value : result) value = to_float(from_double<T>(middle + size * next()));
    return result;
  }

 private:
  double next() {  // xorshift64*
    state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
    return static_cast<double>((state_ * 0x2545f4914f6cdd1du) >> 11) * 0x1p-52 - 1;
  }
  uint64_t state_;
};

// Blocks of exactly as many bytes as asked for, next to a page that nobody may touch: kernels use masked loads, which
// AddressSanitizer does not see, but the page does. What is left of the pages on the other side is poisoned for it.
class Memory {
 public:
  enum class Place { kBeforeGuard, kBehindGuard, kOffByOne };  // off by one element

  explicit Memory(Place place) : place_(place) {}
  Memory(const Memory&) = delete;
  ~Memory();

  // `element` and `alignment` in bytes; filled with `fill`.
  void* take(int64_t bytes, int64_t element, int64_t alignment, int fill);
  void protect_last();  // a write to the last block is then a fault

 private:
  struct Block {
    char *pages, *begin;
    int64_t page_bytes, bytes;
  };
  Place place_;
  std::vector<Block> blocks_;
};

struct Result {
  std::string name;
  Doubles values;  // as they were stored: widening loses nothing
};

// One run of a case.
class Run {
 public:
  Run(Memory::Place place, const Parallel& parallel, int fill, int64_t only)
      : parallel(parallel), memory_(place), fill_(fill), only_(only) {}

  const Parallel parallel;

  template <class T>
  const T* input(const Doubles& values) {
    T* to = static_cast<T*>(memory_.take(bytes_of<T>(values.size()), sizeof(T), sizeof(T), 0));
    for (size_t i = 0; i < values.size(); ++i) to[i] = from_double<T>(values[i]);
    memory_.protect_last();
    return to;
  }

  // Null where there is no value.
  template <class T>
  const T* optional(const Doubles& values) {
    return values.empty() ? nullptr : input<T>(values);
  }

  // A result, compared by its name.
  template <class T>
  T* output(const char* name, size_t count) {
    T* memory = static_cast<T*>(memory_.take(bytes_of<T>(count), sizeof(T), sizeof(T), fill_));
    const auto read = [](const void* from, size_t i) { return to_float(static_cast<const T*>(from)[i]); };
    outputs_.push_back({name, memory, count, read});
    return memory;
  }

  // The gradient with this number, of as many elements as `like`: null in runs that want another, and for what is not
  // there.
  template <class T>
  T* gradient(int64_t number, const char* name, const Doubles& like) {
    return (only_ >= 0 && only_ != number) || like.empty() ? nullptr : output<T>(name, like.size());
  }

  void* scratch(int64_t bytes) { return memory_.take(bytes, 1, 64, fill_); }

  std::vector<Result> results() const;

 private:
  struct Output {
    const char* name;
    const void* memory;
    size_t count;
    float (*read)(const void* memory, size_t i);
  };
  template <class T>
  static int64_t bytes_of(size_t count) {
    return static_cast<int64_t>(count * sizeof(T));
  }

  Memory memory_;
  int fill_;
  int64_t only_;
  std::vector<Output> outputs_;
};

// |result - value| <= tolerance * max(|values|, floor), for every element.
struct Expected {
  std::string name;
  Doubles values;
  double tolerance, floor = 1e-3;
};

// Starts a case: what stands in the report when it fails, and before the report of a sanitizer that ends the program.
void begin_case(const std::string& name);
// Fails the case with these words where it does not hold.
void expect(bool holds, const std::string& what);
void expect(bool holds, const char* what);  // read after the call that `holds` is made of
void run_ways(const std::vector<Expected>& expected, int64_t gradients, void (*call)(const void*, Run&),
              const void* context);

// call(run) runs the kernels once. `gradients`: how many run.gradient(...) has; each is wanted alone once.
template <class Call>
void check_case(const std::string& name, const std::vector<Expected>& expected, int64_t gradients, const Call& call) {
  begin_case(name);
  run_ways(
      expected, gradients, [](const void* context, Run& run) { (*static_cast<const Call*>(context))(run); }, &call);
}

template <class... Sizes>
std::string sizes_of(Sizes... sizes) {
  std::string text;
  ((text += ' ' + std::to_string(sizes)), ...);
  return text;
}

template <class Kernels>
struct Table {
  Isa isa;
  const Kernels* kernels;
};

// The tables of a room that are compiled in: std::vector<Table<...>>.
#define LKOPS_TABLES(table)                                                                     \
  ([] {                                                                                         \
    std::vector<Table<std::remove_const_t<decltype(table##Portable)>>> all;                     \
    const auto add = [&](Isa isa, const auto& kernels) { all.push_back({isa, &kernels}); };     \
    LKOPS_FOR_TABLES(table, add)                                                                \
    return all;                                                                                 \
  }())

// Whether the CPU supports it and LKOPS_CPU_ISA, if set, names it, or a wider one where it is a room's widest.
bool is_wanted(Isa isa, Isa widest);

// call(name of the instruction set, kernels) for those that are wanted.
template <class Kernels, class Call>
void for_tables(const std::vector<Table<Kernels>>& tables, const Call& call) {
  for (const Table<Kernels>& table : tables)
    if (is_wanted(table.isa, tables.back().isa)) call(std::string(name_of(table.isa)), *table.kernels);
}

// Each test_*.cpp has one of these at its end.
struct Test {
  Test(const char* name, void (*run)());
};

}  // namespace lkops
