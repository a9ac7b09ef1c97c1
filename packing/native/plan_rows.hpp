// Rows of a plan, gathered from its mapped Arrow files: the loader's loop over sequences.
//
// A file is record batches of a list column; where a batch's five buffers begin (list offsets, and
// the children's values) is told once, by Python, which reads Arrow's metadata. A row is then two
// offsets and four short copies. Nothing is trusted: what lies outside of its file ends the work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace gristmill::plan_rows {

constexpr size_t kColumns = 5;  // list offsets, shard, document, start, length

// One Arrow file: its bytes, and for each of its batches where the columns begin, -1: not told yet.
struct File {
  const uint8_t* bytes = nullptr;
  size_t size = 0;
  std::vector<int64_t> begins;  // [batches, kColumns]
};

struct Found {
  std::vector<int64_t> ends;  // running number of pieces, by row
  std::vector<int32_t> shard;
  std::vector<int64_t> document;
  std::vector<int64_t> start;
  std::vector<int32_t> length;
};

enum class Problem { none, unknown, damaged };

// Append `count` values that begin `at` bytes plus `first` values into a file; false: not inside.
template <typename T>
bool append(const File& file, int64_t at, int64_t first, int64_t count, std::vector<T>& out) {
  const uint64_t begin = static_cast<uint64_t>(at) + static_cast<uint64_t>(first) * sizeof(T);
  const uint64_t bytes = static_cast<uint64_t>(count) * sizeof(T);
  if (begin > file.size || bytes > file.size - begin) return false;
  const size_t before = out.size();
  out.resize(before + static_cast<size_t>(count));
  if (bytes) std::memcpy(out.data() + before, file.bytes + begin, bytes);
  return true;
}

// Append the pieces of row `row` of batch `batch`.
inline Problem gather(const File& file, size_t batch, size_t row, Found& out) {
  if (file.bytes == nullptr || (batch + 1) * kColumns > file.begins.size()) return Problem::unknown;
  const int64_t* begins = file.begins.data() + batch * kColumns;
  if (begins[0] < 0) return Problem::unknown;
  const size_t at = static_cast<size_t>(begins[0]) + row * sizeof(int32_t);
  int32_t ends[2];
  if (at > file.size || file.size - at < sizeof ends) return Problem::damaged;
  std::memcpy(ends, file.bytes + at, sizeof ends);
  const int64_t first = ends[0], count = static_cast<int64_t>(ends[1]) - first;
  const bool good = first >= 0 && count >= 0 && append(file, begins[1], first, count, out.shard) &&
                    append(file, begins[2], first, count, out.document) &&
                    append(file, begins[3], first, count, out.start) &&
                    append(file, begins[4], first, count, out.length);
  if (!good) return Problem::damaged;
  out.ends.push_back(static_cast<int64_t>(out.shard.size()));
  return Problem::none;
}

}  // namespace gristmill::plan_rows
