// Sorting more records than fit in memory: sorted runs on disk, merged as they are read back.
//
// A record is W unsigned 64-bit numbers, compared from the first on. Records fill a buffer; a full
// one is sorted and goes to one nameless file as a run, which is gone when the process is, however
// it ends. Reading merges all runs through a heap, with an equal share of the memory for each. What
// fits in the buffer never touches the disk. Records that come sorted already (a stored index) make
// a run as they are. Memory: the buffer while adding, as much again while reading.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace gristmill::sorting {

// A file without a name in a folder: nobody has to remove it.
class Scratch {
 public:
  explicit Scratch(const std::string& folder) : folder_(folder) {
#ifdef O_TMPFILE
    file_ = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file_ >= 0) return;
#endif
    std::string path = folder + "/.sorted-XXXXXX";  // not every file system has such files
    file_ = ::mkstemp(path.data());
    if (file_ < 0) fail("cannot make a file for sorting");
    ::unlink(path.c_str());
  }
  Scratch(const Scratch&) = delete;
  ~Scratch() { ::close(file_); }

  void write(const void* data, size_t size, uint64_t at) {
    for (const char* p = static_cast<const char*>(data); size;) {
      const ssize_t done = ::pwrite(file_, p, size, static_cast<off_t>(at));
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) fail("cannot write while sorting");
      p += done, at += static_cast<uint64_t>(done), size -= static_cast<size_t>(done);
    }
  }

  void read(void* data, size_t size, uint64_t at) const {
    for (char* p = static_cast<char*>(data); size;) {
      const ssize_t done = ::pread(file_, p, size, static_cast<off_t>(at));
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) fail("cannot read back while sorting");
      p += done, at += static_cast<uint64_t>(done), size -= static_cast<size_t>(done);
    }
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw std::system_error(errno, std::generic_category(), folder_ + ": " + what);
  }

  std::string folder_;
  int file_;
};

// What Python sees: any width.
class Sorter {
 public:
  virtual ~Sorter() = default;
  virtual size_t width() const = 0;
  virtual void add(const uint64_t* records, size_t count, bool sorted) = 0;
  virtual void read(std::vector<uint64_t>& out, size_t most) = 0;
};

template <size_t W>
class SorterOf final : public Sorter {
 public:
  using Record = std::array<uint64_t, W>;

  SorterOf(std::string folder, size_t memory)
      : folder_(std::move(folder)),
        memory_(memory),
        capacity_(std::max<size_t>(memory / sizeof(Record), 16)) {}

  size_t width() const override { return W; }

  void add(const uint64_t* records, size_t count, bool sorted) override {
    if (reading_) throw std::logic_error("records were added to a sorter that is being read");
    if (sorted) return append(records, count);
    buffer_.reserve(capacity_);  // growing by and by would hold it twice
    while (count) {
      const size_t part = std::min(count, capacity_ - buffer_.size());
      const size_t before = buffer_.size();
      buffer_.resize(before + part);
      std::memcpy(static_cast<void*>(buffer_.data() + before), records, part * sizeof(Record));
      records += part * W, count -= part;
      if (buffer_.size() == capacity_) spill();
    }
  }

  // Take at most `most` records more, in order; fewer only at the end.
  void read(std::vector<uint64_t>& out, size_t most) override {
    if (!reading_) start();
    out.reserve(most * W);
    if (runs_.empty()) {  // nothing was spilled
      const size_t count = std::min(most, buffer_.size() - place_);
      out.resize(count * W);
      std::memcpy(out.data(), buffer_.data() + place_, count * sizeof(Record));
      place_ += count;
      return;
    }
    for (; most && !heap_.empty(); --most) {
      Run& run = runs_[heap_.front()];
      const Record& record = run.records[run.place];
      out.insert(out.end(), record.begin(), record.end());
      if (++run.place < run.records.size() || fill(run))
        sink();
      else {
        std::swap(heap_.front(), heap_.back());
        heap_.pop_back();
        sink();
      }
    }
  }

 private:
  struct Run {
    uint64_t start, count;  // in the file, in records
    std::vector<Record> records{};  // read and not yet taken
    size_t place = 0;
  };

