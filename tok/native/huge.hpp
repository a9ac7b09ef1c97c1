// Memory for tables that are read at random: on huge pages where the system lends them, because a
// table of megabytes on 4 KiB pages costs a page walk on most reads.
#pragma once

#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

namespace gristmill {

// Memory to be given to std::free, or null. What is not touched takes no memory.
inline void* allocate_huge(size_t bytes) {
  constexpr size_t kPage = size_t{2} << 20;
  const bool huge = bytes >= kPage;  // and the rest behind the last large page lies on small ones
  void* p = nullptr;
  if (posix_memalign(&p, huge ? kPage : 64, bytes) != 0) return nullptr;
  if (huge) madvise(p, bytes, MADV_HUGEPAGE);
  return p;
}

// Zeros, of which only the pages that are touched take memory.
class HugeZeros {
 public:
  explicit HugeZeros(size_t bytes = 0) : size_(bytes) {
    if (bytes == 0) return;
    memory_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    madvise(memory_, bytes, MADV_HUGEPAGE);
  }
  HugeZeros(HugeZeros&& other) noexcept { swap(other); }
  HugeZeros& operator=(HugeZeros&& other) noexcept {
    swap(other);
    return *this;
  }
  ~HugeZeros() {
    if (size_ != 0) munmap(memory_, size_);
  }
  template <typename T>
  T* as() const {
    return static_cast<T*>(memory_);
  }

 private:
  void swap(HugeZeros& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
  }
  void* memory_ = nullptr;
  size_t size_ = 0;
};

template <typename T>
struct HugeAllocator {
  using value_type = T;

  HugeAllocator() = default;
  template <typename U>
  HugeAllocator(const HugeAllocator<U>&) {}

  T* allocate(size_t n) {
    void* p = n > (size_t{1} << 40) ? nullptr : allocate_huge(n * sizeof(T));
    if (p == nullptr) throw std::bad_alloc();
    return static_cast<T*>(p);
  }
  void deallocate(T* p, size_t) { std::free(p); }
  bool operator==(const HugeAllocator&) const { return true; }
};

template <typename T>
using HugeVector = std::vector<T, HugeAllocator<T>>;

}  // namespace gristmill
