#include "repeats.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "lines.hpp"

namespace gristmill {
namespace {

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

// At most 16 bytes, as two numbers that overlap.
uint64_t hash_short(const char* p, size_t size) {
  uint64_t a = 0, b = 0;
  if (size >= 8) {
    a = load(p, 8);
    b = load(p + size - 8, 8);
  } else if (size >= 4) {
    a = load(p, 4);
    b = load(p + size - 4, 4);
  } else if (size > 0) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(p);
    a = static_cast<uint64_t>(bytes[0]) << 16 | bytes[size / 2] << 8 | bytes[size - 1];
  }
  return mix(a ^ kOdd1, b ^ (kOdd2 + size));
}

// The n-gram after one more word. Not symmetric, so that the order of words counts.
uint64_t extend(uint64_t key, uint64_t word) { return mix(key ^ kOdd2, word + kOdd1); }

}  // namespace

uint64_t hash_bytes(std::string_view bytes) {
  const char* p = bytes.data();
  size_t left = bytes.size();
  if (left <= 16) return hash_short(p, left);
  uint64_t state = left * kOdd1;
  for (; left > 16; p += 16, left -= 16)
    state = mix(load(p, 8) ^ kOdd1, load(p + 8, 8) ^ state);
  return mix(load(p + left - 16, 8) ^ kOdd2, load(p + left - 8, 8) ^ state);
}

void Counts::clear(size_t keys) {
  const size_t size = std::bit_ceil(std::max<size_t>(2 * keys, 16));
  if (slots_.size() < size) {
    slots_.assign(size, {});
  } else {
    std::memset(static_cast<void*>(slots_.data()), 0, size * sizeof(Slot));
  }
  mask_ = size - 1;
  shift_ = static_cast<unsigned>(64 - std::countr_zero(size));
}

void Repeats::add(std::string_view part, Duplicates& found) {
  ++found.parts;
  if (counts_[counts_.add(hash_bytes(part), 0)].count > 1) {
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
    hashes_[i] = hash_bytes(text.substr(word.begin, word.end - word.begin));
    ends_[i + 1] = ends_[i] + word.chars;
  }

  // Pairs: every place.
  counts_.clear(size);
  places_.resize(size);
  most_ = 1;
  most_first_ = 0;
  for (uint32_t i = 0; i + 1 < size; ++i) {
    const uint64_t key = extend(hashes_[i], hashes_[i + 1]);
    const size_t slot = counts_.add(key, i);
    places_[i] = {key, i, static_cast<uint32_t>(slot)};
    const auto [_, count, first] = counts_[slot];
    if (count > most_ || (count == most_ && first < most_first_)) most_ = count, most_first_ = first;
  }
  places_.resize(size - 1);

  for (size_t n = 2;; ++n) {
    if (n % factor == 0) {
      const size_t order = n / factor;
      if (order > 10) break;
      if (order <= 4) {
        chars[order - 2] = top(n);
      } else {
        chars[order - 2] = duplicate(n);
      }
      if (order == 10) break;
    }
    // Keep the places that come again and whose next does too: those may, one word longer.
    size_t kept = 0;
    const size_t last = size - n;  // the last place that an n-gram can have
    for (size_t k = 0; k + 1 < places_.size(); ++k) {
      const Place here = places_[k], after = places_[k + 1];
      places_[kept] = here;
      kept += here.word + 1 == after.word && here.word < last && counts_[here.slot].count > 1 &&
              counts_[after.slot].count > 1;
    }
    places_.resize(kept);
    if (size < n + 1) break;
    counts_.clear(kept);
    most_ = 1;
    most_first_ = 0;
    for (Place& place : places_) {
      place.key = extend(place.key, hashes_[place.word + n]);
      place.slot = static_cast<uint32_t>(counts_.add(place.key, place.word));
      const auto [_, count, first] = counts_[place.slot];
      if (count > 1 && (count > most_ || (count == most_ && first < most_first_)))
        most_ = count, most_first_ = first;
    }
  }
}

size_t Repeats::top(size_t n) const {
  return (ends_[most_first_ + n] - ends_[most_first_] + n - 1) * most_;
}

size_t Repeats::duplicate(size_t n) {
  constexpr uint32_t kSeen = 0xffffffff;
  size_t chars = 0;
  uint32_t next = 0;
  for (const Place& place : places_) {
    auto& slot = counts_[place.slot];
    if (place.word < next || slot.count < 2) continue;
    if (slot.first == kSeen) {
      chars += ends_[place.word + n] - ends_[place.word];
      next = place.word + static_cast<uint32_t>(n);
    } else {
      slot.first = kSeen;
    }
  }
  return chars;
}

}  // namespace gristmill
