// Sorting more records than fit into memory: sorted runs in one temporary file, then a merge.
//
// The file has no name (it is unlinked as soon as it is open), so that a killed process leaves
// nothing behind. Records are plain data with a total order, which makes the result one and the same
// however they came in. Memory: about the bytes given, and not less than 4 KiB for each of the runs
// that are merged at the end. Disk: the records, once more for every time that the number of runs
// grows past what is merged at once.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace gristmill {

// Bytes that are written at the end and read from anywhere. Raises std::system_error.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& folder) : path_(folder + "/.sort-XXXXXX") {
    file_ = mkostemp(path_.data(), O_CLOEXEC);
    if (file_ < 0) fail("make");
    unlink(path_.c_str());
  }
  ~TemporaryFile() { close(file_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  uint64_t size() const { return size_; }

  void append(const void* data, size_t bytes) {
    const auto* at = static_cast<const char*>(data);
    while (bytes) {
      const ssize_t done = pwrite(file_, at, bytes, static_cast<off_t>(size_));
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail("write");
      at += done;
      bytes -= static_cast<size_t>(done);
      size_ += static_cast<size_t>(done);
    }
  }

  void read(void* data, size_t bytes, uint64_t from) const {
    auto* at = static_cast<char*>(data);
    while (bytes) {
      const ssize_t done = pread(file_, at, bytes, static_cast<off_t>(from));
      if (done < 0 && errno == EINTR) continue;
      if (done == 0) errno = EIO;
      if (done <= 0) fail("read");
      at += done;
      bytes -= static_cast<size_t>(done);
      from += static_cast<size_t>(done);
    }
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw std::system_error(errno, std::generic_category(),
                            std::string("cannot ") + what + " the temporary file " + path_);
  }

  std::string path_;
  int file_;
  uint64_t size_ = 0;
};

// add() all records, then finish(), then peek() and pop() them in order. Records that are sorted
// already (a stored index) may be given to add_sorted(), piece by piece: they make a run as they are.
template <typename Record>
class Sorter {
 public:
  Sorter(std::string folder, size_t memory)
      : folder_(std::move(folder)),
        capacity_(std::max<size_t>(memory / sizeof(Record), 16)),
        fan_in_(std::max<size_t>(memory / kBlock, 8)) {}

  void add(const Record& record) {
    if (records_.size() == capacity_) spill();
    // Grown by doubling, but never past what was asked for.
    if (records_.size() == records_.capacity())
      records_.reserve(std::min(capacity_, std::max<size_t>(1024, 2 * records_.size())));
    records_.push_back(record);
  }

  // Raises std::invalid_argument if they are not in order, or come before those of an earlier call.
  void add_sorted(const Record* records, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      if (has_last_ && records[i] < last_)
        throw std::invalid_argument("records are not in order");
      last_ = records[i];
      has_last_ = true;
    }
    if (!count) return;
    if (!file_) file_ = std::make_unique<TemporaryFile>(folder_);
    const uint64_t begin = file_->size();
    file_->append(records, count * sizeof(Record));
    if (sorted_end_ == begin && begin != 0)
      runs_.back().end = file_->size();
    else
      runs_.push_back({begin, file_->size(), kGiven});
    sorted_end_ = file_->size();
  }

  void finish() {
    if (runs_.empty()) {
      std::sort(records_.begin(), records_.end());
      next_ = 0;
      return;
    }
    if (!records_.empty()) spill();
    std::vector<Record>().swap(records_);
    open(0);
  }

  // The least record that is left, or null.
  const Record* peek() const {
    if (runs_.empty()) return next_ < records_.size() ? &records_[next_] : nullptr;
    return heap_.empty() ? nullptr : &readers_[heap_.front()].record();
  }

  void pop() {
    if (runs_.empty())
      ++next_;
    else
      advance();
  }

 private:
  static constexpr size_t kBlock = 1 << 16;
  static constexpr int kGiven = -1;

  struct Run {
    uint64_t begin, end;  // bytes of the file
    int level;            // how often its records have been merged; kGiven for a sorted run
  };

  struct Reader {
    uint64_t begin, end;  // bytes that are still in the file
    std::vector<Record> block;
    size_t next;
    const Record& record() const { return block[next]; }
  };

  void spill() {
    if (!file_) file_ = std::make_unique<TemporaryFile>(folder_);
    std::sort(records_.begin(), records_.end());
    const uint64_t begin = file_->size();
    file_->append(records_.data(), records_.size() * sizeof(Record));
    records_.clear();
    runs_.push_back({begin, file_->size(), 0});
    while (runs_.size() >= fan_in_ && runs_[runs_.size() - fan_in_].level == runs_.back().level)
      merge(runs_.size() - fan_in_);
  }

  // Make one run of all from `first` on. Uses the memory of records_, which is empty.
  void merge(size_t first) {
    const int level = runs_.back().level + 1;
    const size_t capacity = records_.capacity();
    std::vector<Record>().swap(records_);
    open(first);
    const uint64_t begin = file_->size();
    std::vector<Record> block;
    while (!heap_.empty()) {
      block.push_back(readers_[heap_.front()].record());
      advance();
      if (block.size() * sizeof(Record) >= kBlock || heap_.empty()) {
        file_->append(block.data(), block.size() * sizeof(Record));
        block.clear();
      }
    }
    readers_.clear();
    runs_.resize(first);
    runs_.push_back({begin, file_->size(), level});
    records_.reserve(capacity);
  }

  void open(size_t first) {
    const size_t bytes = std::max<size_t>(capacity_ * sizeof(Record) / (runs_.size() - first), 4096);
    block_ = std::max<size_t>(std::min<size_t>(bytes, 1 << 20) / sizeof(Record), 1);
    readers_.clear();
    heap_.clear();
    for (size_t i = first; i < runs_.size(); ++i) {
      readers_.push_back({runs_[i].begin, runs_[i].end, {}, 0});
      fill(readers_.back());
      heap_.push_back(static_cast<uint32_t>(i - first));
    }
    for (size_t i = heap_.size() / 2; i-- > 0;) sink(i);
  }

  bool fill(Reader& reader) {
    const size_t count = std::min<uint64_t>(block_, (reader.end - reader.begin) / sizeof(Record));
    reader.block.resize(count);
    reader.next = 0;
    file_->read(reader.block.data(), count * sizeof(Record), reader.begin);
    reader.begin += count * sizeof(Record);
    return count != 0;
  }

  void advance() {
    Reader& reader = readers_[heap_.front()];
    if (++reader.next == reader.block.size() && !fill(reader)) {
      heap_.front() = heap_.back();
      heap_.pop_back();
    }
    if (!heap_.empty()) sink(0);
  }

  void sink(size_t at) {
    const uint32_t moved = heap_[at];
    const Record& record = readers_[moved].record();
    for (size_t child; (child = 2 * at + 1) < heap_.size(); at = child) {
      if (child + 1 < heap_.size() &&
          readers_[heap_[child + 1]].record() < readers_[heap_[child]].record())
        ++child;
      if (!(readers_[heap_[child]].record() < record)) break;
      heap_[at] = heap_[child];
    }
    heap_[at] = moved;
  }

  std::string folder_;
  size_t capacity_, fan_in_, block_ = 0, next_ = 0;
  std::vector<Record> records_;
  std::unique_ptr<TemporaryFile> file_;
  std::vector<Run> runs_;
  std::vector<Reader> readers_;
  std::vector<uint32_t> heap_;
  uint64_t sorted_end_ = 0;  // where the last run of add_sorted() ends
  bool has_last_ = false;
  Record last_{};
};

}  // namespace gristmill
