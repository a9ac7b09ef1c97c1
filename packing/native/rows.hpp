// Rows of a batch, filled piece by piece from mapped shards: the loader's loop over tokens. And the
// same tokens bare, as rows are published.
//
// A piece costs three look-ups (its offset and length in the shard's index, its document's source)
// and one pass over its tokens; a row is written to its end, with labels and padding, while it is in
// the cache. Nothing is trusted: a piece outside of its shard ends the work with its number.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace gristmill::rows {

constexpr int64_t kIgnored = -100;

// A shard as it lies in memory. The index's numbers stand at odd places, so they are copied out.
struct Shard {
  const int32_t* tokens = nullptr;  // null: not open yet; written last, see `is_open`
  size_t token_count = 0;
  const uint8_t* lengths = nullptr;  // int32 [documents], in tokens
  const uint8_t* offsets = nullptr;  // int64 [documents], in bytes
  size_t documents = 0;
  const uint8_t* sources = nullptr;  // of `source_bytes` each, little end first
  size_t source_bytes = 1;
  bool one_source = false;  // sources has a single one, for all documents
};

// What fills the rows: `ends` is the running number of pieces, [rows]; the others are [pieces].
struct Pieces {
  const int64_t* ends;
  const int32_t* shard;
  const int64_t* document;
  const int64_t* start;
  const int32_t* length;
};

struct Batch {
  int64_t* ids;
  int64_t* labels;
  int32_t* documents;
  int32_t* sources;
};

// Another thread may be opening it: who sees the tokens sees the rest.
inline bool is_open(const Shard& shard) {
  return std::atomic_ref(const_cast<Shard&>(shard).tokens).load(std::memory_order_acquire) !=
         nullptr;
}

inline void open(Shard& shard, const Shard& from) {
  shard.token_count = from.token_count;
  shard.lengths = from.lengths;
  shard.offsets = from.offsets;
  shard.documents = from.documents;
  shard.sources = from.sources;
  shard.source_bytes = from.source_bytes;
  shard.one_source = from.one_source;
  std::atomic_ref(shard.tokens).store(from.tokens, std::memory_order_release);
}

template <typename T>
T load(const uint8_t* from, size_t at) {
  T value;
  std::memcpy(&value, from + at * sizeof(T), sizeof(T));
  return value;
}

inline int32_t source_of(const Shard& shard, size_t document) {
  uint32_t value = 0;
  std::memcpy(&value, shard.sources + (shard.one_source ? 0 : document) * shard.source_bytes,
              shard.source_bytes);
  return static_cast<int32_t>(value);
}

// The tokens of a piece, or null where the shard has none there.
inline const int32_t* find(const Shard& shard, int64_t document, int64_t start, int64_t length) {
  if (document < 0 || static_cast<size_t>(document) >= shard.documents) return nullptr;
  const int64_t has = load<int32_t>(shard.lengths, document);
  if (start < 0 || length < 1 || start > has || length > has - start) return nullptr;
  const int64_t first = load<int64_t>(shard.offsets, document) / 4 + start;
  if (first < 0 || static_cast<size_t>(first + length) > shard.token_count) return nullptr;
  return shard.tokens + first;
}

// Fill `count` rows of `width` tokens. `apart`: no label crosses from one piece into the next.
// Returns the number of pieces, or that of the first that is in no open shard or too long.
inline size_t fill(const Shard* shards, size_t shard_count, const Pieces& pieces, size_t count,
                   size_t width, int32_t pad, bool apart, const Batch& out) {
  size_t piece = 0;
  for (size_t row = 0; row < count; ++row) {
    int64_t* ids = out.ids + row * width;
    int64_t* labels = out.labels + row * width;
    int32_t* documents = out.documents + row * width;
    int32_t* sources = out.sources + row * width;
    size_t at = 0;
    const auto end = static_cast<size_t>(pieces.ends[row]);
    for (int32_t number = 0; piece < end; ++piece, ++number) {
      const auto s = static_cast<size_t>(pieces.shard[piece]);  // a negative one is too large
      if (s >= shard_count || !is_open(shards[s])) return piece;
      const int32_t* tokens =
          find(shards[s], pieces.document[piece], pieces.start[piece], pieces.length[piece]);
      const auto length = static_cast<size_t>(pieces.length[piece]);
      if (tokens == nullptr || length > width - at) return piece;
      std::copy(tokens, tokens + length, ids + at);
      std::fill_n(documents + at, length, number);
      std::fill_n(sources + at, length, source_of(shards[s], pieces.document[piece]));
      // The label before this piece was written as if there were none; now there is.
      if (at > 0 && !apart) labels[at - 1] = ids[at];
      std::copy(ids + at + 1, ids + at + length, labels + at);
      labels[at + length - 1] = kIgnored;
      at += length;
    }
    std::fill(ids + at, ids + width, static_cast<int64_t>(pad));
    std::fill(labels + at, labels + width, kIgnored);
    std::fill(documents + at, documents + width, -1);
    std::fill(sources + at, sources + width, -1);
  }
  return piece;
}

// Write the tokens of pieces end to end. Returns as `fill` does; `room`: of `out`, in tokens.
inline size_t copy(const Shard* shards, size_t shard_count, const Pieces& pieces, size_t count,
                   int32_t* out, size_t room) {
  for (size_t piece = 0; piece < count; ++piece) {
    const auto s = static_cast<size_t>(pieces.shard[piece]);
    if (s >= shard_count || !is_open(shards[s])) return piece;
    const auto length = static_cast<size_t>(pieces.length[piece]);
    const int32_t* tokens =
        find(shards[s], pieces.document[piece], pieces.start[piece], pieces.length[piece]);
    if (tokens == nullptr || length > room) return piece;
    out = std::copy(tokens, tokens + length, out);
    room -= length;
  }
  return count;
}

}  // namespace gristmill::rows
