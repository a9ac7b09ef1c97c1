// Lines, white space and characters of a text in UTF-8, as Python's str sees them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "characters.hpp"

namespace gristmill {

inline size_t count_chars(std::string_view text) {
  size_t chars = 0;
  for (const char c : text) chars += (static_cast<uint8_t>(c) & 0xc0) != 0x80;
  return chars;
}

inline size_t count_byte(std::string_view text, char byte) {
  size_t found = 0;
  for (const char c : text) found += c == byte;
  return found;
}

// Occurrences that do not overlap, as str.count has them.
inline size_t count_of(std::string_view text, std::string_view part) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++found;
  return found;
}

inline std::string_view strip_left(std::string_view text) {
  const auto& table = characters::Table::get();
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const auto* const end = p + text.size();
  while (p < end) {
    const auto [point, size] = characters::decode(p, end);
    if (!(table.flags(point) & characters::kSpace)) break;
    p += size;
  }
  return text.substr(text.size() - static_cast<size_t>(end - p));
}

inline std::string_view strip_right(std::string_view text) {
  const auto& table = characters::Table::get();
  const auto* const begin = reinterpret_cast<const uint8_t*>(text.data());
  const auto* end = begin + text.size();
  while (end > begin) {
    const auto* p = end - 1;
    while (p > begin && end - p < 4 && (*p & 0xc0) == 0x80) --p;
    if (!(table.flags(characters::decode(p, end).point) & characters::kSpace)) break;
    end = p;
  }
  return text.substr(0, static_cast<size_t>(end - begin));
}

inline std::string_view strip(std::string_view text) { return strip_left(strip_right(text)); }

// Call `line(std::string_view)` for each of str.splitlines: cut at \n, \r, \r\n, \v, \f, the
// separators 1c to 1e, U+0085, U+2028 and U+2029.
template <typename F>
void each_line(std::string_view text, F&& line) {
  const char* p = text.data();
  const char* const end = p + text.size();
  const char* begin = p;
  while (p < end) {
    if (end - p >= 8) {  // eight bytes without any that could end a line
      uint64_t eight;
      std::memcpy(&eight, p, 8);
      constexpr uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
      const uint64_t controls = (eight - ones * 0x20) & ~eight & tops;
      const auto zero = [](uint64_t x) { return (x - ones) & ~x & tops; };
      uint64_t found = controls;
      if (eight & tops) found |= zero(eight ^ ones * 0xc2) | zero(eight ^ ones * 0xe2);
      if (!found) {
        p += 8;
        continue;
      }
      if constexpr (std::endian::native == std::endian::little) p += std::countr_zero(found) / 8;
    }
    const auto c = static_cast<uint8_t>(*p);
    size_t size = 0;
    if ((c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e)) {
      size = c == '\r' && end - p > 1 && p[1] == '\n' ? 2 : 1;
    } else if (c == 0xc2 && end - p > 1 && static_cast<uint8_t>(p[1]) == 0x85) {
      size = 2;
    } else if (c == 0xe2 && end - p > 2 && static_cast<uint8_t>(p[1]) == 0x80 &&
               (static_cast<uint8_t>(p[2]) & 0xfe) == 0xa8) {
      size = 3;
    }
    if (size == 0) {
      ++p;
      continue;
    }
    line(std::string_view(begin, static_cast<size_t>(p - begin)));
    begin = p += size;
  }
  if (begin < end) line(std::string_view(begin, static_cast<size_t>(end - begin)));
}

// Call `part(std::string_view)` for each part between line feeds, at least `feeds` of them together,
// as re.split(r"\n{feeds,}", text) does.
template <typename F>
void each_part(std::string_view text, size_t feeds, F&& part) {
  size_t begin = 0, at = 0;
  while ((at = text.find('\n', at)) != text.npos) {
    size_t past = at + 1;
    while (past < text.size() && text[past] == '\n') ++past;
    if (past - at >= feeds) {
      part(text.substr(begin, at - begin));
      begin = past;
    }
    at = past;
  }
  part(text.substr(begin));
}

}  // namespace gristmill
