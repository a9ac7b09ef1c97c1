// BPE without merging. Merging a word of n bytes pair by pair costs a queue and n log n; but its
// result can be told from any other cutting of the word into tokens by looking at neighbours only:
//
//   A sequence of tokens is BPE's result if and only if every two neighbours x, y are what BPE
//   makes of the bytes of x and y alone.
//
// (Merges act on the least rank present, leftmost first. As long as no merge has crossed a border
// between two of the tokens, what happens to x y inside the word is what happens to x y alone; the
// first merge to cross would cross there too.) So we walk from left to right, take the longest
// token that matches, ask whether it may follow the one before, else try the next shorter one, else
// step back. BPE's result for the bytes up to a position is unique, so a position that was left by
// stepping back is dead for good, whatever leads to it: a bit says so, and each byte is stepped
// back over at most once. Time is linear in the word with a factor of the tokens tried a position
// (1.1 on natural text), memory one bit a byte.
//
// Whether x and y may stand side by side is found by undoing their merges in reverse order, the
// later one first: at every moment between, the two symbols at the border must not be a pair that
// would have been merged before the next thing that happened to either of them. Each token keeps by
// classes of bytes what its ends can merge with at all, which answers a third of the questions on
// Chinese, more elsewhere, without a look-up, and ends the others early: 3.5 look-ups, most of them
// answered by a bit table of 128 KiB. Answers are remembered (PairMemo).
//
// This needs merges that are listed after the merges that make their parts, as every trainer lists
// them. Tokens that merging never makes (their own bytes encode to something else) are left out of
// the trie. While reading the merges in order we use the same question: merge i makes its token if
// and only if its parts may stand side by side under the merges before it.

#include "bpe.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace gristmill {
namespace {

constexpr int kMaybeBits = 20;

}  // namespace

uint32_t Bpe::joined(uint32_t left, uint32_t right) const {
  const uint64_t key = pair_key(left, right);
  const uint64_t hash = key * 0x9e3779b97f4a7c15ULL;
  const uint64_t bit = hash >> (64 - kMaybeBits);
  if (!(maybe_[bit >> 6] >> (bit & 63) & 1)) return kNone;
  const size_t mask = pairs_.size() - 1;
  for (size_t i = hash >> pair_shift_;; i = (i + 1) & mask) {
    const uint64_t entry = pairs_[i];
    if (entry == 0) return kNone;
    if ((entry - 1) >> Trie::kNumberBits == key)
      return static_cast<uint32_t>(entry - 1) & ((1u << Trie::kNumberBits) - 1);
  }
}

void Bpe::add_pair(uint32_t left, uint32_t right, uint32_t number) {
  const uint64_t key = pair_key(left, right);
  const size_t mask = pairs_.size() - 1;
  const uint64_t hash = key * 0x9e3779b97f4a7c15ULL;
  const uint64_t bit = hash >> (64 - kMaybeBits);
  maybe_[bit >> 6] |= uint64_t{1} << (bit & 63);
  size_t i = hash >> pair_shift_;
  while (pairs_[i] != 0) i = (i + 1) & mask;
  pairs_[i] = (key << Trie::kNumberBits | number) + 1;
}

bool Bpe::side_by_side(uint32_t left, uint32_t right, uint32_t end_class,
                       uint32_t begin_class) const {
  // A moment is twice the number of the merge that ended it, plus one when that merge was to the
  // right of the border: of two merges of one rank the left one comes first.
  uint32_t moment = kNone;
  for (;;) {
    const uint32_t crossing = joined(left, right);
    if (crossing != kNone && 2 * crossing < moment) return false;
    if (left < 256 && right < 256) return true;
    // Nothing within reach on one side merges with anything on the other.
    if (!(tokens_[left].begins_after & begin_class) ||
        !(tokens_[right].ends_before & end_class))
      return true;
    if (right >= left) {
      moment = 2 * right + 1;
      right = tokens_[right].left;
    } else {
      moment = 2 * left;
      left = tokens_[left].right;
    }
  }
}

