// The words a trainer works on, their adjacent pairs, and one operation: merge a pair everywhere.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "huge.hpp"
#include "pair_queue.hpp"
#include "pair_table.hpp"

namespace gristmill {

// Words as the trainer takes them: word w is bytes[offsets[w] .. offsets[w + 1]] and stands for
// counts[w] occurrences.
struct Words {
  std::span<const uint8_t> bytes;
  std::span<const int64_t> offsets;
  std::span<const int64_t> counts;
};

// See corpus.cpp for how it works and what it costs.
class Corpus {
 public:
  // token_bytes: the length of every symbol's token in bytes, shared with the trainer, which adds
  // an entry before each merge. Pairs longer than max_token_bytes do not exist. Throws
  // std::invalid_argument when the words have more than 2^32 bytes.
  Corpus(const Words& words, const std::array<Symbol, 256>& symbol_of_byte,
         const std::vector<uint32_t>& token_bytes, int64_t max_token_bytes, size_t threads);

  // Count all pairs anew and list where those stand that occur at least `threshold` times; the
  // others are forgotten until the next call. While more than about `wanted` pairs do, the threshold
  // is raised, up to `most` (but not while all symbols are bytes). O(symbols).
  static constexpr size_t all = ~size_t{0};
  static constexpr int64_t any = std::numeric_limits<int64_t>::max();
  void index(int64_t threshold, size_t wanted = all, int64_t most = any);
  int64_t threshold() const { return threshold_; }

  struct Best {
    Pair pair;
    int64_t count;
  };
  // The pair of the highest count, the smallest (left, right) among equals; count 0 when no
  // indexed pair has `threshold` occurrences left.
  Best best();

  // Do not offer this pair again before the next index().
  void forget(Pair pair);

  // Replace the pair by `merged`, left to right in every word; it is forgotten afterwards. Nothing
  // happens to a pair that is not indexed.
  void merge(Pair pair, Symbol merged);

  int64_t tokens() const { return tokens_; }  // in all words, by their counts

 private:
  struct Entry {  // an indexed pair
    int64_t count = 0;
    uint32_t* places = nullptr;  // its left symbol's slots, ascending; some may be out of date
    uint32_t n_places = 0;
  };
  struct Run {  // words of one count lie together
    uint32_t begin;
    int64_t count;
  };
  struct Found {
    uint64_t key;
    int64_t count;
    uint32_t place;
  };
  struct Tally {
    int64_t count = 0;
    uint32_t n = 0;
  };
  struct Share {  // a pair as one thread has found it
    int64_t count = 0;
    uint32_t n = 0;
    uint32_t* to = nullptr;
  };
  struct Neighbour {  // of a place that was merged
    Symbol symbol;
    uint32_t place;
  };
  struct Side {  // what stands left (or right) of the places of a merge
    std::vector<Tally> tally;  // by symbol, all zero between merges
    std::vector<uint32_t*> to;  // by symbol, null between merges
    std::vector<Symbol> seen;
    std::vector<Neighbour> all;
    void add(Symbol symbol, int64_t count, uint32_t place);
  };

  std::vector<size_t> stretches() const;
  void compact();
  void index_bytes(const std::vector<size_t>& parts);
  void index_pairs(const std::vector<size_t>& parts, size_t wanted, int64_t most);
  template <typename Visit>
  void each_pair(size_t begin, size_t end, Visit&& visit) const;
  Entry& enter(uint64_t key, int64_t count, uint32_t n);
  void enter_born(Side& side, Symbol merged, bool left);
  uint32_t* allocate(uint32_t n);
  void fetch_ahead() const;

  const std::vector<uint32_t>& token_bytes_;
  const int64_t max_token_bytes_;
  const size_t threads_;

  HugeVector<Symbol> slots_;     // the words, a separator before and after each
  std::vector<uint32_t> width_;  // by symbol: slots it takes
  std::vector<Run> runs_;        // ascending by begin, the last one beyond the end
  std::vector<uint32_t> run_of_block_;
  int64_t symbols_ = 0;  // in the slots, each word once
  int64_t tokens_ = 0;

  int64_t threshold_ = 1;
  PairTable<Entry> entries_;
  PairQueue queue_;
  std::vector<std::unique_ptr<uint32_t[]>> chunks_;
  uint32_t* chunk_ = nullptr;
  size_t chunk_left_ = 0;
  Side left_, right_;
};

}  // namespace gristmill
