// Byte-level BPE of one word, in time linear in its length.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "trie.hpp"

namespace gristmill {

// The vocabulary cannot be encoded by this method; the message says why. Such vocabularies are
// legal (merges listed before the merges that make their parts), just not ours to encode.
struct Unsuitable : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

struct MergeRule {
  int32_t left, right, joined;  // ids
};

// What one thread remembers between words: answers to "may these two tokens stand side by side".
// Direct mapped, 2^16 entries of 8 bytes, exact (an entry holds all of the question).
class PairMemo {
 public:
  PairMemo() : entries_(new uint64_t[kSize]()) {}
  // 1 valid, 0 not, -1 unknown.
  int get(uint64_t key) const {
    const uint64_t entry = entries_[slot(key)];
    return entry >> 1 == key ? static_cast<int>(entry & 1) : -1;
  }
  void put(uint64_t key, bool valid) { entries_[slot(key)] = key << 1 | valid; }

 private:
  static constexpr size_t kSize = size_t{1} << 16;
  static size_t slot(uint64_t key) { return key * 0x9e3779b97f4a7c15ULL >> 48; }
  std::unique_ptr<uint64_t[]> entries_;
};

class Bpe {
 public:
  // `tokens`: the bytes of the vocabulary's entries end to end, entry i at offsets[i] ..
  // offsets[i + 1], its id ids[i]. `merges` by rank. `whole_words`: a word that is an entry becomes
  // that entry before any merge (`ignore_merges`). Throws std::invalid_argument when a byte has no
  // token, Unsuitable when a merge can make use of what only a later merge makes.
  Bpe(std::span<const uint8_t> tokens, std::span<const int64_t> offsets,
      std::span<const int32_t> ids, std::span<const MergeRule> merges, bool whole_words);

  // Encode one word. `out` has room for `size` ids and is filled from its start; returns how many.
  size_t encode(const uint8_t* word, size_t size, int32_t* out, PairMemo& memo) const;

  // How many entries some text can be encoded to by merges alone.
  size_t reachable() const { return ids_.size(); }
  size_t trie_nodes() const { return trie_.nodes(); }

 private:
  // Tokens are numbered in the order in which merging makes them: 0..255 are the bytes, then each
  // merge that makes a new token. So of two merges the one with the smaller number comes first.
  static constexpr uint32_t kNone = ~0u;

  struct Parts {
    uint32_t left, right;
  };

  static uint64_t pair_key(uint32_t left, uint32_t right) {
    return uint64_t{left} << Trie::kNumberBits | right;
  }
  uint32_t joined(uint32_t left, uint32_t right) const;
  void add_pair(uint32_t left, uint32_t right, uint32_t number);
  bool side_by_side(uint32_t left, uint32_t right) const;
  bool side_by_side(uint32_t left, uint32_t right, PairMemo& memo) const {
    const uint64_t key = pair_key(left, right) + 1;  // 0 is the empty entry
    const int known = memo.get(key);
    if (known >= 0) return known;
    const bool valid = side_by_side(left, right);
    memo.put(key, valid);
    return valid;
  }

  std::vector<int32_t> ids_;     // id of a token number
  std::vector<uint16_t> lengths_;
  std::vector<Parts> parts_;     // what a merge joined
  std::vector<uint64_t> pairs_;  // open addressing: pair_key << 21 | number, plus 1; 0 is empty
  uint32_t pair_shift_ = 0;
  Trie trie_;
  std::string unreachable_bytes_;
  std::unordered_map<std::string_view, int32_t> unreachable_;  // for `whole_words`
  size_t longest_unreachable_ = 0;
};

}  // namespace gristmill
