// csrc/runtime: plans, runs, strips, threads; what they say of what can't be done.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>

#include "reference.h"
#include "runtime/lkops.h"
#include "runtime_file.h"

// Counts what this thread takes.
thread_local int64_t allocations = 0;
void* operator new(size_t bytes) {
  ++allocations;
  void* memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
// not inlined: where the one is and `new` is not, gcc warns that they do not fit
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace lkops {
namespace {

// A file on a line, whose last byte lies before a page that nobody may touch.
class Opened {
 public:
  explicit Opened(const Bytes& bytes, Memory::Place place = Memory::Place::kBeforeGuard) : memory_(place) {
    void* file = memory_.take(static_cast<int64_t>(bytes.size()), 1, 64, 0);
    std::memcpy(file, bytes.data(), bytes.size());
    memory_.protect_last();
    status = lkops_open_memory(file, static_cast<int64_t>(bytes.size()), &network, &error);
  }
  ~Opened() { lkops_close(network); }

  lkops_status status;
  lkops_error error;
  lkops_network* network = nullptr;

 private:
  Memory memory_;
};

struct Case {
  int64_t n, bands, rows, columns, scale;
};

lkops_options options_of(const Case& c, int32_t threads, int64_t strip_rows = 0) {
  lkops_options options{};
  options.batch = c.n, options.rows = c.rows, options.columns = c.columns;
  options.threads = threads, options.strip_rows = strip_rows;
  return options;
}

struct Sink {
  float* image;
  int64_t planes, rows, columns, next;
};

int take_strip(void* context, int64_t first, int64_t rows, const float* strip, int64_t plane) {
  Sink& sink = *static_cast<Sink*>(context);
  if (first != sink.next) return 1;
  sink.next += rows;
  for (int64_t p = 0; p < sink.planes; ++p)
    std::memcpy(sink.image + (p * sink.rows + first) * sink.columns, strip + p * plane,
                static_cast<size_t>(rows * sink.columns) * sizeof(float));
  return 0;
}

// The image by a plan of so many threads, as a whole or in strips.
std::vector<float> image_of(const Opened& opened, const Case& c, const std::vector<float>& lowres, int32_t threads,
                            int64_t strip_rows) {
  lkops_error error;
  lkops_plan* plan = nullptr;
  const lkops_options options = options_of(c, threads, strip_rows);
  expect(lkops_prepare(opened.network, &options, &plan, &error) == LKOPS_OK, error.text);
  std::vector<float> image(static_cast<size_t>(c.n * c.bands * c.rows * c.columns * c.scale * c.scale), NAN);
  if (plan == nullptr) return image;
  for (int fill : {0xff, 0x3f}) {  // what the workspace held does not matter, and the plan runs twice
    Memory memory(Memory::Place::kBeforeGuard);
    void* workspace = memory.take(lkops_workspace_bytes(plan), 1, 64, fill);
    Sink sink{image.data(), c.n * c.bands, c.rows * c.scale, c.columns * c.scale, 0};
    const int64_t before = allocations;
    const lkops_status status =
        strip_rows == 0 ? lkops_run(plan, lowres.data(), image.data(), workspace, &error)
                        : lkops_run_strips(plan, lowres.data(), take_strip, &sink, workspace, &error);
    expect(status == LKOPS_OK, error.text);
    expect(allocations == before, "a run takes memory");
    expect(strip_rows == 0 || sink.next == sink.rows, "strips end before the image does");
  }
  lkops_release(plan);
  return image;
}

std::vector<float> random_image(const Case& c) {
  std::vector<float> image;
  for (double value : Random(3).values<float>(c.n * c.bands * c.rows * c.columns, 0.5, 0.5))
    image.push_back(static_cast<float>(value));
  return image;
}

void test_runs(const std::string& name, const Bytes& bytes, const Case& c) {
  begin_case("runtime " + name + " n, bands, rows, columns, scale" + sizes_of(c.n, c.bands, c.rows, c.columns, c.scale));
  const Opened opened(bytes);
  expect(opened.status == LKOPS_OK, opened.error.text);
  if (opened.network == nullptr) return;
  const std::vector<float> lowres = random_image(c), whole = image_of(opened, c, lowres, 1, 0);
  double most = 0;
  for (float value : whole) most = std::fmax(most, std::isfinite(value) ? std::fabs(value) : INFINITY);
  expect(most > 0.1 && most < 1e3, "the image has values up to" + sizes_of(most));
  for (int32_t threads = 1; threads <= 4; ++threads)
    for (int64_t strip_rows : {0, 2, 5, 64}) {
      const std::vector<float> image = image_of(opened, c, lowres, threads, strip_rows);
      expect(std::memcmp(image.data(), whole.data(), whole.size() * sizeof(float)) == 0,
             "other bits with threads, strip_rows" + sizes_of(threads, strip_rows));
    }
}

// What a network without features beside its upsampler makes is the bicubic image: its weights are 0.
void test_bicubic() {
  begin_case("runtime bicubic");
  const Case c{2, 3, 7, 9, 2};
  NetworkFile file(true, 3, 2);
  NetworkFile::Options adds;
  adds.second = 0, adds.flag = true;
  file.add(runtime::Kind::kUpsample, 0, {file.tensor({12, 3, 1, 1}, 0)}, adds);
  const Opened opened(file.bytes());
  const std::vector<float> lowres = random_image(c), image = image_of(opened, c, lowres, 2, 0);
  tape.clear();
  Vars small;
  for (float value : lowres) small.push_back({value});
  const Doubles expected = values_of(enlarge({c.n, c.bands, c.rows, c.columns}, small, 2, -0.5, true));
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) worst = std::fmax(worst, std::fabs(image[i] - expected[i]));
  expect(worst < 1e-6, "differs by" + sizes_of(worst));
}

void test_two_threads() {
  begin_case("runtime two threads on one network and on one plan");
  const Case c{1, 3, 9, 11, 2};
  const Opened opened(small_network(true));
  const std::vector<float> lowres = random_image(c), whole = image_of(opened, c, lowres, 1, 0);
  lkops_plan* shared = nullptr;
  const lkops_options options = options_of(c, 2);
  expect(lkops_prepare(opened.network, &options, &shared, nullptr) == LKOPS_OK, "no plan");
  bool same[4] = {};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      std::vector<float> image(whole.size());
      if (i < 2) {
        image = image_of(opened, c, lowres, 2, 0);
      } else {
        Memory memory(Memory::Place::kBeforeGuard);
        void* workspace = memory.take(lkops_workspace_bytes(shared), 1, 64, 0xff);
        for (int run = 0; run < 3; ++run) lkops_run(shared, lowres.data(), image.data(), workspace, nullptr);
      }
      same[i] = std::memcmp(image.data(), whole.data(), whole.size() * sizeof(float)) == 0;
    });
  for (std::thread& thread : threads) thread.join();
  for (bool is_same : same) expect(is_same, "other bits");
  lkops_release(shared);
}

