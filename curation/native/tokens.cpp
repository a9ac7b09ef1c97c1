#include "tokens.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <iterator>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "affixes.hpp"
#include "characters.hpp"
#include "prose.hpp"

namespace gristmill {
namespace {

namespace ch = characters;
using namespace prose;
using Byte = const uint8_t;


// Which of 64 bytes are no ASCII letters, the first in the lowest bit.
inline uint64_t find_others(Byte* bytes) {
  uint64_t letters = 0;
#if defined(__SSE2__)
  for (int i = 0; i < 4; ++i) {
    const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 16 * i));
    // Small letters, moved to the bottom of the signed range, where one comparison finds them.
    const __m128i moved = _mm_add_epi8(_mm_or_si128(sixteen, _mm_set1_epi8(0x20)),
                                       _mm_set1_epi8(static_cast<char>(0x80 - 'a')));
    const __m128i inside = _mm_cmplt_epi8(moved, _mm_set1_epi8(-128 + 26));
    letters |= static_cast<uint64_t>(_mm_movemask_epi8(inside)) << 16 * i;
  }
#else
  for (int i = 0; i < 64; ++i) letters |= uint64_t{letter(bytes[i])} << i;
#endif
  return ~letters;
}

class Segmenter {
 public:
  Segmenter(std::string_view text, std::vector<Word>& words)
      : base_(reinterpret_cast<Byte*>(text.data())), end_(base_ + text.size()), words_(words) {}

  void run() {
    Byte* p = base_;
    while (p < end_) {
      Byte* const begin = p;
      p = skip_letters(p);
      const auto size = static_cast<size_t>(p - begin);
      if (p == end_) {
        if (size) letters(begin, p);
        return;
      }
      if (kBlank[*p]) {
        if (size) letters(begin, p);
        ++p;
        continue;
      }
      if (size && kSign[*p] && (p + 1 == end_ || kBlank[p[1]])) {
        if (*p != '.') {
          letters(begin, p);
          emit(begin + size, p + 1, 1, kAlone[*p]);
          p += 2;
          continue;
        }
        if (stop_is_apart(begin, p)) {
          letters(begin, p);
          emit(p, p + 1, 1, kAllPunctuation | kEndsSentence);
        } else {
          emit(begin, p + 1, static_cast<uint32_t>(size + 1), kHasLetter | kHasMore);
        }
        p += 2;
        continue;
      }
      // What is taken off the front, or stands between letters, changes nothing for what follows.
      if (size == 0 && kFront[*p]) {
        emit(p, p + 1, 1, kAlone[*p]);
        ++p;
        continue;
      }
      if (size && *p == '-' && hyphen_is_apart(p + 1)) {
        letters(begin, p);
        emit(p, p + 1, 1, kAllPunctuation);
        ++p;
        continue;
      }
      p = piece(begin, p);
    }
  }

 private:
  static constexpr std::array<bool, 256> kBlank = [] {
    std::array<bool, 256> is{};
    for (int i = 0; i < 128; ++i) is[i] = kAscii[i] & kSpaceChar;
    return is;
  }();
  static constexpr std::array<bool, 256> kSign = [] {
    std::array<bool, 256> is{};
    for (const char c : {'.', ',', ';', ':', '!', '?', ')', '"', '\''}) is[c] = true;
    return is;
  }();
  // Signs that are a word of their own wherever a piece begins with them.
  static constexpr std::array<bool, 256> kFront = [] {
    std::array<bool, 256> is{};
    for (int i = 0; i < 128; ++i) is[i] = kAscii[i] & kOpening && i != '\'';
    return is;
  }();
  // Flags of a word that is one ASCII character.
  static constexpr std::array<uint8_t, 128> kAlone = [] {
    std::array<uint8_t, 128> flags{};
    for (int i = 0; i < 128; ++i) {
      const char c = static_cast<char>(i);
      const bool symbol = has("$+<=>^`|~", c), letter = kAscii[i] & kLetterChar;
      if (letter) flags[i] |= kHasLetter;
      if (letter || (kAscii[i] & kDigit)) flags[i] |= kHasMore;
      if (c > ' ' && c < 127 && !symbol && !flags[i]) flags[i] |= kAllPunctuation;
      if (has(".!?", c)) flags[i] |= kEndsSentence;
    }
    return flags;
  }();

