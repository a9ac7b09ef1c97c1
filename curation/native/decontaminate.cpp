// The words of a text, and the index of what benchmarks say. See decontaminate.hpp.

#include "decontaminate.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "characters.hpp"

namespace gristmill {

namespace {

using namespace characters;

constexpr uint64_t kPrime = 0x100000001b3, kBase = 0x9e3779b97f4a7c15;

uint64_t mix(uint64_t h) {  // the finaliser of splitmix64
  h ^= h >> 30;
  h *= 0xbf58476d1ce4e5b9;
  h ^= h >> 27;
  h *= 0x94d049bb133111eb;
  return h ^ h >> 31;
}

// The lower case of ASCII that words are made of, 0 for all else.
constexpr auto kAscii = [] {
  std::array<uint8_t, 256> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[c] = table[c - 32] = static_cast<uint8_t>(c);
  for (int c = '0'; c <= '9'; ++c) table[c] = static_cast<uint8_t>(c);
  table['_'] = '_';
  return table;
}();

// FNV-1a of the bytes.
struct Hash {
  uint64_t value = 0xcbf29ce484222325;
  void operator()(uint8_t byte) { value = (value ^ byte) * kPrime; }
};

struct Copy {
  std::string value;
  void operator()(uint8_t byte) { value.push_back(static_cast<char>(byte)); }
};

template <typename Sink>
void put(uint32_t point, const Table& table, Sink& sink) {
  point = table.lower(point);
  if (point == 0x3c2) point = 0x3c3;  // a sigma at the end of a word
  if (point < 0x80) {
    sink(static_cast<uint8_t>(point));
  } else if (point < 0x800) {
    sink(static_cast<uint8_t>(0xc0 | point >> 6));
    sink(static_cast<uint8_t>(0x80 | (point & 0x3f)));
  } else {
    if (point < 0x10000) {
      sink(static_cast<uint8_t>(0xe0 | point >> 12));
    } else {
      sink(static_cast<uint8_t>(0xf0 | point >> 18));
      sink(static_cast<uint8_t>(0x80 | (point >> 12 & 0x3f)));
    }
    sink(static_cast<uint8_t>(0x80 | (point >> 6 & 0x3f)));
    sink(static_cast<uint8_t>(0x80 | (point & 0x3f)));
  }
}

// Call `each(sink, start, end)` for the words of a text until it gives false; each word has gone
// through a sink of its own, byte by byte in lower case.
template <typename Sink, typename Each>
void for_words(std::string_view text, Each each) {
  const auto& table = Table::get();
  const auto* const base = reinterpret_cast<const uint8_t*>(text.data());
  const auto* const end = base + text.size();
  const auto* p = base;
  while (p < end) {
    uint8_t lower = kAscii[*p];
    const auto* const start = p;
    Sink sink;
    if (lower) {
      do {
        sink(lower);
        ++p;
      } while (p < end && (lower = kAscii[*p]));
    } else if (*p < 0x80) {
      ++p;
      continue;
    } else {
      const auto [point, size] = decode(p, end);
      const auto flags = table.flags(point);
      p += size;
      if (!(flags & kWord)) continue;
      put(point, table, sink);
      if (flags & kUnspaced) {
        if (!each(sink, static_cast<size_t>(start - base), static_cast<size_t>(p - base))) return;
        continue;
      }
    }
    while (p < end) {
      if (*p < 0x80) {
        lower = kAscii[*p];
        if (!lower) break;
        sink(lower);
        ++p;
        continue;
      }
      const auto [point, size] = decode(p, end);
      const auto flags = table.flags(point);
      if (!(flags & (kWord | kMark)) || flags & kUnspaced) break;
      put(point, table, sink);
      p += size;
    }
    if (!each(sink, static_cast<size_t>(start - base), static_cast<size_t>(p - base))) return;
  }
}

// The words of a text in lower case, with a space between.
std::string normal(std::string_view text) {
  std::string all;
  for_words<Copy>(text, [&](const Copy& word, size_t, size_t) {
    if (!all.empty()) all.push_back(' ');
    all += word.value;
    return true;
  });
  return all;
}

}  // namespace

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  for_words<Copy>(text, [&](Copy& word, size_t, size_t) {
    words.push_back(std::move(word.value));
    return true;
  });
  return words;
}

void NgramIndex::add(std::string_view passage, uint32_t entry) {
  passages_.push_back(static_cast<uint32_t>(begins_.size()));
  entries_.push_back(entry);
  for_words<Copy>(passage, [&](const Copy& word, size_t, size_t) {
    if (words_.size() + word.value.size() >= std::numeric_limits<uint32_t>::max())
      throw std::overflow_error("the benchmarks have more than 4 GiB of words");
    begins_.push_back(static_cast<uint32_t>(words_.size()));
    words_ += word.value;
    words_.push_back(' ');
    return true;
  });
}

uint64_t NgramIndex::key(uint64_t run, size_t words) const {
  return mix(run + words * kPrime) & mask_;
}

uint32_t NgramIndex::entry_at(uint32_t position) const {
  const auto after = std::upper_bound(passages_.begin(), passages_.end(), position);
  return entries_[static_cast<size_t>(after - passages_.begin()) - 1];
}

size_t NgramIndex::length_at(uint32_t position) const {
  const auto after = std::upper_bound(passages_.begin(), passages_.end(), position);
  const size_t end = after == passages_.end() ? begins_.size() : *after;
  return std::min(ngram_, end - *(after - 1));
}

