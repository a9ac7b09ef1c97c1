#include "c4.hpp"

#include <algorithm>
#include <cstring>

#include "lines.hpp"

namespace gristmill {
namespace {

// Phrases in small ASCII letters, and the place of the letter in each that is rarest in English, by
// which they are looked for.
struct Phrase {
  std::string_view letters;
  size_t rare;
};
constexpr Phrase kLorem{"lorem ipsum", 7}, kJavascript{"javascript", 0};
constexpr Phrase kPolicies[] = {{"terms of use", 7},  {"privacy policy", 3}, {"cookie policy", 3},
                                {"uses cookies", 8},  {"use of cookies", 10}, {"use cookies", 7}};

bool contains(std::string_view text, const Phrase& phrase) {
  const auto [letters, rare] = phrase;
  if (text.size() < letters.size()) return false;
  const char* const last = text.data() + text.size() - letters.size();  // where it may begin
  for (const char letter : {letters[rare], static_cast<char>(letters[rare] ^ 0x20)}) {
    const char* p = text.data() + rare;
    while (p <= last + rare) {
      p = static_cast<const char*>(
          std::memchr(p, letter, static_cast<size_t>(last + rare - p) + 1));
      if (!p) break;
      const char* const at = p - rare;
      size_t same = 0;
      while (same < letters.size()) {
        const char c = at[same];
        if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != letters[same]) break;
        ++same;
      }
      if (same == letters.size()) return true;
      ++p;
    }
  }
  return false;
}

bool contains_policy(std::string_view text) {
  return std::any_of(std::begin(kPolicies), std::end(kPolicies),
                     [&](const Phrase& phrase) { return contains(text, phrase); });
}

bool has_terminal(std::string_view line) {
  if (line.empty() || line.ends_with("...")) return false;
  return std::string_view(".?!\"'").find(line.back()) != line.npos;
}

// Bytes of the citation that a text begins with: [12], [], [edit] or [citation needed].
size_t citation(std::string_view text) {
  for (const std::string_view known : {"[edit]", "[citation needed]"})
    if (text.starts_with(known)) return known.size();
  size_t at = 1;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
  return at < text.size() && text[at] == ']' ? at + 1 : 0;
}

void remove_citations(std::string_view text, std::string& out) {
  out.clear();
  size_t from = 0, at = 0;
  while ((at = text.find('[', at)) != text.npos) {
    const size_t size = citation(text.substr(at));
    if (size == 0) {
      ++at;
      continue;
    }
    out.append(text, from, at - from);
    from = at += size;
  }
  out.append(text, from);
}

// Words between spaces, counted up to `enough`, and whether one is longer than `longest`.
struct Runs {
  size_t words;
  bool too_long;
};

Runs count_runs(std::string_view line, size_t enough, size_t longest) {
  const auto& table = characters::Table::get();
  const auto* p = reinterpret_cast<const uint8_t*>(line.data());
  const auto* const end = p + line.size();
  const bool watch = longest != kOff && line.size() > longest;
  size_t words = 0, length = 0;
  while (p < end && (watch || words < enough || length == 0)) {
    const auto [point, size] = characters::decode(p, end);
    p += size;
    if (table.flags(point) & characters::kSpace) {
      length = 0;
      continue;
    }
    words += length++ == 0;
    if (watch && length > longest) return {words, true};
    if (!watch && words >= enough) break;
  }
  return {words, false};
}

}  // namespace

C4Verdict C4::operator()(std::string_view text, const C4Rules& rules, std::string& out) {
  if (rules.none()) {
    out += text;
    return C4Verdict::kKept;
  }
  // What the document does not have is not looked for in its lines.
  const bool lorem = rules.lorem_ipsum && contains(text, kLorem);
  const bool javascript = rules.javascript && contains(text, kJavascript);
  const bool policies = rules.policies && contains_policy(text);
  const bool bracket = rules.curly_bracket && text.find('{') != text.npos;
  const bool citations = rules.citations && text.find('[') != text.npos;

  const size_t begin = out.size();
  size_t sentences = 0;
  bool first = true;
  C4Verdict verdict = C4Verdict::kKept;
  each_line(text, [&](std::string_view line) {
    if (verdict != C4Verdict::kKept) return;
    line = strip(line);
    const auto [words, too_long] = count_runs(line, rules.min_words, rules.max_word);
    if (too_long) return;
    if (citations && line.find('[') != line.npos) {
      remove_citations(line, line_);
      line = line_;
    }
    if (rules.terminal_punctuation && !has_terminal(line)) return;
    if (words < rules.min_words) return;
    if (lorem && contains(line, kLorem)) {
      verdict = C4Verdict::kLoremIpsum;
      return;
    }
    if (javascript && contains(line, kJavascript)) return;
    if (bracket && line.find('{') != line.npos) {
      verdict = C4Verdict::kCurlyBracket;
      return;
    }
    if (policies && contains_policy(line)) return;
    if (sentences < rules.min_sentences) {
      segment(line, words_);
      sentences += std::max<size_t>(1, count_sentences(words_, rules.min_sentences - sentences));
    }
    if (!first) out += '\n';
    first = false;
    out += line;
  });
  if (verdict != C4Verdict::kKept) return verdict;
  if (sentences < rules.min_sentences) return C4Verdict::kFewSentences;
  const auto kept = strip(std::string_view(out).substr(begin));
  if (kept.size() != out.size() - begin) {
    const auto offset = static_cast<size_t>(kept.data() - out.data());
    out.resize(offset + kept.size());
    out.erase(begin, offset - begin);
  }
  return verdict;
}

}  // namespace gristmill
