// Reads a network's file. It trusts nothing: whatever the bytes are, the end is a Graph that holds together or BadFile.
#include "runtime/graph.h"

#include <cmath>
#include <cstring>

#include "conv2d/cpu.h"
#include "runtime/crc32.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the file is little-endian and mapped as it is"
#endif

namespace lkops {
namespace runtime {
namespace {

constexpr int64_t kHeader = 64, kTensorRecord = 32, kOperatorRecord = 128, kLine = 64;
// Larger than any network, small enough that no product of a few of them overflows 64 bits.
constexpr int64_t kMostTensors = 1 << 16, kMostOperators = 1 << 12;
constexpr int64_t kMostChannels = 1 << 16, kMostScale = 64, kMostSide = 127;
constexpr int64_t kMostDilation = 1 << 12, kMostHidden = 1 << 16;

class Reader {
 public:
  Reader(const void* file, int64_t bytes, const std::string& name)
      : file_(static_cast<const char*>(file)), bytes_(bytes), name_(name) {}

  Graph run() {
    check_frame();
    graph_.bytes = bytes_;
    const uint32_t dtype = u32(24);
    if (dtype > 1) fail("the dtype has number " + std::to_string(dtype) + ", known are 0 and 1");
    graph_.dtype = static_cast<Dtype>(dtype);
    graph_.bands = whole(28, "the number of bands", 1, kMostChannels);
    graph_.scale = whole(32, "the scale", 1, kMostScale);
    const int64_t tensors = whole(36, "the number of tensors", 0, kMostTensors);
    const int64_t operators = whole(40, "the number of operators", 1, kMostOperators);
    graph_.metadata_bytes = u32(44);
    zeros(48, 16);
    const int64_t first = kHeader + tensors * kTensorRecord, text = first + operators * kOperatorRecord;
    end_of_header_ = text + graph_.metadata_bytes + 1;
    if (end_of_header_ > bytes_) fail("the header reaches beyond the end");
    graph_.metadata = file_ + text;
    if (file_[end_of_header_ - 1] != 0 || std::memchr(graph_.metadata, 0, graph_.metadata_bytes) != nullptr)
      fail("the metadata has no end");
    for (int64_t i = 0; i < tensors; ++i) read_tensor(i);
    graph_.channels.push_back(graph_.bands);
    for (int64_t i = 0; i < operators; ++i) read_operator(first + i * kOperatorRecord, i, i + 1 == operators);
    return graph_;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw BadFile{name_ + ": " + what}; }
  [[noreturn]] void refuse(const std::string& what) const {
    fail("damaged: operator " + std::to_string(operator_) + ": " + what);
  }

  void check_frame() {
    if (bytes_ < 8 || std::memcmp(file_, kMagic, 8) != 0) fail("no network of `lkca export`");
    if (bytes_ < kHeader) fail("damaged: " + std::to_string(bytes_) + " bytes are no header");
    version_ = u32(8);
    if (version_ < kOldestVersion || version_ > kVersion)
      fail("is of version " + std::to_string(version_) + " of the format, this library reads versions " +
           std::to_string(kOldestVersion) + " to " + std::to_string(kVersion) +
           ": export the network again, or take the lkops that wrote it");
    if (u64(16) != static_cast<uint64_t>(bytes_))
      fail("damaged: has " + std::to_string(bytes_) + " bytes, says " + std::to_string(u64(16)));
    if (crc32(file_ + 16, bytes_ - 16) != u32(12)) fail("damaged: its checksum is another");
  }

  template <class T>
  T number(int64_t at) const {
    T value;
    std::memcpy(&value, file_ + at, sizeof value);
    return value;
  }
  uint32_t u32(int64_t at) const { return number<uint32_t>(at); }
  uint64_t u64(int64_t at) const { return number<uint64_t>(at); }