  // Where the ASCII letters that begin at p end. Blocks of 64 bytes are looked at once and kept as
  // bits, so that from word to word there is a shift and a count, and no load to wait for.
  [[gnu::always_inline]] Byte* skip_letters(Byte* p) {
    while (p < end_) {
      const auto at = static_cast<size_t>(p - base_);
      if (at / 64 != block_) look_at(at / 64);
      const uint64_t others = others_ >> at % 64;
      if (others) return p + std::countr_zero(others);
      p = base_ + (at / 64 + 1) * 64;
    }
    return end_;
  }

  void look_at(size_t block) {
    Byte* const begin = base_ + block * 64;
    block_ = block;
    if (end_ - begin >= 64) {
      others_ = find_others(begin);
      return;
    }
    uint8_t copy[64] = {};  // whose end is no letter, so that the text's is found
    std::memcpy(copy, begin, static_cast<size_t>(end_ - begin));
    others_ = find_others(copy);
  }

  [[gnu::always_inline]] void emit(Byte* begin, Byte* end, uint32_t chars, uint32_t flags) {
    words_.push_back({static_cast<uint32_t>(begin - base_), static_cast<uint32_t>(end - base_),
                      chars, flags});
  }

  void emit(Byte* begin, Byte* end) {
    unsigned any = 0, all = kAllPunctuation;
    Byte* p = begin;
    for (; p < end && *p < 0x80; ++p) {
      any |= kAlone[*p];
      all &= kAlone[*p];
    }
    if (p == end) {
      any &= end - begin == 1 ? ~0u : unsigned{kHasLetter | kHasMore};
      return emit(begin, end, static_cast<uint32_t>(end - begin), any | all);
    }
    words_.push_back(measure_word({reinterpret_cast<const char*>(base_), size_t(end_ - base_)},
                                  static_cast<uint32_t>(begin - base_),
                                  static_cast<uint32_t>(end - base_)));
  }

  // A piece that is ASCII letters and nothing else.
  [[gnu::always_inline]] void letters(Byte* begin, Byte* end) {
    const auto size = static_cast<uint32_t>(end - begin);
    if (size == 6 && std::memcmp(begin + 1, "annot", 5) == 0 && (*begin | 0x20) == 'c') {
      emit(begin, begin + 3, 3, kHasLetter | kHasMore);
      begin += 3;
      emit(begin, end, 3, kHasLetter | kHasMore);
      return;
    }
    emit(begin, end, size, kHasLetter | kHasMore);
  }

  // Whether letters begin at p and a blank, a sign or one more such hyphen follows: then "-letters"
  // is the end of a piece that is cut at its hyphens. Looks at a few, as a piece may be of any length.
  bool hyphen_is_apart(Byte* p) {
    for (int parts = 0; parts < 4; ++parts) {
      Byte* const past = skip_letters(p);
      if (past == p) return false;
      if (past == end_ || kBlank[*past]) return true;
      if (*past != '-')
        return kSign[*past] && *past != '.' && (past + 1 == end_ || kBlank[past[1]]);
      p = past + 1;
    }
    return false;
  }

  // Whether the full stop after some ASCII letters, which ends a piece, is a word of its own.
  static bool stop_is_apart(Byte* begin, Byte* stop) {
    const auto size = stop - begin;
    if (upper(stop[-1])) return size > 1 && upper(stop[-2]);
    if (size == 1) return false;
    return size > 7 || !kAbbreviations.contains(begin, stop + 1);
  }

