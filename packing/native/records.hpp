// The records of a census and a plan's passes over them: laid out, put in order, weighed, picked.
//
// A pass looks at a record once and keeps what it needs of piles and turns in small tables, so it
// costs a few nanoseconds a document, of which most wait for memory. Only putting a window in order
// moves records twice (20 ns).
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

namespace gristmill::records {

struct Record {
  uint64_t key;
  uint64_t place;  // shard above 32 bits of row
  uint32_t tokens;
  uint32_t pile;
};
static_assert(sizeof(Record) == 24);

inline bool before(const Record& a, const Record& b) {
  return std::tie(a.key, a.place) < std::tie(b.key, b.place);
}

// The documents of a segment, [count] each; piles are numbered within it.
struct Documents {
  const uint64_t* keys;
  const bool* held_out;
  const uint32_t* tokens;
  const int32_t* piles;
  size_t count;
  bool trains(size_t k) const { return !held_out[k] && tokens[k] > 0; }
};

// Documents and tokens for training, and documents held out, of each pile: [3, names].
inline std::vector<int64_t> tally(const Documents& documents, size_t names) {
  std::vector<int64_t> found(3 * names);
  for (size_t k = 0; k < documents.count; ++k) {
    const auto pile = static_cast<size_t>(documents.piles[k]);
    if (documents.held_out[k]) ++found[2 * names + pile];
    if (!documents.trains(k)) continue;
    ++found[pile];
    found[names + pile] += documents.tokens[k];
  }
  return found;
}

// Records of the documents for training, those of each window together; `numbers`: of the piles in
// the census; `first`: the place of the first document; `starts`, [windows + 1] (a power of two):
// where each window begins.
inline std::vector<Record> lay_out(const Documents& documents, const uint32_t* numbers,
                                   uint64_t first, size_t windows, int64_t* starts) {
  // Two shifts, as there may be a single window: a shift by 64 bits is not defined.
  const int shift = 63 - std::countr_zero(windows);
  const auto window = [&](uint64_t key) { return (key >> 1) >> shift; };
  std::vector<int64_t> ends(windows + 1);
  for (size_t k = 0; k < documents.count; ++k)
    if (documents.trains(k)) ++ends[window(documents.keys[k]) + 1];
  for (size_t w = 0; w < windows; ++w) ends[w + 1] += ends[w];
  std::copy(ends.begin(), ends.end(), starts);
  std::vector<Record> records(ends[windows]);
  for (size_t k = 0; k < documents.count; ++k)
    if (documents.trains(k))
      records[ends[window(documents.keys[k])]++] = {documents.keys[k], first + k,
                                                    documents.tokens[k],
                                                    numbers[documents.piles[k]]};
  return records;
}

// The records in the order of key and place. Keys are drawn, so their leading bits spread them over
// as many buckets as there are records, nearly; what shares a bucket is compared.
inline std::vector<Record> in_order(const Record* records, size_t count) {
  std::vector<Record> sorted(count);
  uint64_t low = ~uint64_t{0}, high = 0;
  for (size_t k = 0; k < count; ++k) {
    low = std::min(low, records[k].key);
    high = std::max(high, records[k].key);
  }
  const int differing = count ? std::bit_width(low ^ high) : 0;
  const int bits = std::min<int>(differing, std::max<int>(std::bit_width(count) - 2, 0));
  const int shift = differing - bits;
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  const auto bucket = [&](uint64_t key) { return bits ? (key >> shift) & mask : 0; };
  std::vector<uint32_t> ends(mask + 2);
  for (size_t k = 0; k < count; ++k) ++ends[bucket(records[k].key) + 1];
  for (size_t b = 0; b <= mask; ++b) ends[b + 1] += ends[b];
  for (size_t k = 0; k < count; ++k) sorted[ends[bucket(records[k].key)]++] = records[k];
  for (size_t b = 0, begin = 0; b <= mask; begin = ends[b++])
    if (ends[b] - begin > 1) std::sort(&sorted[begin], &sorted[0] + ends[b], before);
  return sorted;
}

// SplitMix64's mixing; as `packing.draws.mix`.
inline uint64_t mix(uint64_t x) {
  x *= 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// A turn through the piles: documents stand in the order of their keys at first, then of new draws.
struct Turn {
  bool first;
  uint64_t draw;
  uint64_t key(uint64_t of) const { return first ? of : mix(of + draw); }
};

// Where tokens are counted by the leading bits of the keys, for some turns of some piles.
struct Buckets {
  const int64_t* first;   // [turns, piles]: where those of a pile begin, -1: there are none
  const uint64_t* shift;  // [piles]: 63 less the number of bits
  size_t piles;
  // The bucket of a record in a turn that has key `key` there, or -1.
  int64_t of(const Record& record, size_t turn, uint64_t key) const {
    const int64_t at = first[turn * piles + record.pile];
    return at < 0 ? at : at + static_cast<int64_t>((key >> 1) >> shift[record.pile]);
  }
};

// What a phase takes of a pile in a turn that it goes through in part: from (key, place, token) to
// (key, place, token). None: from key 1 to key 0.
struct Bounds {
  uint64_t low, low_place, low_token, high, high_place, high_token;
  // The tokens of a record with that key in the turn: first and last but one.
  std::pair<uint32_t, uint32_t> of(const Record& record, uint64_t key) const {
    uint32_t start = 0, stop = record.tokens;
    if (key < low || key > high) return {0, 0};
    if (key == low && record.place <= low_place)
      start = record.place == low_place ? static_cast<uint32_t>(low_token) : record.tokens;
    if (key == high && record.place >= high_place)
      stop = record.place == high_place ? static_cast<uint32_t>(high_token) : 0;
    return {start, std::max(start, stop)};
  }
};

// Documents or stretches of them; `documents`, [piles]: how many are among them.
struct Parts {
  std::vector<int64_t> documents;
  std::vector<uint64_t> place;
  std::vector<int32_t> start;
  std::vector<int32_t> tokens;
  void add(const Record& record, uint32_t from, uint32_t to) {
    place.push_back(record.place);
    start.push_back(static_cast<int32_t>(from));
    tokens.push_back(static_cast<int32_t>(to - from));
  }
};

// What a phase takes of records, in their order, turn after turn: a document's copies shall not
// stand side by side, they would come into one sequence. `whole`, [piles]: how many turns are taken
// from end to end; `bounds`, [turns, piles]. The records' piles are below `piles`.
inline Parts pick(const Record* records, size_t count, const int64_t* whole, size_t piles,
                  const std::vector<Turn>& turns, const Bounds* bounds) {
  Parts parts{std::vector<int64_t>(piles), {}, {}, {}};
  parts.place.reserve(count), parts.start.reserve(count), parts.tokens.reserve(count);
  std::vector<bool> seen(count);
  const auto take = [&](size_t k, uint32_t from, uint32_t to) {
    parts.add(records[k], from, to);
    if (!seen[k]) ++parts.documents[records[k].pile];
    seen[k] = true;
  };
  const int64_t most = piles ? *std::max_element(whole, whole + piles) : 0;
  for (int64_t turn = 0; turn < most; ++turn)
    for (size_t k = 0; k < count; ++k)
      if (whole[records[k].pile] > turn) take(k, 0, records[k].tokens);
  for (size_t t = 0; t < turns.size(); ++t)
    for (size_t k = 0; k < count; ++k) {
      const auto [from, to] =
          bounds[t * piles + records[k].pile].of(records[k], turns[t].key(records[k].key));
      if (to > from) take(k, from, to);
    }
  // Many parts wait to be packed together where each is small.
  parts.place.shrink_to_fit(), parts.start.shrink_to_fit(), parts.tokens.shrink_to_fit();
  return parts;
}

}  // namespace gristmill::records
