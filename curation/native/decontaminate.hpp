// Which texts have n words in a row from a passage of a benchmark.
//
// The words are those of curation/words.py: runs of letters, marks, digits and underscores in lower
// case, and in scripts without spaces each letter; but a final sigma is a sigma. A word's hash is
// of its bytes in lower case, that of a run of words a polynomial in them, so that a text is read
// once, whatever lengths are looked for; a bit table turns away nearly all that is not in the
// index, and what passes is compared with the passage's own words: equal hashes alone never count.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gristmill {

// The words of a text, in lower case.
std::vector<std::string> split_words(std::string_view text);

class NgramIndex {
 public:
  struct Match {
    uint32_t entry;
    size_t start, end;  // bytes of the text
  };

  // `mask` is for tests: hashes keep only its bits.
  NgramIndex(size_t ngram, uint64_t mask) : ngram_(ngram), mask_(mask) {}

  // Take in a passage of an entry; entries come in order. Passages of fewer words than `ngram` are
  // matched as a whole. Raises overflow_error past 2^32 bytes of words.
  void add(std::string_view passage, uint32_t entry);

  // Call once, after the last passage. N-grams of more than `max_entries` entries are left out.
  void build(size_t max_entries);

  // The entries whose words are in the text: at most `limit`, each once for a stretch of text.
  void find(std::string_view text, size_t limit, std::vector<Match>& found) const;

  size_t size() const { return hashes_.size(); }
  size_t bytes() const;

 private:
  size_t length_at(uint32_t position) const;
  std::string_view words_at(uint32_t position) const;
  uint32_t entry_at(uint32_t position) const;
  const uint32_t* lookup(uint64_t key, std::string_view window, size_t words) const;
  uint64_t key(uint64_t run, size_t words) const;

  size_t ngram_;
  uint64_t mask_;
  std::string words_;                         // of all passages, a space after each
  std::vector<uint32_t> begins_;              // of each word in words_
  std::vector<uint32_t> passages_, entries_;  // the first word of each passage, and its entry
  std::vector<uint64_t> hashes_;              // of the n-grams and whole passages, sorted
  std::vector<uint32_t> positions_;           // the first word of each
  std::vector<uint64_t> filter_;              // a bit for each hash's first bits
  int filter_shift_ = 63;
  std::vector<size_t> lengths_;  // in words, of what is in the index, longest first
};

}  // namespace gristmill
