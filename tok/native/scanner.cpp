// The scanners of the schemes.
//
// Each scheme is one struct: `kinds` says what a code point is to the scheme, as flags (see
// scan_table.hpp), and `word` finds the end of the word that begins at a place. What the schemes
// share (whitespace, contractions, digits) are the small functions before them. The order of the
// tests in a `word` is the order of the alternatives in the regex of tok/schemes.py, and where the
// regex would backtrack a comment says why one pass finds the same end.
//
// Where a word and the next are ASCII, `fill` first asks for the words of a whole block, which takes no
// branches (scan_block.hpp); `begins` of a scheme is its rules for that. What a block leaves open, and
// all else, is cut word by word.
//
// Time is linear in the text: a character is looked at by a few words at most, whatever the text.
// Nothing is allocated. On one core of a 2020s server: 700 MB/s of English (6 to 7 ns a word), 550 to
// 620 of source code, 420 to 800 of text beyond ASCII. What costs is where the processor mispredicts,
// at 15 to 20 cycles each: how many words a block has, where a word beyond ASCII ends, of which kind
// the next is. Single words in ASCII are measured without a branch, too (scan_ascii.hpp). Everything
// that takes a Cursor is inlined by force: a call would pass it through memory, and half as much again
// was lost by that.

#include "scanner.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "scan_ascii.hpp"
#include "scan_block.hpp"
#include "scan_table.hpp"

