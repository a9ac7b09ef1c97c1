// What a code point is: its properties and its lower case, as tables, and reading UTF-8 by them.
//
// 2.2 MB for flags (two bytes a code point) would miss the caches, so blocks of 64 that are equal are
// kept once: about 40 kB, of which a text in one script touches a few hundred bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <vector>

namespace gristmill::characters {

#include "characters.inc"

struct Decoded {
  uint32_t point;
  uint32_t size;  // bytes
};

// The character at p < end. Texts are valid UTF-8 by contract; a byte that is not is U+FFFD.
[[gnu::always_inline]] inline Decoded decode(const uint8_t* p, const uint8_t* end) {
  const uint32_t lead = *p;
  const auto left = static_cast<size_t>(end - p);
  if (lead < 0x80) return {lead, 1};
  if (lead >= 0xc2 && lead < 0xe0 && left >= 2) return {(lead & 0x1f) << 6 | (p[1] & 0x3fu), 2};
  if (lead >= 0xe0 && lead < 0xf0 && left >= 3)
    return {(lead & 0x0f) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu), 3};
  if (lead >= 0xf0 && lead < 0xf5 && left >= 4) {
    const uint32_t point =
        (lead & 0x07) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
    if (point < 0x110000) return {point, 4};
  }
  return {0xfffd, 1};
}

class Table {
 public:
  uint16_t flags(uint32_t point) const { return flags_[blocks_[point / 64] * 64u + point % 64]; }

  uint32_t lower(uint32_t point) const {
    return point + static_cast<uint32_t>(shifts_[lower_blocks_[point / 64] * 64u + point % 64]);
  }

  static const Table& get() {
    static const Table table;
    return table;
  }

 private:
  template <typename T>
  static void compress(const std::vector<T>& all, std::vector<T>& kept,
                       std::array<uint16_t, 0x110000 / 64>& blocks) {
    std::map<std::vector<T>, uint16_t> known;
    for (size_t block = 0; block < blocks.size(); ++block) {
      std::vector<T> values(all.begin() + block * 64, all.begin() + (block + 1) * 64);
      const auto [it, is_new] =
          known.try_emplace(std::move(values), static_cast<uint16_t>(kept.size() / 64));
      if (is_new) kept.insert(kept.end(), it->first.begin(), it->first.end());
      blocks[block] = it->second;
    }
  }

  Table() {
    std::vector<uint16_t> all(0x110000);
    for (size_t run = 0; run < std::size(kRuns); ++run) {
      const uint32_t end = run + 1 < std::size(kRuns) ? kRuns[run + 1] >> 8 : 0x110000;
      for (uint32_t point = kRuns[run] >> 8; point < end; ++point)
        all[point] = kClasses[kRuns[run] & 0xff];
    }
    compress(all, flags_, blocks_);
    std::vector<int32_t> shifts(0x110000);
    for (const auto& [point, lower] : kLowerCase)
      shifts[point] = static_cast<int32_t>(lower) - static_cast<int32_t>(point);
    compress(shifts, shifts_, lower_blocks_);
  }

  std::vector<uint16_t> flags_;
  std::vector<int32_t> shifts_;
  std::array<uint16_t, 0x110000 / 64> blocks_, lower_blocks_;
};

}  // namespace gristmill::characters