  int64_t whole(int64_t at, const std::string& what, int64_t least, int64_t most) const {
    const int64_t value = u32(at);
    if (value < least || value > most)
      fail("damaged: " + what + " is " + std::to_string(value) + ", not " + std::to_string(least) + " to " +
           std::to_string(most));
    return value;
  }

  void zeros(int64_t at, int64_t count) const {
    for (int64_t i = 0; i < count; ++i)
      if (file_[at + i] != 0) fail("damaged: byte " + std::to_string(at + i) + " is not 0");
  }

  void read_tensor(int64_t i) {
    const int64_t at = kHeader + i * kTensorRecord;
    const std::string what = "tensor " + std::to_string(i);
    Tensor tensor{};
    if (version_ == 1) zeros(at + 24, 4);
    tensor.type = static_cast<Type>(whole(at + 24, "the type of " + what, 0, 2));
    const int64_t of_graph = graph_.dtype == Dtype::kFloat32 ? 4 : 2;
    int64_t bytes = tensor.type == Type::kInt8 ? 1 : tensor.type == Type::kFloat32 ? 4 : of_graph;
    for (int d = 0; d < 4; ++d) {
      tensor.sizes[d] = whole(at + 8 + 4 * d, "a size of " + what, 1, int64_t{1} << 31);
      if (__builtin_mul_overflow(bytes, tensor.sizes[d], &bytes)) fail("damaged: the sizes of " + what);
    }
    zeros(at + 28, 4);
    const uint64_t offset = u64(at);
    if (offset % kLine != 0 || offset < static_cast<uint64_t>(end_of_header_) ||
        offset > static_cast<uint64_t>(bytes_) || bytes > bytes_ - static_cast<int64_t>(offset))
      fail("damaged: " + what + " does not lie in the file, on a line of 64 bytes");
    tensor.data = file_ + offset;
    graph_.tensors.push_back(tensor);
  }

  // ---- operators ----------------------------------------------------------------------------------------------------

  void read_operator(int64_t at, int64_t i, bool is_last) {
    operator_ = i;
    Operator op{};
    const uint32_t kind = u32(at), flags = u32(at + 4);
    if (kind > static_cast<uint32_t>(Kind::kUpsample)) refuse("its kind has number " + std::to_string(kind));
    if (flags > kFlag) refuse("unknown flags");
    op.kind = static_cast<Kind>(kind), op.flag = flags != 0;
    for (int v = 0; v < 2; ++v) {
      op.values[v] = u32(at + 8 + 4 * v);
      if (op.values[v] > static_cast<uint64_t>(i) && !(v == 1 && op.values[v] == kNone))
        refuse("takes a value that is not there");
    }
    for (int t = 0; t < kTensors; ++t) {
      op.tensors[t] = u32(at + 16 + 4 * t);
      if (op.tensors[t] != kNone && op.tensors[t] >= graph_.tensors.size()) refuse("takes a tensor that is not there");
    }
    for (int d = 0; d < 2; ++d) op.dilations[d] = whole(at + 80 + 4 * d, "a dilation", 1, kMostDilation);
    op.activation = u32(at + 88), op.eps = number<float>(at + 92), op.cubic_a = number<double>(at + 96);
    read_scales(op, at + 104);
    zeros(at + 112, 16);
    if (!(op.eps > 0) || !std::isfinite(op.eps)) refuse("eps must be above 0");
    if (!(std::fabs(op.cubic_a) <= 1e3)) refuse("the cubic's a is out of range");
    if (op.activation > static_cast<uint32_t>(Activation::kSigmoid) ||
        op.activation == static_cast<uint32_t>(Activation::kLeakyRelu) ||
        op.activation == static_cast<uint32_t>(Activation::kPRelu))
      refuse("an activation that this library does not know");
    if ((op.kind == Kind::kUpsample) != is_last) refuse("an upsampler is the last operator, and no other");
    if (is_last && op.values[0] == 0 && i > 0) refuse("makes nothing of the operators before");
    const int64_t inputs = graph_.channels[op.values[0]];
    switch (op.kind) {
      case Kind::kConv: graph_.channels.push_back(check_conv(op, inputs)); break;
      case Kind::kBlock: check_block(op, inputs), graph_.channels.push_back(inputs); break;
      case Kind::kAdd: check_add(op, inputs), graph_.channels.push_back(inputs); break;
      default: check_upsample(op, inputs);
    }
    check_types(op);
    graph_.operators.push_back(op);
  }

