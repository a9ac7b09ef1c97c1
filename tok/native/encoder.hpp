// Encoding batches of texts: scanner, word caches, BPE, threads.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bpe.hpp"
#include "scanner.hpp"
#include "trie.hpp"

namespace gristmill {

// Texts as Arrow keeps them; nothing is copied. Text i is data[offset(i), offset(i + 1)).
struct TextArray {
  const uint8_t* data = nullptr;
  int64_t data_size = 0;
  const void* offsets = nullptr;  // of all texts before, too: begins at index `first`
  bool wide = true;               // offsets are int64, else int32
  int64_t first = 0, count = 0;
  const uint8_t* valid = nullptr;  // a bit a text, or null when all are; null texts are empty

  int64_t offset(int64_t i) const {
    return wide ? static_cast<const int64_t*>(offsets)[first + i]
                : static_cast<const int32_t*>(offsets)[first + i];
  }
  bool is_null(int64_t i) const {
    return valid != nullptr && !(valid[(first + i) >> 3] >> ((first + i) & 7) & 1);
  }
};

// Tokens that are cut out of a text before it is scanned.
struct AddedToken {
  std::string content;
  int32_t id;
  bool special;     // recognised only when asked for
  bool normalized;  // belongs to the second pass
};

// A token that joins visible characters with the line breaks behind them, and what it is split
// into.
struct Joined {
  int32_t id;
  std::vector<int32_t> parts;
};

struct EncodeOptions {
  std::vector<int32_t> special;   // ids of the special tokens to recognise
  int threads = 1;
  int64_t piece_bytes = 1 << 20;  // longer texts are cut for the threads, where that is safe
  double split_share = 0;
  const uint64_t* split_keys = nullptr;  // one a text, when split_share > 0
};

// Memory for plain values that grows without being initialised; a large one is moved by remapping.
class Ids {
 public:
  Ids() = default;
  Ids(Ids&& other) noexcept { swap(other); }
  Ids& operator=(Ids&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Ids();
  // Room for `more` behind the end; returns the end. Then `advance` past what was written.
  int32_t* room(size_t more) {
    if (capacity_ - size_ < more) grow(size_ + more);
    return data_ + size_;
  }
  // Make room for n in all, if the system has it. Memory that is never used costs nothing.
  void reserve(size_t n);
  void advance(size_t n) { size_ += n; }
  int32_t* data() { return data_; }
  int32_t* end() { return data_ + size_; }
  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  void shrink();
  int32_t* release();  // to be given to std::free
  void rewind() { size_ = 0; }
  void clear();

 private:
  void swap(Ids& other) noexcept;
  void grow(size_t least);
  int32_t* data_ = nullptr;
  size_t size_ = 0, capacity_ = 0;
};

class Encoder {
 public:
  Encoder(Bpe bpe, Scheme scheme, std::vector<AddedToken> added);
  ~Encoder();

  // Ids of all texts end to end; offsets[i] .. offsets[i + 1] are text i's. Throws
  // std::invalid_argument naming the first text that is not UTF-8.
  void encode(std::span<const TextArray> arrays, const EncodeOptions& options, Ids& ids,
              std::vector<int64_t>& offsets) const;

  // Each word by merges alone, without a scanner; offsets as for texts.
  void encode_words(std::span<const uint8_t> bytes, std::span<const int64_t> word_offsets,
                    Ids& ids, std::vector<int64_t>& offsets) const;

  // Set what tokens that join characters and line breaks are split into; before any encoding.
  void set_joined(std::vector<Joined> joined);

  // The state of one thread: its caches.
  class Worker;

 private:
  struct Piece;
  class Result;

  std::unique_ptr<Worker> borrow() const;
  void give_back(std::unique_ptr<Worker> worker) const;
  size_t safe_cut(const uint8_t* text, size_t at, size_t size) const;
  void encode_text(const uint8_t* text, size_t size, std::span<const uint8_t> wanted,
                   Worker& worker, Ids& out) const;
  size_t skip_to_beginning(int pass, const uint8_t* text, size_t at, size_t size) const;
  template <typename Between>
  void cut_out(int pass, const uint8_t* text, size_t size, std::span<const uint8_t> wanted,
               Ids& out, Between between) const;
  void split_joined(int32_t* ids, size_t count, uint64_t key, uint64_t threshold, Ids& out) const;

  Bpe bpe_;
  Scheme scheme_;
  std::vector<AddedToken> added_;
  Trie matchers_[2];       // of added tokens: those of the first pass, those of the second
  bool begins_[2][256] = {};        // bytes that one of them begins with
  std::vector<uint8_t> few_beginnings_[2];  // those bytes, when they are one (twice) or two
  bool may_cut_ = true;    // no added token can lie across a place where texts are cut
  std::vector<int32_t> parts_of_;     // by id: where its parts begin in joined_, or -1
  std::vector<Joined> joined_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Worker>> idle_;
};

}  // namespace gristmill
