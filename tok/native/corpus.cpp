// How a pair is merged everywhere without touching anything else.
//
// The words lie in one array of slots (4 bytes), by falling count, a separator between them. A token
// keeps the slots of the bytes (or symbols) it was made of and writes its number into the first and
// the last of them, so from a token's place both neighbours are one load away, in the same cache
// line as a rule, and nothing is ever moved. `width_` says how many slots a symbol takes.
//
// A pair that occurs often enough has an entry: its weighted count and the list of its places,
// ascending. Merging walks down that list (fetching ahead), skips places that another merge has
// taken since, rewrites the others and tallies the neighbours by symbol in a plain array. A
// neighbour x of a pair (a, b) gives two changes of the same size: (x, a) loses what (x, merged)
// gains. So the table of pairs is asked once for each *different* neighbour, not for each place.
// As places ascend and words lie by count, a place's weight is found by stepping forward.
//
// A pair's count never rises after the merge that bore it. Hence two things. The queue may be lazy: a
// stale count is an upper bound, and its pair goes back with the true one. And a pair born below the
// threshold can be forgotten at once, as long as the threshold is above what is merged next: most
// pairs are rare, and the table and the lists of the frequent ones stay small. When the best count
// falls below the threshold, `index` counts again under a lower one, a linear pass over the words,
// which by then are several times shorter: it also closes the gaps that merges have left.
//
// What is read at random lies on large pages (huge.hpp): a tenth of the time.
//
// Cost. Memory: 4 bytes a slot (a byte of the distinct words), 4 for each place of a frequent pair,
// 32 to 64 for each frequent pair; while indexing, 4 more a symbol and a sketch of 2 to 4 a symbol, at
// most 32 MiB, for each thread. Time, in CPU: a merge costs some 10 ns a place and 30 ns for each
// different neighbour; an index some 30 ns a symbol, shared by the threads. All places over a whole
// training are about twice the symbols that merging removes. For 128,000 tokens of 100 MB of code
// (277,000 distinct words) that is 0.35 s, a third of it indexes; of 117 MB in 262 languages (1.9
// million words) 2.4 s, half of it indexes.

#include "corpus.hpp"

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "parallel.hpp"

