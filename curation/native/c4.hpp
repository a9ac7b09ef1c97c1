// The line rules of C4 (Raffel et al. 2020, section 2.2), as datatrove has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokens.hpp"

namespace gristmill {

constexpr size_t kOff = static_cast<size_t>(-1);

struct C4Rules {
  bool citations, terminal_punctuation, lorem_ipsum, javascript, curly_bracket, policies;
  size_t min_words = 0, max_word = kOff, min_sentences = 0;

  // Then a text stays as it is, its indentation included.
  bool none() const {
    return !(citations || terminal_punctuation || lorem_ipsum || javascript || curly_bracket ||
             policies || min_words || min_sentences) && max_word == kOff;
  }
};

enum class C4Verdict : uint8_t { kKept, kLoremIpsum, kCurlyBracket, kFewSentences };

class C4 {
 public:
  // Append to `out` the lines that pass, joined by \n and stripped; what was appended means nothing
  // where the verdict is not kKept.
  C4Verdict operator()(std::string_view text, const C4Rules& rules, std::string& out);

 private:
  std::string line_;  // without its citations
  std::vector<Word> words_;
};

}  // namespace gristmill
