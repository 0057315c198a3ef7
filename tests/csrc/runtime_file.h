// Networks for tests of csrc/runtime: files in memory, written as runtime/graph.h has them.
#pragma once

#include <cstring>
#include <vector>

#include "runtime/graph.h"
#include "test.h"

namespace lkops {

using Bytes = std::vector<unsigned char>;

template <class T>
void put(Bytes& bytes, size_t at, T value) {
  if (bytes.size() < at + sizeof value) bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// By the definition, a bit at a time.
inline uint32_t slow_crc32(const unsigned char* p, size_t count) {
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < count; ++i) {
    crc ^= p[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

inline void seal(Bytes& file) {
  if (file.size() < 24) return;
  put<uint64_t>(file, 16, file.size());
  put<uint32_t>(file, 12, slow_crc32(file.data() + 16, file.size() - 16));
}

class NetworkFile {
 public:
  // Of int8 networks features are bfloat16.
  NetworkFile(bool is_f32, uint32_t bands, uint32_t scale, bool is_int8 = false)
      : is_f32_(is_f32), is_int8_(is_int8), bands_(bands), scale_(scale) {}

  uint32_t tensor(std::initializer_list<uint32_t> sizes, double size = 0.5, double middle = 0,
                  runtime::Type type = runtime::Type::kOfGraph) {
    Stored stored{{1, 1, 1, 1}, type, {}};
    size_t d = 0, count = 1;
    for (uint32_t length : sizes) stored.sizes[d++] = length, count *= length;
    for (double value : Random(stored_.size() + 7).values<float>(static_cast<int64_t>(count), size, middle)) {
      if (type == runtime::Type::kInt8)
        put<int8_t>(stored.bytes, stored.bytes.size(), static_cast<int8_t>(value));
      else if (is_f32_ || type == runtime::Type::kFloat32)
        put<float>(stored.bytes, stored.bytes.size(), static_cast<float>(value));
      else
        put<uint16_t>(stored.bytes, stored.bytes.size(), from_double<BFloat16>(value).bits);
    }
    stored_.push_back(stored);
    return static_cast<uint32_t>(stored_.size() - 1);
  }

  struct Options {
    uint32_t second = runtime::kNone, dilation1 = 1, dilation2 = 1, activation = 0;
    bool flag = false;
    std::vector<uint32_t> scales{};
  };
  // A weight for products, of whole numbers in int8 networks; its scales go to the options.
  uint32_t weight(std::initializer_list<uint32_t> sizes, double size, Options& options) {
    if (!is_int8_) return tensor(sizes, size);
    const uint32_t numbers = tensor(sizes, 127, 0, runtime::Type::kInt8);
    options.scales.push_back(tensor({*sizes.begin()}, size / 400, size / 127, runtime::Type::kFloat32));
    return numbers;
  }
  uint32_t add(runtime::Kind kind, uint32_t value, std::vector<uint32_t> tensors, const Options& options) {
    Bytes op;
    tensors.resize(runtime::kTensors, runtime::kNone);
    for (uint32_t word : {static_cast<uint32_t>(kind), uint32_t{options.flag}, value, options.second})
      put(op, op.size(), word);
    for (uint32_t tensor : tensors) put(op, op.size(), tensor);
    for (uint32_t word : {options.dilation1, options.dilation2, options.activation}) put(op, op.size(), word);
    put(op, op.size(), 1e-6f), put(op, op.size(), -0.5);
    std::vector<uint32_t> scales = options.scales;
    scales.resize(2, runtime::kNone);
    if (is_int8_) put(op, op.size(), scales[0]), put(op, op.size(), scales[1]);
    op.resize(128);
    operators_.push_back(op);
    return static_cast<uint32_t>(operators_.size());
  }

  uint32_t conv(uint32_t value, uint32_t inputs, uint32_t outputs, const Options& options, uint32_t kernel = 3) {
    return add(runtime::Kind::kConv, value, {tensor({outputs, inputs, kernel, kernel}, 0.2), tensor({outputs})},
               options);
  }

  uint32_t block(uint32_t value, uint32_t channels, uint32_t groups, Options options) {
    const uint32_t c = channels, across = 3 * c, hidden = c / 2;
    const uint32_t in = weight({c, c}, 0.5, options), out = weight({c, c}, 0.5, options);
    return add(runtime::Kind::kBlock, value,
               {tensor({c}, 0.3, 1), tensor({c}), in, tensor({c}), tensor({c, 1, 3, 3}), tensor({c}),
                tensor({c, 1, 5, 5}, 0.1), tensor({c}), tensor({hidden, across}, 0.1), tensor({hidden}),
                tensor({across, hidden}), tensor({across}), tensor({c, across / groups}), tensor({c}), out, tensor({c})},
               options);
  }

  uint32_t upsample(uint32_t value, uint32_t channels, uint32_t groups, bool adds, uint32_t kernel = 3) {
    const uint32_t outputs = bands_ * scale_ * scale_;
    Options options;
    options.second = adds ? 0 : runtime::kNone, options.flag = true;
    const uint32_t conv = weight({outputs, channels / groups, kernel, kernel}, 0.2, options);
    return add(runtime::Kind::kUpsample, value, {conv, tensor({outputs})}, options);
  }

  Bytes bytes() const {
    const std::string metadata = "{\"peak\": 1.0}";
    Bytes file(64);
    std::memcpy(file.data(), runtime::kMagic, 8);
    put<uint32_t>(file, 8, is_int8_ ? 2 : 1), put<uint32_t>(file, 24, is_f32_ ? 0 : 1);
    put(file, 28, bands_), put(file, 32, scale_);
    put(file, 36, static_cast<uint32_t>(stored_.size())), put(file, 40, static_cast<uint32_t>(operators_.size()));
    put(file, 44, static_cast<uint32_t>(metadata.size()));
    const size_t text = 64 + 32 * stored_.size() + 128 * operators_.size();
    size_t at = (text + metadata.size() + 1 + 63) / 64 * 64;
    file.resize(at);
    for (size_t i = 0; i < stored_.size(); ++i) {
      const Stored& stored = stored_[i];
      put<uint64_t>(file, 64 + 32 * i, at);
      for (size_t d = 0; d < 4; ++d) put(file, 72 + 32 * i + 4 * d, stored.sizes[d]);
      put(file, 88 + 32 * i, static_cast<uint32_t>(stored.type));
      file.resize(at + (stored.bytes.size() + 63) / 64 * 64);
      std::memcpy(file.data() + at, stored.bytes.data(), stored.bytes.size());
      at = file.size();
    }
    for (size_t i = 0; i < operators_.size(); ++i)
      std::memcpy(file.data() + 64 + 32 * stored_.size() + 128 * i, operators_[i].data(), 128);
    std::memcpy(file.data() + text, metadata.data(), metadata.size());
    seal(file);
    return file;
  }

 private:
  struct Stored {
    uint32_t sizes[4];
    runtime::Type type;
    Bytes bytes;
  };
  bool is_f32_, is_int8_;
  uint32_t bands_, scale_;
  std::vector<Stored> stored_;
  std::vector<Bytes> operators_;
};

// Head, block, a residual pair of convs, a long skip, upsampler: every kind of operator.
inline Bytes small_network(bool is_f32, uint32_t bands = 3, uint32_t scale = 2, uint32_t channels = 8,
                           uint32_t groups = 1, bool adds = true, bool is_int8 = false) {
  NetworkFile file(is_f32, bands, scale, is_int8);
  NetworkFile::Options plain, relu, residual, block, skip;
  relu.activation = 1, block.dilation1 = 2, block.dilation2 = 3, block.flag = true;
  const uint32_t head = file.conv(0, bands, channels, plain), first = file.conv(head, channels, channels, relu);
  residual.second = head;
  const uint32_t second = file.conv(first, channels, channels, residual);
  skip.second = head;
  const uint32_t attended = file.block(second, channels, 2, block);
  const uint32_t sum = file.add(runtime::Kind::kAdd, attended, {}, skip);
  file.upsample(sum, channels, groups, adds);
  return file.bytes();
}

}  // namespace lkops
