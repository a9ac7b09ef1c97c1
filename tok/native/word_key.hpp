// Words as keys of a hash table: short ones lie in the key whole, so that comparing them touches no
// other memory.
#pragma once

#include <cstdint>
#include <cstring>

namespace gristmill {

// A word as a key: its bytes, the rest zero, its length in the last byte. `readable` is the end of
// the memory that may be read; a word near it is copied with care.
struct ShortKey {  // of words up to 15 bytes
  uint64_t low, high;
  static constexpr size_t kMaxWord = 15;

  ShortKey() = default;
  ShortKey(const uint8_t* word, size_t size, const uint8_t* readable) {
    // ~0 shifted so that `size` bytes remain, for the low and the high half.
    static constexpr auto kMasks = [] {
      struct {
        uint64_t low[16] = {}, high[16] = {};
      } m;
      for (int n = 0; n < 16; ++n) {
        m.low[n] = n >= 8 ? ~uint64_t{0} : (uint64_t{1} << 8 * n) - 1;
        m.high[n] = n <= 8 ? 0 : (uint64_t{1} << 8 * (n - 8)) - 1;
      }
      return m;
    }();
    if (readable - word >= 16) {
      std::memcpy(&low, word, 8);
      std::memcpy(&high, word + 8, 8);
      low &= kMasks.low[size];
      high &= kMasks.high[size];
    } else {
      uint64_t both[2] = {0, 0};
      std::memcpy(both, word, size);
      low = both[0];
      high = both[1];
    }
    high |= uint64_t{size} << 56;
  }
  uint64_t hash() const { return fold(low ^ 0x9e3779b97f4a7c15ULL, high ^ 0xd6e8feb86659fd93ULL); }
  bool operator==(const ShortKey& other) const {
    return ((low ^ other.low) | (high ^ other.high)) == 0;
  }
  static uint64_t fold(uint64_t a, uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
};

}  // namespace gristmill