void test_refusals() {
  begin_case("runtime refusals");
  const Case c{1, 3, 6, 5, 2};
  const Bytes bytes = small_network(true);
  const Opened opened(bytes);
  lkops_error error;
  lkops_plan* plan = nullptr;
  const auto refused = [&](const lkops_options& options, const char* words) {
    const lkops_status status = lkops_prepare(opened.network, &options, &plan, &error);
    expect(status == LKOPS_BAD_ARGUMENT && plan == nullptr && std::strstr(error.text, words) != nullptr, error.text);
  };
  refused(options_of({0, 3, 6, 5, 2}, 1), "batch must be 1");
  refused(options_of({1, 3, 0, 5, 2}, 1), "rows must be 1");
  refused(options_of({1, 3, 6, -5, 2}, 1), "columns must be 1");
  refused(options_of(c, 0), "threads must be 1");
  refused(options_of(c, 1, -1), "strip_rows must be 0");
  refused(options_of({1 << 16, 3, 1 << 20, 1 << 20, 2}, 1), "larger than any memory");
  expect(lkops_prepare(nullptr, nullptr, &plan, nullptr) == LKOPS_BAD_ARGUMENT, "null");
  expect(lkops_open("/no/such/file", nullptr, &error) == LKOPS_BAD_ARGUMENT, error.text);
  lkops_network* none = nullptr;
  expect(lkops_open("/no/such/file", &none, &error) == LKOPS_CANNOT_READ && std::strstr(error.text, "No such file"),
         error.text);
  expect(lkops_open("/", &none, &error) == LKOPS_CANNOT_READ && std::strstr(error.text, "not a file"), error.text);

  const lkops_options options = options_of(c, 1);
  expect(lkops_prepare(opened.network, &options, &plan, &error) == LKOPS_OK, error.text);
  Memory memory(Memory::Place::kBeforeGuard);
  char* workspace = static_cast<char*>(memory.take(lkops_workspace_bytes(plan) + 64, 1, 64, 0));
  std::vector<float> lowres = random_image(c), image(3 * 12 * 10);
  expect(lkops_run(plan, nullptr, image.data(), workspace, &error) == LKOPS_BAD_ARGUMENT, error.text);
  expect(lkops_run(plan, lowres.data(), nullptr, workspace, &error) == LKOPS_BAD_ARGUMENT, error.text);
  expect(lkops_run(plan, lowres.data(), image.data(), nullptr, &error) == LKOPS_BAD_ARGUMENT, error.text);
  expect(lkops_run(plan, lowres.data(), image.data(), workspace + 4, &error) == LKOPS_BAD_ARGUMENT, error.text);
  expect(lkops_run_strips(plan, lowres.data(), take_strip, nullptr, workspace, &error) == LKOPS_BAD_ARGUMENT &&
             std::strstr(error.text, "strip_rows") != nullptr,
         error.text);
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    lowres[30 + 5 * 2 + 3] = bad;
    expect(lkops_run(plan, lowres.data(), image.data(), workspace, &error) == LKOPS_NOT_FINITE &&
               std::strstr(error.text, "band 1, row 2, column 3") != nullptr,
           error.text);
  }
  lkops_release(plan);

  const lkops_options strips = options_of(c, 1, 2);
  expect(lkops_prepare(opened.network, &strips, &plan, &error) == LKOPS_OK, error.text);
  const auto stop = [](void*, int64_t first, int64_t, const float*, int64_t) { return static_cast<int>(first); };
  Memory room(Memory::Place::kBeforeGuard);
  expect(lkops_run_strips(plan, random_image(c).data(), stop, nullptr, room.take(lkops_workspace_bytes(plan), 1, 64, 0),
                          &error) == LKOPS_STOPPED,
         error.text);
  lkops_release(plan);
}

