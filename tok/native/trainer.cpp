// The choice of merges; the work of making them is in corpus.cpp.
//
// Plain training has one corpus with everything in it. Its index holds about as many pairs as merges
// are to be made next, the most frequent ones, and is made anew when none of them is left; the result
// does not depend on it.
//
// Parity training has two corpora a language, one to choose pairs from and one to measure. A merge
// is made in all of them, so pairs of any count stay indexed and memory is that of all pairs.

#include "trainer.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <stdexcept>

namespace gristmill {
namespace {

// Tokens by their bytes. Two merges can spell the same token; then both make one symbol.
class Vocabulary {
 public:
  explicit Vocabulary(const TrainOptions& options)
      : tokens_(options.tokens), n_given_(static_cast<ptrdiff_t>(tokens_.size())) {
    if (tokens_.size() < 256) throw std::invalid_argument("expected at least the 256 bytes as tokens");
    for (size_t i = 0; i < tokens_.size(); ++i) {
      token_bytes_.push_back(static_cast<uint32_t>(tokens_[i].size()));
      if (Symbol& cell = cell_of(tokens_[i]); cell == 0) cell = static_cast<Symbol>(i + 1);
    }
    for (Symbol i = 0; i < 256; ++i) {
      if (tokens_[i].size() != 1) throw std::invalid_argument("the first 256 tokens must be bytes");
      symbol_of_byte_[static_cast<uint8_t>(tokens_[i][0])] = i;
    }
    for (const Merge& merge : options.merges)
      if (std::min({merge.left, merge.right, merge.merged}) < 0 ||
          std::max({merge.left, merge.right, merge.merged}) >= size())
        throw std::invalid_argument("a merge of a symbol without a token");
  }

  std::string joined(Pair pair) const { return tokens_[pair.left] + tokens_[pair.right]; }

  // The symbol of a token, and whether it is new.
  std::pair<Symbol, bool> add(std::string token) {
    Symbol& cell = cell_of(token);
    const bool fresh = cell == 0;
    if (fresh) {
      token_bytes_.push_back(static_cast<uint32_t>(token.size()));
      tokens_.push_back(std::move(token));
      cell = static_cast<Symbol>(tokens_.size());
    }
    return {cell - 1, fresh};
  }

  // The tokens that were added.
  std::vector<std::string> learned() const { return {tokens_.begin() + n_given_, tokens_.end()}; }

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  const std::vector<uint32_t>& token_bytes() const { return token_bytes_; }
  const std::array<Symbol, 256>& symbol_of_byte() const { return symbol_of_byte_; }

 private:
  // Where the token's symbol stands, plus one; 0 if it has none yet. Tokens of one hash follow each
  // other.
  Symbol& cell_of(const std::string& token) {
    for (uint64_t hash = std::hash<std::string>()(token) >> 8;; ++hash) {
      Symbol& cell = cells_.at(hash);
      if (cell == 0 || tokens_[cell - 1] == token) return cell;
    }
  }

