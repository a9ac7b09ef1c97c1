// A plain incremental trainer. Words are arrays of symbols in one buffer; for every pair of symbols
// we keep its weighted count and the words it occurs in. A heap holds (count, pair), lazily: once a
// pair is born its count only falls, so a stale entry is an upper bound, and it is put back with
// its true count when it reaches the top. Merging a pair rewrites the words it occurs in and adjusts
// the counts of the neighbours only.
//
// Cost: O(total symbols) to start; each merge costs the length of the words that hold the pair, plus
// a heap operation for each pair born. Memory: 4 bytes a symbol, and 4 bytes for each (pair, word).

#include "trainer.hpp"

#include <algorithm>
#include <queue>
#include <unordered_map>

namespace gristmill {
namespace {

using Pair = uint64_t;

Pair make_pair(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

struct PairHash {
  size_t operator()(Pair p) const {
    p ^= p >> 29;
    p *= 0xbf58476d1ce4e5b9ULL;
    return p ^ (p >> 32);
  }
};

struct Occurrences {
  int64_t count = 0;
  std::vector<int32_t> words;  // may hold a word more than once, or one that lost the pair since
};

struct Candidate {
  int64_t count;
  Pair pair;
  // std::priority_queue puts the largest on top: highest count, then smallest pair.
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

}  // namespace

std::vector<Merge> train(std::span<const uint8_t> words, std::span<const int64_t> offsets,
                         std::span<const int64_t> counts, int64_t max_merges, int64_t min_count,
                         int64_t max_token_bytes, const std::function<void(int64_t)>& progress) {
  const size_t n_words = counts.size();
  std::vector<int32_t> symbols(words.begin(), words.end());
  std::vector<int32_t> lengths(n_words);
  std::unordered_map<Pair, Occurrences, PairHash> pairs;
  std::vector<int32_t> token_bytes(256, 1);

  for (size_t w = 0; w < n_words; ++w) {
    const int64_t begin = offsets[w], end = offsets[w + 1];
    lengths[w] = static_cast<int32_t>(end - begin);
    for (int64_t i = begin; i + 1 < end; ++i) {
      Occurrences& o = pairs[make_pair(symbols[i], symbols[i + 1])];
      o.count += counts[w];
      if (o.words.empty() || o.words.back() != static_cast<int32_t>(w))
        o.words.push_back(static_cast<int32_t>(w));
    }
  }

  std::priority_queue<Candidate> heap;
  for (const auto& [pair, o] : pairs)
    if (max_token_bytes >= 2) heap.push({o.count, pair});

  std::vector<Merge> merges;
  std::vector<Pair> born;
  while (static_cast<int64_t>(merges.size()) < max_merges && !heap.empty()) {
    const Candidate top = heap.top();
    heap.pop();
    auto found = pairs.find(top.pair);
    if (found == pairs.end()) continue;
    if (found->second.count != top.count) {
      heap.push({found->second.count, top.pair});
      continue;
    }
    if (top.count < std::max<int64_t>(min_count, 1)) break;

    const auto left = static_cast<int32_t>(top.pair >> 32);
    const auto right = static_cast<int32_t>(top.pair & 0xffffffffu);
    const auto merged = static_cast<int32_t>(256 + merges.size());
    merges.push_back({left, right, top.count});
    token_bytes.push_back(token_bytes[left] + token_bytes[right]);

    std::vector<int32_t> where = std::move(found->second.words);
    pairs.erase(found);
    std::sort(where.begin(), where.end());
    where.erase(std::unique(where.begin(), where.end()), where.end());

    born.clear();
    // A neighbour pair loses an occurrence, the pair with the merged symbol gains one.
    auto lose = [&](int32_t a, int32_t b, int64_t n) {
      auto it = pairs.find(make_pair(a, b));
      if (it != pairs.end()) it->second.count -= n;
    };
    auto gain = [&](int32_t a, int32_t b, int64_t n, int32_t w) {
      if (token_bytes[a] + token_bytes[b] > max_token_bytes) return;
      const Pair p = make_pair(a, b);
      auto [it, fresh] = pairs.try_emplace(p);
      if (fresh) born.push_back(p);
      it->second.count += n;
      if (it->second.words.empty() || it->second.words.back() != w) it->second.words.push_back(w);
    };
    for (const int32_t w : where) {
      int32_t* s = symbols.data() + offsets[w];
      const int32_t n = lengths[w];
      int32_t out = 0;
      for (int32_t i = 0; i < n;) {
        if (i + 1 < n && s[i] == left && s[i + 1] == right) {
          if (out > 0) {
            lose(s[out - 1], left, counts[w]);
            gain(s[out - 1], merged, counts[w], w);
          }
          if (i + 2 < n) {
            lose(right, s[i + 2], counts[w]);
            gain(merged, s[i + 2], counts[w], w);
          }
          s[out++] = merged;
          i += 2;
        } else {
          s[out++] = s[i++];
        }
      }
      lengths[w] = out;
    }
    for (const Pair p : born) {
      const auto it = pairs.find(p);
      if (it->second.count > 0) heap.push({it->second.count, p});
    }
    if (merges.size() % 256 == 0) progress(static_cast<int64_t>(merges.size()));
  }
  return merges;
}

}  // namespace gristmill
