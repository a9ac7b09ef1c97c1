// Byte-level BPE training from a table of words and counts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "corpus.hpp"

namespace gristmill {

struct Merge {
  int64_t left, right;  // symbols
  int64_t merged;       // the symbol made: a new one, or the one that already spells those bytes
  int64_t count;        // occurrences of the pair, weighted by the words' counts, when merged
};

struct TrainOptions {
  int64_t max_symbols;      // stop when there are so many different tokens
  int64_t min_count = 1;
  int64_t max_token_bytes = 128;
  size_t threads = 1;
};

// Learn merges. `tokens` holds the bytes of the symbols that the words are made of (256 single
// bytes, or more to go on from an earlier vocabulary). The pair of the highest count is merged
// first; ties go to the smaller (left, right). `progress(symbols)` is called now and then and may
// throw to stop.
std::vector<Merge> train(const Words& words, std::vector<std::string> tokens,
                         const TrainOptions& options,
                         const std::function<void(int64_t)>& progress);

}  // namespace gristmill
