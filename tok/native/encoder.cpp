// From texts to ids. Work is dealt to threads in tasks: a run of short texts, 256 KiB in all, or a
// piece of a long one of about a megabyte, cut where every scheme starts a new word whatever stands
// before (see `safe_cut`). A thread takes a text through these steps:
//
// 1. Check that it is UTF-8.
// 2. Cut out added tokens that are to be recognised (usually none), longest first, from the left.
// 3. The scanner gives the ends of the next 128 words. Each word of up to 255 bytes is hashed, and
//    the line of the cache where it would be is asked for ahead of use.
// 4. Each word is looked up in that thread's cache (word_cache.hpp); one that is not there is
//    encoded (bpe.cpp) and put there.
//
// Caches are bounded: a thread has 2 to 32 MiB for words of up to 15 bytes, 2 MiB and as much of
// another 32 as it has needed for words up to 255, 256 KiB for pairs of tokens. They outlive a
// call: the encoder keeps as many of these as threads have ever run at once.
//
// Where the time goes (perf, DeepSeek's tokenizer, one thread, text never seen before):
//
//                                    English  code  262 languages  Chinese
//   scanner                            28%    37%       12%          12%
//   caches                             20     20         9            8
//   BPE of words that no cache had     37     29        66           66
//   new pages                          11     11         7            4
//   UTF-8, added tokens                 4      3         6           10
//
// Tried for BPE and given up: eight words taking turns at the trie, a byte each without a branch,
// so that they wait for memory together. It was slower everywhere (0.7 to 0.95 times): eight lanes
// take as many steps as the longest token has bytes, and each step more instructions.
//
// Memory besides: 4 bytes a token for the result, and for tasks that are done before an earlier
// one; one bit a byte for words of 256 bytes and more.

#include "encoder.hpp"

#include <emmintrin.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>

#include "huge.hpp"
#include "parallel.hpp"
#include "utf8.hpp"
#include "word_cache.hpp"

namespace gristmill {
namespace {

constexpr size_t kBlock = 128;  // words
constexpr size_t kTaskBytes = 1 << 18;  // so that a task's ids are still near when they are placed

bool ascii_letter(uint8_t c) { return static_cast<uint8_t>((c | 0x20) - 'a') < 26; }

// Whether a letter of one of some scripts begins here: Latin, Cyrillic, Thai, kana, Han, Hangul.
bool letter_begins(const uint8_t* p, size_t left) {
  if (ascii_letter(p[0])) return true;
  if (left < 3) return false;
  switch (p[0]) {
    case 0xd0: return p[1] >= 0x90 && p[1] <= 0xbf;
    case 0xe0: return p[1] == 0xb8 && p[2] >= 0x81 && p[2] <= 0xae;
    case 0xe3: return (p[1] == 0x81 && p[2] >= 0x82) || (p[1] == 0x82 && p[2] <= 0x96);
    case 0xe5: case 0xe6: case 0xe7: case 0xe8: return true;
    case 0xeb: case 0xec: return true;
    default: return false;
  }
}

uint64_t mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ULL;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ULL;
  return x ^ x >> 32;
}

}  // namespace

Ids::~Ids() { std::free(data_); }

void Ids::swap(Ids& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(capacity_, other.capacity_);
}

void Ids::grow(size_t least) {
  const size_t capacity = std::max(least + least / 8, capacity_ + capacity_ / 2 + 1024);
  void* moved = std::realloc(data_, capacity * sizeof(int32_t));
  if (moved == nullptr) throw std::bad_alloc();
  data_ = static_cast<int32_t*>(moved);
  capacity_ = capacity;
}

void Ids::reserve(size_t n) {
  if (n <= capacity_) return;
  void* p = allocate_huge(n * sizeof(int32_t));
  if (p == nullptr) return;
  std::copy_n(data_, size_, static_cast<int32_t*>(p));
  std::free(data_);
  data_ = static_cast<int32_t*>(p);
  capacity_ = n;
}

void Ids::shrink() {
  if (capacity_ == size_) return;
  void* moved = std::realloc(data_, std::max<size_t>(size_, 1) * sizeof(int32_t));
  if (moved == nullptr) return;
  data_ = static_cast<int32_t*>(moved);
  capacity_ = size_;
}

void Ids::clear() {
  std::free(data_);
  data_ = nullptr;
  size_ = capacity_ = 0;
}

