// What a word was encoded to the last time: a bounded memory, one a thread.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "huge.hpp"
#include "word_key.hpp"

namespace gristmill {

struct LongKey {  // of words of 16 to 31 bytes
  uint64_t first[2];
  ShortKey rest;
  static constexpr size_t kMaxWord = 31;

  LongKey() = default;
  LongKey(const uint8_t* word, size_t size, const uint8_t* readable)
      : rest(word + 16, size - 16, readable) {
    std::memcpy(first, word, 16);
    rest.high |= uint64_t{1} << 63;  // never the empty key
  }
  uint64_t hash() const {
    return rest.hash() ^
           ShortKey::fold(first[0] ^ 0xa0761d6478bd642fULL, first[1] ^ 0xe7037ed1a0b428dbULL);
  }
  bool operator==(const LongKey& other) const {
    return ((first[0] ^ other.first[0]) | (first[1] ^ other.first[1])) == 0 && rest == other.rest;
  }
};

// Two-way: a bucket holds the two words of its hash that were met last. The key of all zeros, which
// no word has, is an empty entry. `kIds` ids lie inline, their number in the top bits of the first,
// so ids are below 2^28.
template <typename Key, int kIds, int kBucketBits>
class WordCache {
 public:
  struct Entry {
    Key key;
    int32_t ids[kIds];
  };
  struct Bucket {
    Entry entries[2];
  };
  static constexpr size_t kBytes = sizeof(Bucket) << kBucketBits;
  static constexpr int kMaxIds = kIds;

  WordCache() {
    memory_ = allocate_huge(kBytes);
    if (memory_ == nullptr) throw std::bad_alloc();
    std::memset(memory_, 0, kBytes);
    buckets_ = static_cast<Bucket*>(memory_);
  }
  WordCache(const WordCache&) = delete;
  ~WordCache() { std::free(memory_); }

  Bucket* bucket(uint64_t hash) const { return buckets_ + (hash >> (64 - kBucketBits)); }

  // Writes kIds ids to `out`, of which the returned number count; 0 when the word is unknown.
  static int find(Bucket* bucket, const Key& key, int32_t* out) {
    Entry* entry = &bucket->entries[0];
    if (!(entry->key == key)) {
      if (!(bucket->entries[1].key == key)) return 0;
      const Entry newer = bucket->entries[1];
      bucket->entries[1] = bucket->entries[0];
      bucket->entries[0] = newer;
    }
    std::memcpy(out, entry->ids, sizeof entry->ids);
    const auto first = static_cast<uint32_t>(out[0]);
    out[0] = static_cast<int32_t>(first & 0x0fffffff);
    return static_cast<int>(first >> 28);
  }

  static void put(Bucket* bucket, const Key& key, const int32_t* ids, size_t count) {
    bucket->entries[1] = bucket->entries[0];
    Entry& entry = bucket->entries[0];
    entry.key = key;
    std::memcpy(entry.ids, ids, count * sizeof *ids);
    entry.ids[0] = ids[0] | static_cast<int32_t>(static_cast<uint32_t>(count) << 28);
  }

 private:
  void* memory_;
  Bucket* buckets_;
};

}  // namespace gristmill
