// Runs the tests: all, or those whose names are given.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "test.h"

// There where AddressSanitizer is linked in.
extern "C" {
__attribute__((weak)) void __asan_poison_memory_region(const volatile void* begin, size_t bytes);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* begin, size_t bytes);
}

namespace lkops {
namespace {

struct NamedTest {
  const char* name;
  void (*run)();
};

std::vector<NamedTest>& tests() {
  static std::vector<NamedTest> all;
  return all;
}

std::string current_case;
int cases = 0, failures = 0;

void report(const std::string& text) {
  ++failures;
  std::printf("FAILED %s: %s\n", current_case.c_str(), text.c_str());
}

// ---- threads --------------------------------------------------------------------------------------------------------

int64_t ranges_of(int64_t slots, int64_t count) { return count < slots ? count : slots; }

static_assert(grain_of(kWorthOfProducts, 128, 128, 16) == 2 && grain_of(kWorthOfProducts, 0) == kWorthOfProducts);
static_assert(grain_of(kWorthOfNumbers, int64_t{1} << 40, int64_t{1} << 40) == 1, "a product that overflows");

// What for_ranges promises.
void check_ranges(int64_t count, int64_t grain) {
  if (count < 1 || grain < 1) report("ranges of" + sizes_of(count) + " items with a grain of" + sizes_of(grain));
}

// All ranges in the last slot, the last one first.
void run_backwards(int64_t slots, int64_t count, int64_t grain, Parallel::Body body, const void* context) {
  check_ranges(count, grain);
  const int64_t ranges = ranges_of(slots, count);
  for (int64_t i = ranges - 1; i >= 0; --i) body(context, slots - 1, count * i / ranges, count * (i + 1) / ranges);
}

void run_on_threads(int64_t slots, int64_t count, int64_t grain, Parallel::Body body, const void* context) {
  check_ranges(count, grain);
  const int64_t ranges = ranges_of(slots, count);
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < ranges; ++i)
    threads.emplace_back(body, context, slots - 1 - i, count * i / ranges, count * (i + 1) / ranges);
  for (std::thread& thread : threads) thread.join();
}

struct Way {
  const char* name;
  Memory::Place place;
  Parallel parallel;
  int fill;  // of scratch and results: NaN, and numbers, since max and relu can hide a NaN
};

const Way kWays[] = {{"one range", Memory::Place::kBeforeGuard, {run_backwards, 1}, 0xff},
                     {"three ranges", Memory::Place::kOffByOne, {run_backwards, 3}, 0x3f},
                     {"five threads", Memory::Place::kBehindGuard, {run_on_threads, 5}, 0xff}};

// ---- comparisons ----------------------------------------------------------------------------------------------------

void compare(const Result& result, const Expected& expected, const std::string& which) {
  if (result.values.size() != expected.values.size())
    return report(result.name + " has" + sizes_of(result.values.size()) + " elements, expected" +
                  sizes_of(expected.values.size()));
  double largest = expected.floor, worst = 0;
  size_t at = 0;
  for (double value : expected.values) largest = std::fmax(largest, std::fabs(value));
  for (size_t i = 0; i < expected.values.size(); ++i) {
    const double error = std::fabs(result.values[i] - expected.values[i]);
    if (!(error <= worst) && !std::isnan(worst)) worst = error, at = i;  // a NaN stays
  }
  if (std::getenv("LKOPS_TEST_ERRORS") != nullptr)
    std::printf("  %s: %.2g of %.2g\n", result.name.c_str(), worst / largest, expected.tolerance);
  if (worst <= expected.tolerance * largest) return;
  char text[200];
  std::snprintf(text, sizeof text, "element %zu is %.9g, expected %.9g; %.2g of the largest value, allowed %.2g", at,
                result.values[at], expected.values[at], worst / largest, expected.tolerance);
  report(result.name + which + ' ' + text);
}

void compare_all(const std::vector<Result>& results, const std::vector<Expected>& expected, const std::string& which) {
  for (const Result& result : results) {
    const Expected* found = nullptr;
    for (const Expected& candidate : expected)
      if (candidate.name == result.name) found = &candidate;
    if (found == nullptr)
      report("nothing is expected of " + result.name);
    else
      compare(result, *found, which);
  }
}

void compare_bits(const std::vector<Result>& results, const std::vector<Result>& first, const char* way) {
  for (size_t r = 0; r < results.size(); ++r) {
    const Doubles &a = results[r].values, &b = first[r].values;
    for (size_t i = 0; i < a.size(); ++i)
      if (std::memcmp(&a[i], &b[i], sizeof(double)) != 0) {
        char text[160];
        std::snprintf(text, sizeof text, "element %zu is %.9g with %s, %.9g with one", i, a[i], way, b[i]);
        report(results[r].name + ' ' + text);
        break;
      }
  }
}

}  // namespace