Bpe::Bpe(std::span<const uint8_t> tokens, std::span<const int64_t> offsets,
         std::span<const int32_t> ids, std::span<const MergeRule> merges, bool whole_words) {
  const size_t n = ids.size();
  if (n >= (size_t{1} << Trie::kNumberBits)) throw Unsuitable("more than 2^21 tokens");
  int32_t highest = 0;
  for (const int32_t id : ids) {
    if (id < 0 || id >= 1 << 28) throw Unsuitable("an id is negative or not below 2^28");
    highest = std::max(highest, id);
  }
  auto bytes = [&](size_t i) {
    return std::string_view(reinterpret_cast<const char*>(tokens.data()) + offsets[i],
                            static_cast<size_t>(offsets[i + 1] - offsets[i]));
  };
  // Ids may have gaps, but hardly many: the tables below are by id.
  if (static_cast<size_t>(highest) > 16 * n + 65536) throw Unsuitable("ids have large gaps");
  std::vector<uint32_t> entry_of_id(static_cast<size_t>(highest) + 1, kNone);
  std::vector<uint32_t> number(n, kNone);  // by entry
  std::vector<uint32_t> entries(256, kNone);  // by number
  for (size_t i = 0; i < n; ++i) {
    if (entry_of_id[ids[i]] != kNone) throw std::invalid_argument("two tokens share an id");
    entry_of_id[ids[i]] = static_cast<uint32_t>(i);
    if (bytes(i).size() == 1) {
      number[i] = static_cast<uint8_t>(bytes(i)[0]);
      entries[number[i]] = static_cast<uint32_t>(i);
    }
  }
  for (size_t b = 0; b < 256; ++b)
    if (entries[b] == kNone)
      throw std::invalid_argument("the vocabulary has no token for the byte " + std::to_string(b));

  pairs_.resize(std::bit_ceil(std::max<size_t>(merges.size() * 2, 1024)));
  pair_shift_ = static_cast<uint32_t>(64 - std::countr_zero(pairs_.size()));
  maybe_.resize((size_t{1} << kMaybeBits) / 64);
  // While the merges are read, all bytes are of one class that everything merges with.
  tokens_.resize(256, {0, 0, 1, 1});
  std::vector<MergeRule> dormant;  // merges of which a part was not made (yet)
  for (const MergeRule& rule : merges) {
    uint32_t entry[3] = {kNone, kNone, kNone};
    const int32_t named[3] = {rule.left, rule.right, rule.joined};
    for (int k = 0; k < 3; ++k) {
      if (named[k] >= 0 && named[k] <= highest) entry[k] = entry_of_id[named[k]];
      if (entry[k] == kNone) throw std::invalid_argument("a merge names an id without a token");
    }
    const std::string_view l = bytes(entry[0]), r = bytes(entry[1]), j = bytes(entry[2]);
    if (j.size() != l.size() + r.size() || !j.starts_with(l) || !j.ends_with(r))
      throw std::invalid_argument("a merge makes a token that is not its two parts");
    const uint32_t left = number[entry[0]], right = number[entry[1]];
    if (left == kNone || right == kNone) {
      dormant.push_back(rule);
      continue;
    }
    // A second way to a token's bytes is never taken: the first one has taken them all.
    if (number[entry[2]] != kNone || !side_by_side(left, right, 1, 1)) continue;
    number[entry[2]] = static_cast<uint32_t>(entries.size());
    add_pair(left, right, number[entry[2]]);
    entries.push_back(entry[2]);
    tokens_.push_back({left, right, 1, 1});
  }
  for (const MergeRule& rule : dormant)
    if (number[entry_of_id[rule.left]] != kNone && number[entry_of_id[rule.right]] != kNone)
      throw Unsuitable("a merge is listed before the merges that make its parts");

  std::vector<std::string_view> strings;
  for (const uint32_t entry : entries) {
    strings.push_back(bytes(entry));
    if (strings.back().size() > Trie::kMaxLength) throw Unsuitable("a token is very long");
    ids_.push_back(ids[entry]);
    lengths_.push_back(static_cast<uint16_t>(strings.back().size()));
  }
  try {
    trie_ = Trie(strings);
  } catch (const std::length_error& error) {
    throw Unsuitable(error.what());
  }

  index_borders(strings);

  if (!whole_words) return;
  size_t total = 0;
  for (size_t i = 0; i < n; ++i)
    if (number[i] == kNone) total += bytes(i).size();
  unreachable_bytes_.reserve(total);  // views into it must stay
  for (size_t i = 0; i < n; ++i) {
    if (number[i] != kNone || bytes(i).empty()) continue;
    const size_t at = unreachable_bytes_.size();
    unreachable_bytes_ += bytes(i);
    unreachable_.emplace(std::string_view(unreachable_bytes_).substr(at), ids[i]);
    longest_unreachable_ = std::max(longest_unreachable_, bytes(i).size());
  }
}

