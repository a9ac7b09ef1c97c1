// What the words of prose are cut by: kinds of characters, and the exceptions that are words.
//
// spaCy's rules are lists of characters; here they are Unicode's categories, but for the blocks where
// the two differ in what is common. The kinds of all code points are a table, blocks of 64 that are
// equal kept once.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string_view>
#include <vector>

#include "characters.hpp"

namespace gristmill::prose {

// Characters beyond ASCII that a sentence can end in: Sentence_Terminal of Unicode's PropList.txt.
constexpr uint32_t kTerminal[][2] = {
    {0x589, 0x589}, {0x61d, 0x61f}, {0x6d4, 0x6d4}, {0x700, 0x702}, {0x7f9, 0x7f9},
    {0x837, 0x837}, {0x839, 0x839}, {0x83d, 0x83e}, {0x964, 0x965}, {0x104a, 0x104b},
    {0x1362, 0x1362}, {0x1367, 0x1368}, {0x166e, 0x166e}, {0x1735, 0x1736}, {0x17d4, 0x17d5},
    {0x1803, 0x1803}, {0x1809, 0x1809}, {0x1944, 0x1945}, {0x1aa8, 0x1aab}, {0x1b4e, 0x1b4f},
    {0x1b5a, 0x1b5b}, {0x1b5e, 0x1b5f}, {0x1b7d, 0x1b7f}, {0x1c3b, 0x1c3c}, {0x1c7e, 0x1c7f},
    {0x2024, 0x2024}, {0x203c, 0x203d}, {0x2047, 0x2049}, {0x2cf9, 0x2cfb}, {0x2e2e, 0x2e2e},
    {0x2e3c, 0x2e3c}, {0x2e53, 0x2e54}, {0x2e60, 0x2e61}, {0x3002, 0x3002}, {0xa4ff, 0xa4ff},
    {0xa60e, 0xa60f}, {0xa6f3, 0xa6f3}, {0xa6f7, 0xa6f7}, {0xa876, 0xa877}, {0xa8ce, 0xa8cf},
    {0xa92f, 0xa92f}, {0xa9c8, 0xa9c9}, {0xaa5d, 0xaa5f}, {0xaaf0, 0xaaf1}, {0xabeb, 0xabeb},
    {0xfe12, 0xfe12}, {0xfe15, 0xfe16}, {0xfe52, 0xfe52}, {0xfe56, 0xfe57}, {0xff01, 0xff01},
    {0xff0e, 0xff0e}, {0xff1f, 0xff1f}, {0xff61, 0xff61}, {0x10a56, 0x10a57}, {0x10f55, 0x10f59},
    {0x10f86, 0x10f89}, {0x11047, 0x11048}, {0x110be, 0x110c1}, {0x11141, 0x11143}, {0x111c5, 0x111c6},
    {0x111cd, 0x111cd}, {0x111de, 0x111df}, {0x11238, 0x11239}, {0x1123b, 0x1123c}, {0x112a9, 0x112a9},
    {0x113d4, 0x113d5}, {0x1144b, 0x1144c}, {0x115c2, 0x115c3}, {0x115c9, 0x115d7}, {0x11641, 0x11642},
    {0x1173c, 0x1173e}, {0x11944, 0x11944}, {0x11946, 0x11946}, {0x11a42, 0x11a43}, {0x11a9b, 0x11a9c},
    {0x11c41, 0x11c42}, {0x11ef7, 0x11ef8}, {0x11f43, 0x11f44}, {0x16a6e, 0x16a6f}, {0x16af5, 0x16af5},
    {0x16b37, 0x16b38}, {0x16b44, 0x16b44}, {0x16d6e, 0x16d6f}, {0x16e98, 0x16e98}, {0x1bc9f, 0x1bc9f},
    {0x1da88, 0x1da88},
};

// Kinds of a character, for the rules below.
enum Kind : uint16_t {
  kSpaceChar = 1,
  kLetterChar = 2,  // and marks
  kUpperChar = 4,   // may be a capital: letters without case may be both
  kLowerChar = 8,
  kDigit = 16,  // 0 to 9
  kOpening = 32,   // separable at the front of a piece
  kClosing = 64,   // separable at its end
  kQuote = 128,
  kLone = 256,     // a letter or mark of a script without spaces
  kHyphen = 512,
  kSplitter = 1024,  // : < > = /
  kOther = 2048,     // none of these
  kIcon = 4096,      // separable anywhere
  kMarkChar = 8192,
};

constexpr bool has(std::string_view set, char c) { return set.find(c) != set.npos; }

constexpr std::array<uint16_t, 128> make_ascii() {
  std::array<uint16_t, 128> kinds{};
  for (int i = 0; i < 128; ++i) {
    const char c = static_cast<char>(i);
    unsigned kind = 0;
    if ((i >= 9 && i <= 13) || (i >= 28 && i <= 32)) kind |= kSpaceChar;
    if (c >= 'a' && c <= 'z') kind |= kLetterChar | kLowerChar;
    if (c >= 'A' && c <= 'Z') kind |= kLetterChar | kUpperChar;
    if (c >= '0' && c <= '9') kind |= kDigit;
    if (has(",:;!?()[]{}<>_#*&'\"`", c)) kind |= kOpening | kClosing;
    if (has("%=$", c)) kind |= kOpening;
    if (has("'\"`", c)) kind |= kQuote;
    if (has("-~", c)) kind |= kHyphen;
    if (has(":<>=/", c)) kind |= kSplitter;
    kinds[i] = static_cast<uint16_t>(kind ? kind : unsigned{kOther});
  }
  return kinds;
}

constexpr auto kAscii = make_ascii();

inline uint16_t find_kind(uint32_t point) {
  if (point < 0x80) return kAscii[point];
  namespace ch = characters;
  const auto& table = ch::Table::get();
  const unsigned flags = table.flags(point);
  if (flags & ch::kSpace) return kSpaceChar;
  if (flags & (ch::kLetter | ch::kMark)) {
    if (flags & ch::kUnspaced)
      return kLetterChar | kUpperChar | kLowerChar | kLone | (flags & ch::kMark ? unsigned{kMarkChar} : 0u);
    unsigned kind = flags & ch::kMark ? kLetterChar | kMarkChar : kLetterChar;
    if (!(flags & ch::kUpper)) kind |= kLowerChar;
    if (!(flags & ch::kLower)) kind |= kUpperChar;
    return static_cast<uint16_t>(kind);
  }
  if (point == 0x2013 || point == 0x2014) return kHyphen | kOpening | kClosing;
  if (point == 0x2026) return kOpening | kClosing | kIcon;
  if (flags & ch::kPunctuation) {
    // Of the general punctuation, spaCy takes off dashes, quotes and the ellipsis alone.
    if (point >= 0x2010 && point <= 0x205e)
      return point >= 0x2018 && point <= 0x201e ? kOpening | kClosing | kQuote : kOther;
    if (point == 0xab || point == 0xbb || (point >= 0x3008 && point <= 0x3011))
      return kOpening | kClosing | kQuote;
    return kOpening | kClosing;
  }
  if (flags & ch::kSymbol) return kOpening | kClosing | kIcon;
  return kOther;
}

class Kinds {
 public:
  uint16_t operator[](uint32_t point) const {
    return kinds_[blocks_[point / 64] * 64u + point % 64];
  }

