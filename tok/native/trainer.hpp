// Byte-level BPE training from words and counts: which pair is merged next. See trainer.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

#include "corpus.hpp"

namespace gristmill {

struct Merge {
  int64_t left, right;  // symbols
  int64_t merged;       // the symbol made: a new one, or the one that already spells those bytes
  int64_t count;        // occurrences of the pair when it was chosen, weighted by the words' counts
};

struct TrainOptions {
  // The vocabulary to go on from: the tokens of the first symbols, which must begin with the 256
  // single bytes, and the merges that made the others; their counts are not looked at.
  std::vector<std::string> tokens;
  std::vector<Merge> merges;

  int64_t max_tokens;  // stop when there are so many different tokens
  int64_t min_count = 1;
  int64_t max_token_bytes = 128;
  std::unordered_set<std::string> forbidden;  // tokens that must not be made
  size_t threads = 1;
  std::function<void(int64_t)> progress;  // called now and then with the number of tokens; may throw
};

struct Learned {
  std::vector<Merge> merges;        // made beyond options.merges
  std::vector<std::string> tokens;  // beyond options.tokens, by symbol
};

// The pair of the highest count first; ties go to the smaller (left, right), which is the order of `tokenizers`' BpeTrainer.
Learned train(const Words& words, const TrainOptions& options);

struct Language {
  Words train;
  Words dev;
  double units;  // what the development text amounts to: 1 each for parallel text, or its bytes
};

struct ParityOptions {
  int64_t window = 0;  // merges to look back on; 0: no limit on how often a language is helped
  double alpha = 2;  // a language that more than alpha * window / languages of them helped waits
};

// Parity-aware BPE (Foroutan et al. 2025, arXiv 2508.04796, algorithm 1 and its window variant): each
// merge is the most frequent pair of the language whose development text has the fewest units a
// token, and is made in all languages.
Learned train_parity(const std::vector<Language>& languages, const TrainOptions& options,
                     const ParityOptions& parity);

}  // namespace gristmill