// Files of whole numbers that can't be right: their words.
void test_int8_refusals() {
  begin_case("runtime int8 refusals");
  const Bytes right = small_network(false, 3, 2, 8, 1, true, true);
  uint32_t tensors;
  std::memcpy(&tensors, right.data() + 36, 4);
  const size_t block = 64 + 32 * tensors + 128 * 3, last = block + 256;  // records of operators
  const auto word = [&](size_t at) {
    uint32_t value;
    std::memcpy(&value, right.data() + at, 4);
    return value;
  };
  const uint32_t numbers = word(block + 16 + 4 * 2), scales = word(block + 104);
  uint64_t of_scales;
  std::memcpy(&of_scales, right.data() + 64 + 32 * scales, 8);
  const auto refused = [&](const char* words, size_t at, uint32_t value) {
    Bytes file = right;
    put(file, at, value), seal(file);
    const Opened opened(file);
    expect(opened.status == LKOPS_BAD_FILE && std::strstr(opened.error.text, words) != nullptr,
           std::string(words) + ": " + opened.error.text);
  };
  const auto bits = [](float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    return word;
  };
  for (float bad : {NAN, INFINITY, 0.0f, -1.0f}) refused("not finite and above 0", of_scales + 8, bits(bad));
  refused("scales must be float32", block + 104, numbers);
  refused("scales that are not there", block + 104, tensors);
  refused("or lacks them", block + 108, runtime::kNone);
  refused("or lacks them", last + 108, scales);
  refused("must be int8", 64 + 32 * numbers + 24, 0);
  refused("must be of the network's dtype", last + 104, runtime::kNone);
  refused("the type of tensor", 64 + 32 * numbers + 24, 3);
  refused("do not fit", last + 104, scales);
  refused("go with bfloat16", 24, 0);
  refused("is not 0", 8, 1);  // version 1 has no such numbers
  refused("reads versions 1 to 2", 8, 3);
}

const Test kTest("runtime", [] {
  for (bool is_f32 : {true, false}) {
    const std::string dtype = is_f32 ? "float32" : "bfloat16";
    test_runs(dtype, small_network(is_f32), {1, 3, 13, 11, 2});
    test_runs(dtype + " without image", small_network(is_f32, 2, 3, 8, 2, false), {2, 2, 1, 1, 3});
  }
  test_runs("int8", small_network(false, 3, 2, 8, 1, true, true), {1, 3, 13, 11, 2});
  test_runs("int8, rows that are no whole quads", small_network(false, 3, 2, 10, 2, false, true), {2, 3, 5, 7, 2});
  test_int8_refusals();
  // Winograd's algorithm everywhere, the upsampler's conv and bicubic image apart
  test_runs("by conv2d", small_network(true, 4, 2, 64), {1, 4, 19, 9, 2});
  test_bicubic();
  test_two_threads();
  test_refusals();
});

}  // namespace
}  // namespace lkops
