// Cutting text into words (pretokens) without a regex engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gristmill {

// One for each scheme of tok/schemes.py; a scanner cuts exactly as the scheme's regexes do.
enum class Scheme : uint8_t { gpt2, cl100k, o200k, deepseek_v3, multilingual, multilingual_superword };

// The scheme of a name as tok/schemes.py writes it. Throws std::invalid_argument, which lists the
// names, for any other.
Scheme scheme_of(std::string_view name);

// Walks over one text of valid UTF-8. Words lie end to end and cover the text, so their ends say
// everything. The text may be longer than 4 GiB. Of text that is not valid UTF-8 only this is
// promised: every byte is in a word, and nothing outside the text is read.
class Scanner {
 public:
  Scanner(Scheme scheme, const uint8_t* text, size_t size)
      : scheme_(scheme), text_(text), size_(size) {}

  // Fill `ends` with the ends (byte offsets in the text) of the next words, at most `capacity`;
  // returns how many. 0 at the end of the text.
  size_t next(size_t* ends, size_t capacity);

 private:
  Scheme scheme_;
  const uint8_t* text_;
  size_t size_;
  size_t at_ = 0;
  size_t piece_end_ = 0;  // past at_: a piece, cut by an earlier expression, that at_ is inside of
};

}  // namespace gristmill
