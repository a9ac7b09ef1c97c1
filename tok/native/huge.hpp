// Memory for tables that are read at random: on huge pages where the system lends them, because a
// table of megabytes on 4 KiB pages costs a page walk on most reads.
#pragma once

#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <vector>

namespace gristmill {

template <typename T>
struct HugeAllocator {
  using value_type = T;
  static constexpr size_t kPage = size_t{2} << 20;

  HugeAllocator() = default;
  template <typename U>
  HugeAllocator(const HugeAllocator<U>&) {}

  T* allocate(size_t n) {
    const size_t bytes = n * sizeof(T);
    const bool huge = bytes >= kPage / 4;
    const size_t align = huge ? kPage : 64;
    if (n > (size_t{1} << 40)) throw std::bad_alloc();
    void* p = std::aligned_alloc(align, (bytes + align - 1) / align * align);
    if (p == nullptr) throw std::bad_alloc();
    if (huge) madvise(p, (bytes + align - 1) / align * align, MADV_HUGEPAGE);
    return static_cast<T*>(p);
  }
  void deallocate(T* p, size_t) { std::free(p); }
  bool operator==(const HugeAllocator&) const { return true; }
};

template <typename T>
using HugeVector = std::vector<T, HugeAllocator<T>>;

}  // namespace gristmill