int32_t* Ids::release() {
  int32_t* data = data_;
  data_ = nullptr;
  size_ = capacity_ = 0;
  return data;
}

class Encoder::Worker {
 public:
  ShortWords short_words;
  LongWords long_words;
  PairMemo pairs;
  const uint8_t* readable = nullptr;  // end of the memory that the text at hand lies in

  void words(const Bpe& bpe, Scheme scheme, const uint8_t* text, size_t size, Ids& out);
};

void Encoder::Worker::words(const Bpe& bpe, Scheme scheme, const uint8_t* text, size_t size,
                            Ids& out) {
  Scanner scanner(scheme, text, size);
  size_t ends[kBlock];
  ShortKey keys[kBlock];
  void* buckets[kBlock] = {};
  size_t begin = 0;
  while (const size_t n = scanner.next(ends, kBlock)) {
    short_words.grow();
    size_t at = begin;
    for (size_t i = 0; i < n; ++i) {
      const size_t length = ends[i] - at;
      if (length <= ShortKey::kMaxWord) {
        keys[i] = ShortKey(text + at, length, readable);
        buckets[i] = short_words.bucket(keys[i].hash());
      } else if (length <= LongWords::kMaxWord) {
        keys[i].low = LongWords::hash(text + at, length);
        buckets[i] = long_words.bucket(keys[i].low);
      }
      __builtin_prefetch(buckets[i]);
      at = ends[i];
    }
    int32_t* const start = out.room(at - begin + 8);
    int32_t* id = start;
    at = begin;
    for (size_t i = 0; i < n; ++i) {
      const uint8_t* word = text + at;
      const size_t length = ends[i] - at;
      at = ends[i];
      if (length <= ShortKey::kMaxWord) {
        auto* bucket = static_cast<ShortWords::Bucket*>(buckets[i]);
        size_t count = short_words.find(bucket, keys[i], id);
        if (count == 0) {
          count = bpe.encode(word, length, id, pairs);
          short_words.put(bucket, keys[i], id, count);
        }
        id += count;
      } else if (length <= LongWords::kMaxWord) {
        auto* bucket = static_cast<LongWords::Bucket*>(buckets[i]);
        size_t count = long_words.find(bucket, keys[i].low, word, length, id);
        if (count == 0) {
          count = bpe.encode(word, length, id, pairs);
          long_words.put(bucket, keys[i].low, word, length, id, count);
        }
        id += count;
      } else {
        id += bpe.encode(word, length, id, pairs);
      }
    }
    out.advance(static_cast<size_t>(id - start));
    begin = at;
  }
}

Encoder::Encoder(Bpe bpe, Scheme scheme, std::vector<AddedToken> added)
    : bpe_(std::move(bpe)), scheme_(scheme), added_(std::move(added)) {
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<std::string_view> contents;
    for (const AddedToken& token : added_) {
      const bool here = token.normalized == (pass == 1);
      contents.push_back(here ? std::string_view(token.content) : std::string_view());
      if (here && !token.content.empty())
        begins_[pass][static_cast<uint8_t>(token.content[0])] = true;
    }
    matchers_[pass] = Trie(contents);
    std::vector<uint8_t>& few = few_beginnings_[pass];
    for (int b = 0; b < 256; ++b)
      if (begins_[pass][b]) few.push_back(static_cast<uint8_t>(b));
    if (few.empty() || few.size() > 2) {
      few.clear();
    } else {
      few.resize(2, few[0]);
    }
  }
  for (const AddedToken& token : added_)
    for (size_t i = 1; i < token.content.size(); ++i)
      if (token.content[i] == ' ' || token.content[i - 1] == '\n') may_cut_ = false;
}

void Encoder::set_joined(std::vector<Joined> joined) {
  joined_ = std::move(joined);
  int32_t highest = -1;
  for (const Joined& j : joined_) highest = std::max(highest, j.id);
  parts_of_.assign(static_cast<size_t>(highest + 1), -1);
  for (size_t i = 0; i < joined_.size(); ++i)
    parts_of_[static_cast<size_t>(joined_[i].id)] = static_cast<int32_t>(i);
}

Encoder::~Encoder() = default;

std::unique_ptr<Encoder::Worker> Encoder::borrow() const {
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto worker = std::move(idle_.back());
      idle_.pop_back();
      return worker;
    }
  }
  return std::make_unique<Worker>();
}

void Encoder::give_back(std::unique_ptr<Worker> worker) const {
  std::lock_guard lock(mutex_);
  idle_.push_back(std::move(worker));
}

