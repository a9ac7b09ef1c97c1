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
// Direct mapped, 2^16 entries of 4 bytes. The question's 42 bits are mixed by a multiplication that
// can be undone; 16 of them choose the entry and the other 26 are kept in it, so answers are exact.
class PairMemo {
 public:
  static constexpr int kSlotBits = 16;

  PairMemo() : entries_(new uint32_t[size_t{1} << kSlotBits]()) {}

  struct Slot {
    uint32_t* entry;
    uint32_t tag;  // bits 6-31; never read back as a whole entry, whose bit 0 says it is in use
    bool known() const { return (*entry & ~2u) == (tag | 1); }
    bool valid() const { return *entry & 2; }
    void set(bool valid) const { *entry = tag | (valid ? 3 : 1); }
  };
  Slot slot(uint32_t left, uint32_t right) const {
    const uint64_t mixed = (uint64_t{left} << Trie::kNumberBits | right) * 0x9e3779b97f4a7c15ULL
                           << (64 - 2 * Trie::kNumberBits);
    return {&entries_[mixed >> (64 - kSlotBits)],
            static_cast<uint32_t>(mixed << kSlotBits >> 32)};
  }

 private:
  std::unique_ptr<uint32_t[]> entries_;
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
  size_t reachable() const { return tokens_.size(); }
  size_t trie_nodes() const { return trie_.nodes(); }

 private:
  // Tokens are numbered in the order in which merging makes them: 0..255 are the bytes, then each
  // merge that makes a new token. So of two merges the one with the smaller number comes first.
  static constexpr uint32_t kNone = ~0u;

  struct Token {
    uint32_t left, right;  // what the merge joined
    // Which bytes, by class, begin what this token or an end of it merges with when it stands on
    // the left; which end what it or a beginning of it merges with when it stands on the right.
    uint32_t begins_after, ends_before;
  };

  static uint64_t pair_key(uint32_t left, uint32_t right) {
    return uint64_t{left} << Trie::kNumberBits | right;
  }
  uint32_t joined(uint32_t left, uint32_t right) const;
  void index_borders(std::span<const std::string_view> strings);
  void add_pair(uint32_t left, uint32_t right, uint32_t number);
  bool side_by_side(uint32_t left, uint32_t right, uint32_t end_class, uint32_t begin_class) const;
  bool side_by_side(uint32_t left, uint32_t right, uint8_t end, uint8_t begin,
                    PairMemo& memo) const {
    const uint32_t end_class = end_class_[end], begin_class = begin_class_[begin];
    if (!(tokens_[left].begins_after & begin_class) ||
        !(tokens_[right].ends_before & end_class))
      return true;
    const PairMemo::Slot slot = memo.slot(left, right);
    if (slot.known()) return slot.valid();
    const bool valid = side_by_side(left, right, end_class, begin_class);
    slot.set(valid);
    return valid;
  }

  HugeVector<Token> tokens_;  // by number, as are ids_ and lengths_
  HugeVector<int32_t> ids_;
  std::vector<uint16_t> lengths_;
  HugeVector<uint64_t> pairs_;  // open addressing: pair_key << 21 | number, plus 1; 0 is empty
  uint32_t pair_shift_ = 0;
  std::vector<uint64_t> maybe_;  // a bit for each hash of a pair in pairs_
  uint32_t begin_class_[256], end_class_[256];  // a byte's class, as a bit
  Trie trie_;
  std::string unreachable_bytes_;
  std::unordered_map<std::string_view, int32_t> unreachable_;  // for `whole_words`
  size_t longest_unreachable_ = 0;
};

}  // namespace gristmill