  static const Kinds& get() {
    static const Kinds kinds;
    return kinds;
  }

 private:
  Kinds() {
    std::map<std::array<uint16_t, 64>, uint16_t> known;
    for (uint32_t block = 0; block < blocks_.size(); ++block) {
      std::array<uint16_t, 64> found;
      for (uint32_t i = 0; i < 64; ++i) found[i] = find_kind(block * 64 + i);
      const auto [it, is_new] =
          known.try_emplace(found, static_cast<uint16_t>(kinds_.size() / 64));
      if (is_new) kinds_.insert(kinds_.end(), found.begin(), found.end());
      blocks_[block] = it->second;
    }
  }

  std::vector<uint16_t> kinds_;
  std::array<uint16_t, 0x110000 / 64> blocks_;
};

// Words of at most 8 bytes, packed into a number each, in an open-addressing table.
class ShortWords {
 public:
  explicit ShortWords(std::initializer_list<std::string_view> words) {
    for (const auto word : words) {
      const uint64_t key = pack(reinterpret_cast<const uint8_t*>(word.data()), word.size());
      size_t at = place(key);
      while (slots_[at]) at = (at + 1) % slots_.size();
      slots_[at] = key;
    }
  }

  bool contains(const uint8_t* begin, const uint8_t* end) const {
    const auto size = static_cast<size_t>(end - begin);
    if (size == 0 || size > 8) return false;
    const uint64_t key = pack(begin, size);
    for (size_t at = place(key); slots_[at]; at = (at + 1) % slots_.size())
      if (slots_[at] == key) return true;
    return false;
  }