namespace gristmill {
namespace {

constexpr Symbol separator = 0xffffffff;  // between two words
constexpr Symbol inside = 0xfffffffe;     // a slot of a token that is neither its first nor its last
constexpr uint32_t block_bits = 10;
constexpr size_t chunk_places = size_t{1} << 18;
constexpr size_t batch = 128;  // pairs visited together, so that memory can be fetched ahead

// Counts by size: exactly up to 63, then 32 levels for each doubling.
size_t level_of(uint32_t count) {
  const int beyond = std::max(0, static_cast<int>(std::bit_width(count)) - 6);
  return 32 * beyond + (count >> beyond);
}
int64_t least_of(size_t level) {
  const size_t beyond = level < 64 ? 0 : level / 32 - 1;
  return static_cast<int64_t>(level - 32 * beyond) << beyond;
}

}  // namespace

Corpus::Corpus(const Words& words, const std::array<Symbol, 256>& symbol_of_byte,
               const std::vector<uint32_t>& token_bytes, int64_t max_token_bytes, size_t threads)
    : token_bytes_(token_bytes), max_token_bytes_(max_token_bytes), threads_(threads) {
  std::vector<uint32_t> order;  // words of fewer than two symbols have no pairs
  uint64_t size = 1;
  for (size_t w = 0; w < words.counts.size(); ++w) {
    const int64_t length = words.offsets[w + 1] - words.offsets[w];
    tokens_ += length * words.counts[w];
    if (length < 2 || words.counts[w] <= 0) continue;
    order.push_back(static_cast<uint32_t>(w));
    size += length + 1;
  }
  if (size >= inside)
    throw std::invalid_argument(
        "the distinct words have more than 4 GiB together: leave out the rarest ones");
  // Most counts are small: those by counting, the others by comparing.
  constexpr int64_t small = 1 << 12;
  std::vector<uint32_t> sorted(order.size());
  std::vector<size_t> first(small + 1, 0);
  size_t n_large = 0;
  for (const uint32_t w : order) {
    if (words.counts[w] < small)
      ++first[small - 1 - words.counts[w]];
    else
      sorted[n_large++] = w;
  }
  std::sort(sorted.begin(), sorted.begin() + n_large, [&](uint32_t a, uint32_t b) {
    return words.counts[a] != words.counts[b] ? words.counts[a] > words.counts[b] : a < b;
  });
  for (size_t at = n_large, i = 0; i < first.size(); ++i) at += std::exchange(first[i], at);
  for (const uint32_t w : order)
    if (words.counts[w] < small) sorted[first[small - 1 - words.counts[w]]++] = w;

  slots_.resize(size);
  Symbol* to = slots_.data();
  *to++ = separator;
  for (const uint32_t w : sorted) {
    if (runs_.empty() || runs_.back().count != words.counts[w])
      runs_.push_back({static_cast<uint32_t>(to - slots_.data()), words.counts[w]});
    const int64_t begin = words.offsets[w], end = words.offsets[w + 1];
    for (int64_t i = begin; i < end; ++i) *to++ = symbol_of_byte[words.bytes[i]];
    *to++ = separator;
    symbols_ += end - begin;
  }
  runs_.push_back({static_cast<uint32_t>(size), 0});
  width_.assign(token_bytes.size(), 1);
}

// Where to begin for each thread, and the end: about equal lengths, each beginning after a separator.
std::vector<size_t> Corpus::stretches() const {
  std::vector<size_t> parts{1};
  for (size_t part = 1; part < threads_; ++part) {
    size_t at = std::max(parts.back(), slots_.size() * part / threads_);
    while (at < slots_.size() && slots_[at - 1] != separator) ++at;
    parts.push_back(at);
  }
  parts.push_back(slots_.size());
  return parts;
}

// Close the gaps, so that each symbol takes one slot, and drop words that are one symbol by now. Each
// thread does a stretch of the slots within itself; then the stretches move together.
void Corpus::compact() {
  struct Stretch {
    std::vector<Run> runs;
    size_t begin, end;  // of what is left
    int64_t symbols = 0;
  };
  const std::vector<size_t> parts = stretches();
  std::vector<Stretch> done(threads_);
  in_parallel(threads_, [&](size_t part) {
    Stretch own{{}, parts[part], parts[part], 0};
    size_t& out = own.end;
    size_t run = 0;
    for (size_t at = parts[part]; at < parts[part + 1]; ++at) {
      while (runs_[run + 1].begin <= at) ++run;  // runs are few
      const size_t begin = out;
      while (slots_[at] != separator) {
        const Symbol s = slots_[at];
        at += width_[s];
        slots_[out++] = s;
      }
      if (out - begin < 2) {
        out = begin;
        continue;
      }
      own.symbols += static_cast<int64_t>(out - begin);
      if (own.runs.empty() || own.runs.back().count != runs_[run].count)
        own.runs.push_back({static_cast<uint32_t>(begin), runs_[run].count});
      slots_[out++] = separator;
    }
    done[part] = std::move(own);
  });
  std::vector<Run> runs;
  size_t out = 1;
  symbols_ = 0;
  for (const Stretch& stretch : done) {
    const auto shift = static_cast<uint32_t>(stretch.begin - out);
    std::copy(slots_.begin() + stretch.begin, slots_.begin() + stretch.end, slots_.begin() + out);
    for (const Run& run : stretch.runs)
      if (runs.empty() || runs.back().count != run.count) runs.push_back({run.begin - shift, run.count});
    out += stretch.end - stretch.begin;
    symbols_ += stretch.symbols;
  }
  slots_.resize(out);
  if (2 * out < slots_.capacity()) slots_.shrink_to_fit();
  runs.push_back({static_cast<uint32_t>(out), 0});
  runs_ = std::move(runs);
  width_.assign(token_bytes_.size(), 1);
}

void Corpus::index(int64_t threshold, size_t wanted, int64_t most) {
  threshold_ = std::max<int64_t>(threshold, 1);
  entries_.clear();
  queue_.clear();
  chunks_.clear();
  chunk_left_ = 0;
  compact();
  run_of_block_.assign((slots_.size() >> block_bits) + 1, 0);
  for (size_t block = 0, run = 0; block < run_of_block_.size(); ++block) {
    while (run + 2 < runs_.size() && runs_[run + 1].begin <= (block << block_bits)) ++run;
    run_of_block_[block] = static_cast<uint32_t>(run);
  }
  const std::vector<size_t> parts = stretches();
  if (token_bytes_.size() <= 256)
    index_bytes(parts);
  else
    index_pairs(parts, wanted, most);
}

// Visit the adjacent pairs of compacted words in [begin, end), a batch at a time.
template <typename Visit>
void Corpus::each_pair(size_t begin, size_t end, Visit&& visit) const {
  Found found[batch];
  size_t n = 0;
  size_t run = begin < end ? run_of_block_[begin >> block_bits] : 0;
  Symbol left = separator;
  for (size_t at = begin; at < end; ++at) {
    const Symbol right = slots_[at];
    if (left != separator && right != separator) {
      while (runs_[run + 1].begin <= at) ++run;
      found[n++] = {Pair{left, right}.key(), runs_[run].count, static_cast<uint32_t>(at - 1)};
      if (n == batch) {
        visit(found, n);
        n = 0;
      }
    }
    left = right;
  }
  visit(found, n);
}

// While symbols are bytes, an array with a cell for every pair is small.
void Corpus::index_bytes(const std::vector<size_t>& parts) {
  auto cell = [](uint64_t key) { return (key >> 24) | (key & 0xff); };
  std::vector<std::vector<Share>> shares(threads_, std::vector<Share>(1 << 16));
  in_parallel(threads_, [&](size_t part) {
    each_pair(parts[part], parts[part + 1], [&](const Found* found, size_t n) {
      for (size_t i = 0; i < n; ++i) {
        Share& share = shares[part][cell(found[i].key)];
        share.count += found[i].count;
        share.n += 1;
      }
    });
  });
  for (uint64_t c = 0; c < 1 << 16; ++c) {
    int64_t count = 0;
    uint32_t n = 0;
    for (const auto& share : shares) {
      count += share[c].count;
      n += share[c].n;
    }
    if (count < threshold_ || max_token_bytes_ < 2) continue;
    uint32_t* to = enter((c >> 8) << 32 | (c & 0xff), count, n).places;
    for (auto& share : shares) {
      share[c].to = to;
      to += share[c].n;
    }
  }
  in_parallel(threads_, [&](size_t part) {
    each_pair(parts[part], parts[part + 1], [&](const Found* found, size_t n) {
      for (size_t i = 0; i < n; ++i)
        if (uint32_t*& to = shares[part][cell(found[i].key)].to) *to++ = found[i].place;
    });
  });
}

// Later there are millions of pairs, most of them rare. First a sketch, sums by hash, says about how
// many pairs there are of which count, and so how high the threshold may be; then only pairs whose sum
// reaches it are counted exactly. A thread numbers the pairs it meets and notes each place's number,
// so that listing the places afterwards asks no table.
void Corpus::index_pairs(const std::vector<size_t>& parts, size_t wanted, int64_t most) {
  const size_t size = std::bit_ceil(std::clamp<size_t>(symbols_ / 2, 1 << 12, 1 << 23));
  const int shift = 64 - std::countr_zero(size);
  auto cell = [shift](uint64_t key) { return mix(key) >> shift; };
  constexpr uint32_t highest = 0xffffffff;  // and whatever is above it
  HugeVector<uint8_t> frequent;
  if (threshold_ > 1 || wanted < static_cast<size_t>(symbols_)) {
    std::vector<HugeVector<uint32_t>> sketches(threads_);
    in_parallel(threads_, [&](size_t part) {
      HugeVector<uint32_t>& sketch = sketches[part];
      sketch.assign(size, 0);
      each_pair(parts[part], parts[part + 1], [&](const Found* found, size_t n) {
        for (size_t i = 0; i < n; ++i) __builtin_prefetch(&sketch[cell(found[i].key)], 1);
        for (size_t i = 0; i < n; ++i) {
          uint32_t& sum = sketch[cell(found[i].key)];
          sum = static_cast<uint32_t>(std::min<int64_t>(sum + found[i].count, highest));
        }
      });
    });
    std::vector<std::vector<size_t>> levels(threads_);
    in_parallel(threads_, [&](size_t part) {
      levels[part].assign(level_of(highest) + 1, 0);
      for (size_t i = size * part / threads_; i < size * (part + 1) / threads_; ++i) {
        uint64_t sum = 0;
        for (const auto& sketch : sketches) sum += sketch[i];
        sketches[0][i] = static_cast<uint32_t>(std::min<uint64_t>(sum, highest));
        ++levels[part][level_of(sketches[0][i])];
      }
    });
    size_t level = levels[0].size() - 1;
    for (size_t n = 0; level > 1; --level) {
      for (const auto& own : levels) n += own[level];
      if (n >= wanted) break;
    }
    threshold_ = std::max(threshold_, std::min(most, least_of(level)));
    frequent.resize(size);
    for (size_t i = 0; i < size; ++i)
      frequent[i] = sketches[0][i] >= threshold_ || sketches[0][i] == highest;
  }

  struct Numbered {
    std::vector<uint64_t> keys;
    std::vector<Tally> tallies;
    std::vector<uint32_t*> to;
    std::unique_ptr<uint32_t[]> numbers;  // by place
  };
  constexpr uint32_t none = 0xffffffff;
  std::vector<Numbered> numbered(threads_);
  in_parallel(threads_, [&](size_t part) {
    Numbered& own = numbered[part];
    const size_t begin = parts[part], end = parts[part + 1];
    own.numbers = std::make_unique_for_overwrite<uint32_t[]>(end - begin);
    PairTable<uint32_t> number_of;
    each_pair(begin, end, [&](const Found* found, size_t n) {
      const Found* kept[batch];
      size_t m = 0;
      if (!frequent.empty())
        for (size_t i = 0; i < n; ++i) __builtin_prefetch(&frequent[cell(found[i].key)]);
      for (size_t i = 0; i < n; ++i) {
        own.numbers[found[i].place - begin] = none;
        if (!frequent.empty() && !frequent[cell(found[i].key)]) continue;
        number_of.prefetch(found[i].key);
        kept[m++] = &found[i];
      }
      for (size_t i = 0; i < m; ++i) {
        uint32_t& number = number_of.at(kept[i]->key);  // 1 + the number; 0 when new
        if (number == 0) {
          own.keys.push_back(kept[i]->key);
          own.tallies.emplace_back();
          number = static_cast<uint32_t>(own.keys.size());
        }
        Tally& tally = own.tallies[number - 1];
        tally.count += kept[i]->count;
        tally.n += 1;
        own.numbers[kept[i]->place - begin] = number - 1;
      }
    });
  });

  size_t n_keys = 0;
  for (const Numbered& own : numbered) n_keys += own.keys.size();
  entries_.reserve(n_keys);
  for (const Numbered& own : numbered)
    for (size_t i = 0; i < own.keys.size(); ++i) {
      Entry& entry = entries_.at(own.keys[i]);
      entry.count += own.tallies[i].count;
      entry.n_places += own.tallies[i].n;
    }
  // Each thread has its stretch of every list; `places` goes along them, then back to the start.
  std::vector<Entry*> listed;
  for (Numbered& own : numbered) {
    own.to.resize(own.keys.size());
    for (size_t i = 0; i < own.keys.size(); ++i) {
      const Pair pair = Pair::of(own.keys[i]);
      Entry& entry = *entries_.find(own.keys[i]);
      if (entry.count < threshold_ ||
          token_bytes_[pair.left] + token_bytes_[pair.right] > max_token_bytes_) {
        entry.count = 0;
        continue;
      }
      if (entry.places == nullptr) {
        entry.places = allocate(entry.n_places);
        queue_.push(entry.count, own.keys[i]);
        listed.push_back(&entry);
      }
      own.to[i] = entry.places;
      entry.places += own.tallies[i].n;
    }
  }
  for (Entry* entry : listed) entry->places -= entry->n_places;
  in_parallel(threads_, [&](size_t part) {
    Numbered& own = numbered[part];
    for (size_t at = parts[part]; at < parts[part + 1]; ++at) {
      // The numbers of separators, and of symbols before them, were never written.
      if (slots_[at] == separator || slots_[at + 1] == separator) continue;
      const uint32_t number = own.numbers[at - parts[part]];
      if (number == none) continue;
      if (uint32_t*& to = own.to[number]) *to++ = static_cast<uint32_t>(at);
    }
  });
}

// A new entry with room for n places; `entries_` must not hold the pair.
Corpus::Entry& Corpus::enter(uint64_t key, int64_t count, uint32_t n) {
  if (entries_.full()) entries_.keep([](const Entry& entry) { return entry.count > 0; });
  Entry& entry = entries_.at(key);
  entry = {count, allocate(n), n};
  queue_.push(count, key);
  return entry;
}

uint32_t* Corpus::allocate(uint32_t n) {
  if (n > chunk_places / 4) {
    chunks_.push_back(std::make_unique_for_overwrite<uint32_t[]>(n));
    return chunks_.back().get();
  }
  if (n > chunk_left_) {
    chunks_.push_back(std::make_unique_for_overwrite<uint32_t[]>(chunk_places));
    chunk_ = chunks_.back().get();
    chunk_left_ = chunk_places;
  }
  chunk_left_ -= n;
  return std::exchange(chunk_, chunk_ + n);
}

Corpus::Best Corpus::best() {
  for (;;) {
    const auto [stated, key] = queue_.top();
    if (stated == 0) return {{0, 0}, 0};
    fetch_ahead();
    const Entry* entry = entries_.find(key);
    const int64_t count = entry == nullptr ? 0 : entry->count;
    if (count == stated) return {Pair::of(key), count};
    queue_.pop();
    if (count >= threshold_) queue_.push(count, key);
  }
}

// A merge of a rare pair waits for memory more than for anything else: for its entry, for the list of
// its places, for the places. So each is asked for some merges ahead.
void Corpus::fetch_ahead() const {
  if (const uint64_t* key = queue_.ahead(12)) entries_.prefetch(*key);
  if (const uint64_t* key = queue_.ahead(8))
    if (const Entry* entry = entries_.find(*key)) __builtin_prefetch(entry->places);
  if (const uint64_t* key = queue_.ahead(4))
    if (const Entry* entry = entries_.find(*key))
      for (uint32_t k = 0; k < std::min(entry->n_places, 16u); ++k)
        __builtin_prefetch(&slots_[entry->places[k]], 1);
}

void Corpus::forget(Pair pair) {
  if (Entry* entry = entries_.find(pair.key())) entry->count = 0;
}

void Corpus::Side::add(Symbol symbol, int64_t count, uint32_t place) {
  Tally& t = tally[symbol];
  if (t.n++ == 0) seen.push_back(symbol);
  t.count += count;
  all.push_back({symbol, place});
}

void Corpus::merge(Pair pair, Symbol merged) {
  Entry* entry = entries_.find(pair.key());
  if (entry == nullptr || entry->count <= 0) return;
  const Entry taken = *entry;
  entry->count = 0;

  const auto [a, b] = pair;
  if (width_.size() <= merged) width_.resize(merged + 1, 1);
  const uint32_t wa = width_[a], wc = wa + width_[b];
  width_[merged] = wc;
  if (left_.tally.size() <= merged)
    for (Side* side : {&left_, &right_}) {
      side->tally.resize(merged + merged / 2 + 1);
      side->to.resize(side->tally.size(), nullptr);
    }

  Symbol* const slots = slots_.data();
  constexpr size_t ahead = 16;
  size_t run = 0;
  uint32_t run_end = 0;
  int64_t count = 0;
  for (size_t k = 0; k < taken.n_places; ++k) {
    if (k + ahead < taken.n_places) __builtin_prefetch(slots + taken.places[k + ahead], 1);
    const uint32_t at = taken.places[k];
    if (slots[at] != a || slots[at + wa] != b) continue;  // taken by another merge since
    if (at >= run_end) {
      run = std::max<size_t>(run, run_of_block_[at >> block_bits]);
      while (runs_[run + 1].begin <= at) ++run;
      run_end = runs_[run + 1].begin;
      count = runs_[run].count;
    }
    const Symbol x = slots[at - 1], y = slots[at + wc];
    slots[at + wa - 1] = inside;
    slots[at + wa] = inside;
    slots[at] = merged;
    slots[at + wc - 1] = merged;
    --symbols_;
    tokens_ -= count;
    if (x != separator) left_.add(x, count, at - width_[x]);
    if (y != separator) right_.add(y, count, at);
  }

  for (const Symbol x : left_.seen) entries_.prefetch(Pair{x, a}.key());
  for (const Symbol x : left_.seen)
    if (Entry* e = x == merged ? nullptr : entries_.find(Pair{x, a}.key()))
      e->count -= left_.tally[x].count;
  for (const Symbol y : right_.seen) entries_.prefetch(Pair{b, y}.key());
  for (const Symbol y : right_.seen)
    if (Entry* e = entries_.find(Pair{b, y}.key())) e->count -= right_.tally[y].count;
  // Where a place's left neighbour is `merged` itself, the place before it was tallied with an `a`
  // on its right that has gone since.
  if (left_.tally[merged].count > 0) right_.tally[a].count -= left_.tally[merged].count;

  enter_born(left_, merged, true);
  enter_born(right_, merged, false);
}

// Enter the pairs that a merge has made and that are frequent, with their places.
void Corpus::enter_born(Side& side, Symbol merged, bool left) {
  bool any = false;
  for (const Symbol s : side.seen) {
    const Tally tally = std::exchange(side.tally[s], {});
    if (tally.count < threshold_ || token_bytes_[s] + token_bytes_[merged] > max_token_bytes_) continue;
    const Pair born = left ? Pair{s, merged} : Pair{merged, s};
    side.to[s] = enter(born.key(), tally.count, tally.n).places;
    any = true;
  }
  if (any) {
    for (const Neighbour& neighbour : side.all)
      if (uint32_t*& to = side.to[neighbour.symbol]) *to++ = neighbour.place;
    for (const Symbol s : side.seen) side.to[s] = nullptr;
  }
  side.seen.clear();
  side.all.clear();
}

}  // namespace gristmill
