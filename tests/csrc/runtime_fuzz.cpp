// Damaged files of networks: an error, or a network that runs, and nothing else. LKOPS_FUZZ says how many.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/lkops.h"
#include "runtime_file.h"

namespace lkops {
namespace {

class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t operator()(uint64_t sides) {
    state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
    return (state_ * 0x2545f4914f6cdd1du >> 11) % sides;
  }

 private:
  uint64_t state_;
};

void mutate(Bytes& file, Dice& dice) {
  static const uint32_t kWords[] = {0, 1, 2, 3, 7, 63, 64, 127, 128, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
                                    0xfffffffe, 0xffffffff, 0x7fc00000, 0x3f800000};
  const size_t header = 64 + 32 * 27 + 128 * 6;  // most of what is read of the small network lies there
  const size_t within = dice(4) == 0 ? file.size() : header;
  const size_t at = within == 0 ? 0 : dice(within < file.size() ? within : file.size());
  switch (dice(7)) {
    case 0: file[at] ^= static_cast<unsigned char>(1u << dice(8)); break;
    case 1: file[at] = static_cast<unsigned char>(dice(256)); break;
    case 2:
      if (at / 4 * 4 + 4 <= file.size()) put(file, at / 4 * 4, kWords[dice(sizeof kWords / sizeof *kWords)]);
      break;
    case 3:  // one word becomes another of the file
      if (file.size() >= 8) {
        uint32_t word;
        std::memcpy(&word, file.data() + dice(file.size() / 4 < header / 4 ? file.size() / 4 : header / 4) * 4, 4);
        put(file, (at / 4 * 4 + 4 <= file.size() ? at / 4 : 0) * 4, word);
      }
      break;
    case 4: file.resize(dice(file.size() + 1)); break;
    case 5: file.insert(file.begin() + static_cast<std::ptrdiff_t>(at), dice(100), 0); break;
    default: {  // a word a little larger or smaller
      uint32_t word;
      if (at / 4 * 4 + 4 > file.size()) break;
      std::memcpy(&word, file.data() + at / 4 * 4, 4);
      put(file, at / 4 * 4, static_cast<uint32_t>(word + dice(5) - 2));
    }
  }
}

// Whether it opened, and ran; expects words where it did not.
int try_file(const Bytes& bytes) {
  Memory memory(Memory::Place::kBeforeGuard);
  void* file = memory.take(static_cast<int64_t>(bytes.size()), 1, 64, 0);
  if (!bytes.empty()) std::memcpy(file, bytes.data(), bytes.size());
  lkops_network* network = nullptr;
  lkops_error error;
  const lkops_status status = lkops_open_memory(file, static_cast<int64_t>(bytes.size()), &network, &error);
  if (status != LKOPS_OK) {
    expect(status == LKOPS_BAD_FILE && network == nullptr && error.text[0] != 0, std::string("words: ") + error.text);
    return 0;
  }
  lkops_info info;
  lkops_describe(network, &info);
  expect(static_cast<int64_t>(std::strlen(info.metadata)) == info.metadata_bytes, "the metadata's end");
  lkops_options options{};
  options.batch = 1, options.rows = 5, options.columns = 6, options.threads = 1, options.strip_rows = 2;
  lkops_plan* plan = nullptr;
  int ran = 1;
  const lkops_status prepared = lkops_prepare(network, &options, &plan, &error);
  expect(prepared == LKOPS_OK || error.text[0] != 0, "no words");
  if (prepared == LKOPS_OK && lkops_workspace_bytes(plan) < 8 << 20 && info.bands < 1000) {
    const int64_t numbers = info.bands * 30;
    Memory room(Memory::Place::kBeforeGuard);
    void* workspace = room.take(lkops_workspace_bytes(plan), 1, 64, 0xff);
    float* lowres = static_cast<float*>(room.take(numbers * 4, 4, 4, 0));
    float* image = static_cast<float*>(room.take(numbers * 4 * info.scale * info.scale, 4, 4, 0xff));
    for (int64_t i = 0; i < numbers; ++i) lowres[i] = static_cast<float>(i % 17) / 16;
    expect(lkops_run(plan, lowres, image, workspace, &error) == LKOPS_OK, error.text);
    const auto put = [](void*, int64_t, int64_t, const float*, int64_t) { return 0; };
    expect(lkops_run_strips(plan, lowres, put, nullptr, workspace, &error) == LKOPS_OK, error.text);
    ran = 2;
  }
  lkops_release(plan);
  lkops_close(network);
  return ran;
}

const Test kTest("runtime_fuzz", [] {
  begin_case("runtime fuzz");
  const char* asked = std::getenv("LKOPS_FUZZ");
  const int64_t count = asked == nullptr ? 1000 : std::atoll(asked);
  int64_t counts[3] = {};
  for (int64_t i = 0; i < count; ++i) {
    Dice dice(static_cast<uint64_t>(i));
    Bytes file = small_network(i % 4 < 2, 3, 2, 4, 1, true, i % 4 == 3);
    for (uint64_t changes = 1 + dice(3); changes > 0 && !file.empty(); --changes) mutate(file, dice);
    if (dice(8) != 0) seal(file);  // else the checksum tells
    ++counts[try_file(file)];
  }
  std::printf("  of %lld files %lld were refused, %lld opened, %lld ran\n", static_cast<long long>(count),
              static_cast<long long>(counts[0]), static_cast<long long>(counts[1]), static_cast<long long>(counts[2]));
  expect(counts[0] > count / 3 && counts[2] > count / 50, "mutations of one kind only");
});

}  // namespace
}  // namespace lkops
