// Counting words (pretokens) by group. See counter.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "scanner.hpp"

namespace gristmill {

class Counter {
 public:
  Counter(Scheme scheme, size_t threads);
  ~Counter();
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;

  // Count the words of texts: text i is data[offsets[i] .. offsets[i + 1]] and belongs to
  // groups[i], or to group 0 when `groups` is empty.
  void add(const uint8_t* data, std::span<const int64_t> offsets, std::span<const uint32_t> groups);

  size_t memory() const;  // bytes held

  struct Table {  // row i: word bytes[offsets[i] .. offsets[i + 1]], its group and its count
    std::vector<uint8_t> bytes;
    std::vector<int64_t> offsets;
    std::vector<uint32_t> groups;
    std::vector<int64_t> counts;
  };
  // Hand everything over and begin anew. Sorted by word, then by group, or in no order at all.
  Table take(bool sorted);

 private:
  class Shard;
  Scheme scheme_;
  std::vector<std::vector<Shard>> shards_;  // [thread][shard]
};

}  // namespace gristmill
