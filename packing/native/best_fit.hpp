// Best-fit decreasing on a histogram of lengths, and rows made of its result.
//
// `packing/best_fit.py` says what the classes are. The packing costs a few dozen nanoseconds for
// each class that is made, dealing the pieces out a few for each piece: pieces of a length go to
// sequences that stand side by side, so each length is a stream of its own through memory.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace gristmill::packing {

// Which rooms there is a class for; the smallest that is at least as large is found word by word,
// a bit of `words_` standing for 64 of them.
class Rooms {
 public:
  explicit Rooms(size_t most) : bits_(most / 64 + 1), words_(bits_.size() / 64 + 1) {}

  void set(size_t room) {
    bits_[room / 64] |= uint64_t{1} << room % 64;
    words_[room / 4096] |= uint64_t{1} << room / 64 % 64;
  }

  void clear(size_t room) {
    bits_[room / 64] &= ~(uint64_t{1} << room % 64);
    if (!bits_[room / 64]) words_[room / 4096] &= ~(uint64_t{1} << room / 64 % 64);
  }

  // There must be one.
  size_t at_least(size_t room) const {
    if (const uint64_t bits = bits_[room / 64] >> room % 64) return room + std::countr_zero(bits);
    const size_t word = next(words_, room / 64 + 1);
    return word * 64 + std::countr_zero(bits_[word]);
  }

 private:
  static size_t next(const std::vector<uint64_t>& words, size_t bit) {
    size_t at = bit / 64;
    uint64_t bits = words[at] >> bit % 64 << bit % 64;
    while (!bits) bits = words[++at];
    return at * 64 + std::countr_zero(bits);
  }

  std::vector<uint64_t> bits_, words_;
};

// Sequences that are filled alike: those of another class (-1: none) with `each` more pieces of
// `size` tokens. `count`: how many are in this class now, and not in one made from it.
struct Class {
  int32_t parent;
  int32_t size;
  int32_t each;
  int64_t count;
};

// counts, [length + 1]: how many pieces there are of each number of tokens.
inline std::vector<Class> best_fit(const std::vector<int64_t>& counts, size_t length) {
  int64_t pieces = 0;
  for (const int64_t n : counts) pieces += n;
  std::vector<Class> made{{-1, 0, 0, pieces}};  // untouched sequences: more than needed
  std::vector<std::vector<int32_t>> classes(length + 1);
  Rooms rooms(length);
  classes[length].push_back(0);
  rooms.set(length);
  for (size_t size = length; size > 0; --size) {
    int64_t left = counts[size];
    while (left) {
      const size_t room = rooms.at_least(size);
      const int32_t old = classes[room].back();
      const auto each = static_cast<int64_t>(room / size);
      const int64_t whole = std::min(left / each, made[old].count);
      const int64_t rest = whole < made[old].count ? left - whole * each : 0;
      for (const auto& [n, many] : {std::pair{each, whole}, std::pair{rest, int64_t{1}}}) {
        if (n == 0 || many == 0) continue;
        left -= n * many;
        made[old].count -= many;
        const size_t then = room - static_cast<size_t>(n) * size;
        if (then) {
          classes[then].push_back(static_cast<int32_t>(made.size()));
          rooms.set(then);
        }
        made.push_back({old, static_cast<int32_t>(size), static_cast<int32_t>(n), many});
      }
      if (!made[old].count) {
        classes[room].pop_back();
        if (classes[room].empty()) rooms.clear(room);
      }
    }
  }
  made[0].count = 0;
  return made;
}

// Pieces of a length for `many` sequences from `first` on, `each` of them for each.
struct Entry {
  int32_t size;
  int32_t each;
  int32_t first;
  int64_t many;
};

// What the sequences of all classes hold, in the order of sizes; sequences are numbered class by
// class.
inline std::vector<Entry> entries(const std::vector<Class>& made, size_t length) {
  struct Path {
    int32_t node, first;
    int64_t many;
  };
  std::vector<Path> paths;
  int64_t next = 0;
  for (size_t node = 0; node < made.size(); ++node)
    if (const int64_t many = made[node].count) {
      paths.push_back({static_cast<int32_t>(node), static_cast<int32_t>(next), many});
      next += many;
    }
  std::vector<Entry> found;
  while (!paths.empty()) {
    size_t kept = 0;
    for (const Path& path : paths) {
      const Class& node = made[path.node];
      found.push_back({node.size, node.each, path.first, path.many});
      if (node.parent > 0) paths[kept++] = {node.parent, path.first, path.many};
    }
    paths.resize(kept);
  }
  std::vector<size_t> ends(length + 2);
  for (const Entry& entry : found) ++ends[entry.size + 1];
  for (size_t size = 0; size <= length; ++size) ends[size + 1] += ends[size];
  std::vector<Entry> sorted(found.size());
  for (const Entry& entry : found) sorted[ends[entry.size]++] = entry;
  return sorted;
}

// The sequence of each piece; those of one length are dealt out in their own order.
inline std::vector<int32_t> deal(const int32_t* lengths, size_t count,
                                 const std::vector<Entry>& entries, size_t length) {
  struct Cursor {
    size_t entry = 0;
    int32_t bin = 0;
    int32_t in_bin = 0;    // pieces that the sequence still gets
    int64_t after_it = 0;  // sequences of the entry behind this one
  };
  std::vector<Cursor> cursors(length + 1);
  for (size_t k = entries.size(); k-- > 0;) cursors[entries[k].size].entry = k;
  std::vector<int32_t> bins(count);
  for (size_t k = 0; k < count; ++k) {
    Cursor& cursor = cursors[lengths[k]];
    if (cursor.in_bin == 0) {
      if (cursor.after_it == 0) {
        const Entry& entry = entries[cursor.entry++];
        cursor.bin = entry.first - 1;
        cursor.after_it = entry.many;
      }
      ++cursor.bin;
      --cursor.after_it;
      cursor.in_bin = entries[cursor.entry - 1].each;
    }
    --cursor.in_bin;
    bins[k] = cursor.bin;
  }
  return bins;
}

// Pieces row after row, as a plan's file has them: see `packing.sequences.PIECE`.
struct Rows {
  std::vector<int64_t> counts;  // [rows]
  std::vector<int32_t> shard;
  std::vector<int64_t> document;
  std::vector<int64_t> start;
  std::vector<int32_t> length;
};

// The pieces by the numbers of their rows, in their own order within one; `rows` of them.
inline Rows in_rows(const uint64_t* place, const int32_t* start, const int32_t* length,
                    const int32_t* bins, size_t count, size_t rows) {
  Rows made{std::vector<int64_t>(rows), std::vector<int32_t>(count), std::vector<int64_t>(count),
            std::vector<int64_t>(count), std::vector<int32_t>(count)};
  for (size_t k = 0; k < count; ++k) ++made.counts[bins[k]];
  std::vector<uint32_t> next(rows);
  for (size_t row = 1; row < rows; ++row)
    next[row] = next[row - 1] + static_cast<uint32_t>(made.counts[row - 1]);
  for (size_t k = 0; k < count; ++k) {
    const uint32_t at = next[bins[k]]++;
    made.shard[at] = static_cast<int32_t>(place[k] >> 32);
    made.document[at] = static_cast<int64_t>(place[k] & 0xFFFFFFFF);
    made.start[at] = start[k];
    made.length[at] = length[k];
  }
  return made;
}

}  // namespace gristmill::packing
