// What the quality filters measure of one document. Python holds the thresholds and decides.
//
// Shares of nothing are NaN, which no threshold is above or below.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "repeats.hpp"
#include "tokens.hpp"

namespace gristmill {

// A language's stop words, and how many of them a text has.
class StopWords {
 public:
  explicit StopWords(const std::vector<std::string>& words);

  // Different ones among the words, counted up to `enough`.
  size_t count(std::string_view text, const std::vector<Word>& words, size_t enough);

 private:
  std::vector<uint64_t> slots_;  // hashes, 0 where free
  std::vector<uint32_t> seen_;   // for each slot the last text that had it
  uint32_t text_ = 0;
};

// Gopher (Rae et al. 2021, A1.1), as datatrove counts: words with more than punctuation, their mean
// length in characters, # and ellipses per word, lines that begin with a bullet, that end in an
// ellipsis, words with a letter, stop words.
constexpr size_t kGopherQuality = 8;
void gopher_quality(std::string_view text, const std::vector<Word>& words, StopWords& stop,
                    size_t enough, double* out);

// Gopher, as datatrove counts: shares of paragraphs that came before and of their characters, the
// same of lines; shares of characters in the top 2-, 3- and 4-gram and in duplicate 5- to 10-grams.
// In a text of lone letters an n-gram is one of 2n letters, as a written word has about two.
constexpr size_t kGopherRepetition = 13;
void gopher_repetition(std::string_view text, const std::vector<Word>& words, Repeats& repeats,
                       double* out);

// FineWeb (Penedo et al. 2024, 3.6): of the lines that are not blank those that end in a terminal
// character and those of at most `short_line` characters; characters in lines that came before; line
// breaks per word.
constexpr size_t kFineweb = 4;
void fineweb(std::string_view text, const std::vector<Word>& words, size_t short_line,
             Repeats& repeats, double* out);

// Controls per character, symbols and punctuation per letter, letters per visible character, mean
// and longest line that is not blank, in characters.
constexpr size_t kSymbols = 5;
void symbols(std::string_view text, double* out);

}  // namespace gristmill
