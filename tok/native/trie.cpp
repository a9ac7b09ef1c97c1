// Building the double array: strings are sorted, so a node is a range of them that share a prefix.
// Nodes are placed in depth-first order, each node's children at the first place where all of them
// fit. Free places are threaded on a list; a node with many children looks at a bounded number of
// them and then goes to the end of the array, so building takes O(total bytes) and wastes little.

#include "trie.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace gristmill {
namespace {

constexpr uint32_t kNowhere = 256;  // where leaves look for children: 256 units never in use
constexpr uint32_t kFirst = 512;    // the units before are the root's children and kNowhere's
constexpr uint32_t kMaxUnits = 1u << 23;
constexpr int kTries = 24;

class Builder {
 public:
  Builder(HugeVector<uint64_t>& units, HugeVector<uint32_t>& shorter,
          std::span<const std::string_view> strings)
      : units_(units), shorter_(shorter), strings_(strings) {
    order_.resize(strings.size());
    std::iota(order_.begin(), order_.end(), 0u);
    std::erase_if(order_, [&](uint32_t i) { return strings[i].empty(); });
    std::sort(order_.begin(), order_.end(),
              [&](uint32_t a, uint32_t b) { return strings[a] < strings[b]; });
    grow(kFirst + 4096);
  }

  size_t build() {
    // The root's children sit at units 0..255, whether they exist or not: a byte that begins no
    // string has a unit in use without children and without a match.
    for (uint32_t c = 0; c < 256; ++c) units_[c] = unit(c, kNowhere, 0);
    struct Frame {
      size_t first, last;  // range of order_
      uint32_t depth, at;  // length of the shared prefix; the node's unit
      uint32_t match;
    };
    std::vector<Frame> stack;
    std::vector<Frame> born;
    std::vector<uint32_t> labels;
    size_t nodes = 0;
    stack.push_back({0, order_.size(), 0, ~0u, 0});
    while (!stack.empty()) {
      const Frame node = stack.back();
      stack.pop_back();
      size_t i = node.first;
      born.clear();
      labels.clear();
      while (i < node.last) {
        const uint8_t label = byte(i, node.depth);
        size_t j = i + 1;
        while (j < node.last && byte(j, node.depth) == label) ++j;
        Frame child{i, j, node.depth + 1, 0, node.match};
        if (strings_[order_[i]].size() == node.depth + 1) {  // the shortest sorts first
          shorter_[order_[i]] = node.match;
          child.match = order_[i] | (node.depth + 1) << Trie::kNumberBits;
          ++child.first;
        }
        labels.push_back(label);
        born.push_back(child);
        i = j;
      }
      if (born.empty()) continue;
      nodes += born.size();
      const uint32_t base = node.at == ~0u ? 0 : place(labels);
      if (node.at != ~0u)
        units_[node.at] = (units_[node.at] & ~uint64_t{0xfffffe00}) | uint64_t{base} << 9;
      for (size_t k = born.size(); k-- > 0;) {
        born[k].at = base + labels[k];
        units_[born[k].at] = unit(labels[k], kNowhere, born[k].match);
        stack.push_back(born[k]);
      }
    }
    units_.resize(std::max<size_t>(highest_ + 512, kFirst + 512), free_unit());
    return nodes;
  }

 private:
  static uint64_t unit(uint32_t label, uint32_t children, uint32_t match) {
    return uint64_t{match} << 32 | uint64_t{children} << 9 | 0x100 | label;
  }
  static uint64_t free_unit() { return uint64_t{kNowhere} << 9; }

  uint8_t byte(size_t i, uint32_t depth) const {
    return static_cast<uint8_t>(strings_[order_[i]][depth]);
  }

  void grow(size_t size) {
    if (size > kMaxUnits) throw std::length_error("the vocabulary needs too large a trie");
    size_t old = units_.size();
    units_.resize(size, free_unit());
    taken_.resize(size, 0);
    next_free_.resize(size);
    if (old == 0) {
      std::fill(taken_.begin(), taken_.begin() + kFirst, 1);
      taken_[0] |= 2;
      taken_[kNowhere] |= 2;
      next_free_[0] = kFirst;
      old = kFirst;
    }
    for (size_t i = old; i < size; ++i) next_free_[i] = static_cast<uint32_t>(i + 1);
  }

  // Free places are a list in ascending order that starts at next_free_[0]. Places taken since are
  // unlinked as they are met.
  uint32_t free_after(uint32_t place) {
    uint32_t at = next_free_[place];
    for (;;) {
      if (at >= units_.size()) grow(units_.size() * 2);
      if (!(taken_[at] & 1)) break;
      at = next_free_[at];
    }
    return next_free_[place] = at;
  }

  bool take(uint32_t base, const std::vector<uint32_t>& labels) {
    while (base + 512 >= units_.size()) grow(units_.size() * 2);
    if (taken_[base] & 2) return false;
    for (const uint32_t label : labels)
      if (taken_[base + label] & 1) return false;
    taken_[base] |= 2;
    for (const uint32_t label : labels) taken_[base + label] |= 1;
    highest_ = std::max(highest_, base + labels.back());
    return true;
  }

  uint32_t place(const std::vector<uint32_t>& labels) {
    uint32_t at = 0;
    for (int tries = 0; tries < kTries; ++tries) {
      at = free_after(at);
      if (take(at - labels[0], labels)) return at - labels[0];
    }
    for (at = highest_ + 1;; ++at)
      if (take(at - labels[0], labels)) return at - labels[0];
  }

  HugeVector<uint64_t>& units_;
  HugeVector<uint32_t>& shorter_;
  std::span<const std::string_view> strings_;
  std::vector<uint32_t> order_;
  std::vector<uint8_t> taken_;  // bit 0: the unit is in use; bit 1: some node's children start here
  std::vector<uint32_t> next_free_;
  uint32_t highest_ = kFirst;
};

}  // namespace

Trie::Trie(std::span<const std::string_view> strings) : shorter_(strings.size(), 0) {
  if (strings.size() >= (size_t{1} << kNumberBits))
    throw std::length_error("more than 2^21 strings in a trie");
  for (const std::string_view s : strings)
    if (s.size() > kMaxLength) throw std::length_error("a string of a trie is too long");
  nodes_ = Builder(units_, shorter_, strings).build();
}

}  // namespace gristmill
