#include "substrings.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "characters.hpp"

namespace gristmill::substrings {

namespace {

using characters::decode;

// How much a token counts, in quarters of a word: so that the same news in 128 languages
// (NTREX-128) has 0.7 to 1.7 times as many units as in English, Chinese and Thai about as many.
constexpr uint32_t kWordUnits = 4, kHanUnits = 2, kLetterUnits = 1;

// Tibetan has a mark between syllables, each of which is a run of word characters.
bool is_tibetan(uint32_t point) { return point >= 0xf00 && point < 0x1000; }

uint64_t fold(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t hash(const uint8_t* p, size_t size, const uint8_t* end) {
  uint64_t h = 0x243f6a8885a308d3 ^ size * 0x9e3779b97f4a7c15, word;
  for (; size >= 8; p += 8, size -= 8) {
    std::memcpy(&word, p, 8);
    h = fold(h ^ word, 0xa0761d6478bd642f);
  }
  if (end - p >= 8) {
    std::memcpy(&word, p, 8);
    word &= (uint64_t{1} << 8 * size) - 1;  // size < 8
  } else {
    word = 0;
    std::memcpy(&word, p, size);
  }
  return fold(fold(h ^ word, 0xe7037ed1a0b428db), 0x8ebc6af09c88c6e3);
}

// Polynomials modulo the prime 2^61 - 1; values are below it.
constexpr uint64_t kPrime = (uint64_t{1} << 61) - 1;
constexpr uint64_t kBases[] = {0x1b873593cc9e2d51, 0x0d6e8feb86659fd9};

uint64_t reduce(uint64_t a) {
  a = (a & kPrime) + (a >> 61);
  return a >= kPrime ? a - kPrime : a;
}

uint64_t multiply(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return reduce((static_cast<uint64_t>(product) & kPrime) + static_cast<uint64_t>(product >> 61));
}

void fill_prefixes(const std::vector<Token>& tokens, int which, std::vector<uint64_t>& prefixes) {
  prefixes.resize(tokens.size() + 1);
  uint64_t sum = prefixes[0] = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    // The two polynomials see different bits of a token's hash.
    const uint64_t value = which ? tokens[i].hash >> 3 : tokens[i].hash & kPrime;
    prefixes[i + 1] = sum = reduce(multiply(sum, kBases[which]) + value);
  }
}

uint64_t power(int which, size_t exponent) {
  uint64_t result = 1;
  for (size_t i = 0; i < exponent; ++i) result = multiply(result, kBases[which]);
  return result;
}

// The polynomial of tokens begin to end - 1; `factor` is the base to the power of end - begin.
uint64_t between(const std::vector<uint64_t>& prefixes, size_t begin, size_t end, uint64_t factor) {
  return reduce(prefixes[end] + kPrime - multiply(prefixes[begin], factor));
}

// Calls visit(first token, token after the last, least gram with its lowest bit 0, and the last place
// where it is) for each window of scratch.tokens; needs scratch.prefixes.
template <typename Visit>
void each_window(uint32_t tokens, Scratch& scratch, const Visit& visit) {
  const auto& list = scratch.tokens;
  const size_t count = list.size(), least = size_t{kWordUnits} * tokens;
  const size_t size = std::max<size_t>(tokens / 2, 1);
  const uint64_t factor = power(0, size);
  auto& queue = scratch.queue;  // places ascend, grams ascend: a monotone queue
  queue.resize(count);
  size_t front = 0, back = 0, next = 0, end = 0, weight = 0;
  for (size_t begin = 0; begin < count; weight -= list[begin++].units) {
    while (weight < least && end < count) weight += list[end++].units;
    if (weight < least) break;
    for (; next + size <= end; ++next) {
      const uint64_t gram =
          fold(between(scratch.prefixes, next, next + size, factor) ^ 0x13198a2e03707344,
               0xa4093822299f31d1) & ~uint64_t{1};
      while (back > front && queue[back - 1].gram >= gram) --back;
      queue[back++] = {gram, static_cast<uint32_t>(next)};
    }
    while (queue[front].place < begin) ++front;
    visit(begin, end, queue[front]);
  }
}

}  // namespace

void split(std::string_view text, std::vector<Token>& tokens) {
  if (text.size() > UINT32_MAX) throw std::invalid_argument("a text of 4 GiB or more");
  enum Kind : uint8_t { kIgnored, kWordCharacter, kOther };
  static const auto kAscii = [] {
    std::array<uint8_t, 128> kinds{};
    for (uint32_t c = 0; c < 128; ++c) {
      const uint16_t flags = characters::Table::get().flags(c);
      kinds[c] = flags & characters::kWord                                ? kWordCharacter
                 : !flags || flags & (characters::kSpace | characters::kControl) ? kIgnored
                                                                                 : kOther;
    }
    return kinds;
  }();
  const auto& table = characters::Table::get();
  const auto* start = reinterpret_cast<const uint8_t*>(text.data());
  const auto *p = start, *end = start + text.size();
  tokens.clear();
  const auto add = [&](const uint8_t* from, uint32_t units) {
    tokens.push_back({hash(from, static_cast<size_t>(p - from), end),
                      static_cast<uint32_t>(from - start), static_cast<uint32_t>(p - start), units});
  };
  // Go on over marks and what `same` says yes to.
  const auto skip = [&](const auto& same) {
    while (p < end) {
      const auto [point, size] = decode(p, end);
      const uint16_t flags = table.flags(point);
      if (!(flags & characters::kMark) && !same(point, flags)) break;
      p += size;
    }
  };
  const auto spaced = [](uint32_t, uint16_t flags) {
    return (flags & characters::kWord) && !(flags & characters::kUnspaced);
  };
  while (p < end) {
    const uint8_t* from = p;
    if (*p < 0x80) {
      const uint8_t kind = kAscii[*p], first = *p;
      ++p;
      if (kind == kIgnored) continue;
      if (kind == kWordCharacter) {
        while (p < end && *p < 0x80 && kAscii[*p] == kWordCharacter) ++p;
        if (p < end && *p >= 0x80) skip(spaced);
      } else if (p < end && (*p == first || *p >= 0x80)) {
        skip([&](uint32_t point, uint16_t) { return point == first; });
      }
      add(from, kWordUnits);
      continue;
    }
    const auto [first, size] = decode(p, end);
    const uint16_t flags = table.flags(first);
    p += size;
    if (!flags || flags & (characters::kSpace | characters::kControl)) continue;
    if (flags & characters::kMark || spaced(first, flags)) {
      skip(spaced);
      add(from, is_tibetan(first) ? kHanUnits : kWordUnits);
    } else if (flags & characters::kWord) {
      skip([](uint32_t, uint16_t) { return false; });
      const bool letters = first < 0x2000 || (first >= 0xa9e0 && first < 0xaa80);
      add(from, letters ? kLetterUnits : kHanUnits);
    } else {
      skip([&, first = first](uint32_t point, uint16_t) { return point == first; });
      add(from, is_tibetan(first) ? kHanUnits : kWordUnits);
    }
  }
}

void check(uint32_t tokens) {
  if (tokens < 1 || tokens > 10000) throw std::invalid_argument("tokens: expected 1 to 10000");
}

void sample(std::string_view text, uint32_t tokens, Scratch& scratch, std::vector<uint64_t>& out) {
  split(text, scratch.tokens);
  fill_prefixes(scratch.tokens, 0, scratch.prefixes);
  const size_t first = out.size();
  uint32_t place = 0;
  each_window(tokens, scratch, [&](size_t, size_t, const Scratch::Least& least) {
    // Two equal windows have the gram at two places: one after the other here, or, if windows of
    // another gram are between them, it is added twice.
    if (out.size() == first || (out.back() & ~uint64_t{1}) != least.gram)
      out.push_back(least.gram);
    else if (place != least.place)
      out.back() |= 1;
    place = least.place;
  });
  std::sort(out.begin() + static_cast<ptrdiff_t>(first), out.end());
  size_t kept = first;
  for (size_t i = first; i < out.size(); ++i) {
    if (kept > first && (out[kept - 1] | 1) == (out[i] | 1))
      out[kept - 1] |= 1;
    else
      out[kept++] = out[i];
  }
  out.resize(kept);
}

// Two sorters are there at a time, each with a quarter; half is left for what feeds them.
Merge::Merge(std::string folder, uint64_t memory, uint32_t tokens, bool keep_first)
    : folder_(std::move(folder)),
      memory_(memory / 4),
      tokens_(tokens),
      keep_first_(keep_first),
      samples_(std::make_unique<Sorter<Sample>>(folder_, memory_)) {
  check(tokens);
  for (int which : {0, 1})
    for (size_t size = 0; size <= size_t{kWordUnits} * tokens; ++size)
      powers_[which].push_back(size ? multiply(powers_[which].back(), kBases[which]) : 1);
}

void Merge::add_samples(uint64_t row, std::span<const uint64_t> samples) {
  expect(samples_ != nullptr);
  for (const uint64_t gram : samples) samples_->add({gram, row});
}

void Merge::expect(bool ready) {
  if (!ready) throw std::logic_error("add_samples, match, add_texts, decide, take: in this order");
}

void Merge::match() {
  expect(samples_ != nullptr);
  wanted_ = std::make_unique<Sorter<Wanted>>(folder_, memory_);
  samples_->finish();
  for (const Sample* next = samples_->peek(); next;) {
    const Sample first = *next;
    const uint64_t gram = first.gram & ~uint64_t{1};
    bool alone = !(first.gram & 1);
    if (!alone) wanted_->add({first.row, gram});
    for (;;) {
      samples_->pop();
      next = samples_->peek();
      if (!next || (next->gram & ~uint64_t{1}) != gram) break;
      if (alone) wanted_->add({first.row, gram});
      alone = false;
      wanted_->add({next->row, gram});
    }
  }
  samples_.reset();
  wanted_->finish();
  windows_ = std::make_unique<Sorter<Window>>(folder_, memory_);
}

int64_t Merge::next_row() const {
  expect(wanted_ != nullptr);
  const Wanted* wanted = wanted_->peek();
  return wanted ? static_cast<int64_t>(wanted->row) : -1;
}

void Merge::add_text(uint64_t row, std::string_view text) {
  expect(wanted_ != nullptr);
  grams_.clear();
  for (const Wanted* next; (next = wanted_->peek()) && next->row == row; wanted_->pop())
    grams_.push_back(next->gram);
  split(text, scratch_.tokens);
  fill_prefixes(scratch_.tokens, 0, scratch_.prefixes);
  fill_prefixes(scratch_.tokens, 1, scratch_.others);
  const auto& tokens = scratch_.tokens;
  uint64_t last = 1;  // a gram is even
  bool wanted = false;
  size_t met = 0;
  each_window(tokens_, scratch_, [&](size_t begin, size_t end, const Scratch::Least& least) {
    if (least.gram != last) {
      last = least.gram;
      wanted = std::binary_search(grams_.begin(), grams_.end(), last);
      met += wanted;
    }
    if (wanted)
      windows_->add({between(scratch_.prefixes, begin, end, powers_[0][end - begin]),
                     between(scratch_.others, begin, end, powers_[1][end - begin]), row,
                     tokens[begin].begin, tokens[end - 1].end});
  });
  if (met < grams_.size())
    throw std::invalid_argument("the text of row " + std::to_string(row) +
                                " is not the one that was signed: sign the corpus again");
}

void Merge::decide() {
  expect(windows_ != nullptr);
  wanted_.reset();
  cuts_ = std::make_unique<Sorter<Cut>>(folder_, memory_);
  windows_->finish();
  for (const Window* next = windows_->peek(); next;) {
    const Window first = *next;
    bool alone = true;
    for (;;) {
      windows_->pop();
      next = windows_->peek();
      if (!next || next->high != first.high || next->low != first.low) break;
      if (alone && !keep_first_) cuts_->add({first.row, first.begin, first.end});
      alone = false;
      // One that overlaps the first, as in "a a a a", is cut from the first one's end on.
      const bool overlaps = keep_first_ && next->row == first.row && next->begin < first.end;
      cuts_->add({next->row, overlaps ? first.end : next->begin, next->end});
    }
  }
  windows_.reset();
  cuts_->finish();
}

bool Merge::take(Cut& cut) {
  expect(cuts_ != nullptr);
  const Cut* next = cuts_->peek();
  if (!next) return false;
  cut = *next;
  for (;;) {
    cuts_->pop();
    next = cuts_->peek();
    if (!next || next->row != cut.row || next->begin > cut.end) return true;
    cut.end = std::max(cut.end, next->end);
  }
}

}  // namespace gristmill::substrings
