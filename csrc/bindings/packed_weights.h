// Weights that kernels want in another form, kept between calls.
#pragma once

#include <cstdint>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

#include "bindings/memory.h"
#include "common/parallel.h"

namespace lkops {

// A weight is known by where it lies and how it is to be packed. Whether it is still what it was is told by comparing it
// with a copy: that costs microseconds, and misses no change, however it was made (`.data`, load_state_dict, memory that
// was freed and given out again). The least recently used go when there are more bytes than kMostBytes.
class PackedWeights {
 public:
  static constexpr int64_t kMostBytes = int64_t{512} << 20;

  // A problem's description, packed: all that decides the form.
  struct Key {
    const void* weight;
    int64_t form[10];
    bool operator==(const Key& other) const { return std::memcmp(this, &other, sizeof *this) == 0; }
  };

  // pack(memory) writes `packed_bytes` bytes. The result stays valid as long as it is held.
  template <class Pack>
  std::shared_ptr<const void> get(const Key& key, const void* weight, int64_t bytes, int64_t packed_bytes,
                                  const Parallel& parallel, const Pack& pack) {
    std::shared_ptr<Entry> entry = find(key);
    if (entry == nullptr || entry->bytes != bytes || !same(entry->copy.get(), weight, bytes, parallel)) {
      entry = std::make_shared<Entry>();
      entry->key = key, entry->bytes = bytes, entry->all = bytes + packed_bytes;
      entry->copy = allocate_scratch(bytes), entry->packed = allocate_scratch(packed_bytes);
      std::memcpy(entry->copy.get(), weight, static_cast<size_t>(bytes));
      pack(entry->packed.get());
      keep(entry);
    }
    return {entry, entry->packed.get()};
  }

 private:
  struct Entry {
    Key key;
    int64_t bytes, all;
    Scratch copy, packed;
  };

  static bool same(const void* a, const void* b, int64_t bytes, const Parallel& parallel) {
    constexpr int64_t kPiece = 64 << 10;
    const int64_t pieces = (bytes + kPiece - 1) / kPiece;
    std::unique_ptr<bool[]> differs(new bool[static_cast<size_t>(parallel.slots)]());
    for_ranges(parallel, pieces, 4, [&](int64_t slot, int64_t first, int64_t last) {
      const int64_t begin = first * kPiece, end = last * kPiece < bytes ? last * kPiece : bytes;
      if (std::memcmp(static_cast<const char*>(a) + begin, static_cast<const char*>(b) + begin,
                      static_cast<size_t>(end - begin)) != 0)
        differs[static_cast<size_t>(slot)] = true;
    });
    for (int64_t slot = 0; slot < parallel.slots; ++slot)
      if (differs[static_cast<size_t>(slot)]) return false;
    return true;
  }

  std::shared_ptr<Entry> find(const Key& key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto i = entries_.begin(); i != entries_.end(); ++i)
      if ((*i)->key == key) {
        entries_.splice(entries_.begin(), entries_, i);  // the latest stands first
        return entries_.front();
      }
    return nullptr;
  }

  void keep(const std::shared_ptr<Entry>& entry) {
    if (entry->all > kMostBytes) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto i = entries_.begin(); i != entries_.end();)
      if ((*i)->key == entry->key)
        total_ -= (*i)->all, i = entries_.erase(i);
      else
        ++i;
    entries_.push_front(entry);
    total_ += entry->all;
    while (total_ > kMostBytes) total_ -= entries_.back()->all, entries_.pop_back();
  }

  std::mutex mutex_;
  std::list<std::shared_ptr<Entry>> entries_;
  int64_t total_ = 0;
};

}  // namespace lkops
