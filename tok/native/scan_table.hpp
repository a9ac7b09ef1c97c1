// What a character is to a scheme: flags for every code point, and walking over text by them.
//
// The flags come from the classes of unicode_classes.inc through two tables. The first 2,048 code
// points, which UTF-8 writes in one or two bytes, are found at once; for the rest all bytes but the
// last choose a block of 64, and the last the entry in it. Equal blocks are kept once. A scheme's
// table is made when it is first used, in about 10 ms, and takes about 110 kB, of which a text in
// one script touches a few hundred bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <vector>

namespace gristmill::scan {

namespace unicode {
#include "unicode_classes.inc"

constexpr uint32_t kL = kLu | kLl | kLt | kLm | kLo;
}  // namespace unicode

using Kinds = uint16_t;

// What a character can be. A scheme uses those it needs and may set several.
enum : Kinds {
  kLetter = 1 << 0,         // of a word of letters
  kUpper = 1 << 1,          // a letter that begins words only (o200k)
  kLower = 1 << 2,          // a letter that never begins the capitals of a word (o200k)
  kJoiner = 1 << 3,         // goes on a word of letters but begins none
  kPrefix = 1 << 4,         // goes with the letter behind it
  kSymbol = 1 << 5,         // of a run of symbols
  kSpace = 1 << 6,          // \s
  kBreak = 1 << 7,          // \r or \n; also kSpace
  kDigit = 1 << 8,          // \p{N}
  kRun = 1 << 9,            // of the characters whose runs are cut by themselves
  kRunLetter = 1 << 10      // with kRun: a letter or mark
};

struct Character {
  Kinds kinds;
  uint8_t size;  // bytes; 0 past the end of the text

  bool is(Kinds wanted) const { return kinds & wanted; }
};

class Table {
 public:
  // kinds(code point, its unicode::Property bits) is asked for every code point.
  explicit Table(Kinds (*kinds)(uint32_t, uint32_t)) {
    using Block = std::array<Kinds, 64>;
    std::map<Block, uint16_t> known;
    auto number_of = [&](const Block& block) {
      const auto next = static_cast<uint16_t>(entries_.size() / 64);
      const auto [it, is_new] = known.try_emplace(block, next);
      if (is_new) entries_.insert(entries_.end(), block.begin(), block.end());
      return it->second;
    };
    Block block;
    size_t run = 0;
    for (uint32_t c = 0; c < 0x110000; ++c) {
      while (run + 1 < std::size(unicode::kRuns) && unicode::kRuns[run + 1] >> 8 <= c) ++run;
      const Kinds k = kinds(c, unicode::kClasses[unicode::kRuns[run] & 0xff]);
      block[c % 64] = k;
      if (c < 0x800) {
        entries_.push_back(k);
        block_[c / 64] = static_cast<uint16_t>(c / 64);
      } else if (c % 64 == 63) {
        block_[c / 64] = number_of(block);
      }
    }
    block.fill(kinds(0x10ffff, 0));  // an unassigned character's, for what is not UTF-8
    invalid_ = block[0];
    const uint16_t number = number_of(block);
    for (size_t i = 0x110000 / 64; i < block_.size(); ++i) block_[i] = number;
  }

  Kinds ascii(uint8_t c) const { return entries_[c]; }

  // The character at p, which may be the end.
  [[gnu::always_inline]] Character at(const uint8_t* p, const uint8_t* end) const {
    if (p >= end) return {0, 0};
    if (*p < 0x80) return {entries_[*p], 1};
    return beyond_ascii(p, end);
  }

  [[gnu::always_inline]] Character beyond_ascii(const uint8_t* p, const uint8_t* end) const {
    const uint32_t lead = *p;
    const ptrdiff_t left = end - p;
    if (lead >= 0xe0 && lead < 0xf0 && left >= 3)
      return {entry((lead & 0x0f) << 6 | (p[1] & 0x3f), p[2]), 3};
    if (lead >= 0xc0 && lead < 0xe0 && left >= 2)
      return {entries_[(lead & 0x1f) << 6 | (p[1] & 0x3f)], 2};
    if (lead >= 0xf0 && left >= 4)
      return {entry((lead & 0x07) << 12 | (p[1] & 0x3f) << 6 | (p[2] & 0x3f), p[3]), 4};
    return {invalid_, 1};
  }

 private:
  Kinds entry(uint32_t block, uint8_t last) const {
    return entries_[block_[block] * 64u + (last & 0x3f)];
  }

  std::vector<Kinds> entries_;
  std::array<uint16_t, 0x200000 / 64> block_;  // bytes that are not UTF-8 can spell up to 0x1fffff
  Kinds invalid_;
};

// A place in a text, with the text's end and the table to read it by. Passed by value.
struct Cursor {
  const uint8_t* p;
  const uint8_t* end;
  const Table& table;

  Character here() const { return table.at(p, end); }
  Character after(Character c) const { return table.at(p + c.size, end); }
  bool sees(uint8_t byte) const { return p < end && *p == byte; }

  // Go on over characters of these kinds.
  [[gnu::always_inline]] void pass(Kinds wanted) {
    while (p < end) {
      if (*p < 0x80) {
        if (!(table.ascii(*p) & wanted)) return;
        ++p;
      } else {
        const Character c = table.beyond_ascii(p, end);
        if (!c.is(wanted)) return;
        p += c.size;
      }
    }
  }

  // The same, at most `limit` characters.
  [[gnu::always_inline]] void pass(Kinds wanted, int limit) {
    for (Character c; limit > 0 && (c = here()).is(wanted); --limit) p += c.size;
  }
};

}  // namespace gristmill::scan
