// Is it UTF-8? A plain check: sixteen ASCII bytes at a time, else one character.
#pragma once

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>

namespace gristmill {

// Length of the longest prefix of the text that is whole, well-formed UTF-8 (no surrogates, no
// overlong forms, nothing above U+10FFFF). About 1 ns a character outside ASCII.
inline size_t valid_utf8(const uint8_t* text, size_t size) {
  size_t i = 0;
  auto tail = [&](size_t k) { return (text[k] & 0xc0) == 0x80; };
  while (i < size) {
    if (i + 16 <= size &&
        _mm_movemask_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(text + i))) == 0) {
      i += 16;
      continue;
    }
    const uint8_t c = text[i];
    if (c < 0x80) {
      ++i;
    } else if (c < 0xe0) {
      if (c < 0xc2 || i + 2 > size || !tail(i + 1)) return i;
      i += 2;
    } else if (c < 0xf0) {
      if (i + 3 > size || !tail(i + 1) || !tail(i + 2)) return i;
      if ((c == 0xe0 && text[i + 1] < 0xa0) || (c == 0xed && text[i + 1] >= 0xa0)) return i;
      i += 3;
    } else {
      if (c > 0xf4 || i + 4 > size || !tail(i + 1) || !tail(i + 2) || !tail(i + 3)) return i;
      if ((c == 0xf0 && text[i + 1] < 0x90) || (c == 0xf4 && text[i + 1] >= 0x90)) return i;
      i += 4;
    }
  }
  return size;
}

}  // namespace gristmill
