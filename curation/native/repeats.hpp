// What comes again in a document: parts (lines, paragraphs) and n-grams of words.
//
// All is told apart by 64-bit hashes in one open-addressing table, which keeps its memory from
// document to document: nothing is allocated once it has grown. Parts hash their bytes, n-grams
// their words' hashes. An n-gram can come again only where the shorter ones that it begins and ends
// with do, so each length looks at what the one before has left: pairs of words are nearly all of
// the cost, and a document that does not repeat itself is left after four words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokens.hpp"

namespace gristmill {

uint64_t hash_bytes(std::string_view bytes);

// How often keys come. Keys are hashes: their upper bits choose a slot, 31 of the lower ones are kept
// to tell them apart, so of a million different n-grams one pair in ten thousand documents is taken
// for the same. A quarter of the slots is filled at most, as a collision is a branch that nothing
// predicts; whether a key is new is no branch.
class Counts {
 public:
  // Forget everything, and make room for so many keys.
  void clear(size_t keys);

  // Count a key; gives its slot.
  [[gnu::always_inline]] uint32_t add(uint64_t key) {
    const uint32_t tag = static_cast<uint32_t>(key) | 1;
    size_t at = key >> shift_;
    uint32_t found;
    while ((found = slots_[at].tag) != tag && found != 0) at = (at + 1) & mask_;
    const uint32_t count = slots_[at].count + 1;
    slots_[at].tag = tag;
    slots_[at].count = count;
    most_ = count > most_ ? count : most_;
    return static_cast<uint32_t>(at);
  }

  // A key that will be added soon.
  void expect(uint64_t key) const { __builtin_prefetch(&slots_[key >> shift_], 1); }

  uint32_t count(uint32_t slot) const { return slots_[slot].count; }
  bool again(uint32_t slot) const { return slots_[slot].count > 1; }

  // Whether this was called before for the slot; its count is of no use then.
  bool seen(uint32_t slot) {
    const uint32_t count = slots_[slot].count;
    slots_[slot].count = count | kSeen;
    return count & kSeen;
  }

  // The greatest count.
  uint32_t most() const { return most_; }

 private:
  static constexpr uint32_t kSeen = uint32_t{1} << 31;
  struct Slot {
    uint32_t tag, count;
  };
  std::vector<Slot> slots_;
  size_t mask_ = 0;
  unsigned shift_ = 63;
  uint32_t most_ = 0;
};

struct Duplicates {
  size_t parts = 0, again = 0, chars_again = 0;
};

class Repeats {
 public:
  // The parts of re.split(r"\n{feeds,}", text): how many, how many came before, and those's
  // characters.
  Duplicates parts(std::string_view text, size_t feeds);

  // Lines cut at \n that are not blank.
  Duplicates filled_lines(std::string_view text);

  // Characters in the n-grams of a text's words, n being 2 to 10, each times `factor`. For n up to 4
  // the most frequent one's (of equals, the first), times its count, spaces between its words
  // included but for a factor of 2; from 5 on those of all that came before, where after each the search goes on behind it.
  void ngrams(std::string_view text, const std::vector<Word>& words, size_t factor,
              size_t (&chars)[9]);

 private:
  void add(std::string_view part, Duplicates& found);
  size_t top(size_t n, size_t first, size_t spaces) const;
  size_t duplicate(size_t n);
  void keep_repeated(size_t n, size_t size);

  struct Place {  // of an n-gram that may come again
    uint64_t key;
    uint32_t word, slot;
  };

  Counts counts_;
  std::vector<uint64_t> hashes_, keys_;  // of words, of pairs of them
  std::vector<uint32_t> slots_;  // of each pair of words
  std::vector<uint32_t> ends_;  // characters up to the end of each word
  std::vector<Place> places_;
  std::vector<std::string_view> parts_;};

}  // namespace gristmill