  void read_scales(Operator& op, int64_t at) const {
    if (version_ == 1) zeros(at, 8);
    for (int s = 0; s < 2; ++s) {
      op.scales[s] = version_ == 1 ? kNone : u32(at + 4 * s);
      if (op.scales[s] == kNone) continue;
      if (op.scales[s] >= graph_.tensors.size()) refuse("takes scales that are not there");
      const Tensor& scales = graph_.tensors[op.scales[s]];
      if (scales.type != Type::kFloat32) refuse("scales must be float32");
      for (int64_t m = 0; m < scales.count(); ++m) {
        const float scale = static_cast<const float*>(scales.data)[m];
        if (!(scale > 0) || !std::isfinite(scale))
          refuse("scale " + std::to_string(m) + " is " + std::to_string(scale) + ", not finite and above 0");
      }
    }
  }

  // Its tensors are of the graph's dtype, but for the weights that have scales: one a row.
  void check_types(const Operator& op) const {
    const bool is_block = op.kind == Kind::kBlock;
    const uint32_t wanted = op.is_int8() ? (is_block ? 2 : op.kind == Kind::kUpsample ? 1 : 0) : 0;
    for (uint32_t s = 0; s < 2; ++s)
      if ((op.scales[s] != kNone) != (s < wanted)) refuse("has scales where there are none, or lacks them");
    if (wanted > 0 && graph_.dtype != Dtype::kBFloat16) refuse("weights of whole numbers go with bfloat16");
    for (int t = 0; t < kTensors; ++t) {
      if (op.tensors[t] == kNone) continue;
      const Tensor& tensor = graph_.tensors[op.tensors[t]];
      const bool first = t == (is_block ? int{block::kInWeight} : int{conv::kWeight});
      const bool is_int8 = wanted > 0 && (first || (is_block && t == block::kOutWeight));
      if (tensor.type != (is_int8 ? Type::kInt8 : Type::kOfGraph))
        refuse("tensor " + std::to_string(t) + (is_int8 ? " must be int8" : " must be of the network's dtype"));
      if (is_int8) {
        shape(graph_.tensors[op.scales[first ? 0 : 1]], tensor.sizes[0]);
        if (tensor.sizes[1] * tensor.sizes[2] * tensor.sizes[3] > kMostQuadDepth) refuse("too many channels for int8");
      }
    }
    if (wanted == 2 && graph_.tensors[op.tensors[block::kMixWeight]].sizes[1] > kMostQuadDepth)
      refuse("too many channels for int8");
  }

  void only(const Operator& op, int count) const {
    for (int t = count; t < kTensors; ++t)
      if (op.tensors[t] != kNone) refuse("takes too many tensors");
  }

  const Tensor& needed(const Operator& op, int which) const {
    if (op.tensors[which] == kNone) refuse("lacks tensor " + std::to_string(which));
    return graph_.tensors[op.tensors[which]];
  }

  void shape(const Tensor& tensor, int64_t a, int64_t b = 1, int64_t c = 1, int64_t d = 1) const {
    if (tensor.sizes[0] != a || tensor.sizes[1] != b || tensor.sizes[2] != c || tensor.sizes[3] != d)
      refuse("tensors that do not fit one another");
  }
  void optional(const Operator& op, int which, int64_t count) const {
    if (op.tensors[which] != kNone) shape(graph_.tensors[op.tensors[which]], count);
  }

