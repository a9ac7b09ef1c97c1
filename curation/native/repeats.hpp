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

// Keys with a count and a number each. Keys are hashes: their bits are spread already.
class Counts {
 public:
  struct Slot {
    uint64_t key;
    uint32_t count, first;
  };

  // Forget everything, and make room for so many keys.
  void clear(size_t keys);

  // The place of the key's slot; `first` is kept if it is new. Counts it.
  size_t add(uint64_t key, uint32_t first) {
    key += key == 0;
    size_t at = key >> shift_;
    while (slots_[at].key != key) {
      if (slots_[at].key == 0) {
        slots_[at] = {key, 1, first};
        return at;
      }
      at = (at + 1) & mask_;
    }
    ++slots_[at].count;
    return at;
  }

  Slot& operator[](size_t at) { return slots_[at]; }

 private:
  std::vector<Slot> slots_;
  size_t mask_ = 0;
  unsigned shift_ = 63;
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
  // the most frequent one's (of equals, the first), spaces between its words included, times its
  // count; from 5 on those of all that came before, where after each the search goes on behind it.
  void ngrams(std::string_view text, const std::vector<Word>& words, size_t factor,
              size_t (&chars)[9]);

 private:
  void add(std::string_view part, Duplicates& found);
  size_t top(size_t n) const;
  size_t duplicate(size_t n);

  struct Place {  // of an n-gram that may come again
    uint64_t key;
    uint32_t word, slot;
  };

  Counts counts_;
  std::vector<uint64_t> hashes_;
  std::vector<uint32_t> ends_;  // characters up to the end of each word
  std::vector<Place> places_;
  std::vector<std::string_view> parts_;
  uint32_t most_ = 0, most_first_ = 0;
};

}  // namespace gristmill