  std::vector<std::string> tokens_;
  ptrdiff_t n_given_;
  std::vector<uint32_t> token_bytes_;
  PairTable<Symbol> cells_;  // by hash
  std::array<Symbol, 256> symbol_of_byte_;
};

// Make the merges of the vocabulary that training goes on from.
void replay(Corpus& corpus, const TrainOptions& options) {
  if (options.merges.empty()) return;
  corpus.index(1);
  std::vector<bool> made(options.tokens.size());
  for (const Merge& merge : options.merges) {
    corpus.merge({static_cast<Symbol>(merge.left), static_cast<Symbol>(merge.right)},
                 static_cast<Symbol>(merge.merged));
    if (made[merge.merged]) corpus.index(1);
    made[merge.merged] = true;
  }
}

}  // namespace

Learned train(const Words& words, const TrainOptions& options) {
  Vocabulary vocabulary(options);
  Corpus corpus(words, vocabulary.symbol_of_byte(), vocabulary.token_bytes(),
                options.max_token_bytes, options.threads);
  replay(corpus, options);

  // An index of n pairs is good for about n merges: as many new pairs pass its threshold as old ones
  // fall below it. So one for all merges would do, but the words shrink quickly at first, and early
  // merges make many pairs that are rare in the end: some indexes on the way, each of them over fewer
  // symbols than the one before, cost less than they save.
  const int64_t least = std::max<int64_t>(options.min_count, 1);
  auto wanted = [&] {
    const int64_t left = options.max_tokens - vocabulary.size();
    return static_cast<size_t>(std::min(left + left / 4, 16 * vocabulary.size()));
  };
  // While symbols are bytes, pairs say little of what is to come. Some 2,000 merges later, the next
  // pair occurs about once in 16,000 tokens.
  const bool bytes = vocabulary.size() == 256;
  corpus.index(bytes ? std::max(least, corpus.tokens() / 16000) : least, wanted());

  std::vector<Merge> merges;
  while (vocabulary.size() < options.max_tokens) {
    const Corpus::Best best = corpus.best();
    if (best.count < least) {
      if (corpus.threshold() <= least) break;
      corpus.index(least, wanted(), std::max(least, corpus.threshold() * 3 / 4));
      continue;
    }
    std::string token = vocabulary.joined(best.pair);
    if (!options.forbidden.empty() && options.forbidden.contains(token)) {
      corpus.forget(best.pair);
      continue;
    }
    const auto [merged, fresh] = vocabulary.add(std::move(token));
    corpus.merge(best.pair, merged);
    merges.push_back({best.pair.left, best.pair.right, merged, best.count});
    // Pairs of a symbol that there was before may have become more frequent, which the index does
    // not follow.
    if (!fresh) corpus.index(corpus.threshold());
    if (merges.size() % 256 == 0 && options.progress) options.progress(vocabulary.size());
  }
  return {std::move(merges), vocabulary.learned()};
}

Learned train_parity(const std::vector<Language>& languages, const TrainOptions& options,
                     const ParityOptions& parity) {
  Vocabulary vocabulary(options);
  const size_t n = languages.size();
  auto corpora = [&](auto&& words) {
    std::vector<std::unique_ptr<Corpus>> all;
    for (const Language& language : languages) {
      all.push_back(std::make_unique<Corpus>(words(language), vocabulary.symbol_of_byte(),
                                             vocabulary.token_bytes(), options.max_token_bytes, 1));
      replay(*all.back(), options);
      all.back()->index(1);
    }
    return all;
  };
  const auto train = corpora([](const Language& l) { return l.train; });
  const auto dev = corpora([](const Language& l) { return l.dev; });

  const int64_t least = std::max<int64_t>(options.min_count, 1);
  const double limit = parity.window > 0 ? parity.alpha * parity.window / n : 0;
  std::deque<size_t> helped;  // by the last merges
  std::vector<int64_t> times(n, 0);
  std::vector<bool> exhausted(n, false);
  std::vector<Merge> merges;
  while (vocabulary.size() < options.max_tokens) {
    // The worst language that may be helped; when the window rules all of them out, the worst.
    size_t worst = n;
    double worst_rate = 0;
    for (const bool windowed : {true, false}) {
      if (worst < n) break;
      for (size_t l = 0; l < n; ++l) {
        if (exhausted[l] || (windowed && limit > 0 && times[l] > limit)) continue;
        const double rate = languages[l].units / std::max<int64_t>(dev[l]->tokens(), 1);
        if (worst == n || rate < worst_rate) {
          worst = l;
          worst_rate = rate;
        }
      }
    }
    if (worst == n) break;
    const Corpus::Best best = train[worst]->best();
    if (best.count < least) {
      exhausted[worst] = true;
      continue;
    }
    std::string token = vocabulary.joined(best.pair);
    if (options.forbidden.contains(token)) {
      train[worst]->forget(best.pair);
      continue;
    }
    const auto [merged, fresh] = vocabulary.add(std::move(token));
    for (size_t l = 0; l < n; ++l) {
      train[l]->merge(best.pair, merged);
      dev[l]->merge(best.pair, merged);
      if (!fresh) {
        train[l]->index(1);
        dev[l]->index(1);
      }
    }
    merges.push_back({best.pair.left, best.pair.right, merged, best.count});
    if (limit > 0) {
      helped.push_back(worst);
      ++times[worst];
      if (static_cast<int64_t>(helped.size()) > parity.window) {
        --times[helped.front()];
        helped.pop_front();
      }
    }
    if (merges.size() % 256 == 0 && options.progress) options.progress(vocabulary.size());
  }
  return {std::move(merges), vocabulary.learned()};
}

}  // namespace gristmill