 private:
  static uint64_t pack(const uint8_t* bytes, size_t size) {
    uint64_t key = 0;
    for (size_t i = 0; i < size; ++i) key = key << 8 | bytes[i];
    return key;
  }
  static size_t place(uint64_t key) { return key * 0x9e3779b97f4a7c15u >> 56; }

  std::array<uint64_t, 256> slots_{};
};

// With their full stop.
inline const ShortWords kAbbreviations{
    "Mr.",   "Mrs.",  "Ms.",   "Dr.",    "St.",   "Mt.",   "Prof.", "Rev.",  "Gen.", "Gov.",
    "Sen.",  "Rep.",  "Adm.",  "Messrs.", "Jr.",  "Co.",   "co.",   "Corp.", "Inc.", "Ltd.",
    "Bros.", "vs.",   "v.s.",  "a.m.",   "p.m.",  "e.g.",  "i.e.",  "E.g.",  "I.e.", "Ph.D.",
    "Jan.",  "Feb.",  "Mar.",  "Apr.",   "Jun.",  "Jul.",  "Aug.",  "Sep.",  "Sept.", "Oct.",
    "Nov.",  "Dec.",  "Ala.",  "Ariz.",  "Ark.",  "Calif.", "Colo.", "Conn.", "Del.", "Fla.",
    "Ga.",   "Id.",   "Ill.",  "Ind.",   "Ia.",   "Kan.",  "Kans.", "Ky.",   "La.",  "Md.",
    "Mass.", "Mich.", "Minn.", "Miss.",  "Mo.",   "Mont.", "Neb.",  "Nebr.", "Nev.", "Okla.",
    "Ore.",  "Pa.",   "Tenn.", "Va.",    "Wash.", "Wis.",  "Ak."};

// What stands before n't, and before 's, 'll, 're, 've, 'd, in small letters.
inline const ShortWords kBeforeNot{"do",   "does",  "did",   "ca",    "could", "have", "has", "had",
                            "is",   "are",   "was",   "were",  "wo",    "would", "sha", "should",
                            "need", "must",  "might", "may",   "ought", "dare", "ai"};
inline const ShortWords kBeforeVerb{"i",    "you",   "he",    "she",   "it",    "we",    "they",  "who",
                             "what", "when",  "where", "why",   "how",   "there", "that",  "this",
                             "these", "those", "could", "might", "must", "should", "would", "let"};
inline const ShortWords kVerbs{"ll", "re", "ve", "d", "m", "s"};
inline const ShortWords kUnits{"km", "m",  "dm", "cm", "mm", "ha", "nm", "yd", "in", "ft", "kg", "g",
                        "mg", "t",  "lb", "oz", "m/s", "km/h", "kmh", "mph", "hPa", "Pa", "mbar",
                        "mb", "MB", "kb", "KB", "gb", "GB", "tb", "TB", "T", "G", "M", "K",
                        "am", "pm"};

}  // namespace gristmill::prose