void Bpe::index_borders(std::span<const std::string_view> strings) {
  // The bytes that most merges have at the border get a class each, the others share what is left.
  auto classes = [&](uint32_t (&class_of)[256], auto&& byte) {
    std::vector<std::pair<size_t, int>> frequency(256);
    for (int b = 0; b < 256; ++b) frequency[b].second = b;
    for (size_t i = 256; i < tokens_.size(); ++i) ++frequency[byte(tokens_[i])].first;
    std::sort(frequency.rbegin(), frequency.rend());
    for (int k = 0; k < 256; ++k)
      class_of[frequency[k].second] = uint32_t{1} << (k < 24 ? k : 24 + k % 8);
  };
  auto begin = [&](const Token& p) { return static_cast<uint8_t>(strings[p.right].front()); };
  auto end = [&](const Token& p) { return static_cast<uint8_t>(strings[p.left].back()); };
  classes(begin_class_, begin);
  classes(end_class_, end);
  for (Token& t : tokens_) t.begins_after = t.ends_before = 0;
  for (size_t i = 256; i < tokens_.size(); ++i) {
    tokens_[tokens_[i].left].begins_after |= begin_class_[begin(tokens_[i])];
    tokens_[tokens_[i].right].ends_before |= end_class_[end(tokens_[i])];
  }
  for (size_t i = 256; i < tokens_.size(); ++i) {  // parts come before what they make
    tokens_[i].begins_after |= tokens_[tokens_[i].right].begins_after;
    tokens_[i].ends_before |= tokens_[tokens_[i].left].ends_before;
  }
}

size_t Bpe::encode(const uint8_t* word, size_t size, int32_t* out, PairMemo& memo) const {
  if (size == 0) return 0;
  if (size <= longest_unreachable_) {
    const auto found = unreachable_.find({reinterpret_cast<const char*>(word), size});
    if (found != unreachable_.end()) {
      *out = found->second;
      return 1;
    }
  }
  const uint8_t* const end = word + size;
  Trie::Match match = trie_.longest(word, end);
  if (match.length() == size) {
    *out = ids_[match.number()];
    return 1;
  }

  // One bit a byte position: a position that was stepped back from.
  uint64_t few[4] = {};
  std::vector<uint64_t> many;
  uint64_t* dead = few;
  if (size >= 256) {
    many.resize(size / 64 + 1);
    dead = many.data();
  }
  size_t at = 0, count = 0;  // out[0, count) holds token numbers, while we are at it
  uint32_t last = kNone;
  for (;;) {
    if (match.length() == 0) {
      // No token fits here: take back the one before and look for a shorter one in its place.
      dead[at >> 6] |= uint64_t{1} << (at & 63);
      match = trie_.shorter(last);
      --count;
      at -= lengths_[last];
      last = count > 0 ? static_cast<uint32_t>(out[count - 1]) : kNone;
      continue;
    }
    const size_t next = at + match.length();
    const uint32_t token = match.number();
    if ((dead[next >> 6] >> (next & 63) & 1) ||
        (last != kNone && !side_by_side(last, token, word[at - 1], word[at], memo))) {
      match = trie_.shorter(token);
      continue;
    }
    out[count++] = static_cast<int32_t>(token);
    if (next == size) break;
    last = token;
    at = next;
    match = trie_.longest(word + at, end);
  }
  for (size_t i = 0; i < count; ++i) out[i] = ids_[out[i]];
  return count;
}

}  // namespace gristmill
