// Texts without their white space, and paragraphs with theirs made one space a run.
//
// White space is what Python's str.isspace says. Of bytes below 128 a table knows; of the others
// only four begin a character that may be one.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "characters.hpp"

namespace gristmill {

class Spaces {
 public:
  Spaces() {
    for (uint32_t c = 0; c < 256; ++c)
      kinds_[c] = c < 0x80 ? (table_.flags(c) & characters::kSpace ? kSpace : kOther)
                  : c == 0xc2 || (c >= 0xe1 && c <= 0xe3) ? kPerhaps
                                                          : kOther;
  }

  // Copy a text without its white space; gives where the copy ends.
  uint8_t* remove(std::string_view text, uint8_t* to) const {
    const auto* p = reinterpret_cast<const uint8_t*>(text.data());
    const auto* const end = p + text.size();
    while (p < end) {
      const uint8_t kind = kinds_[*p];
      if (kind != kPerhaps) {
        *to = *p++;
        to += kind;
        continue;
      }
      const Character next = decode(p, end);
      if (!next.is_space) {
        std::memcpy(to, p, next.size);
        to += next.size;
      }
      p += next.size;
    }
    return to;
  }

  // Copy the paragraphs of a text, or its lines, that have `least` characters or more, with one
  // space for each run of white space and none at their ends. A paragraph ends where white space has
  // two line breaks. Calls done(end of the copy) for each; gives where the last copy ends.
  template <typename Done>
  uint8_t* paragraphs(std::string_view text, bool lines, size_t least, uint8_t* to,
                      Done&& done) const {
    const auto* p = reinterpret_cast<const uint8_t*>(text.data());
    const auto* const end = p + text.size();
    const int most = lines ? 1 : 2;
    uint8_t* begin = to;
    size_t size = 0;  // in characters
    const auto finish = [&] {
      if (size >= least) {
        done(to);
        begin = to;
      }
      to = begin;
      size = 0;
    };
    while (p < end) {
      int breaks = 0;
      bool spaced = false;
      while (p < end) {
        const uint8_t kind = kinds_[*p];
        if (kind == kOther) break;
        uint32_t length = 1;
        if (kind == kPerhaps) {
          const Character next = decode(p, end);
          if (!next.is_space) break;
          length = next.size;
        }
        breaks += *p == '\n';
        spaced = true;
        p += length;
      }
      if (p == end) break;
      if (breaks >= most)
        finish();
      else if (spaced && size) {
        *to++ = ' ';
        ++size;
      }
      do {
        size += (*p & 0xc0) != 0x80;
        *to++ = *p++;
      } while (p < end && kinds_[*p] == kOther);
    }
    finish();
    return to;
  }

 private:
  enum : uint8_t { kSpace = 0, kOther = 1, kPerhaps = 2 };

  struct Character {
    uint32_t size;  // in bytes
    bool is_space;
  };

  Character decode(const uint8_t* p, const uint8_t* end) const {
    const characters::Decoded next = characters::decode(p, end);
    return {next.size, (table_.flags(next.point) & characters::kSpace) != 0};
  }

  const characters::Table& table_ = characters::Table::get();
  uint8_t kinds_[256];
};

}  // namespace gristmill
