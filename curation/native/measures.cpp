#include "measures.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "lines.hpp"

namespace gristmill {
namespace {

double share(size_t part, size_t whole) {
  return whole ? static_cast<double>(part) / static_cast<double>(whole)
               : std::numeric_limits<double>::quiet_NaN();
}

constexpr std::string_view kDots = "...", kEllipsis = "…", kBullet = "•";

}  // namespace

StopWords::StopWords(const std::vector<std::string>& words)
    : slots_(std::bit_ceil(4 * words.size() + 4)), seen_(slots_.size()) {
  for (const auto& word : words) {
    const uint64_t hash = hash_bytes(word);
    size_t at = hash & (slots_.size() - 1);
    while (slots_[at] && slots_[at] != hash) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = hash;
  }
}

size_t StopWords::count(std::string_view text, const std::vector<Word>& words, size_t enough) {
  if (++text_ == 0) {
    std::fill(seen_.begin(), seen_.end(), 0);
    text_ = 1;
  }
  size_t found = 0;
  for (const Word& word : words) {
    if (found >= enough) break;
    const uint64_t hash = hash_bytes(text.substr(word.begin, word.end - word.begin));
    for (size_t at = hash & (slots_.size() - 1); slots_[at]; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at] != hash) continue;
      found += seen_[at] != text_;
      seen_[at] = text_;
      break;
    }
  }
  return found;
}

void gopher_quality(std::string_view text, const std::vector<Word>& words, StopWords& stop,
                    size_t enough, double* out) {
  size_t more = 0, chars = 0, alphabetic = 0;
  for (const Word& word : words) {
    const bool counts = word.flags & kHasMore;
    more += counts;
    chars += counts ? word.chars : 0;
    alphabetic += word.flags & kHasLetter;
  }
  size_t lines = 0, bullets = 0, trailing = 0;
  each_line(text, [&](std::string_view line) {
    ++lines;
    const auto right = strip_right(line);
    trailing += right.ends_with(kDots) || right.ends_with(kEllipsis);
    const auto left = strip_left(line);
    bullets += left.starts_with('-') || left.starts_with(kBullet);
  });
  const double values[kGopherQuality] = {
      static_cast<double>(more),
      share(chars, more),
      share(count_byte(text, '#'), words.size()),
      share(count_of(text, kDots) + count_of(text, kEllipsis), words.size()),
      share(bullets, lines),
      share(trailing, lines),
      share(alphabetic, words.size()),
      static_cast<double>(stop.count(text, words, enough)),
  };
  std::copy(std::begin(values), std::end(values), out);
}

void gopher_repetition(std::string_view text, const std::vector<Word>& words, Repeats& repeats,
                       double* out) {
  const size_t all = count_chars(text);
  const Duplicates paragraphs = repeats.parts(strip(text), 2);
  *out++ = share(paragraphs.again, paragraphs.parts);
  *out++ = share(paragraphs.chars_again, all);
  const Duplicates lines = repeats.parts(text, 1);
  *out++ = share(lines.again, lines.parts);
  *out++ = share(lines.chars_again, all);
  size_t lone = 0;
  for (const Word& word : words) lone += (word.flags & kLoneLetter) != 0;
  size_t chars[9];
  repeats.ngrams(text, words, 10 * lone > 7 * words.size() ? 2 : 1, chars);
  for (const size_t found : chars) *out++ = share(found, all);
}

void fineweb(std::string_view text, const std::vector<Word>& words, size_t short_line,
             Repeats& repeats, double* out) {
  size_t lines = 0, ended = 0, brief = 0;
  each_part(text, 1, [&](std::string_view line) {
    if (strip_left(line).empty()) return;
    ++lines;
    const auto* const end = reinterpret_cast<const uint8_t*>(line.data() + line.size());
    const auto* p = end - 1;
    while (*p >= 0x80 && (*p & 0xc0) == 0x80 && end - p < 4 && p > end - line.size()) --p;
    ended += ends_sentence(characters::decode(p, end).point);
    // A character has at most four bytes, so most lines need not be counted.
    brief += line.size() <= 4 * short_line && count_chars(line) <= short_line;
  });
  const size_t breaks = count_byte(text, '\n');
  out[0] = share(ended, lines);
  out[1] = share(brief, lines);
  out[2] = share(repeats.filled_lines(text).chars_again, count_chars(text) - breaks);
  out[3] = share(breaks, words.size());
}

namespace {

// Four counters of 16 bits in one number: letters and marks, symbols, spaces, controls.
constexpr uint64_t packed(unsigned flags) {
  if (flags & characters::kControl) return uint64_t{1} << 48;
  if (flags & characters::kSpace) return uint64_t{1} << 32;
  if (flags & (characters::kLetter | characters::kMark)) return 1;
  return flags & (characters::kPunctuation | characters::kSymbol) ? 1 << 16 : 0;
}

std::array<uint64_t, 128> packed_ascii() {
  std::array<uint64_t, 128> counters;
  for (uint32_t c = 0; c < 128; ++c) counters[c] = packed(characters::Table::get().flags(c));
  return counters;
}

}  // namespace

void symbols(std::string_view text, double* out) {
  static const auto ascii = packed_ascii();
  const auto& table = characters::Table::get();
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const auto* const end = p + text.size();
  size_t counts[4] = {};
  while (p < end) {
    const auto* const stop = end - p > 0xf000 ? p + 0xf000 : end;  // before a counter overflows
    uint64_t sum = 0;
    while (p < stop) {
      if (*p < 0x80) {
        sum += ascii[*p++];
      } else {
        const auto [point, size] = characters::decode(p, end);
        sum += packed(table.flags(point));
        p += size;
      }
    }
    for (size_t& count : counts) {
      count += sum & 0xffff;
      sum >>= 16;
    }
  }
  const auto [letters, signs, spaces, controls] = counts;
  const size_t all = count_chars(text);
  size_t lines = 0, total = 0, longest = 0;
  each_part(text, 1, [&](std::string_view line) {
    if (strip_left(line).empty()) return;
    const size_t width = count_chars(line);
    ++lines;
    total += width;
    longest = std::max(longest, width);
  });
  out[0] = share(controls, all);
  out[1] = static_cast<double>(signs) / static_cast<double>(std::max<size_t>(letters, 1));
  out[2] = share(letters, all - spaces);
  out[3] = share(total, lines);
  out[4] = static_cast<double>(longest);
}

}  // namespace gristmill
