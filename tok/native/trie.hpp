// A trie of byte strings for longest-prefix search, as a double array.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "huge.hpp"

namespace gristmill {

// Longest match of a set of byte strings at the start of a text.
//
// A node is one 64-bit unit: where its children lie, the byte that leads to it, and the longest
// string of the set that is a prefix of the node's path (so a walk has nothing to remember: it goes
// as deep as it can and reads the answer there). The child along byte c lies at children + c, and
// no two nodes share `children`, so comparing the label alone tells whether it is ours.
//
// Cost: one load a byte walked. Memory: 8 bytes a node (about two nodes a token in a vocabulary of
// 128,000) and 4 a string.
class Trie {
 public:
  static constexpr uint32_t kNumberBits = 21;
  static constexpr uint32_t kMaxLength = (1u << (32 - kNumberBits)) - 1;

  // What a search gives: a string's number and its length; 0 length when nothing matched.
  struct Match {
    uint32_t packed = 0;
    uint32_t number() const { return packed & ((1u << kNumberBits) - 1); }
    uint32_t length() const { return packed >> kNumberBits; }
  };

  Trie() = default;
  // Strings are distinct, not empty, at most kMaxLength long and fewer than 2^21; string i's number
  // is i; an empty view stands for a number that is not in the set. Throws std::length_error when
  // they need more than 2^23 nodes.
  explicit Trie(std::span<const std::string_view> strings);

  // The longest string that [at, end) begins with. at < end.
  Match longest(const uint8_t* at, const uint8_t* end) const {
    uint64_t unit = units_[*at];
    ++at;
    while (at != end) {
      const uint64_t child = units_[children(unit) + *at];
      if ((child & 0x1ff) != (*at | 0x100u)) break;
      unit = child;
      ++at;
    }
    return {static_cast<uint32_t>(unit >> 32)};
  }

  // The longest string of the set that is a proper prefix of string `number`.
  Match shorter(uint32_t number) const { return {shorter_[number]}; }

  size_t nodes() const { return nodes_; }

 private:
  // Bits 0-7 label, 8 in use, 9-31 children, 32-63 the match. Leaves and free units have children
  // at `kNowhere`, 256 units that are never in use.
  static uint32_t children(uint64_t unit) { return static_cast<uint32_t>(unit) >> 9; }

  HugeVector<uint64_t> units_;
  HugeVector<uint32_t> shorter_;
  size_t nodes_ = 0;
};

}  // namespace gristmill
