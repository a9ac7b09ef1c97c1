// Pairs waiting to be merged: the highest count first, the smallest key among equals.
//
// Most pairs are rare, and thousands of them share a count. Those below `kLevels` lie in a list for
// each count, which is sorted when its turn comes; the few above are a heap. So a pair is entered and
// taken out in a few nanoseconds, from memory that is read in order, and it is known beforehand which
// pairs come next, whose data can be fetched meanwhile (see `ahead`).
//
// Counts only fall: nothing is pushed above the count that was last on top. A count may be out of
// date; whoever takes a pair from the top must look it up, and push it again with its true count.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace gristmill {

class PairQueue {
 public:
  struct Candidate {
    int64_t count;  // 0: the queue is empty
    uint64_t key;
  };

  void clear() {
    heap_.clear();
    for (auto& keys : levels_) keys = {};
    late_.clear();
    level_ = kLevels;
  }

  // Counts are at least 1.
  void push(int64_t count, uint64_t key) {
    if (count >= kLevels) {
      heap_.push_back({count, key});
      std::push_heap(heap_.begin(), heap_.end(), later);
    } else if (count == level_) {
      late_.push_back(key);
      std::push_heap(late_.begin(), late_.end(), std::greater<>());
    } else {
      if (levels_.empty()) levels_.resize(kLevels);
      levels_[count].push_back(key);
    }
  }

  Candidate top() {
    if (!heap_.empty()) return heap_.front();
    if (levels_.empty()) return {0, 0};
    while (late_.empty() && (level_ == kLevels || levels_[level_].empty())) {
      if (level_ <= 1) return {0, 0};
      --level_;
      std::sort(levels_[level_].begin(), levels_[level_].end(), std::greater<>());
    }
    return {level_, late_first() ? late_.front() : levels_[level_].back()};
  }

  // Takes out what `top` has just shown.
  void pop() {
    if (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      heap_.pop_back();
    } else if (late_first()) {
      std::pop_heap(late_.begin(), late_.end(), std::greater<>());
      late_.pop_back();
    } else {
      levels_[level_].pop_back();
    }
  }

  // The key that is likely to be on top after n more; null if that is not known.
  const uint64_t* ahead(size_t n) const {
    if (!heap_.empty() || level_ == kLevels || n >= levels_[level_].size()) return nullptr;
    return &levels_[level_].end()[-1 - static_cast<ptrdiff_t>(n)];
  }

 private:
  static constexpr int64_t kLevels = 4096;

  static bool later(const Candidate& a, const Candidate& b) {
    return a.count != b.count ? a.count < b.count : a.key > b.key;
  }
  bool late_first() const {
    return !late_.empty() && (levels_[level_].empty() || late_.front() < levels_[level_].back());
  }

  std::vector<Candidate> heap_;
  std::vector<std::vector<uint64_t>> levels_;  // by count; the one at level_ descends
  std::vector<uint64_t> late_;                 // a heap of what came to level_ since it was sorted
  int64_t level_ = kLevels;                    // kLevels: none is sorted yet
};

}  // namespace gristmill
