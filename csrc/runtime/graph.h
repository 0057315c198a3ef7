// A network as its file describes it, checked: all that a plan relies on holds.
//
// The file, numbers little-endian:
//
//     0    "LKOPSNET"; u32 version; u32 CRC-32 of what follows byte 16; u64 bytes of the file
//     24   u32 dtype, bands, scale, tensors, operators, bytes of metadata; 16 zero bytes
//     64   tensors of 32 bytes: u64 offset, a multiple of 64; u32 sizes[4]; u32 type, 0: that of the header's dtype,
//          1: int8, 2: float32; 4 zero bytes
//     ...  operators of 128 bytes: u32 kind, flags, values[2], tensors[16], dilations[2], activation; f32 eps;
//          f64 cubic_a; u32 scales[2], tensors; 16 zero bytes
//     ...  metadata, a JSON object in UTF-8, and a zero byte
//     ...  tensors, dense, each on a 64-byte line
//
// Version 1 has zeros in the place of types and scales, and no others. An operator with scales has weights of whole
// numbers: an upsampler's conv, or a block's first and last 1x1 conv, whose other products are computed in whole numbers
// too. Row m of such a weight is scales[m], float32, times its numbers; the header's dtype is then bfloat16.
//
// Value 0 is the low-resolution image, value k + 1 what operator k makes. The last operator, and no other, is an
// upsampler. lkcanet/deploy/edge_file.py writes it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lkops {
namespace runtime {

constexpr char kMagic[] = "LKOPSNET";
constexpr uint32_t kVersion = 2, kOldestVersion = 1, kNone = 0xffffffff;
constexpr int kTensors = 16;  // most of an operator

enum class Dtype : uint32_t { kFloat32, kBFloat16 };
enum class Type : uint32_t { kOfGraph, kInt8, kFloat32 };
enum class Kind : uint32_t { kConv, kBlock, kAdd, kUpsample };
constexpr uint32_t kFlag = 1;  // of a block: interleave; of an upsampler: the border is mirrored

// Which tensor of an operator is which.
namespace conv {
enum : int { kWeight, kBias, kCount };
}
namespace block {
enum : int {
  kNormWeight, kNormBias, kInWeight, kInBias, kDw1Weight, kDw1Bias, kDw2Weight, kDw2Bias, kReduceWeight, kReduceBias,
  kExpandWeight, kExpandBias, kMixWeight, kMixBias, kOutWeight, kOutBias, kCount
};
}

struct Tensor {
  const void* data;
  int64_t sizes[4];  // 1 where it has fewer
  Type type;
  int64_t count() const { return sizes[0] * sizes[1] * sizes[2] * sizes[3]; }
};

struct Operator {
  Kind kind;
  bool flag;
  uint32_t values[2];  // the second, or kNone: a conv's residual, the other addend, an upsampler's low-resolution image
  uint32_t tensors[kTensors];  // or kNone
  int64_t dilations[2];        // a conv has the first
  uint32_t activation;         // of a conv: conv2d/cpu.h; none that needs a number
  float eps;
  double cubic_a;
  uint32_t scales[2];  // of weights of whole numbers, or kNone: of an upsampler the first, of a block in and out
  bool is_int8() const { return scales[0] != kNone; }
};

struct Graph {
  Dtype dtype;
  int64_t bands, scale, bytes;
  std::vector<Tensor> tensors;
  std::vector<Operator> operators;
  std::vector<int64_t> channels;  // of the values but the last
  const char* metadata;
  int64_t metadata_bytes;

  const Tensor* tensor(const Operator& op, int which) const {
    return op.tensors[which] == kNone ? nullptr : &tensors[op.tensors[which]];
  }
  template <class T>
  const T* data(const Operator& op, int which) const {
    const Tensor* found = tensor(op, which);
    return found == nullptr ? nullptr : static_cast<const T*>(found->data);
  }
  const float* scales(const Operator& op, int which) const {
    return static_cast<const float*>(tensors[op.scales[which]].data);
  }
};

// What a file in memory holds; throws BadFile. `name` is for its words.
struct BadFile {
  std::string text;
};
Graph read_graph(const void* file, int64_t bytes, const std::string& name);

}  // namespace runtime
}  // namespace lkops