// The first place from `at` on where the text may be cut without a trace. Two kinds of them:
//
// - before the space in "a b" (ASCII letters), but for superwords. No other scheme has a word with
//   a space after a letter, so one ends before the space; and where a word ends the next begins,
//   whatever stood before, for the expressions look ahead only. Nor does the left part end
//   otherwise when the text ends there:
//   what a letter's word may take up next (letters, marks, joiners, an apostrophe) is not a space.
// - after a line break before a letter. No scheme has a word with a letter after a line break. The
//   left part ends in a run of white space, which all schemes but gpt2 take up to its last line
//   break, a letter following or not. In gpt2 the run's last character is a word of its own when a
//   letter follows and part of the run when the text ends: so there the line break must be all of
//   the run, a visible ASCII character standing before it. multilingual takes up what white space
//   stands behind the line break, too: there is none.
//
// Digits, which some schemes count out in groups, begin anew there: neither a space nor a line
// break is part of a run of them.
size_t Encoder::safe_cut(const uint8_t* text, size_t at, size_t size) const {
  for (size_t i = std::max<size_t>(at, 2); i + 1 < size; ++i) {
    if (text[i] == ' ' && scheme_ != Scheme::multilingual_superword) {
      if (ascii_letter(text[i - 1]) && ascii_letter(text[i + 1])) return i;
    } else if (text[i - 1] == '\n') {
      if (letter_begins(text + i, size - i) &&
          (scheme_ != Scheme::gpt2 || (text[i - 2] > ' ' && text[i - 2] < 0x7f)))
        return i;
    }
  }
  return size;
}

// The next place where an added token of this pass may begin. There are mostly one or two bytes
// that they begin with, so we look for these sixteen at a time.
size_t Encoder::skip_to_beginning(int pass, const uint8_t* text, size_t at, size_t size) const {
  if (!few_beginnings_[pass].empty()) {
    const __m128i first = _mm_set1_epi8(static_cast<char>(few_beginnings_[pass][0]));
    const __m128i second = _mm_set1_epi8(static_cast<char>(few_beginnings_[pass][1]));
    for (; size - at >= 16; at += 16) {
      const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text + at));
      const auto found = static_cast<uint32_t>(_mm_movemask_epi8(
          _mm_or_si128(_mm_cmpeq_epi8(v, first), _mm_cmpeq_epi8(v, second))));
      if (found != 0) return at + static_cast<size_t>(std::countr_zero(found));
    }
  }
  while (at < size && !begins_[pass][text[at]]) ++at;
  return at;
}

// One pass over the text for added tokens: `between` gets what lies between those that are wanted.
// A token that is not wanted hides what begins inside it, as in `tokenizers`.
template <typename Between>
void Encoder::cut_out(int pass, const uint8_t* text, size_t size, std::span<const uint8_t> wanted,
                      Ids& out, Between between) const {
  size_t from = 0, at = 0;
  while (at < size) {
    at = skip_to_beginning(pass, text, at, size);
    if (at == size) break;
    const Trie::Match match = matchers_[pass].longest(text + at, text + size);
    if (match.length() == 0) {
      ++at;
      continue;
    }
    if (wanted[match.number()]) {
      if (at > from) between(text + from, at - from);
      *out.room(1) = added_[match.number()].id;
      out.advance(1);
      from = at + match.length();
    }
    at += match.length();
  }
  if (size > from) between(text + from, size - from);
}

void Encoder::encode_text(const uint8_t* text, size_t size, std::span<const uint8_t> wanted,
                          Worker& worker, Ids& out) const {
  // The last two flags say whether anything is wanted in a pass at all.
  const bool first = wanted[added_.size()], second = wanted[added_.size() + 1];
  auto words = [&](const uint8_t* t, size_t n) { worker.words(bpe_, scheme_, t, n, out); };
  auto second_pass = [&](const uint8_t* t, size_t n) {
    if (second) {
      cut_out(1, t, n, wanted, out, words);
    } else {
      words(t, n);
    }
  };
  if (first) {
    cut_out(0, text, size, wanted, out, second_pass);
  } else {
    second_pass(text, size);
  }
}

