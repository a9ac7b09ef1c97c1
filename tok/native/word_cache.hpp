// What a word was encoded to the last time: bounded memories, which each thread has of its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "huge.hpp"
#include "word_key.hpp"

namespace gristmill {

// Words of up to 15 bytes. A bucket, a cache line, holds the two words of its hash that were met
// last. The key of all zeros, which no word has, is an empty entry. Four ids lie inline, their
// number in the top bits of the first, so ids are below 2^28; words with more are not kept.
//
// The table begins with 2 MiB and is doubled, up to 32 MiB, when it has taken in as many words as
// it has buckets: most texts never touch more, and new pages cost time.
class ShortWords {
 public:
  static constexpr size_t kIds = 4;
  struct Entry {
    ShortKey key;
    int32_t ids[kIds];
  };
  struct Bucket {
    Entry entries[2];
  };

  Bucket* bucket(uint64_t hash) const { return memory_.as<Bucket>() + (hash >> (64 - bits_)); }

  // Writes four ids to `out`, of which the returned number count; 0 when the word is unknown.
  static size_t find(Bucket* bucket, const ShortKey& key, int32_t* out) {
    Entry* entry = &bucket->entries[0];
    if (!(entry->key == key)) {
      if (!(bucket->entries[1].key == key)) return 0;
      std::swap(bucket->entries[0], bucket->entries[1]);
    }
    std::memcpy(out, entry->ids, sizeof entry->ids);
    const auto first = static_cast<uint32_t>(out[0]);
    out[0] = static_cast<int32_t>(first & 0x0fffffff);
    return first >> 28;
  }

  void put(Bucket* bucket, const ShortKey& key, const int32_t* ids, size_t count) {
    if (count > kIds) return;
    Entry entry{key, {}};
    std::memcpy(entry.ids, ids, count * sizeof *ids);
    entry.ids[0] |= static_cast<int32_t>(static_cast<uint32_t>(count) << 28);
    insert(bucket, entry);
    ++taken_;
  }

  // Moves the buckets, if it is time to: to be called when none of them is held.
  void grow() {
    if (taken_ < size_t{1} << bits_ || bits_ == kMaxBits) return;
    ShortWords larger(bits_ + 1);
    for (size_t i = 0; i < size_t{1} << bits_; ++i)
      for (int k : {1, 0}) {  // the older first
        const Entry& entry = memory_.as<Bucket>()[i].entries[k];
        if (entry.key.high != 0) larger.insert(larger.bucket(entry.key.hash()), entry);
      }
    larger.taken_ = taken_;
    *this = std::move(larger);
  }

  ShortWords() : ShortWords(15) {}

 private:
  static constexpr int kMaxBits = 19;

  static void insert(Bucket* bucket, const Entry& entry) {
    bucket->entries[1] = bucket->entries[0];
    bucket->entries[0] = entry;
  }

  explicit ShortWords(int bits) : bits_(bits), memory_(sizeof(Bucket) << bits) {}

  int bits_;
  size_t taken_ = 0;
  HugeZeros memory_;
};

// Words of 16 to 255 bytes. Words and ids are written one behind the other into a ring of 32 MiB,
// each over the oldest; by hash, a table of 2^17 pairs of places tells where. A place counts bytes
// from the beginning of time, so it says whether what it points to has been overwritten.
class LongWords {
 public:
  static constexpr size_t kMinWord = ShortKey::kMaxWord + 1, kMaxWord = 255;
  struct Bucket {
    uint64_t slots[2];  // 24 bits of the hash above 40 of the place in units of 4 bytes; 0 is empty
  };

  static uint64_t hash(const uint8_t* word, size_t size) {
    uint64_t h = size, both[2];
    for (size_t at = 0; at < size; at += 16) {
      std::memcpy(both, word + std::min(at, size - 16), 16);
      h = ShortKey::fold(both[0] ^ 0xa0761d6478bd642fULL, both[1] ^ h ^ 0xe7037ed1a0b428dbULL);
    }
    return h;
  }

  Bucket* bucket(uint64_t hash) const { return table_.as<Bucket>() + (hash >> (64 - kBits)); }

  // Writes ids to `out`, which has room for as many as the word has bytes; returns how many, 0 when
  // the word is unknown.
  size_t find(Bucket* bucket, uint64_t hash, const uint8_t* word, size_t size, int32_t* out) const {
    for (uint64_t& slot : bucket->slots) {
      if (slot == 0 || (slot ^ tag(hash)) >> kPlaceBits != 0) continue;
      const uint64_t place = slot & ((uint64_t{1} << kPlaceBits) - 1);
      if (end_ - place > kUnits) continue;
      const uint32_t* record = ring_.as<uint32_t>() + place % kUnits;
      if (record[0] >> 16 != size || std::memcmp(record + 1, word, size) != 0) continue;
      const size_t count = record[0] & 0xffff;
      std::memcpy(out, record + 1 + units(size), count * sizeof *out);
      if (&slot != bucket->slots) std::swap(bucket->slots[0], bucket->slots[1]);
      return count;
    }
    return 0;
  }

  void put(Bucket* bucket, uint64_t hash, const uint8_t* word, size_t size, const int32_t* ids,
           size_t count) {
    const size_t needed = 1 + units(size) + count;
    if (end_ % kUnits + needed > kUnits) end_ += kUnits - end_ % kUnits;
    if (end_ >> kPlaceBits != 0) {  // after four terabytes
      std::memset(table_.as<Bucket>(), 0, sizeof(Bucket) << kBits);
      end_ = 1;
    }
    uint32_t* record = ring_.as<uint32_t>() + end_ % kUnits;
    record[0] = static_cast<uint32_t>(size << 16 | count);
    std::memcpy(record + 1, word, size);
    std::memcpy(record + 1 + units(size), ids, count * sizeof *ids);
    bucket->slots[1] = bucket->slots[0];
    bucket->slots[0] = tag(hash) | end_;
    end_ += needed;
  }

 private:
  static constexpr int kBits = 17, kPlaceBits = 40;
  static constexpr uint64_t kUnits = (32 << 20) / 4;
  static size_t units(size_t bytes) { return (bytes + 3) / 4; }
  static uint64_t tag(uint64_t hash) { return hash << kPlaceBits; }

  HugeZeros table_{sizeof(Bucket) << kBits};
  HugeZeros ring_{kUnits * 4};
  uint64_t end_ = 1;  // where the next record goes, in units
};

}  // namespace gristmill
