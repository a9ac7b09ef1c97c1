// The words of a text and their hashes; `curation/words.py` says what a word is and is the twin.
//
// Text in ASCII is classified 64 bytes at a time into a bit mask, from which words are read off
// without looking at bytes again, and hashed eight bytes at a time in lower case. Only words that
// touch a byte of 128 or more are decoded.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "characters.hpp"

namespace gristmill::words {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "hashes are read as little-endian");

// 2^64 divided by the golden ratio, and the next of its kind: odd, with no pattern in their bits.
constexpr uint64_t kSize = 0x9e3779b97f4a7c15, kMix = 0xd1342543de82ef95;

inline uint64_t fold(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Eight bytes of ASCII in lower case.
inline uint64_t lower_ascii(uint64_t bytes) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  const uint64_t from_a = bytes + kOnes * (0x80 - 'A'), after_z = bytes + kOnes * (0x7f - 'Z');
  return bytes | (from_a & ~after_z & kOnes * 0x80) >> 2;
}

// The hash of `size` bytes at p, of which `readable` may be read: h = size·kSize, then for each
// eight bytes, the last ones filled up with zeros, h = fold(h ^ bytes, kMix).
template <bool kLowerAscii = false>
inline uint64_t hash(const void* data, size_t size, size_t readable) {
  const auto* p = static_cast<const uint8_t*>(data);
  uint64_t h = size * kSize, bytes;
  size_t left = size;
  for (; left > 8; left -= 8, p += 8) {
    std::memcpy(&bytes, p, 8);
    h = fold(h ^ (kLowerAscii ? lower_ascii(bytes) : bytes), kMix);
  }
  if (!left) return h;
  if (readable - (size - left) >= 8) {
    std::memcpy(&bytes, p, 8);
    bytes &= ~uint64_t{0} >> (64 - 8 * left);
  } else {
    bytes = 0;
    std::memcpy(&bytes, p, left);
  }
  return fold(h ^ (kLowerAscii ? lower_ascii(bytes) : bytes), kMix);
}

inline void append_utf8(std::string& out, uint32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
    return;
  }
  const int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  constexpr uint32_t kLeads[] = {0, 0xc0, 0xe0, 0xf0};
  out += static_cast<char>(kLeads[more] | point >> 6 * more);
  for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (point >> 6 * i & 0x3f));
}

// For bytes: 1 if a word in ASCII goes on, 2 if it must be decoded, else 0.
inline constexpr auto kBytes = [] {
  std::array<uint8_t, 256> kinds{};
  for (int c = 0; c < 256; ++c)
    kinds[c] = c >= 0x80 ? 2
               : (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       c == '_'
                   ? 1
                   : 0;
  return kinds;
}();

#ifdef __SSE2__
// How many of 64 bytes come before the first of 128 or more, and which of those are of words.
struct Block {
  uint64_t words = 0;
  int ascii = 64;

  explicit Block(const uint8_t* p) {
    uint64_t high = 0;
    for (int i = 0; i < 4; ++i) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + i);
      const __m128i letters =
          _mm_sub_epi8(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
      const __m128i digits = _mm_sub_epi8(bytes, _mm_set1_epi8('0'));
      const __m128i found = _mm_or_si128(
          _mm_or_si128(at_most(letters, 25), at_most(digits, 9)),
          _mm_cmpeq_epi8(bytes, _mm_set1_epi8('_')));
      words |= static_cast<uint64_t>(_mm_movemask_epi8(found)) << 16 * i;
      high |= static_cast<uint64_t>(_mm_movemask_epi8(bytes)) << 16 * i;
    }
    if (high) {
      ascii = std::countr_zero(high);
      words &= (uint64_t{1} << ascii) - 1;
    }
  }

  static __m128i at_most(__m128i bytes, char most) {
    return _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(most)), bytes);
  }
};

// Emit the words of ASCII blocks from p on, as far as they certainly end there; gives where it
// stopped: at the end of the text's last block, or before a word or character for `each` to read.
template <typename Emit>
const uint8_t* each_in_blocks(const uint8_t* p, const uint8_t* end, Emit&& emit) {
  while (end - p >= 64 + 8) {
    const Block block(p);
    uint64_t left = block.words;
    int start = block.ascii;
    while (left) {
      start = std::countr_zero(left);
      const int size = std::countr_one(left >> start);
      if (start + size >= block.ascii) break;
      // 72 bytes may be read from p on, so eight from any of the 64.
      emit(hash<true>(p + start, size, end - p - start), static_cast<size_t>(size));
      left &= left + (left & -left);  // the carry runs through the word and falls out
      start = block.ascii;
    }
    p += start;
    if (start < 64 && (start == 0 || start == block.ascii)) break;
  }
  return p;
}
#endif

// Call emit(hash, characters) for each word. `buffer` is room to work in.
template <typename Emit>
void each(std::string_view text, std::string& buffer, Emit&& emit) {
  using namespace characters;
  const auto& table = Table::get();
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const auto* const end = p + text.size();
  while (p < end) {
#ifdef __SSE2__
    if (*p < 0x80) p = each_in_blocks(p, end, emit);
    if (p == end) break;
#endif
    const uint8_t kind = kBytes[*p];
    if (kind == 0) {
      ++p;
      continue;
    }
    const uint8_t* q = p;
    if (kind == 1) {
      while (q < end && kBytes[*q] == 1) ++q;
      if (q == end || kBytes[*q] == 0) {
        emit(hash<true>(p, q - p, end - p), static_cast<size_t>(q - p));
        p = q;
        continue;
      }
    } else {
      const Decoded first = decode(p, end);
      q = p + first.size;
      const uint16_t flags = table.flags(first.point);
      if (!(flags & kWord)) {
        p = q;
        continue;
      }
      if (flags & kUnspaced) {
        const uint32_t lower = table.lower(first.point);
        if (lower == first.point) {
          emit(hash(p, first.size, end - p), 1);
        } else {
          buffer.clear();
          append_utf8(buffer, lower);
          emit(hash(buffer.data(), buffer.size(), buffer.size()), 1);
        }
        p = q;
        continue;
      }
    }
    // A word of which some is not ASCII, or which an unspaced letter ends.
    buffer.clear();
    size_t size = 0;
    while (p < end) {
      const Decoded next = decode(p, end);
      const uint16_t flags = table.flags(next.point);
      if (!(flags & (kWord | kMark)) || flags & kUnspaced) break;
      append_utf8(buffer, table.lower(next.point));
      ++size;
      p += next.size;
    }
    emit(hash(buffer.data(), buffer.size(), buffer.size()), size);
  }
}

// Make the hashes of n-grams out of the hashes of words, in place: hashes[i] becomes that of the
// words i to i + n - 1. It is Σ hash·kPower^(n-1-k) modulo 2^64, finished as splitmix64 does.
inline void ngrams(uint64_t* hashes, size_t& size, size_t n) {
  if (size < n) {
    size = 0;
    return;
  }
  size -= n - 1;
  for (size_t i = 0; i < size; ++i) {
    uint64_t h = 0;
    for (size_t k = 0; k < n; ++k) h = h * kSize + hashes[i + k];
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9;
    h = (h ^ h >> 27) * 0x94d049bb133111eb;
    hashes[i] = h ^ h >> 31;
  }
}

}  // namespace gristmill::words
