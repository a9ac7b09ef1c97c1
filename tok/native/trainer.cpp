#include "trainer.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>

namespace gristmill {

std::vector<Merge> train(const Words& words, std::vector<std::string> tokens,
                         const TrainOptions& options,
                         const std::function<void(int64_t)>& progress) {
  std::vector<uint32_t> token_bytes;
  std::unordered_map<std::string, Symbol> symbol_of;
  for (const std::string& token : tokens) {
    symbol_of.emplace(token, static_cast<Symbol>(token_bytes.size()));
    token_bytes.push_back(static_cast<uint32_t>(token.size()));
  }
  Corpus corpus(words, token_bytes, options.max_token_bytes, options.threads);
  const int64_t least = std::max<int64_t>(options.min_count, 1);

  int64_t total = 0;
  for (size_t w = 0; w < words.counts.size(); ++w)
    total += words.counts[w] * (words.offsets[w + 1] - words.offsets[w]);
  static const double divisor = getenv("GM_DIV") ? atof(getenv("GM_DIV")) : 16;
  static const int early = getenv("GM_EARLY") ? atoi(getenv("GM_EARLY")) : 1000;
  const int64_t start =
      std::max<int64_t>(least, total / (divisor * std::max<int64_t>(options.max_symbols, 1)));
  corpus.index(start);
  bool compacted = false;

  std::vector<Merge> merges;
  while (static_cast<int64_t>(tokens.size()) < options.max_symbols) {
    if (!compacted && merges.size() >= (size_t)early) {
      corpus.index(corpus.threshold());
      compacted = true;
    }
    const Corpus::Best best = corpus.best();
    if (best.count < least) {
      if (corpus.threshold() <= least) break;
      if (getenv("GM_V")) fprintf(stderr, "reindex at %zu merges, threshold %ld, memory %zu\n", merges.size(), corpus.threshold(), (size_t)0);
      corpus.index(std::max<int64_t>(least, corpus.threshold() / 8));
      continue;
    }
    std::string token = tokens[best.pair.left] + tokens[best.pair.right];
    const auto [known, fresh] = symbol_of.try_emplace(token, static_cast<Symbol>(tokens.size()));
    if (fresh) {
      token_bytes.push_back(static_cast<uint32_t>(token.size()));
      tokens.push_back(std::move(token));
    }
    const Symbol merged = known->second;
    corpus.merge(best.pair, merged);
    merges.push_back({best.pair.left, best.pair.right, merged, best.count});
    // Two merges can spell the same token (as in `tokenizers`, both then make one symbol); its
    // pairs have grown, which the index does not follow.
    if (!fresh) corpus.index(corpus.threshold());
    if (merges.size() % 256 == 0) progress(static_cast<int64_t>(tokens.size()));
  }
  if (getenv("GM_V")) fprintf(stderr, "end: threshold %ld, last %ld memory %zu\n", corpus.threshold(), merges.empty()?0:merges.back().count, (size_t)0);
  return merges;
}

}  // namespace gristmill
