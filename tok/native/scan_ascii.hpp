// Sixteen bytes at once, for the words that are ASCII: which of them are letters, or whitespace.
//
// Most words of English and of code are a space and some letters. Going letter by letter, the
// processor mispredicts where each word ends, at 15 to 20 cycles a word; counting the bits of a
// mask has no branch to mispredict. SSE2 is part of every x86-64. Elsewhere kSixteen is false and
// the scanners go character by character, which gives the same words.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SSE2__) && !defined(GRISTMILL_PORTABLE)
#include <emmintrin.h>
#endif

namespace gristmill::scan {

#if defined(__SSE2__) && !defined(GRISTMILL_PORTABLE)
constexpr bool kSixteen = true;

// Bit i of a mask stands for byte i.
class Sixteen {
 public:
  explicit Sixteen(const uint8_t* p)
      : bytes_(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))) {}

  uint32_t letters() const { return between(_mm_or_si128(bytes_, all(0x20)), 'a', 'z'); }
  uint32_t capitals() const { return between(bytes_, 'A', 'Z'); }
  uint32_t spaces() const { return between(bytes_, '\t', '\r') | equal(' '); }
  uint32_t breaks() const { return equal('\n') | equal('\r'); }
  uint32_t between(uint8_t low, uint8_t high) const { return between(bytes_, low, high); }
  uint32_t equal(uint8_t value) const { return mask(_mm_cmpeq_epi8(bytes_, all(value))); }

 private:
  static __m128i all(uint8_t value) { return _mm_set1_epi8(static_cast<char>(value)); }
  static uint32_t mask(__m128i found) { return static_cast<uint32_t>(_mm_movemask_epi8(found)); }
  static uint32_t between(__m128i bytes, uint8_t low, uint8_t high) {
    const __m128i above = _mm_sub_epi8(bytes, all(low));
    return mask(_mm_cmpeq_epi8(above, _mm_min_epu8(above, all(high - low))));
  }

  __m128i bytes_;
};
#else
constexpr bool kSixteen = false;

class Sixteen {  // never made
 public:
  explicit Sixteen(const uint8_t*) {}
  uint32_t letters() const { return 0; }
  uint32_t capitals() const { return 0; }
  uint32_t spaces() const { return 0; }
  uint32_t breaks() const { return 0; }
  uint32_t between(uint8_t, uint8_t) const { return 0; }
  uint32_t equal(uint8_t) const { return 0; }
};
#endif

inline bool sixteen_left(const uint8_t* p, const uint8_t* end) {
  return kSixteen && end - p >= 17;  // and one more, so that a word of 16 can be seen to end
}

// Set bits from bit 0 up without a gap, in a mask of at most 16.
inline int leading_run(uint32_t mask) { return __builtin_ctz(~mask); }  // never 0

inline bool is_ascii_letter(uint8_t c) { return static_cast<uint8_t>((c | 0x20) - 'a') < 26; }

}  // namespace gristmill::scan
