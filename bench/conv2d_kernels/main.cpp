// Times the kernels of csrc/conv2d without torch, beside the FMA peak of the same seconds.
//
//   conv2d_kernels [--channels 64,3x64] [--sizes 48,128] [--threads 2] [--only winograd2] [--dtype float32]
//
// Each output is compared with a direct conv in double precision, at some pixels, before it is timed. GFLOP/s count
// the direct conv's multiplications, so Winograd's algorithm may pass the peak. The medians of rounds that take turns.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bench/conv2d_kernels/peak.h"
#include "bench/conv2d_kernels/threads.h"
#include "common/isa.h"
#include "conv2d/cpu.h"

namespace {

using namespace lkops;
// One thread is timed by its own clock, which stands still while others have the CPU.
double now(int64_t threads) {
  timespec time;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <class T>
struct Buffer {
  explicit Buffer(size_t count) : count(count), data(static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 127) / 64 * 64))) {}
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  size_t count;
  T* data;
};

float widened(float v) { return v; }
float widened(BFloat16 v) {
  const uint32_t bits = uint32_t{v.bits} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}
void assign(float& to, float v) { to = v; }
void assign(BFloat16& to, float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  to.bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <class T>
void fill(Buffer<T>& buffer, double scale, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (size_t i = 0; i < buffer.count; ++i) assign(buffer.data[i], static_cast<float>(normal(random) * scale));
}

struct Case {
  Conv2dProblem problem;
  std::string name;
};

// The largest error over the largest value, at every 7th pixel of some channels; of planar images.
template <class T>
double error_of(const Conv2dProblem& p, const T* x, const T* weight, const T* out) {
  double largest = 0, worst = 0;
  const int64_t k = p.kernel_height;
  for (int64_t o = 0; o < p.outputs; o += 5)
    for (int64_t i = 0; i < p.out_height * p.out_width; i += 7) {
      double sum = 0;
      for (int64_t c = 0; c < p.inputs; ++c)
        for (int64_t tap = 0; tap < k * k; ++tap) {
          const int64_t y = i / p.out_width + tap / k - p.top, l = i % p.out_width + tap % k - p.left;
          if (y >= 0 && y < p.height && l >= 0 && l < p.width)
            sum += static_cast<double>(widened(weight[(o * p.inputs + c) * k * k + tap])) *
                   static_cast<double>(widened(x[(c * p.height + y) * p.width + l]));
        }
      largest = std::max(largest, std::fabs(sum));
      worst = std::max(worst, std::fabs(sum - static_cast<double>(widened(out[o * p.out_height * p.out_width + i]))));
    }
  return worst / largest;
}

using Pairs = std::vector<std::pair<int64_t, int64_t>>;

// "64,3x128": 64 to 64 channels, 3 to 128.
Pairs pairs(const char* text) {
  Pairs result;
  for (const char* p = text; *p != 0; p += *p == ',') {
    char* end;
    const int64_t first = std::strtol(p, &end, 10);
    result.push_back({first, *end == 'x' ? std::strtol(end + 1, &end, 10) : first});
    p = end;
  }
  return result;
}

std::vector<int64_t> numbers(const char* text) {
  std::vector<int64_t> result;
  for (const char* p = text; *p != 0; p += *p == ',') {
    char* end;
    result.push_back(std::strtol(p, &end, 10));
    p = end;
  }
  return result;
}

template <class T>
int run(const Conv2dKernelsOf<T>& kernels, const Pairs& channels, const std::vector<int64_t>& sizes,
        int64_t kernel, int64_t threads, const std::string& only, double bound) {
  const Parallel parallel = pool(threads);
  int failures = 0;
  for (const auto& [inputs, outputs] : channels)
    for (int64_t size : sizes) {
      const size_t pixels = static_cast<size_t>(size * size), count = pixels * static_cast<size_t>(outputs);
      const int64_t weights = inputs * outputs * kernel * kernel;
      Buffer<T> x(pixels * static_cast<size_t>(inputs)), weight(static_cast<size_t>(weights)), out(count);
      fill(x, 1, 1);
      fill(weight, 1 / std::sqrt(static_cast<double>(inputs * kernel * kernel)), 2);
      const double flops = 2.0 * static_cast<double>(weights) * static_cast<double>(pixels);
      std::vector<Case> cases;
      std::vector<std::function<void()>> calls;
      std::vector<std::vector<double>> times;
      std::vector<std::string> names;
      std::vector<std::shared_ptr<Buffer<char>>> memory;
      const struct {
        const char* name;
        ConvAlgorithm algorithm;
        ConvLayout layout;
        bool levels;
      } ways[] = {{"direct", ConvAlgorithm::kDirect, ConvLayout::kPlanar, true},
                  {"winograd2", ConvAlgorithm::kWinograd2, ConvLayout::kPlanar, true},
                  {"winograd4", ConvAlgorithm::kWinograd4, ConvLayout::kPlanar, false},
                  {"direct last", ConvAlgorithm::kDirect, ConvLayout::kChannelsLast, true},
                  {"winograd2 last", ConvAlgorithm::kWinograd2, ConvLayout::kChannelsLast, true},
                  {"winograd4 last", ConvAlgorithm::kWinograd4, ConvLayout::kChannelsLast, false},
                  {"winograd4 blocked", ConvAlgorithm::kWinograd4, ConvLayout::kBlocked, false}};
      for (const auto& way : ways) {
        if (!only.empty() && only != way.name) continue;
        if (way.algorithm != ConvAlgorithm::kDirect && kernel < 3) continue;
        if (way.layout == ConvLayout::kBlocked && (inputs % 16 != 0 || outputs % 16 != 0)) continue;
        Conv2dProblem p{};
        p.spread_height = p.spread_width = 1;
        p.n = p.groups = p.stride_height = p.stride_width = p.dilation_height = p.dilation_width = 1;
        p.inputs = inputs, p.outputs = outputs, p.height = p.width = p.out_height = p.out_width = size;
        p.kernel_height = p.kernel_width = kernel, p.top = p.left = kernel / 2;
        p.algorithm = way.algorithm, p.layout = p.out_layout = way.layout, p.residual_scale = 1;
        p.levels = way.levels;
        memory.push_back(std::make_shared<Buffer<char>>(static_cast<size_t>(kernels.packed_bytes(p))));
        char* packed = memory.back()->data;
        kernels.pack(p, parallel, weight.data, false, packed);
        memory.push_back(std::make_shared<Buffer<char>>(static_cast<size_t>(kernels.forward_scratch(p, threads))));
        char* scratch = memory.back()->data;
        cases.push_back({p, way.name});
        calls.push_back([=, &kernels, &parallel, &x, &out] {
          kernels.forward(p, parallel, x.data, packed, nullptr, nullptr, nullptr, nullptr, out.data, scratch);
        });
        if (way.layout == ConvLayout::kPlanar) {
          std::memset(out.data, 0xff, count * sizeof(T));
          calls.back()();
          const double error = error_of(p, x.data, weight.data, out.data);
          const bool is_wrong = !(error <= bound);
          failures += is_wrong;
          std::printf("%s%s %ld to %ld, size %ld: error %.2g\n", is_wrong ? "WRONG " : "", way.name, inputs, outputs, size,
                      error);
        }
      }
      times.resize(calls.size());
      std::vector<double> peaks;
      const int rounds = 9;
      for (int round = 0; round < rounds; ++round) {
        peaks.push_back(fma_peak(parallel, sizeof(T) == 2, now));
        for (size_t i = 0; i < calls.size(); ++i) {
          calls[i]();
          const int repeats = std::max(1, static_cast<int>(1.5e10 / flops * 0.3));
          const double begin = now(threads);
          for (int k = 0; k < repeats; ++k) calls[i]();
          times[i].push_back((now(threads) - begin) / repeats);
        }
      }
      std::sort(peaks.begin(), peaks.end());
      for (size_t i = 0; i < calls.size(); ++i) {
        std::sort(times[i].begin(), times[i].end());
        const double rate = flops / times[i][rounds / 2] * 1e-9;
        std::printf("%-18s %3ld to %3ld, %3ld: %8.3f ms %7.1f GFLOP/s, %.2f of the peak %.0f\n", cases[i].name.c_str(),
                    inputs, outputs, size, times[i][rounds / 2] * 1e3, rate, rate / peaks[rounds / 2], peaks[rounds / 2]);
      }
      std::fflush(stdout);
    }
  return failures;
}

}  // namespace

int main(int count, char** arguments) {
  Pairs channels = pairs("64,128,180,256");
  std::vector<int64_t> sizes{48, 64, 128};
  int64_t threads = 2, kernel = 3;
  std::string only, dtype = "float32";
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = arguments[i];
    if (name == "--channels") channels = pairs(arguments[i + 1]);
    else if (name == "--sizes") sizes = numbers(arguments[i + 1]);
    else if (name == "--threads") threads = std::atol(arguments[i + 1]);
    else if (name == "--kernel") kernel = std::atol(arguments[i + 1]);
    else if (name == "--only") only = arguments[i + 1];
    else if (name == "--dtype") dtype = arguments[i + 1];
    else return std::printf("unknown option %s\n", arguments[i]), 2;
  }
  const lkops::Conv2dKernels& kernels = LKOPS_CHOOSE(lkops::kConv2d);
  std::printf("%s, %s, %ld threads\n", name_of(lkops::chosen_isa()), dtype.c_str(), threads);
  return dtype == "float32" ? run(kernels.f32, channels, sizes, kernel, threads, only, 1e-5)
                            : run(kernels.bf16, channels, sizes, kernel, threads, only, 5e-2);
}