  // The sorted run grows in pieces that need not lie together in the file: each is a run, unless
  // nothing was written since the one before.
  void append(const uint64_t* records, size_t count) {
    if (!count) return;
    Record first, before;
    std::memcpy(&first, records, sizeof first);
    if (has_last_ && first < last_) throw std::invalid_argument("records are not in order");
    before = first;
    for (size_t i = 1; i < count; ++i) {
      Record next;
      std::memcpy(&next, records + i * W, sizeof next);
      if (next < before) throw std::invalid_argument("records are not in order");
      before = next;
    }
    const bool joins = has_last_ && !runs_.empty() && sorted_end_ == end_;
    write(records, count, joins);
    has_last_ = true, last_ = before, sorted_end_ = end_;
  }

  void spill() {
    if (buffer_.empty()) return;
    std::sort(buffer_.begin(), buffer_.end());
    write(buffer_.front().data(), buffer_.size(), false);
    buffer_.clear();
  }

  void write(const uint64_t* records, size_t count, bool joins) {
    if (!file_) file_ = std::make_unique<Scratch>(folder_);
    file_->write(records, count * sizeof(Record), end_ * sizeof(Record));
    if (joins)
      runs_.back().count += count;
    else
      runs_.push_back({end_, count});
    end_ += count;
  }

  void start() {
    reading_ = true;
    if (!file_) {
      std::sort(buffer_.begin(), buffer_.end());
      return;
    }
    spill();
    std::vector<Record>().swap(buffer_);
    share_ = std::max<size_t>(memory_ / sizeof(Record) / runs_.size(), 64);
    for (size_t i = 0; i < runs_.size(); ++i)
      if (fill(runs_[i])) heap_.push_back(static_cast<uint32_t>(i));
    for (size_t i = heap_.size() / 2; i--;) sink(i);
  }

  bool fill(Run& run) {
    const size_t count = static_cast<size_t>(std::min<uint64_t>(share_, run.count));
    run.place = 0;
    if (!count) {
      std::vector<Record>().swap(run.records);
      return false;
    }
    run.records.resize(count);
    file_->read(run.records.data(), count * sizeof(Record), run.start * sizeof(Record));
    run.start += count, run.count -= count;
    return true;
  }

  const Record& head(size_t i) const { return runs_[heap_[i]].records[runs_[heap_[i]].place]; }

  void sink(size_t i = 0) {
    for (size_t child; (child = 2 * i + 1) < heap_.size(); i = child) {
      if (child + 1 < heap_.size() && head(child + 1) < head(child)) ++child;
      if (!(head(child) < head(i))) return;
      std::swap(heap_[i], heap_[child]);
    }
  }

  std::string folder_;
  size_t memory_, capacity_, share_ = 0, place_ = 0;
  std::vector<Record> buffer_;
  std::unique_ptr<Scratch> file_;
  std::vector<Run> runs_;
  uint64_t end_ = 0, sorted_end_ = 0;
  bool reading_ = false, has_last_ = false;
  Record last_{};
  std::vector<uint32_t> heap_;  // runs, the one with the least record first
};

inline std::unique_ptr<Sorter> make(const std::string& folder, size_t width, size_t memory) {
  switch (width) {
    case 2: return std::make_unique<SorterOf<2>>(folder, memory);
    case 3: return std::make_unique<SorterOf<3>>(folder, memory);
    case 4: return std::make_unique<SorterOf<4>>(folder, memory);
    default: throw std::invalid_argument("expected records of 2, 3 or 4 numbers");
  }
}

// Union-find over an array of parents. The later root hangs on the earlier one, so that a root is
// the first of its component in whatever order the edges come; paths are halved on the way.
template <typename T>
T root(T* parents, T node) {
  while (parents[node] != node) {
    parents[node] = parents[parents[node]];
    node = parents[node];
  }
  return node;
}

template <typename T>
void unite(T* parents, T a, T b) {
  a = root(parents, a), b = root(parents, b);
  if (a < b)
    parents[b] = a;
  else
    parents[a] = b;
}

}  // namespace gristmill::sorting
