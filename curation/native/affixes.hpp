// The ends of a piece of prose: what is taken off the front and the back of it, and the pieces that
// are left alone: contractions, abbreviations, addresses. The rules are spaCy's for English.
#pragma once

#include <cstring>
#include <string_view>

#include "prose.hpp"

namespace gristmill::prose {

inline bool digit(uint8_t c) { return c >= '0' && c <= '9'; }
inline bool lower(uint8_t c) { return c >= 'a' && c <= 'z'; }
inline bool upper(uint8_t c) { return c >= 'A' && c <= 'Z'; }
inline bool letter(uint8_t c) { return lower(c | 0x20); }

// All functions take a piece, or what is left of one: [begin, end), not empty unless they say so.
class Affixes {
 public:
  // Bytes of the punctuation that a piece begins with; 0 for none.
  size_t opening(const uint8_t* begin, const uint8_t* end) const {
    if (*begin == '.') {
      const uint8_t* p = begin;
      while (p < end && *p == '.') ++p;
      return p - begin > 1 ? static_cast<size_t>(p - begin) : 0;
    }
    if (*begin == '+') return end - begin > 1 && digit(begin[1]) ? 0 : 1;
    if (*begin < 0x80) return kAscii[*begin] & kOpening ? 1 : 0;
    const auto [point, size] = characters::decode(begin, end);
    return kinds_[point] & kOpening ? size : 0;
  }

  // Bytes of what is taken off the end of a piece; 0 for nothing.
  size_t closing(const uint8_t* begin, const uint8_t* end) const {
    if (begin == end) return 0;
    const uint8_t last = end[-1];
    if (last == '.') {
      const uint8_t* p = end;
      while (p > begin && p[-1] == '.') --p;
      if (end - p > 1) return static_cast<size_t>(end - p);
      if (p == begin) return 0;
      const auto [point, size] = before(begin, p);
      const unsigned kind = kinds_[point];
      if (kind & (kLowerChar | kDigit | kQuote) || point == '%' || point == '-' || point == '+' ||
          (kind & kClosing && point != '='))
        return 1;
      if (!(kind & kUpperChar) || p - size == begin) return 0;
      return kinds_[before(begin, p - size).point] & kUpperChar ? 1 : 0;
    }
    if ((last | 0x20) == 's' && end - begin >= 2) {
      if (end[-2] == '\'') return 2;
      if (end - begin >= 4 && end[-2] == 0x99 && end[-3] == 0x80 && end[-4] == 0xe2) return 4;
    }
    if (last < 0x80) {
      if (kAscii[last] & kClosing) return 1;
      if (last == '%' || last == '$' || last == '+')
        return end - begin > 1 && digit(end[-2]) ? 1 : 0;
      if (!letter(last)) return 0;
      const uint8_t* p = end;
      while (p > begin && end - p < 5 && (letter(p[-1]) || p[-1] == '/')) --p;
      return p > begin && digit(p[-1]) && kUnits.contains(p, end) ? static_cast<size_t>(end - p)
                                                                  : 0;
    }
    const auto [point, size] = before(begin, end);
    return kinds_[point] & kClosing ? size : 0;
  }

  // Where a contraction is cut: bytes of its first word, all of them for an abbreviation that stays
  // whole, 0 for what is neither.
  size_t exception(const uint8_t* begin, const uint8_t* end) const {
    const auto size = static_cast<size_t>(end - begin);
    if (size < 2 || size > 14) return 0;
    if (end[-1] == '.') {
      if (size == 2) return lower(*begin) ? 2 : 0;
      return kAbbreviations.contains(begin, end) ? size : 0;
    }
    if (!letter(end[-1])) return 0;
    // The apostrophe, ' or ’, is one to three bytes before the end.
    const uint8_t* tail = end;
    while (tail > begin && end - tail < 3 && letter(tail[-1])) --tail;
    const uint8_t* mark;
    if (tail > begin && tail[-1] == '\'') {
      mark = tail - 1;
    } else if (tail - begin >= 3 && tail[-1] == 0x99 && tail[-2] == 0x80 && tail[-3] == 0xe2) {
      mark = tail - 3;
    } else {
      return 0;
    }
    if (mark == begin) return kVerbs.contains(tail, end) || is(tail, end, "em") ? size : 0;
    uint8_t stem[8];
    const auto length = static_cast<size_t>(mark - begin);
    if (length > sizeof stem) return 0;
    for (size_t i = 0; i < length; ++i) {
      if (!letter(begin[i])) return 0;
      stem[i] = begin[i] | 0x20;
    }
    if (is(tail, end, "t") && length > 1 && stem[length - 1] == 'n')
      return kBeforeNot.contains(stem, stem + length - 1) ? length - 1 : 0;
    return kVerbs.contains(tail, end) && kBeforeVerb.contains(stem, stem + length) ? length : 0;
  }

  // A web or mail address: scheme, user, host names with dots, port, path; all but the host may lack.
  bool address(const uint8_t* begin, const uint8_t* end) const {
    const uint8_t* p = begin;
    for (const uint8_t* q = begin; q + 2 < end && (letter(*q) || *q == ':'); ++q)
      if (*q == ':' && q > begin && q[1] == '/' && q[2] == '/') {
        p = q + 3;
        break;
      }
    if (const void* at = std::memchr(p, '@', static_cast<size_t>(end - p)))
      p = static_cast<const uint8_t*>(at) + 1;
    // Labels of letters, digits and inner hyphens; the last one is of letters.
    const uint8_t* label = p;
    bool dots = false, only_letters = true;
    for (; p < end; ++p) {
      if (letter(*p) || *p >= 0x80) continue;
      if (digit(*p) || ((*p == '-' || *p == '_') && p > label)) {
        only_letters = false;
        continue;
      }
      if (*p != '.' || p == label) break;
      dots = true;
      label = p + 1;
      only_letters = true;
    }
    if (!dots || !only_letters || p - label < 2) return false;
    if (p < end && *p == ':') {
      for (++p; p < end && digit(*p);) ++p;
    }
    return p == end || *p == '/' || *p == '?' || *p == '#';
  }

 private:
  // The character that ends at p.
  characters::Decoded before(const uint8_t* begin, const uint8_t* p) const {
    const uint8_t* q = p - 1;
    while (q > begin && p - q < 4 && (*q & 0xc0) == 0x80) --q;
    return {characters::decode(q, p).point, static_cast<uint32_t>(p - q)};
  }

  static bool is(const uint8_t* begin, const uint8_t* end, std::string_view word) {
    return static_cast<size_t>(end - begin) == word.size() &&
           std::memcmp(begin, word.data(), word.size()) == 0;
  }

  const Kinds& kinds_ = Kinds::get();
};

}  // namespace gristmill::prose