  // Anything between spaces; its characters before p are ASCII letters. Gives its end.
  Byte* piece(Byte* begin, Byte* p) {
    unsigned seen = p > begin ? kLetterChar : 0;
    auto chars = static_cast<uint32_t>(p - begin);
    bool has_letter = p > begin;
    Byte* after = end_;  // past the space
    while (p < end_) {
      if (*p < 0x80) {
        const unsigned kind = kAscii[*p];
        if (kind & kSpaceChar) {
          after = p + 1;
          break;
        }
        seen |= kind;
        has_letter |= (kind & kLetterChar) != 0;
        ++p;
      } else {
        const auto [point, size] = ch::decode(p, end_);
        const unsigned kind = kinds_[point];
        if (kind & kSpaceChar) {
          after = p + size;
          break;
        }
        seen |= kind;
        has_letter |= (kind & (kLetterChar | kMarkChar)) == kLetterChar;
        p += size;
      }
      ++chars;
    }
    if (p == begin) return after;
    if (!(seen & ~(kLetterChar | kUpperChar | kLowerChar | kMarkChar))) {
      emit(begin, p, chars, kHasMore | (has_letter ? unsigned{kHasLetter} : 0u));
      return after;
    }
    if (!(seen & ~(kLetterChar | kUpperChar | kLowerChar | kMarkChar | kDigit)) && digit(p[-1])) {
      emit(begin, p, chars, kHasMore | (has_letter ? unsigned{kHasLetter} : 0u));
      return after;
    }
    if (seen & kLone) {
      unspaced(begin, p);
    } else {
      split(begin, p);
    }
    return after;
  }

  // Where lines may break or letters join, Khmer, Thai and Myanmar have these; no word is one.
  static bool zero_width(uint32_t point) {
    return (point >= 0x200b && point <= 0x200d) || point == 0x2060 || point == 0xfeff;
  }

  // A piece with letters of a script without spaces: each is a word, with its marks.
  void unspaced(Byte* begin, Byte* end) {
    Byte* from = begin;  // of what is not such letters
    for (Byte* p = begin; p < end;) {
      const auto [point, size] = ch::decode(p, end);
      if (!(kinds_[point] & kLone)) {
        p += size;
        continue;
      }
      if (from < p) split(from, p);
      Byte* const letter = p;
      uint32_t chars = 1;
      const bool is_letter = table_.flags(point) & ch::kLetter;
      for (p += size; p < end; ++chars) {
        const auto next = ch::decode(p, end);
        if (!(table_.flags(next.point) & ch::kMark) && !zero_width(next.point)) break;
        p += next.size;
      }
      emit(letter, p, chars, kHasMore | kLoneLetter | (is_letter ? unsigned{kHasLetter} : 0u));
      from = p;
    }
    if (from < end) split(from, end);
  }

  // A piece: take off its ends, then look inside.
  void split(Byte* begin, Byte* end) {
    taken_.clear();
    size_t cut = 0;
    while (begin < end) {
      if ((cut = affixes_.exception(begin, end))) break;
      const size_t front = affixes_.opening(begin, end);
      if (front && (cut = affixes_.exception(begin + front, end))) {
        emit(begin, begin + front);
        begin += front;
        break;
      }
      const size_t back = affixes_.closing(begin + front, end);
      if (back && (cut = affixes_.exception(begin, end - back))) {
        taken_.push_back(back);
        end -= back;
        break;
      }
      if (!front && !back) break;
      if (front) emit(begin, begin + front);
      if (back) taken_.push_back(back);
      begin += front;
      end -= back;
    }
    if (cut) {
      emit(begin, begin + cut);
      if (begin + cut < end) emit(begin + cut, end);
    } else if (begin < end) {
      inside(begin, end);
    }
    for (size_t i = taken_.size(); i-- > 0; end += taken_[i]) emit(end, end + taken_[i]);
  }

