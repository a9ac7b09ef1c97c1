#include "repeats.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "lines.hpp"

namespace gristmill {
namespace {

constexpr size_t kAhead = 12;  // keys, whose slots are fetched before they are needed
constexpr uint64_t kOdd1 = 0x9e3779b97f4a7c15, kOdd2 = 0xbf58476d1ce4e5b9;

uint64_t mix(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t load(const char* p, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, p, size);
  return value;
}

// The bytes of a number that belong to a word of so many.
constexpr std::array<uint64_t, 17> kMasks = [] {
  std::array<uint64_t, 17> masks{};
  for (size_t size = 0; size <= 16; ++size)
    masks[size] = size >= 8 ? ~uint64_t{0} : (uint64_t{1} << 8 * size) - 1;
  return masks;
}();

// At most 16 bytes, where 16 can be read. Without branches: the length of words is what nothing
// predicts.
[[gnu::always_inline]] inline uint64_t hash_short(const char* p, size_t size) {
  uint64_t a = load(p, 8), b = load(p + 8, 8);
  if constexpr (std::endian::native == std::endian::big) {
    a = __builtin_bswap64(a);
    b = __builtin_bswap64(b);
  }
  a &= kMasks[size];
  b &= kMasks[size < 8 ? 0 : size - 8];
  return mix(a ^ kOdd1, b ^ (kOdd2 + size));
}

// The n-gram after one more word. Not symmetric, so that the order of words counts.
uint64_t extend(uint64_t key, uint64_t word) { return mix(key ^ kOdd2, word + kOdd1); }

}  // namespace

uint64_t hash_bytes(std::string_view bytes) {
  const char* p = bytes.data();
  size_t left = bytes.size();
  if (left <= 16) {
    char copy[16] = {};
    std::memcpy(copy, p, left);
    return hash_short(copy, left);
  }
  uint64_t state = left * kOdd1;
  for (; left > 16; p += 16, left -= 16)
    state = mix(load(p, 8) ^ kOdd1, load(p + 8, 8) ^ state);
  return mix(load(p + left - 16, 8) ^ kOdd2, load(p + left - 8, 8) ^ state);
}

void Counts::clear(size_t keys) {
  const size_t size = std::bit_ceil(std::max<size_t>(4 * keys, 16));
  if (slots_.size() < size) {
    slots_.assign(size, {});
  } else {
    std::memset(static_cast<void*>(slots_.data()), 0, size * sizeof(Slot));
  }
  mask_ = size - 1;
  most_ = 0;
  shift_ = static_cast<unsigned>(64 - std::countr_zero(size));
}

void Repeats::add(std::string_view part, Duplicates& found) {
  ++found.parts;
  if (counts_.again(counts_.add(hash_bytes(part)))) {
    ++found.again;
    found.chars_again += count_chars(part);
  }
}

Duplicates Repeats::parts(std::string_view text, size_t feeds) {
  parts_.clear();
  each_part(text, feeds, [&](std::string_view part) { parts_.push_back(part); });
  Duplicates found;
  counts_.clear(parts_.size());
  for (const auto part : parts_) add(part, found);
  return found;
}

Duplicates Repeats::filled_lines(std::string_view text) {
  parts_.clear();
  each_part(text, 1, [&](std::string_view part) {
    if (!strip_left(part).empty()) parts_.push_back(part);
  });
  Duplicates found;
  counts_.clear(parts_.size());
  for (const auto part : parts_) add(part, found);
  return found;
}

void Repeats::ngrams(std::string_view text, const std::vector<Word>& words, size_t factor,
                     size_t (&chars)[9]) {
  std::fill(std::begin(chars), std::end(chars), 0);
  const size_t size = words.size();
  if (size < 2 * factor) return;
  hashes_.resize(size);
  ends_.resize(size + 1);
  ends_[0] = 0;
  for (size_t i = 0; i < size; ++i) {
    const Word& word = words[i];
    const size_t length = word.end - word.begin;
    const char* const bytes = text.data() + word.begin;
    const bool quick = length <= 16 && word.begin + size_t{16} <= text.size();
    hashes_[i] = quick ? hash_short(bytes, length) : hash_bytes({bytes, length});
    ends_[i + 1] = ends_[i] + word.chars;
  }

  // Pairs: every place.
  const size_t pairs = size - 1;
  slots_.resize(pairs);
  keys_.resize(pairs);
  counts_.clear(pairs);
  for (size_t i = 0; i < pairs; ++i) keys_[i] = extend(hashes_[i], hashes_[i + 1]);
  for (size_t i = 0; i < pairs; ++i) {
    counts_.expect(keys_[std::min(i + kAhead, pairs - 1)]);
    slots_[i] = counts_.add(keys_[i]);
  }
  if (factor == 1) {
    uint32_t first = 0;
    while (counts_.count(slots_[first]) < counts_.most()) ++first;
    chars[0] = top(2, first, 1);
  }
  places_.resize(pairs);
  size_t kept = 0;
  bool here = counts_.again(slots_[0]);
  for (uint32_t i = 0; i + 1 < pairs; ++i) {
    const bool after = counts_.again(slots_[i + 1]);
    places_[kept].word = i;
    kept += here & after;
    here = after;
  }
  places_.resize(kept);
  for (Place& place : places_) place.key = keys_[place.word];

  // Longer ones: what is left of the places, each n by one word more.
  for (size_t n = 3; n <= std::min(10 * factor, size); ++n) {
    counts_.clear(places_.size());
    for (Place& place : places_) place.key = extend(place.key, hashes_[place.word + n - 1]);
    for (size_t k = 0; k < places_.size(); ++k) {
      counts_.expect(places_[std::min(k + kAhead, places_.size() - 1)].key);
      places_[k].slot = counts_.add(places_[k].key);
    }
    if (n % factor == 0 && n / factor <= 4) {
      size_t first = 0;
      if (counts_.most() > 1) {
        size_t k = 0;
        while (counts_.count(places_[k].slot) < counts_.most()) ++k;
        first = places_[k].word;
      }
      chars[n / factor - 2] = top(n, first, factor == 1 ? n - 1 : 0);
    } else if (n % factor == 0) {
      chars[n / factor - 2] = duplicate(n);
    }
    keep_repeated(n, size);
  }
}

// Keep the places of n words that come again and whose next do too: those may, one word longer.
void Repeats::keep_repeated(size_t n, size_t size) {
  size_t kept = 0;
  for (size_t k = 0; k + 1 < places_.size(); ++k) {
    const Place here = places_[k], after = places_[k + 1];
    places_[kept] = here;
    kept += (here.word + 1 == after.word) & (here.word + n < size) & counts_.again(here.slot) &
            counts_.again(after.slot);
  }
  places_.resize(kept);
}

// Characters of the n words at `first` and of the spaces between, times the greatest count. Where
// nothing comes again, the text's first n-gram is the most frequent one.
size_t Repeats::top(size_t n, size_t first, size_t spaces) const {
  return (ends_[first + n] - ends_[first] + spaces) * std::max<size_t>(counts_.most(), 1);
}

size_t Repeats::duplicate(size_t n) {
  size_t chars = 0, next = 0;
  for (const Place& place : places_) {
    if (place.word < next || !counts_.again(place.slot)) continue;
    if (!counts_.seen(place.slot)) continue;
    chars += ends_[place.word + n] - ends_[place.word];
    next = place.word + n;
  }
  return chars;
}

}  // namespace gristmill