void Encoder::split_joined(int32_t* ids, size_t count, uint64_t key, uint64_t threshold,
                           Ids& out) const {
  for (size_t i = 0; i < count; ++i) {
    const auto id = static_cast<size_t>(ids[i]);
    const int32_t joined = id < parts_of_.size() ? parts_of_[id] : -1;
    // The top 53 bits of the hash against the share in units of 2^-53: share 1 takes all.
    if (joined >= 0 && mix(key ^ mix(i + 0x9e3779b97f4a7c15ULL)) >> 11 < threshold) {
      const std::vector<int32_t>& parts = joined_[static_cast<size_t>(joined)].parts;
      std::copy(parts.begin(), parts.end(), out.room(parts.size()));
      out.advance(parts.size());
    } else {
      *out.room(1) = ids[i];
      out.advance(1);
    }
  }
}

struct Encoder::Piece {
  size_t array;
  int64_t first, last;       // texts of the array
  size_t begin, end;         // bytes of the one text, when it is only a piece of it
  bool part;
  Ids ids;
  bool done = false;
};

// The ids of all pieces, put end to end as they come, so that hardly any have to be kept twice:
// what is done and has everything before it done is copied to its place, and its memory is used for
// a next piece.
class Encoder::Result {
 public:
  Result(std::vector<Piece>& pieces, Ids& ids) : pieces_(pieces), ids_(ids) {}

  // Memory for the ids of a piece.
  Ids borrow() {
    std::lock_guard lock(mutex_);
    if (spare_.empty()) return {};
    Ids ids = std::move(spare_.back());
    spare_.pop_back();
    return ids;
  }

  void put(Piece& piece) {
    int32_t* to;
    size_t first, last;
    {
      std::lock_guard lock(mutex_);
      piece.done = true;
      to = ids_.end();
      first = last = placed_;
      while (last < pieces_.size() && pieces_[last].done &&
             pieces_[last].ids.size() <= ids_.capacity() - ids_.size())
        ids_.advance(pieces_[last++].ids.size());
      placed_ = last;
    }
    for (size_t k = first; k < last; ++k)
      to = std::copy_n(pieces_[k].ids.data(), pieces_[k].ids.size(), to);
    std::lock_guard lock(mutex_);
    for (size_t k = first; k < last; ++k) {
      pieces_[k].ids.rewind();
      spare_.push_back(std::move(pieces_[k].ids));
    }
  }

  // When all are done: what found no room.
  void put_rest() {
    size_t more = 0;
    for (size_t k = placed_; k < pieces_.size(); ++k) more += pieces_[k].ids.size();
    ids_.room(more);
    for (; placed_ < pieces_.size(); ++placed_) {
      Ids& piece = pieces_[placed_].ids;
      std::copy_n(piece.data(), piece.size(), ids_.end());
      ids_.advance(piece.size());
      piece.clear();
    }
  }

 private:
  std::vector<Piece>& pieces_;
  Ids& ids_;
  std::mutex mutex_;
  std::vector<Ids> spare_;
  size_t placed_ = 0;  // pieces whose ids are in the result
};

