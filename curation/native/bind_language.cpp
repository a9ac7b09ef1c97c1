// Two looks at texts for the language filter: letters by script, and the shapes of lines.
//
// Twins: `languages.script_counts` and the one in tests/curation/test_kinds.py, which also says
// what the measures mean. What is a keyword, and what the numbers mean, is Python's to say.

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_set>

#include "bind.hpp"
#include "characters.hpp"

namespace gristmill {
namespace {

using std::string_view;

bool is_letter(uint8_t c) { return static_cast<uint8_t>((c | 0x20) - 'a') < 26; }
bool is_name(uint8_t c) { return is_letter(c) || static_cast<uint8_t>(c - '0') < 10 || c == '_'; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

void count_scripts(string_view text, const uint8_t* table, uint32_t* counts) {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const auto* end = p + text.size();
  uint32_t latin = 0;
  while (p < end) {
    while (end - p >= 32) {  // a block of ASCII, which the compiler makes wide instructions of
      uint8_t any = 0, letters = 0;
      for (int i = 0; i < 32; ++i) any |= p[i];
      if (any & 0x80) break;
      for (int i = 0; i < 32; ++i) letters += is_letter(p[i]);
      latin += letters;
      p += 32;
    }
    for (const auto* stop = p + std::min<ptrdiff_t>(32, end - p); p < stop;) {
      const auto [point, size] = characters::decode(p, end);
      ++counts[table[point]];
      p += size;
    }
  }
  counts[table['a']] += latin;
}

struct Shape {
  uint32_t code = 0, prose = 0, total = 0, code_lines = 0, marks = 0, words = 0;
};

// What a byte may begin, so that lines without it are not looked at again.
enum : uint8_t { kLetter = 1, kWide = 2, kMath = 4, kCode = 8 };
constexpr auto kBytes = [] {
  std::array<uint8_t, 256> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[c] = table[c - 32] = kLetter;
  for (int c = 0x80; c < 0x100; ++c) table[c] = kWide;
  for (uint8_t c : {'\\', '^', '_', '$', '\xe2', '\xf0'}) table[c] |= kMath;
  for (uint8_t c : {'(', '_', '=', '{', '}', '-', '&', '|', '*', '"', '\'', '<', '.', ':', '/'})
    table[c] |= kCode;
  table[';'] |= kCode;
  return table;
}();

struct Words {
  uint32_t count = 0;
  uint8_t seen = 0;
};

// Words of a line without its outer blanks; a run of n bytes beyond ASCII counts n/6, rounded up.
Words count_words(string_view line) {
  Words words;
  const auto* p = reinterpret_cast<const uint8_t*>(line.data());
  for (const auto* end = p + line.size(); p < end;) {
    const uint8_t kind = kBytes[*p];
    const auto* start = p++;
    words.seen |= kind;
    if (kind & kWide) {
      for (; p < end && kBytes[*p] & kWide; ++p) words.seen |= kBytes[*p];
      words.count += static_cast<uint32_t>((p - start + 5) / 6);
    } else if (kind & kLetter) {
      while (p < end && kBytes[*p] & kLetter) ++p;
      ++words.count;
    }
  }
  return words;
}

// Marks of mathematics: LaTeX commands, sub- and superscripts in braces, characters, and formulas
// between dollars (two each).
uint32_t count_math(string_view line) {
  uint32_t marks = 0;
  const size_t n = line.size();
  auto at = [&](size_t i) { return i < n ? static_cast<uint8_t>(line[i]) : uint8_t{0}; };
  for (size_t i = 0; i < n; ++i) {
    const uint8_t c = at(i), before = i ? at(i - 1) : uint8_t{0};
    if (c == '\\') {
      if (is_name(before) || before == '"' || before == '\'' || before == '\\') continue;
      const uint8_t next = at(i + 1);
      marks += next == '[' || next == '(' || (is_letter(next) && is_letter(at(i + 2)));
    } else if (c == '^' || c == '_') {
      marks += at(i + 1) == '{';
    } else if (c == 0xe2) {
      const uint8_t d = at(i + 1);
      marks += (d >= 0x86 && d <= 0x8b) || d == 0x9f || (d >= 0xa6 && d <= 0xab);
    } else if (c == 0xf0) {
      marks += at(i + 1) == 0x9d && at(i + 2) >= 0x90 && at(i + 2) <= 0x9f;
    }
  }
  for (size_t i = 0; i < n; ++i) {
    if (at(i) != '$') continue;
    if (at(i + 1) == '$') {
      marks += 2, ++i;
      continue;
    }
    const uint8_t before = i ? at(i - 1) : uint8_t{0};
    if (is_name(before) || before == '\\' || before == '$' || i + 1 == n || is_blank(line[i + 1]))
      continue;
    const size_t close = line.substr(0, i + 102).find('$', i + 1);
    if (close == string_view::npos || is_blank(line[close - 1])) continue;
    const uint8_t after = at(close + 1);
    if (is_name(after) || after == '{' || after == '$') continue;
    marks += 2;
    i = close;
  }
  return marks;
}

uint32_t count_code(string_view line) {
  uint32_t marks = line.ends_with(';');
  const size_t n = line.size();
  auto at = [&](size_t i) { return i < n ? static_cast<uint8_t>(line[i]) : uint8_t{0}; };
  for (size_t i = 0; i < n; ++i) {
    const uint8_t c = at(i), next = at(i + 1), before = i ? at(i - 1) : uint8_t{0};
    switch (c) {
      case '(': marks += is_name(before); break;
      case '_': marks += is_name(before) && is_name(next); break;
      case '=': marks += before != '='; break;
      case '{': case '}': ++marks; break;
      case '-': marks += next == '>'; break;
      case '&': marks += next == '&' && before != '&'; break;
      case '|': marks += next == '|' && before != '|'; break;
      case '*': marks += next == '/'; break;
      case '"': case '\'': marks += next == ':'; break;
      case '<': marks += next == '/' || next == '!' || next == '?' || is_letter(next); break;
      case '.':
        marks += (is_name(before) || before == ')' || before == ']') &&
                 ((next >= 'a' && next <= 'z') || next == '_');
        break;
      case ':':
        if (next == '/' && at(i + 2) == '/') {  // an address is no code
          while (i + 1 < n && !is_blank(line[i + 1]) && !std::strchr(")\"<>", line[i + 1])) ++i;
        } else {
          marks += next == ':' && before != ':';
        }
        break;
      case '/': marks += next == '>' || next == '*' || (next == '/' && before != '/'); break;
      default: break;
    }
  }
  return marks;
}

constexpr std::array<std::array<string_view, 2>, 5> kComments{
    {{"/*", "*/"}, {"/-", "-/"}, {"<!--", "-->"}, {"\"\"\"", "\"\"\""}, {"'''", "'''"}}};

Shape shape_of(string_view text, const std::unordered_set<string_view>& keywords) {
  Shape s;
  string_view closer;  // of the comment that we are in
  bool code = false;   // the last line that was code or prose
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = text.find('\n', begin);
    if (end == string_view::npos) end = text.size();
    string_view line = text.substr(begin, end - begin);
    const bool indented = !line.empty() && (line[0] == ' ' || line[0] == '\t');
    begin = end + 1;
    while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
    while (!line.empty() && is_blank(line.back())) line.remove_suffix(1);
    if (line.empty()) continue;
    const auto size = static_cast<uint32_t>(line.size());
    const auto [words, seen] = count_words(line);
    s.total += size;
    s.words += words;
    if (seen & kMath) s.marks += count_math(line);
    if (!closer.empty()) {
      if (line.find(closer) != string_view::npos) closer = {};
      continue;
    }
    bool comment = false;
    for (const auto& [open, close] : kComments) {
      if (!line.starts_with(open)) continue;
      const size_t end_of_it = line.find(close, open.size());
      if (end_of_it == string_view::npos) closer = close;
      comment = end_of_it == string_view::npos || end_of_it + close.size() == line.size();
      break;
    }
    if (comment) continue;
    const string_view first = line.substr(0, line.find_first_of(" \t(:;{"));
    const bool keyword = keywords.contains(first);
    if (!keyword && (line[0] == '#' || line[0] == '*')) continue;
    uint32_t marks = (seen & kCode ? count_code(line) : 0) + keyword;
    if (line.starts_with("//")) marks += words;
    if (marks && 4 * marks >= words)
      code = true;
    else if (words == 0)
      continue;
    else
      code = code && indented;
    (code ? s.code : s.prose) += size;
    s.code_lines += code;
  }
  return s;
}

}  // namespace

void bind_language(nb::module_& m) {
  m.def(
      "script_counts",
      [](nb::handle array, Array<uint8_t> table, size_t scripts) {
        const Texts texts(array);
        if (table.size() != 0x110000)
          throw nb::value_error("expected a script for each of the 0x110000 code points");
        for (size_t i = 0; i < table.size(); ++i)
          if (table.data()[i] >= scripts) throw nb::value_error("a script beyond their number");
        std::vector<uint32_t> counts(texts.size() * scripts);
        {
          nb::gil_scoped_release release;
          for (size_t i = 0; i < texts.size(); ++i)
            count_scripts(texts[i], table.data(), counts.data() + i * scripts);
        }
        return to_numpy(std::move(counts), scripts);
      },
      nb::arg("texts"), nb::arg("table"), nb::arg("scripts"),
      "uint32 [texts, scripts]: characters of each script, by a table of code points.");
  m.def(
      "line_shapes",
      [](nb::handle array, const std::vector<std::string>& keywords) {
        const Texts texts(array);
        std::vector<uint32_t> values;
        values.reserve(texts.size() * 6);
        {
          nb::gil_scoped_release release;
          const std::unordered_set<string_view> known(keywords.begin(), keywords.end());
          for (size_t i = 0; i < texts.size(); ++i) {
            const Shape s = shape_of(texts[i], known);
            values.insert(values.end(), {s.code, s.prose, s.total, s.code_lines, s.marks, s.words});
          }
        }
        return to_numpy(std::move(values), 6);
      },
      nb::arg("texts"), nb::arg("keywords"),
      "uint32 [texts, 6]: bytes of code, of prose and of all lines; lines of code; marks of "
      "mathematics; words.");
}

}  // namespace gristmill