  // Of a conv that keeps the image's size.
  void check_weight(const Tensor& weight, int64_t inputs) const {
    const auto odd = [](int64_t side) { return side % 2 == 1 && side <= kMostSide; };
    if (!odd(weight.sizes[2]) || !odd(weight.sizes[3])) refuse("a kernel's sides must be odd, at most 127");
    if (weight.sizes[0] > kMostChannels * kMostScale * kMostScale) refuse("too many channels");
    if (inputs % weight.sizes[1] != 0 || weight.sizes[0] % (inputs / weight.sizes[1]) != 0)
      refuse("a weight that does not fit its input");
  }

  int64_t check_conv(const Operator& op, int64_t inputs) const {
    const Tensor& weight = needed(op, conv::kWeight);
    check_weight(weight, inputs);
    const int64_t outputs = weight.sizes[0];
    if (outputs > kMostChannels) refuse("too many channels");
    optional(op, conv::kBias, outputs);
    only(op, conv::kCount);
    if (op.values[1] != kNone && (graph_.channels[op.values[1]] != outputs || op.values[1] == 0))
      refuse("a residual that does not fit");
    return outputs;
  }

  void check_add(const Operator& op, int64_t inputs) const {
    only(op, 0);
    if (op.values[1] == kNone || graph_.channels[op.values[1]] != inputs || op.values[0] == 0 || op.values[1] == 0)
      refuse("addends that do not fit one another");
  }

  void check_block(const Operator& op, int64_t channels) const {
    const auto of = [&](int which) -> const Tensor& { return needed(op, which); };
    if (op.values[0] == 0 || op.values[1] != kNone) refuse("a block takes one value, which is not the image");
    const int64_t width = of(block::kInWeight).sizes[0], across = 3 * width;
    if (width > kMostChannels) refuse("too many channels");
    shape(of(block::kNormWeight), channels), shape(of(block::kNormBias), channels);
    shape(of(block::kInWeight), width, channels), optional(op, block::kInBias, width);
    for (int which : {block::kDw1Weight, block::kDw2Weight}) {
      const Tensor& weight = of(which);
      shape(weight, width, 1, weight.sizes[2], weight.sizes[3]);
      check_weight(weight, width);
      optional(op, which + 1, width);
    }
    const int64_t hidden = of(block::kReduceWeight).sizes[0];
    if (hidden > kMostHidden) refuse("too many channels");
    shape(of(block::kReduceWeight), hidden, across), optional(op, block::kReduceBias, hidden);
    shape(of(block::kExpandWeight), across, hidden), optional(op, block::kExpandBias, across);
    const int64_t of_group = of(block::kMixWeight).sizes[1];
    if (across % of_group != 0 || width % (across / of_group) != 0) refuse("groups that do not divide the channels");
    shape(of(block::kMixWeight), width, of_group), optional(op, block::kMixBias, width);
    shape(of(block::kOutWeight), channels, width), optional(op, block::kOutBias, channels);
  }

  void check_upsample(const Operator& op, int64_t inputs) const {
    const Tensor& weight = needed(op, conv::kWeight);
    check_weight(weight, inputs);
    const int64_t outputs = graph_.bands * graph_.scale * graph_.scale;
    if (weight.sizes[0] != outputs) refuse("an upsampler that makes other bands or another scale than the header says");
    optional(op, conv::kBias, outputs);
    only(op, conv::kCount);
    if (op.dilations[0] != 1) refuse("an upsampler's conv has no dilation");
    if (op.values[1] != kNone && op.values[1] != 0) refuse("the image of an upsampler is that of the network");
  }

  const char* file_;
  int64_t bytes_;
  const std::string& name_;
  Graph graph_{};
  int64_t end_of_header_ = 0, operator_ = 0;
  uint32_t version_ = 0;
};

}  // namespace

Graph read_graph(const void* file, int64_t bytes, const std::string& name) { return Reader(file, bytes, name).run(); }

}  // namespace runtime
}  // namespace lkops
