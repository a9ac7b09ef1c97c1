// A hash table from pairs of symbols to small values: open addressing, linear probing, powers of
// two, at most two thirds full. Nothing is ever taken out; `keep` makes a new one without what is no
// longer wanted.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "huge.hpp"

namespace gristmill {

using Symbol = uint32_t;

struct Pair {
  Symbol left, right;
  uint64_t key() const { return (static_cast<uint64_t>(left) << 32) | right; }
  static Pair of(uint64_t key) { return {static_cast<Symbol>(key >> 32), static_cast<Symbol>(key)}; }
};

inline uint64_t mix(uint64_t key) {
  key *= 0x9e3779b97f4a7c15ULL;
  return key ^ (key >> 32);
}

template <typename Value>
class PairTable {
 public:
  struct Cell {
    uint64_t key;
    Value value;
  };

  Value* find(uint64_t key) { return const_cast<Value*>(std::as_const(*this).find(key)); }
  const Value* find(uint64_t key) const {
    if (cells_.empty()) return nullptr;
    for (size_t i = mix(key) & mask_;; i = (i + 1) & mask_) {
      if (cells_[i].key == key) return &cells_[i].value;
      if (cells_[i].key == free_key) return nullptr;
    }
  }

  // The value of the key, a fresh one if it has none. Earlier pointers are void afterwards.
  Value& at(uint64_t key) {
    if (3 * (used_ + 1) > 2 * cells_.size()) rebuild(used_ + 1, [](const Value&) { return true; });
    size_t i = mix(key) & mask_;
    while (cells_[i].key != free_key) {
      if (cells_[i].key == key) return cells_[i].value;
      i = (i + 1) & mask_;
    }
    ++used_;
    cells_[i].key = key;
    return cells_[i].value;
  }

  void prefetch(uint64_t key) const {
    if (!cells_.empty()) __builtin_prefetch(&cells_[mix(key) & mask_]);
  }

  template <typename Wanted>
  void keep(Wanted&& wanted) {
    size_t n = 0;
    for (const Cell& cell : cells_) n += cell.key != free_key && wanted(cell.value);
    rebuild(n, wanted);
  }

  template <typename Visit>
  void each(Visit&& visit) {
    for (Cell& cell : cells_)
      if (cell.key != free_key) visit(cell.key, cell.value);
  }

  // Make room for n keys in all, so that none is moved while they are entered.
  void reserve(size_t n) {
    if (3 * (n + 1) > 2 * cells_.size()) rebuild(n, [](const Value&) { return true; });
  }

  bool full() const { return 3 * (used_ + 1) > 2 * cells_.size(); }
  size_t size() const { return used_; }
  size_t memory() const { return cells_.capacity() * sizeof(Cell); }
  void clear() {
    cells_ = {};
    used_ = mask_ = 0;
  }

 private:
  static constexpr uint64_t free_key = ~uint64_t{0};

  template <typename Wanted>
  void rebuild(size_t n, Wanted&& wanted) {
    HugeVector<Cell> old = std::exchange(cells_, {});
    cells_.assign(std::bit_ceil(n * 2 + 64), {free_key, Value{}});
    mask_ = cells_.size() - 1;
    used_ = 0;
    for (const Cell& cell : old) {
      if (cell.key == free_key || !wanted(cell.value)) continue;
      size_t i = mix(cell.key) & mask_;
      while (cells_[i].key != free_key) i = (i + 1) & mask_;
      cells_[i] = cell;
      ++used_;
    }
  }

  HugeVector<Cell> cells_;
  size_t mask_ = 0;
  size_t used_ = 0;
};

}  // namespace gristmill