// ---- memory ---------------------------------------------------------------------------------------------------------

void* Memory::take(int64_t bytes, int64_t element, int64_t alignment, int fill) {
  const int64_t page = sysconf(_SC_PAGESIZE), before = place_ == Place::kOffByOne && alignment == element ? element : 0;
  const int64_t inside = (bytes + before + page - 1) / page * page;
  void* mapped = mmap(nullptr, static_cast<size_t>(inside + 2 * page), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) std::perror("mmap"), std::exit(2);
  char *pages = static_cast<char*>(mapped) + page, *end = pages + inside;
  if (inside > 0 && mprotect(pages, static_cast<size_t>(inside), PROT_READ | PROT_WRITE) != 0)
    std::perror("mprotect"), std::exit(2);
  char* begin = place_ == Place::kBeforeGuard ? end - (bytes + alignment - 1) / alignment * alignment : pages + before;
  std::memset(begin, fill, static_cast<size_t>(bytes));
  if (__asan_poison_memory_region != nullptr) {
    __asan_poison_memory_region(pages, static_cast<size_t>(begin - pages));
    __asan_poison_memory_region(begin + bytes, static_cast<size_t>(end - begin - bytes));
  }
  blocks_.push_back({pages, begin, inside, bytes});
  return begin;
}

void Memory::protect_last() {
  const Block& block = blocks_.back();
  mprotect(block.pages, static_cast<size_t>(block.page_bytes), PROT_READ);
}

Memory::~Memory() {
  const int64_t page = sysconf(_SC_PAGESIZE);
  for (const Block& block : blocks_) {
    if (__asan_unpoison_memory_region != nullptr)
      __asan_unpoison_memory_region(block.pages, static_cast<size_t>(block.page_bytes));
    munmap(block.pages - page, static_cast<size_t>(block.page_bytes + 2 * page));
  }
}

// ---- cases ----------------------------------------------------------------------------------------------------------

std::vector<Result> Run::results() const {
  std::vector<Result> all;
  for (const Output& output : outputs_) {
    Doubles values(output.count);
    for (size_t i = 0; i < output.count; ++i) values[i] = output.read(output.memory, i);
    all.push_back({output.name, values});
  }
  return all;
}

bool is_wanted(Isa isa, Isa widest) {
  const char* asked = std::getenv("LKOPS_CPU_ISA");
  if (!cpu_supports(isa) || asked == nullptr || *asked == '\0') return cpu_supports(isa);
#define LKOPS_IS_ASKED(name, word, ...) \
  if (std::strcmp(asked, #word) == 0) return isa == (Isa::k##name < widest ? Isa::k##name : widest);
  LKOPS_ISAS(LKOPS_IS_ASKED, )
#undef LKOPS_IS_ASKED
  return false;
}

void begin_case(const std::string& name) {
  ++cases;
  current_case = name;
  std::printf("%s\n", name.c_str());
  std::fflush(stdout);
}

void expect(bool holds, const std::string& what) {
  if (!holds) report(what);
}

void expect(bool holds, const char* what) {
  if (!holds) report(what);
}

void run_ways(const std::vector<Expected>& expected, int64_t gradients, void (*call)(const void*, Run&),
              const void* context) {
  std::vector<Result> first;
  for (const Way& way : kWays) {
    Run run(way.place, way.parallel, way.fill, -1);
    call(context, run);
    if (&way == kWays)
      compare_all(first = run.results(), expected, "");
    else
      compare_bits(run.results(), first, way.name);
  }
  for (int64_t i = 0; gradients > 1 && i < gradients; ++i) {
    const Way& way = kWays[i % 2];
    Run run(way.place, way.parallel, way.fill, i);
    call(context, run);
    compare_all(run.results(), expected, ", wanted alone,");
  }
}

Test::Test(const char* name, void (*run)()) { tests().push_back({name, run}); }

}  // namespace lkops

int main(int count, char** arguments) {
  using namespace lkops;
  int ran = 0;
  for (const NamedTest& test : tests()) {
    bool wanted = count < 2;
    for (int i = 1; i < count; ++i) wanted = wanted || std::strcmp(arguments[i], test.name) == 0;
    if (wanted) test.run(), ++ran;
  }
  std::printf("%d cases of %d tests, %d failures\n", cases, ran, failures);
  return failures != 0 || ran == 0;
}