// An n-gram's words in lower case, with a space between.
std::string_view NgramIndex::words_at(uint32_t position) const {
  const size_t last = position + length_at(position);
  const size_t end = last < begins_.size() ? begins_[last] : words_.size();
  return std::string_view(words_).substr(begins_[position], end - begins_[position] - 1);
}

void NgramIndex::build(size_t max_entries) {
  std::vector<std::pair<uint64_t, uint32_t>> all;
  std::vector<uint64_t> hashes(begins_.size());
  for (size_t i = 0; i < begins_.size(); ++i) {
    Hash hash;
    const size_t end = (i + 1 < begins_.size() ? begins_[i + 1] : words_.size()) - 1;
    for (size_t at = begins_[i]; at < end; ++at) hash(static_cast<uint8_t>(words_[at]));
    hashes[i] = mix(hash.value);
  }
  for (size_t k = 0; k < passages_.size(); ++k) {
    const size_t first = passages_[k];
    const size_t count = (k + 1 < passages_.size() ? passages_[k + 1] : begins_.size()) - first;
    const size_t length = std::min(ngram_, count);
    if (count == 0) continue;
    for (size_t at = first; at + length <= first + count; ++at) {
      uint64_t run = 0;
      for (size_t i = 0; i < length; ++i) run = run * kBase + hashes[at + i];
      all.emplace_back(key(run, length), static_cast<uint32_t>(at));
    }
    if (std::find(lengths_.begin(), lengths_.end(), length) == lengths_.end())
      lengths_.push_back(length);
  }
  std::sort(lengths_.rbegin(), lengths_.rend());
  std::sort(all.begin(), all.end(), [&](const auto& a, const auto& b) {
    if (a.first != b.first) return a.first < b.first;
    if (const int order = words_at(a.second).compare(words_at(b.second))) return order < 0;
    return a.second < b.second;
  });
  for (size_t i = 0; i < all.size();) {
    const auto same = [&](size_t j) {
      return all[j].first == all[i].first && words_at(all[j].second) == words_at(all[i].second);
    };
    size_t next = i + 1, entries = 1;
    for (; next < all.size() && same(next); ++next)
      entries += entry_at(all[next].second) != entry_at(all[next - 1].second);
    if (entries <= max_entries) {
      hashes_.push_back(all[i].first);
      positions_.push_back(all[i].second);
    }
    i = next;
  }
  hashes_.shrink_to_fit();
  positions_.shrink_to_fit();
  const size_t bits = std::bit_ceil(std::max<size_t>(hashes_.size() * 16, 1 << 16));
  filter_.assign(bits / 64, 0);
  filter_shift_ = 64 - std::countr_zero(bits);
  for (const uint64_t hash : hashes_) {
    const uint64_t bit = hash >> filter_shift_;
    filter_[bit / 64] |= uint64_t{1} << bit % 64;
  }
}

size_t NgramIndex::bytes() const {
  return words_.capacity() + 4 * (begins_.capacity() + passages_.capacity() + entries_.capacity()) +
         8 * (hashes_.capacity() + filter_.capacity()) + 4 * positions_.capacity();
}

// The place of the n-gram with these words, nullptr if there is none.
const uint32_t* NgramIndex::lookup(uint64_t hash, std::string_view window, size_t words) const {
  const auto [first, last] = std::equal_range(hashes_.begin(), hashes_.end(), hash);
  if (first == last) return nullptr;
  const std::string found = normal(window);
  for (auto at = first; at != last; ++at) {
    const uint32_t& position = positions_[static_cast<size_t>(at - hashes_.begin())];
    if (length_at(position) == words && words_at(position) == found) return &position;
  }
  return nullptr;
}

void NgramIndex::find(std::string_view text, size_t limit, std::vector<Match>& found) const {
  if (lengths_.empty()) return;
  const size_t first = found.size();
  // The last words of the text: where each began, and the polynomial of all up to it.
  const size_t ring = std::bit_ceil(lengths_.front() + 1), last = ring - 1;
  std::vector<uint64_t> runs(ring);
  std::vector<size_t> starts(ring);
  std::vector<uint64_t> powers;
  for (const size_t length : lengths_) {
    uint64_t power = 1;
    for (size_t i = 0; i < length; ++i) power *= kBase;
    powers.push_back(power);
  }
  uint64_t run = 0;
  size_t count = 0;  // words up to and with this one
  for_words<Hash>(text, [&](const Hash& word, size_t start, size_t end) {
    starts[count & last] = start;
    run = run * kBase + mix(word.value);
    ++count;
    runs[count & last] = run;
    for (size_t k = 0; k < lengths_.size(); ++k) {
      const size_t length = lengths_[k];
      if (length > count) continue;
      const uint64_t hash = key(run - runs[(count - length) & last] * powers[k], length);
      const uint64_t bit = hash >> filter_shift_;
      if (!(filter_[bit / 64] >> bit % 64 & 1)) continue;
      const size_t begin = starts[(count - length) & last];
      const auto* position = lookup(hash, text.substr(begin, end - begin), length);
      if (!position) continue;
      const uint32_t entry = entry_at(*position);
      if (found.size() > first && found.back().entry == entry && begin <= found.back().end) {
        found.back().end = end;
        continue;
      }
      if (found.size() - first == limit) return false;
      found.push_back({entry, begin, end});
    }
    return true;
  });
}

}  // namespace gristmill
