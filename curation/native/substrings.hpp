// Long passages that occur more than once in a corpus: tokens, windows, and finding the equal ones.
//
// Tokens are those of curation/substrings.py. A window is the shortest run of tokens from a given one
// on that weighs at least `tokens` words; a passage that long occurs twice exactly if its windows do.
//
// A window's sample is the least hash of the runs of tokens / 2 tokens ("grams") in it (winnowing:
// Schleimer, Wilkerson and Aiken 2003). Equal windows have equal samples, neighbours mostly share
// theirs, and a sample that the corpus has once is of no repeated window. So the samples, about one
// for thirteen words, tell which documents have to be looked at again, and where; there, windows are
// compared by 122 bits of hash of all their tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sorter.hpp"

namespace gristmill::substrings {

struct Token {
  uint64_t hash;
  uint32_t begin, end;  // bytes of the text
  uint32_t units;       // quarters of a word
};

// Split a text of less than 4 GiB into tokens; raises std::invalid_argument for a longer one.
void split(std::string_view text, std::vector<Token>& tokens);

// Raises std::invalid_argument for a length of windows that is 0 or senseless.
void check(uint32_t tokens);

// What is kept between documents so that nothing is allocated anew.
struct Scratch {
  struct Least {
    uint64_t gram;
    uint32_t place;
  };
  std::vector<Token> tokens;
  std::vector<uint64_t> prefixes, others;
  std::vector<Least> queue;
};

// Add the samples of a text to `out`: each once, in order, the lowest bit telling whether the text
// itself may have a window of that sample twice.
void sample(std::string_view text, uint32_t tokens, Scratch& scratch, std::vector<uint64_t>& out);

struct Cut {
  uint64_t row;
  uint32_t begin, end;  // bytes of the text
  bool operator<(const Cut& other) const {
    return row != other.row       ? row < other.row
           : begin != other.begin ? begin < other.begin
                                  : end < other.end;
  }
};

// Finds what to cut, in four steps: add_samples() for all documents in order; match(); add_text() for
// each document that next_row() asks for; decide(), and take() until there is nothing left.
class Merge {
 public:
  Merge(std::string folder, uint64_t memory, uint32_t tokens, bool keep_first);

  void add_samples(uint64_t row, std::span<const uint64_t> samples);
  void match();
  // The next document whose text is needed, or -1.
  int64_t next_row() const;
  // Raises std::invalid_argument if the text has not the samples that were added for it.
  void add_text(uint64_t row, std::string_view text);
  void decide();
  // The next cut, in order of rows and begins; cuts of one row neither touch nor overlap.
  bool take(Cut& cut);

 private:
  struct Sample {
    uint64_t gram, row;
    bool operator<(const Sample& other) const {
      return gram != other.gram ? gram < other.gram : row < other.row;
    }
  };
  struct Wanted {
    uint64_t row, gram;
    bool operator<(const Wanted& other) const {
      return row != other.row ? row < other.row : gram < other.gram;
    }
  };
  struct Window {
    uint64_t high, low, row;
    uint32_t begin, end;
    bool operator<(const Window& other) const {
      if (high != other.high) return high < other.high;
      if (low != other.low) return low < other.low;
      return row != other.row ? row < other.row : begin < other.begin;
    }
  };

  static void expect(bool ready);

  std::string folder_;
  uint64_t memory_;
  uint32_t tokens_;
  bool keep_first_;
  Scratch scratch_;
  std::vector<uint64_t> grams_;
  std::vector<uint64_t> powers_[2];
  std::unique_ptr<Sorter<Sample>> samples_;
  std::unique_ptr<Sorter<Wanted>> wanted_;
  std::unique_ptr<Sorter<Window>> windows_;
  std::unique_ptr<Sorter<Cut>> cuts_;
};

}  // namespace gristmill::substrings