void Encoder::encode(std::span<const TextArray> arrays, const EncodeOptions& options, Ids& ids,
                     std::vector<int64_t>& offsets) const {
  std::vector<uint8_t> wanted(added_.size() + 2);
  for (size_t i = 0; i < added_.size(); ++i) {
    const AddedToken& token = added_[i];
    wanted[i] = !token.special || std::find(options.special.begin(), options.special.end(),
                                            token.id) != options.special.end();
    if (wanted[i]) wanted[added_.size() + token.normalized] = 1;
  }
  const auto threshold = static_cast<uint64_t>(options.split_share * 9007199254740992.0);  // 2^53
  const auto piece_bytes = static_cast<size_t>(std::max<int64_t>(options.piece_bytes, 1));
  const bool may_cut = may_cut_ && threshold == 0 && options.threads > 1;

  const size_t task_bytes = std::min(piece_bytes, kTaskBytes);
  size_t all_bytes = 0;
  std::vector<Piece> pieces;
  std::vector<int64_t> base;  // index of each array's first text
  int64_t total = 0;
  for (size_t a = 0; a < arrays.size(); ++a) {
    const TextArray& array = arrays[a];
    base.push_back(total);
    total += array.count;
    int64_t first = 0;
    size_t bytes = 0;
    for (int64_t i = 0; i < array.count; ++i) {
      const auto size = static_cast<size_t>(array.offset(i + 1) - array.offset(i));
      all_bytes += size;
      if (size >= 2 * piece_bytes && may_cut && !array.is_null(i)) {
        if (i > first) pieces.push_back({a, first, i, 0, 0, false, {}});
        const uint8_t* text = array.data + array.offset(i);
        for (size_t begin = 0; begin < size;) {
          const size_t end = size - begin > piece_bytes ? safe_cut(text, begin + piece_bytes, size)
                                                        : size;
          pieces.push_back({a, i, i + 1, begin, end, true, {}});
          begin = end;
        }
        first = i + 1;
        bytes = 0;
        continue;
      }
      bytes += size;
      if (bytes >= task_bytes) {
        pieces.push_back({a, first, i + 1, 0, 0, false, {}});
        first = i + 1;
        bytes = 0;
      }
    }
    if (array.count > first) pieces.push_back({a, first, array.count, 0, 0, false, {}});
  }

  offsets.assign(static_cast<size_t>(total) + 1, 0);
  std::atomic<size_t> next{0};
  std::atomic<int64_t> invalid{total};
  auto run = [&](Piece& piece, Worker& worker, Ids& out) {
    const TextArray& array = arrays[piece.array];
    worker.readable = array.data + array.data_size;
    Ids whole;
    for (int64_t i = piece.first; i < piece.last; ++i) {
      if (array.is_null(i)) continue;
      const uint8_t* text = array.data + array.offset(i);
      size_t size = static_cast<size_t>(array.offset(i + 1) - array.offset(i));
      if (piece.part) {
        text += piece.begin;
        size = piece.end - piece.begin;
      }
      const int64_t index = base[piece.array] + i;
      if (valid_utf8(text, size) != size) {
        int64_t least = invalid.load();
        while (index < least && !invalid.compare_exchange_weak(least, index)) {
        }
        return;
      }
      const size_t before = out.size();
      if (threshold == 0) {
        encode_text(text, size, wanted, worker, out);
      } else {
        whole.rewind();
        encode_text(text, size, wanted, worker, whole);
        split_joined(whole.data(), whole.size(), options.split_keys[index], threshold, out);
      }
      const auto count = static_cast<int64_t>(out.size() - before);
      if (!piece.part) offsets[static_cast<size_t>(index) + 1] = count;
    }
  };

  const size_t threads = std::clamp<size_t>(static_cast<size_t>(std::max(options.threads, 1)), 1,
                                            std::max<size_t>(pieces.size(), 1));
  auto work = [&](auto&& task) {
    auto worker = borrow();
    for (size_t k; (k = next.fetch_add(1)) < pieces.size();) task(pieces[k], *worker);
    give_back(std::move(worker));
  };

  auto note_size = [&](const Piece& piece, size_t size) {
    if (piece.part)
      offsets[static_cast<size_t>(base[piece.array] + piece.first) + 1] +=
          static_cast<int64_t>(size);
  };
  ids.reserve(all_bytes / 2);
  if (threads == 1) {
    work([&](Piece& piece, Worker& worker) {
      const size_t before = ids.size();
      run(piece, worker, ids);
      note_size(piece, ids.size() - before);
    });
  } else {
    Result result(pieces, ids);
    std::vector<size_t> sizes(pieces.size());
    in_parallel(threads, [&](size_t) {
      work([&](Piece& piece, Worker& worker) {
        piece.ids = result.borrow();
        run(piece, worker, piece.ids);
        sizes[static_cast<size_t>(&piece - pieces.data())] = piece.ids.size();
        result.put(piece);
      });
    });
    result.put_rest();
    for (size_t k = 0; k < pieces.size(); ++k) note_size(pieces[k], sizes[k]);
  }
  if (invalid < total)
    throw std::invalid_argument("text " + std::to_string(invalid.load()) +
                                " is not valid UTF-8: expected text");
  ids.shrink();
  for (size_t i = 0; i < static_cast<size_t>(total); ++i) offsets[i + 1] += offsets[i];
}

void Encoder::encode_words(std::span<const uint8_t> bytes, std::span<const int64_t> word_offsets,
                           Ids& ids, std::vector<int64_t>& offsets) const {
  auto worker = borrow();
  offsets.assign(1, 0);
  for (size_t i = 0; i + 1 < word_offsets.size(); ++i) {
    const auto size = static_cast<size_t>(word_offsets[i + 1] - word_offsets[i]);
    ids.advance(bpe_.encode(bytes.data() + word_offsets[i], size, ids.room(size), worker->pairs));
    offsets.push_back(static_cast<int64_t>(ids.size()));
  }
  give_back(std::move(worker));
}

}  // namespace gristmill