namespace gristmill {

namespace {

using namespace scan;

// \s+(?!\S)|\s+ at a whitespace character: the first alternative gives back one character, unless
// the run ends where the text does, or where an earlier expression cut (kinds `cut`, which none of
// the later ones ever sees); the second is for a run of that one character.
//
// With `breaks`, \s*[\r\n]+ comes before them: it gives back whitespace until it ends in a line
// break, so it ends after the last one of the run.
template <bool breaks>
[[gnu::always_inline]] inline const uint8_t* whitespace(Cursor at, Kinds cut = 0) {
  const uint8_t* const start = at.p;
  if (sixteen_left(start, at.end)) {
    const Sixteen bytes(start);
    const int run = leading_run(bytes.spaces());
    if (run > 0 && run < 16 && start[run] < 0x80) {
      const uint32_t found = breaks ? bytes.breaks() & ((1u << run) - 1) : 0;
      if (found) return start + std::bit_width(found);
      return start + (run == 1 || at.table.ascii(start[run]) & cut ? run : run - 1);
    }
  }
  const uint8_t* last = start;
  const uint8_t* after_break = nullptr;
  Character c;
  while ((c = at.here()).is(kSpace)) {
    last = at.p;
    at.p += c.size;
    if (breaks && c.is(kBreak)) after_break = at.p;
  }
  if (breaks && after_break) return after_break;
  return c.size == 0 || c.is(cut) || last == start ? at.p : last;
}

// Bytes of 's|'t|'re|'ve|'m|'ll|'d at an apostrophe, 0 if none of them follows. With `fold`, in
// either case, and with the long s (U+017F), which folds to s.
template <bool fold>
int contraction(const uint8_t* p, const uint8_t* end) {
  const ptrdiff_t left = end - p;
  if (left < 2) return 0;
  const uint8_t lower = fold ? 0x20 : 0;
  const uint8_t first = p[1] | lower;
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (left < 3) return 0;
  const uint8_t second = p[2] | lower;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  if (fold && p[1] == 0xc5 && p[2] == 0xbf) return 3;
  return 0;
}

// Letters, and before them one byte of the kinds `first` or none, where both are ASCII: bytes of
// the word so far, at most 16, or 0 if it begins in another way. It may go on beyond ASCII.
[[gnu::always_inline]] inline int ascii_word(Cursor at, const Sixteen& bytes, Kinds first) {
  const uint32_t letters = bytes.letters();
  const bool begins = *at.p < 0x80 && at.table.ascii(*at.p) & (first | kLetter);
  return begins && letters & 3 ? leading_run(letters | 1) : 0;
}

// Go past the letters begun in this way; false if the word begins in another.
[[gnu::always_inline]] inline bool pass_ascii_word(Cursor& at, Kinds first) {
  if (!sixteen_left(at.p, at.end)) return false;
  const int bytes = ascii_word(at, Sixteen(at.p), first);
  if (bytes == 0) return false;
  at.p += bytes;
  if (bytes == 16 || *at.p >= 0x80) at.pass(kLetter | kJoiner);
  return true;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
struct Gpt2 {
  static Kinds kinds(uint32_t c, uint32_t properties) {
    if (properties & unicode::kL) return kLetter;
    if (properties & unicode::kN) return kDigit;
    if (properties & unicode::kSpace) return c == ' ' ? kSpace | kPrefix : kSpace;
    return kSymbol;
  }

  // Where words begin, in a block; `hard` gets what is left to `word`.
  static uint64_t begins(const Block& b, uint64_t& hard) {
    const uint64_t runs = Block::first_of_runs(b.letters) | Block::first_of_runs(b.digits) |
                          Block::first_of_runs(b.symbols);
    const uint64_t begins = b.spaces | (runs & ~(b.spaces << 1));
    hard |= b.apostrophes & begins & b.letters >> 1;
    return begins;
  }

  [[gnu::always_inline]] static const uint8_t* word(Cursor at) {
    if (at.sees('\''))
      if (const int bytes = contraction<false>(at.p, at.end)) return at.p + bytes;
    if (pass_ascii_word(at, kPrefix)) return at.p;
    Character c = at.here();
    if (c.is(kPrefix)) {
      const Character next = at.after(c);
      if (next.is(kLetter | kDigit | kSymbol)) {
        ++at.p;
        c = next;
      }
    }
    if (c.is(kSpace)) return whitespace<false>(at);
    at.p += c.size;
    at.pass(c.kinds);
    return at.p;
  }
};

// The end of \p{N}{1,3}.
[[gnu::always_inline]] inline const uint8_t* digits(Cursor at) {
  at.pass(kDigit, 3);
  return at.p;
}

// The end of  ?X+[\r\n]*, X being the scheme's symbols, at the characters `c` and `next`; nullptr if
// it is something else.
[[gnu::always_inline]] inline const uint8_t* symbols(Cursor at, const Character& c,
                                                     const Character& next) {
  if (!c.is(kSymbol) && !(at.sees(' ') && next.is(kSymbol))) return nullptr;
  at.p += c.size;
  at.pass(kSymbol);
  at.pass(kBreak);
  return at.p;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
// |\s*[\r\n]+|\s+(?!\S)|\s+
struct Cl100k {
  static Kinds kinds(uint32_t c, uint32_t properties) {
    if (c == '\r' || c == '\n') return kSpace | kBreak;
    if (properties & unicode::kL) return kLetter;
    if (properties & unicode::kN) return kDigit;
    return kPrefix | (properties & unicode::kSpace ? kSpace : kSymbol);
  }

  static uint64_t begins(const Block& b, uint64_t& hard) {
    const uint64_t begins = b.begins_of_words();
    hard |= b.apostrophes & begins & b.letters >> 1;
    return begins;
  }

  [[gnu::always_inline]] static const uint8_t* word(Cursor at) {
    if (at.sees('\''))
      if (const int bytes = contraction<true>(at.p, at.end)) return at.p + bytes;
    if (pass_ascii_word(at, kPrefix)) return at.p;
    const Character c = at.here();
    if (c.is(kDigit)) return digits(at);
    const Character next = at.after(c);
    if (c.is(kLetter) || (c.is(kPrefix) && next.is(kLetter))) {
      at.p += c.is(kLetter) ? c.size : c.size + next.size;
      at.pass(kLetter);
      return at.p;
    }
    if (const uint8_t* end = symbols(at, c, next)) return end;
    return whitespace<true>(at);
  }
};

// With X = [^\r\n\p{L}\p{N}], U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], W = [\p{Ll}\p{Lm}\p{Lo}\p{M}]
// and S = (?i:'s|'t|'re|'ve|'m|'ll|'d):
// X?U*W+S?|X?U+W*S?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// kUpper are Lu and Lt, kLower is Ll; kLetter without either is in both U and W. Marks are letters
// to U and W but symbols to X and to the run of symbols.
struct O200k {
  static Kinds kinds(uint32_t c, uint32_t properties) {
    if (properties & (unicode::kLu | unicode::kLt)) return kLetter | kUpper;
    if (properties & unicode::kLl) return kLetter | kLower;
    if (properties & unicode::kM) return kLetter | kSymbol;
    return Cl100k::kinds(c, properties);
  }

  static uint64_t begins(const Block& b, uint64_t& hard) {
    hard |= b.apostrophes_inside();
    return b.begins_of_words() | (b.capitals & (b.letters & ~b.capitals) << 1);
  }

  // X?U*W+|X?U+W* from its first letter. U* runs to the first character not in U. If that is in W,
  // W+ runs from there. If not, U* gives back characters until one in W stands next: the last one
  // of the run in both, behind which only capitals stand, so W+ is that one character. Without
  // such a character the first alternative fails and the second takes the capitals. X being tried
  // first changes nothing where X could be a mark: as a letter it leads to the same end.
  [[gnu::always_inline]] static const uint8_t* letters(Cursor at) {
    const uint8_t* after_both = nullptr;
    Character c;
    while ((c = at.here()).is(kLetter) && !c.is(kLower)) {
      at.p += c.size;
      if (!c.is(kUpper)) after_both = at.p;
    }
    if (c.is(kLower)) {
      while ((c = at.here()).is(kLetter) && !c.is(kUpper)) at.p += c.size;
    } else if (after_both) {
      at.p = after_both;
    }
    return at.sees('\'') ? at.p + contraction<true>(at.p, at.end) : at.p;
  }

  // X?U*W+S?|X?U+W*S? in ASCII, where no letter is in both; nullptr if it is something else.
  [[gnu::always_inline]] static const uint8_t* ascii_letters(Cursor at) {
    if (!sixteen_left(at.p, at.end)) return nullptr;
    const Sixteen bytes(at.p);
    if (ascii_word(at, bytes, kPrefix) == 0) return nullptr;
    const uint32_t letters = bytes.letters(), capitals = bytes.capitals();
    const int small = leading_run(capitals | (~letters & 1));
    const int end = small + leading_run((letters & ~capitals) >> small);
    if (end >= 16 || at.p[end] >= 0x80) return nullptr;
    at.p += end;
    return at.sees('\'') ? at.p + contraction<true>(at.p, at.end) : at.p;
  }

  [[gnu::always_inline]] static const uint8_t* word(Cursor at) {
    if (const uint8_t* end = ascii_letters(at)) return end;
    const Character c = at.here();
    if (c.is(kLetter)) return letters(at);
    if (c.is(kDigit)) return digits(at);
    const Character next = at.after(c);
    if (c.is(kPrefix) && next.is(kLetter)) {
      at.p += c.size;
      return letters(at);
    }
    if (c.is(kSymbol) || (at.sees(' ') && next.is(kSymbol))) {
      at.p += c.size;
      at.pass(kSymbol);
      while (at.p < at.end && (*at.p == '\r' || *at.p == '\n' || *at.p == '/')) ++at.p;
      return at.p;
    }
    return whitespace<true>(at);
  }
};

// What deepseek-v3 and multilingual share, Own being the scheme itself. Three expressions, each
// cutting what the one before it left, its matches included:
//
//   1  D{1,3}, D being \p{N} without R
//   2  R+, R being the characters of runs: Han and Kana, more or less
//   3  A[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*
//      |\s*[\r\n]+|\s+(?!\S)|\s+     with A the ASCII punctuation
//
// In the table, digits and R are nothing to expression 3: they end every run of it, and to
// whitespace they are the end of the text. That does 1, 2 and 3 in one pass, but for the pieces
// that 2 matches: expression 3 leaves one whole when it is all letters and marks, and else cuts it
// with a second table, in which it is ordinary text.
//
// With kOurs, expression 3 is that of multilingual, in which I is indentation, J a joiner:
//
//      A[A-Za-z]+|[^\r\n\t\p{L}\p{P}\p{S}]?W(?:['’]W)*| ?[\p{P}\p{S}]+(?:[\r\n]+I?)?
//      |\s*[\r\n]+I?|\s*\t(?=\S)|\s+(?!\S)|\s+
//      with W = [\p{L}\p{M}〇][\p{L}\p{M}〇J]* and I = [^\S\r\n]*\t(?=\S)|[^\S\r\n]+(?!\S)
//
// Expression 3 does not match everything: control, format, private and unassigned characters
// without a letter behind them are left over, and come out as one word for each stretch.
template <typename Own>
struct DeepSeekLike {
  // To expression 3 alone.
  static Kinds plain(uint32_t c, uint32_t properties) {
    if (c == '\r' || c == '\n') return kSpace | kBreak;
    if (properties & (unicode::kL | unicode::kM) || (Own::kOurs && c == 0x3007)) return kLetter;
    const Kinds joiner = Own::is_joiner(c) ? kJoiner : 0;
    if (properties & (unicode::kP | unicode::kS)) return kSymbol | joiner;
    if (properties & unicode::kSpace) return Own::kOurs && c == '\t' ? kSpace : kSpace | kPrefix;
    return kPrefix | joiner;
  }

  static Kinds kinds(uint32_t c, uint32_t properties) {
    if (Own::in_run(c, properties))
      return plain(c, properties) & kLetter ? kRun | kRunLetter : kRun;
    return properties & unicode::kN ? kDigit : plain(c, properties);
  }

  static uint64_t begins(const Block& b, uint64_t& hard) {
    if (Own::kOurs) hard |= b.apostrophes_inside();
    return b.begins_of_words();
  }

  // The next word. Before `piece_end` it lies in a piece of which words have been cut already.
  [[gnu::always_inline]] static const uint8_t* word(Cursor at, const uint8_t*& piece_end) {
    if (const uint8_t* end = ascii_letters(at)) return end;
    const Character c = at.here();
    if (c.is(kDigit)) return digits(at);
    if (c.is(kRun)) {
      if (at.p >= piece_end && run(at, piece_end)) return piece_end;
      return word_in_piece(at.p, piece_end);
    }
    return word_of_third(at);
  }

  // A[A-Za-z]+, or a word of letters, that begins in ASCII; nullptr if it is something else.
  [[gnu::always_inline]] static const uint8_t* ascii_letters(Cursor at) {
    if (!sixteen_left(at.p, at.end)) return nullptr;
    const int bytes = ascii_word(at, Sixteen(at.p), kPrefix | kSymbol);
    if (bytes == 0) return nullptr;
    const bool is_first = at.table.ascii(*at.p) & kSymbol;
    at.p += bytes;
    if (bytes == 16 || *at.p >= 0x80) {
      if (is_first) {
        while (at.p < at.end && is_ascii_letter(*at.p)) ++at.p;
      } else {
        at.pass(kLetter | kJoiner);
      }
    }
    if (!is_first) more_words(at);
    return at.p;
  }

  // Bytes of ' or ’, 0 if neither is here.
  [[gnu::always_inline]] static int apostrophe(const Cursor& at) {
    if (at.sees('\'')) return 1;
    return at.end - at.p >= 3 && at.p[0] == 0xe2 && at.p[1] == 0x80 && at.p[2] == 0x99 ? 3 : 0;
  }

  // W at p, if it begins there.
  [[gnu::always_inline]] static bool pass_word(Cursor& at, const uint8_t* p) {
    const Cursor to{p, at.end, at.table};
    const Character c = to.here();
    if (!c.is(kLetter)) return false;
    at.p = p + c.size;
    at.pass(kLetter | kJoiner);
    return true;
  }

  // Behind a W, the rest of V = W(?:['’]W)*, and of V(?:(?:[\p{P}\p{S}]{0,2} |-)V){0,kMoreWords}.
  // Only one of the ways to go on can match at a place, so there is nothing to go back to.
  [[gnu::always_inline]] static void more_words(Cursor& at) {
    if constexpr (Own::kOurs) {
      while (const int bytes = apostrophe(at))
        if (!pass_word(at, at.p + bytes)) break;
    }
    if constexpr (requires { Own::kMoreWords; }) {
      for (int left = Own::kMoreWords; left > 0; --left) {
        Cursor to = at;
        Character c = to.here();
        for (int symbols = 0; symbols < 2 && c.is(kSymbol); ++symbols) {
          to.p += c.size;
          c = to.here();
        }
        if (!to.sees(' ')) to.p = at.p;
        if (!to.sees(' ') && !to.sees('-')) return;
        if (!pass_word(at, to.p + 1)) return;
        while (const int bytes = apostrophe(at))
          if (!pass_word(at, at.p + bytes)) break;
      }
    }
  }

  [[gnu::noinline]] static const uint8_t* word_in_piece(const uint8_t* p, const uint8_t* end) {
    static const Table table(&plain);
    return word_of_third({p, end, table});
  }

  // Find the end of a piece of R; true if it is all letters and marks.
  [[gnu::always_inline]] static bool run(Cursor at, const uint8_t*& piece_end) {
    Kinds all = kRunLetter;
    for (Character c; (c = at.here()).is(kRun); at.p += c.size) all &= c.kinds;
    piece_end = at.p;
    return all != 0;
  }

  // \s*[\r\n]+I?|\s*\t(?=\S)|\s+(?!\S)|\s+ at a whitespace character. The run's last character is
  // given back to what follows, unless it is a tab, a line break, or all there is.
  [[gnu::always_inline]] static const uint8_t* lines(Cursor at) {
    const uint8_t* const start = at.p;
    if (sixteen_left(start, at.end)) {
      const Sixteen bytes(start);
      const int run = leading_run(bytes.spaces());
      if (run > 0 && run < 16 && start[run] < 0x80) {
        if (at.table.ascii(start[run]) & kDigit || start[run - 1] == '\t') return start + run;
        const int given = std::bit_width(bytes.breaks() & ((1u << run) - 1));
        return start + (run > given + 1 ? run - 1 : std::max(given, 1));
      }
    }
    const uint8_t* after_break = start;
    for (Cursor to = at; to.here().is(kSpace);) {
      const Character c = to.here();
      to.p += c.size;
      if (c.is(kBreak)) after_break = to.p;
    }
    const uint8_t* const end = indentation({after_break, at.end, at.table});
    if (end > start) return end;
    return start + at.here().size;
  }

  // I?
  [[gnu::always_inline]] static const uint8_t* indentation(Cursor at) {
    const uint8_t* last = at.p;
    Character c;
    while ((c = at.here()).is(kSpace) && !c.is(kBreak)) {
      last = at.p;
      at.p += c.size;
    }
    return c.size == 0 || c.is(kDigit | kRun | kBreak) || *last == '\t' ? at.p : last;
  }

  [[gnu::always_inline]] static const uint8_t* word_of_third(Cursor at) {
    const Character c = at.here();
    const Character next = at.after(c);
    if (c.is(kSymbol)) {
      if (*at.p < 0x80 && next.size && is_ascii_letter(at.p[1])) {
        do ++at.p;
        while (at.p < at.end && is_ascii_letter(*at.p));
        return at.p;
      }
    } else if (c.is(kLetter) || (c.is(kPrefix) && next.is(kLetter))) {
      at.p += c.is(kLetter) ? c.size : c.size + next.size;
      at.pass(kLetter | kJoiner);
      more_words(at);
      return at.p;
    }
    if (const uint8_t* end = symbols(at, c, next)) {
      const bool broken = Own::kOurs && (end[-1] == '\n' || end[-1] == '\r');
      return broken ? indentation({end, at.end, at.table}) : end;
    }
    if (c.is(kSpace)) return Own::kOurs ? lines(at) : whitespace<true>(at, kDigit | kRun);
    return left_over(at);
  }

  // A stretch of characters that nothing matches. The last of them goes with a letter behind it,
  // unless it is the only one, which has already gone there.
  static const uint8_t* left_over(Cursor at) {
    const uint8_t* last = at.p;
    Character c = at.here();
    while (c.size && !(c.kinds & static_cast<Kinds>(~(kPrefix | kJoiner)))) {
      last = at.p;
      at.p += c.size;
      c = at.here();
    }
    return c.is(kLetter) ? last : at.p;
  }
};

// \p{N}{1,3}, then [一-龥぀-ゟ゠-ヿ]+, then expression 3.
struct DeepSeekV3 : DeepSeekLike<DeepSeekV3> {
  static constexpr bool kOurs = false;
  static bool in_run(uint32_t c, uint32_t) {
    return (c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff);
  }
  static bool is_joiner(uint32_t) { return false; }
};

// [^\P{N}\p{Han}]{1,3}, then [\p{Han}\p{Hiragana}\p{Katakana}ー々]+, then our expression 3 with U+200C, U+200D
// and the tsheg for joiners.
struct Multilingual : DeepSeekLike<Multilingual> {
  static constexpr bool kOurs = true;
  static bool in_run(uint32_t c, uint32_t properties) {
    using namespace unicode;
    return c == 0x30fc || c == 0x3005 || (properties & (kHan | kHiragana | kKatakana)) != 0;
  }
  static bool is_joiner(uint32_t c) { return c == 0x200c || c == 0x200d || c == 0x0f0b; }
};

// The scheme multilingual, but a word may go on across spaces, for superwords.
struct MultilingualSuperword : DeepSeekLike<MultilingualSuperword> {
  static constexpr bool kOurs = true;
  static constexpr int kMoreWords = 7;
  static bool in_run(uint32_t c, uint32_t properties) {
    return Multilingual::in_run(c, properties);
  }
  static bool is_joiner(uint32_t c) { return Multilingual::is_joiner(c); }
};

// Whether blocks serve a scheme: not for superwords, which go on across spaces.
template <typename S>
constexpr bool kByBlocks = kSixteen && !requires { S::kMoreWords; };

// The words of the block at p, as far as they are known: writes their ends, at most `capacity`, and
// returns how many. `hard` is where to go on with a single word, or nullptr if there is no need to.
template <typename S>
[[gnu::always_inline]] inline size_t words_of_block(const uint8_t* p, size_t offset, size_t* ends,
                                                    size_t capacity, bool& hard) {
  const Block block(p);
  uint64_t hard_bytes = block.hard();
  uint64_t begins = S::begins(block, hard_bytes);
  const int stop = std::countr_zero(hard_bytes);
  hard = stop < 63;
  const uint64_t before = (uint64_t{1} << stop) - 1;
  begins &= before & ~uint64_t{1};
  // White space begins a word where nothing before it takes it up: symbols may take a line break.
  const bool space = p[stop] == ' ' || (static_cast<uint8_t>(p[stop] - '\t') < 5 &&
                                        (block.letters | block.digits) & (before & ~(before >> 1)));
  if (space && stop > 0) begins |= before + 1;
  size_t count = 0;
  for (; begins && count < capacity; begins &= begins - 1)
    ends[count++] = offset + static_cast<size_t>(std::countr_zero(begins));
  hard = hard && !begins;
  return count;
}

template <typename S>
size_t fill(const uint8_t* text, size_t size, size_t& at, size_t& piece_end, size_t* ends,
            size_t capacity) {
  static const Table table(&S::kinds);
  const uint8_t* const end = text + size;
  const uint8_t* piece = text + piece_end;
  const uint8_t* p = text + at;
  size_t count = 0;
  while (p < end && count < capacity) {
    if constexpr (kByBlocks<S>) {
      if (end - p >= static_cast<ptrdiff_t>(Block::kBytes) && p[0] >= ' ' &&
          p[1] > ' ' && (p[0] | p[1]) < 0x80 && p >= piece) {
        bool hard = true;
        const size_t n = words_of_block<S>(p, p - text, ends + count, capacity - count, hard);
        if (n > 0) {
          count += n;
          p = text + ends[count - 1];
          if (!hard || count == capacity) continue;
        }
      }
    }
    if constexpr (requires { &S::in_run; }) {
      p = S::word(Cursor{p, end, table}, piece);
    } else {
      p = S::word(Cursor{p, end, table});
    }
    ends[count++] = p - text;
  }
  at = p - text;
  piece_end = piece - text;
  return count;
}

constexpr std::pair<std::string_view, Scheme> kNames[] = {
    {"gpt2", Scheme::gpt2},
    {"cl100k", Scheme::cl100k},
    {"o200k", Scheme::o200k},
    {"deepseek-v3", Scheme::deepseek_v3},
    {"multilingual", Scheme::multilingual},
    {"multilingual-superword", Scheme::multilingual_superword},
};

}  // namespace

Scheme scheme_of(std::string_view name) {
  std::string names;
  for (const auto& [known, scheme] : kNames) {
    if (known == name) return scheme;
    names.append(names.empty() ? "" : ", ").append(known);
  }
  throw std::invalid_argument("unknown pretokenizer scheme '" + std::string(name) +
                              "': expected one of " + names);
}

size_t Scanner::next(size_t* ends, size_t capacity) {
  auto fill_by = [&]<typename S>(std::type_identity<S>) {
    return fill<S>(text_, size_, at_, piece_end_, ends, capacity);
  };
  switch (scheme_) {
    case Scheme::gpt2: return fill_by(std::type_identity<Gpt2>{});
    case Scheme::cl100k: return fill_by(std::type_identity<Cl100k>{});
    case Scheme::o200k: return fill_by(std::type_identity<O200k>{});
    case Scheme::deepseek_v3: return fill_by(std::type_identity<DeepSeekV3>{});
    case Scheme::multilingual: return fill_by(std::type_identity<Multilingual>{});
    case Scheme::multilingual_superword: return fill_by(std::type_identity<MultilingualSuperword>{});
  }
  return 0;
}

}  // namespace gristmill