  // What is left of a piece: cut at ellipses and icons, and at signs between letters or digits.
  void inside(Byte* begin, Byte* end) {
    bool known_address = false;
    Byte* from = begin;
    unsigned last = 0;
    for (Byte* p = begin; p < end;) {
      if (*p < 0x80 && kAscii[*p] & (kLetterChar | kDigit)) {
        last = kAscii[*p++];
        continue;
      }
      const auto [point, size] = ch::decode(p, end);
      const unsigned kind = point < 0x80 ? kAscii[point] : kinds_[point];
      Byte* past = p;  // of the sign, if it cuts here
      if (p > begin && !(kind & (kLetterChar | kDigit))) {
        const bool after_word = last & (kLetterChar | kDigit);
        if (point == '.') {
          Byte* q = p + 1;
          while (q < end && *q == '.') ++q;
          if (q - p > 1 || (last & (kLowerChar | kQuote) && next(q, end) & (kUpperChar | kQuote)))
            past = q;
        } else if (kind & kIcon) {
          past = p + size;
        } else if (point == ',') {
          if (last & kLetterChar && next(p + 1, end) & kLetterChar) past = p + 1;
        } else if (kind & kHyphen && after_word) {
          Byte* q = p + size;
          if (point == '-')
            while (q < end && q - p < 3 && *q == '-') ++q;
          if (next(q, end) & kLetterChar) past = q;
        } else if (kind & kSplitter && after_word) {
          if (next(p + 1, end) & kLetterChar) past = p + 1;
        }
        if (past == p && last & kDigit && has("+-*^", static_cast<char>(point < 128 ? point : 0)) &&
            point && p + 1 < end && (digit(p[1]) || p[1] == '-'))
          past = p + 1;
      }
      if (past == p) {
        p += size;
        last = kind;
        continue;
      }
      if (!known_address) {
        if (affixes_.address(begin, end)) break;
        known_address = true;
      }
      if (from < p) emit(from, p);
      emit(p, past);
      from = p = past;
      last = kind;
    }
    if (from < end) emit(from, end);
  }

  unsigned next(Byte* p, Byte* end) const {
    if (p == end) return 0;
    return *p < 0x80 ? kAscii[*p] : kinds_[ch::decode(p, end).point];
  }

  Byte* const base_;
  Byte* const end_;
  std::vector<Word>& words_;
  const ch::Table& table_ = ch::Table::get();
  const Kinds& kinds_ = Kinds::get();
  const Affixes affixes_;
  size_t block_ = static_cast<size_t>(-1);  // of 64 bytes, that others_ is about
  uint64_t others_ = 0;
  std::vector<size_t> taken_;  // bytes of what was taken off the end, outermost first
};

}  // namespace

bool ends_sentence(uint32_t point) {
  if (point < 0x80) return point == '.' || point == '!' || point == '?';
  const auto* run = std::upper_bound(std::begin(kTerminal), std::end(kTerminal), point,
                                     [](uint32_t p, const auto& r) { return p < r[0]; });
  return run != std::begin(kTerminal) && point <= run[-1][1];
}

void segment(std::string_view text, std::vector<Word>& words) {
  words.clear();
  Segmenter(text, words).run();
}

Word measure_word(std::string_view text, uint32_t begin, uint32_t end) {
  const auto& table = ch::Table::get();
  const auto* base = reinterpret_cast<Byte*>(text.data());
  uint32_t chars = 0, point = 0;
  unsigned any = 0;
  bool more = false, punctuation = true;
  for (uint32_t at = begin; at < end; ++chars) {
    const auto decoded = ch::decode(base + at, base + end);
    point = decoded.point;
    const unsigned flags = table.flags(point);
    any |= flags;
    more |= !(flags & (ch::kPunctuation | ch::kSymbol | ch::kControl | ch::kSpace));
    punctuation &= (flags & ch::kPunctuation) != 0;
    at += decoded.size;
  }
  uint32_t flags = more ? unsigned{kHasMore} : 0u;
  if (any & ch::kLetter) flags |= kHasLetter;
  if (punctuation && chars) flags |= kAllPunctuation;
  if (chars == 1 && !(any & ch::kLetter) && ends_sentence(point)) flags |= kEndsSentence;
  return {begin, end, chars, flags};
}

size_t count_sentences(const std::vector<Word>& words, size_t most) {
  size_t found = words.empty() ? 0 : 1;
  bool ended = false;
  for (const Word& word : words) {
    if (found >= most) break;
    if (word.flags & kEndsSentence) {
      ended = true;
    } else if (ended && !(word.flags & kAllPunctuation)) {
      ++found;
      ended = false;
    }
  }
  return found;
}

}  // namespace gristmill
