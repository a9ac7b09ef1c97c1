// Memory for tables that are read at random: on huge pages where the system lends them, because a
// table of megabytes on 4 KiB pages costs a page walk on most reads.
#pragma once

#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <vector>

namespace gristmill {

// Memory to be given to std::free, or null. What is not touched takes no memory.
inline void* allocate_huge(size_t bytes) {
  constexpr size_t kPage = size_t{2} << 20;
  const bool huge = bytes >= kPage / 4;
  const size_t align = huge ? kPage : 64;
  if (bytes > ~size_t{0} / 2) return nullptr;
  bytes = (bytes + align - 1) / align * align;
  void* p = std::aligned_alloc(align, bytes);
  if (p != nullptr && huge) madvise(p, bytes, MADV_HUGEPAGE);
  return p;
}

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
