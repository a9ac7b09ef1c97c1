// Each thread has a hash table of its own, so counting takes no locks; the tables are cut into
// shards by hash, so that in the end shards are added up side by side.
//
// A cell has 32 bytes: a word of up to 15 bytes lies in it whole, with its length, so that comparing
// it costs no further cache miss; a longer word lies in the shard's arena, the cell holding its
// place. Words come in batches from the scanner: all of a batch are packed and hashed and their
// cells fetched before the first is looked up.
//
// Cost: some 3 ns a byte of text and thread, most of it waiting for cells of words that are not in
// the cache; 32 to 64 bytes for each distinct word (and group, and thread that met it), plus its
// length if that is over 15.

#include "counter.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "parallel.hpp"
#include "word_key.hpp"

namespace gristmill {
namespace {

constexpr size_t n_shards = 32;
constexpr size_t batch = 256;
constexpr int64_t stretch = 1 << 18;  // bytes of text that a thread takes at a time
constexpr uint64_t long_word = 0xff;  // in place of the length

uint64_t read8(const uint8_t* p) {
  uint64_t v;
  std::memcpy(&v, p, 8);
  return v;
}

uint64_t hash_long(const uint8_t* p, size_t n) {
  uint64_t h = n;
  for (; n > 16; p += 16, n -= 16)
    h = ShortKey::fold(read8(p) ^ 0x9e3779b97f4a7c15ULL, read8(p + 8) ^ h ^ 0xd1b54a32d192ed03ULL);
  uint64_t tail[2] = {0, 0};
  std::memcpy(tail, p, n);
  return ShortKey::fold(tail[0] ^ 0xe7037ed1a0b428dbULL, tail[1] ^ h ^ 0x8ebc6af09c88c6e3ULL);
}

}  // namespace

class Counter::Shard {
 public:
  struct Cell {
    ShortKey key;  // of a long word: its place in the arena; its size, and `long_word` on top
    uint32_t tag = 0;  // of the hash; 0 for a free cell
    uint32_t group = 0;
    int64_t count = 0;
  };

  static uint32_t tag_of(uint64_t hash) { return static_cast<uint32_t>(hash) | 1; }

  void prefetch(uint64_t hash) const {
    if (!cells_.empty()) __builtin_prefetch(&cells_[(hash >> 32) & mask_], 1);
  }

  void add(const ShortKey& key, uint64_t hash, uint32_t group, int64_t count) {
    if (3 * (used_ + 1) > 2 * cells_.size()) grow();
    const uint32_t tag = tag_of(hash);
    size_t i = (hash >> 32) & mask_;
    for (; cells_[i].tag != 0; i = (i + 1) & mask_) {
      Cell& cell = cells_[i];
      if (cell.key == key && cell.group == group) {
        cell.count += count;
        return;
      }
    }
    cells_[i] = {key, tag, group, count};
    ++used_;
  }

  void add_long(const uint8_t* word, size_t n, uint64_t hash, uint32_t group, int64_t count) {
    if (3 * (used_ + 1) > 2 * cells_.size()) grow();
    const uint32_t tag = tag_of(hash);
    size_t i = (hash >> 32) & mask_;
    for (; cells_[i].tag != 0; i = (i + 1) & mask_) {
      Cell& cell = cells_[i];
      if (cell.tag != tag || cell.group != group || cell.key.high != long_key(n)) continue;
      if (std::memcmp(arena_.data() + cell.key.low, word, n) != 0) continue;
      cell.count += count;
      return;
    }
    ShortKey key;
    key.low = arena_.size();
    key.high = long_key(n);
    cells_[i] = {key, tag, group, count};
    arena_.insert(arena_.end(), word, word + n);
    ++used_;
  }

  void add_all(const Shard& other) {
    for (const Cell& cell : other.cells_) {
      if (cell.tag == 0) continue;
      const std::string_view word = other.word(cell);
      const auto* bytes = reinterpret_cast<const uint8_t*>(word.data());
      if (cell.key.high >> 56 == long_word)
        add_long(bytes, word.size(), hash_long(bytes, word.size()) + cell.group * group_step,
                 cell.group, cell.count);
      else
        add(cell.key, cell.key.hash() + cell.group * group_step, cell.group, cell.count);
    }
  }

  std::string_view word(const Cell& cell) const {
    if (cell.key.high >> 56 == long_word)
      return {reinterpret_cast<const char*>(arena_.data()) + cell.key.low,
              cell.key.high & ~(long_word << 56)};
    return {reinterpret_cast<const char*>(&cell.key), cell.key.high >> 56};
  }

  static constexpr uint64_t group_step = 0x632be59bd9b4e019ULL;

  const std::vector<Cell>& cells() const { return cells_; }
  size_t used() const { return used_; }
  size_t memory() const { return cells_.capacity() * sizeof(Cell) + arena_.capacity(); }

 private:
  static uint64_t long_key(size_t n) { return n | long_word << 56; }

  uint64_t hash_of(const Cell& cell) const {
    uint64_t hash;
    if (cell.key.high >> 56 == long_word) {
      const std::string_view w = word(cell);
      hash = hash_long(reinterpret_cast<const uint8_t*>(w.data()), w.size());
    } else {
      hash = cell.key.hash();
    }
    return hash + cell.group * group_step;
  }

  void grow() {
    std::vector<Cell> old = std::move(cells_);
    cells_.assign(std::max<size_t>(old.size() * 2, 256), {});
    mask_ = cells_.size() - 1;
    for (const Cell& cell : old) {
      if (cell.tag == 0) continue;
      size_t i = (hash_of(cell) >> 32) & mask_;
      while (cells_[i].tag != 0) i = (i + 1) & mask_;
      cells_[i] = cell;
    }
  }

  std::vector<Cell> cells_;
  size_t mask_ = 0;
  size_t used_ = 0;
  std::vector<uint8_t> arena_;
};

Counter::Counter(Scheme scheme, size_t threads) : scheme_(scheme), shards_(threads) {
  for (auto& shards : shards_) shards.resize(n_shards);
}

Counter::~Counter() = default;

void Counter::add(const uint8_t* data, std::span<const int64_t> offsets,
                  std::span<const uint32_t> groups) {
  const size_t n_texts = offsets.size() - 1;
  std::vector<size_t> starts{0};  // texts that begin a stretch
  for (size_t i = 0; i < n_texts; ++i)
    if (offsets[i + 1] - offsets[starts.back()] >= stretch) starts.push_back(i + 1);
  if (starts.back() < n_texts) starts.push_back(n_texts);

  std::atomic<size_t> next{0};
  const uint8_t* const end_of_data = data + offsets[n_texts];
  in_parallel(std::min(shards_.size(), std::max<size_t>(starts.size() - 1, 1)), [&](size_t thread) {
    std::vector<Shard>& shards = shards_[thread];
    size_t ends[batch];
    ShortKey keys[batch];
    uint64_t hashes[batch];
    for (size_t part; (part = next++) + 1 < starts.size();) {
      for (size_t text = starts[part]; text < starts[part + 1]; ++text) {
        const uint32_t group = groups.empty() ? 0 : groups[text];
        const uint64_t salt = group * Shard::group_step;
        const uint8_t* const begin = data + offsets[text];
        Scanner scanner(scheme_, begin, offsets[text + 1] - offsets[text]);
        size_t from = 0;
        while (const size_t n = scanner.next(ends, batch)) {
          const size_t first = from;
          for (size_t i = 0; i < n; ++i) {
            const uint8_t* const word = begin + from;
            const size_t size = ends[i] - from;
            if (size <= ShortKey::kMaxWord) {
              keys[i] = ShortKey(word, size, end_of_data);
              hashes[i] = keys[i].hash() + salt;
            } else {
              hashes[i] = hash_long(word, size) + salt;
            }
            shards[hashes[i] % n_shards].prefetch(hashes[i]);
            from = ends[i];
          }
          from = first;
          for (size_t i = 0; i < n; ++i) {
            const size_t size = ends[i] - from;
            Shard& shard = shards[hashes[i] % n_shards];
            if (size <= ShortKey::kMaxWord)
              shard.add(keys[i], hashes[i], group, 1);
            else
              shard.add_long(begin + from, size, hashes[i], group, 1);
            from = ends[i];
          }
        }
      }
    }
  });
}

size_t Counter::memory() const {
  size_t sum = 0;
  for (const auto& shards : shards_)
    for (const Shard& shard : shards) sum += shard.memory();
  return sum;
}

Counter::Table Counter::take(bool sorted) {
  std::atomic<size_t> next{0};
  in_parallel(shards_.size(), [&](size_t) {
    for (size_t s; (s = next++) < n_shards;)
      for (size_t thread = 1; thread < shards_.size(); ++thread) {
        shards_[0][s].add_all(shards_[thread][s]);
        shards_[thread][s] = {};
      }
  });
  struct Row {
    uint64_t prefix;  // the first eight bytes, so that most comparisons need no more
    const Shard* shard;
    const Shard::Cell* cell;
  };
  std::vector<size_t> first_row{0};
  for (const Shard& shard : shards_[0]) first_row.push_back(first_row.back() + shard.used());
  const size_t n_rows = first_row.back();
  std::vector<Row> rows(n_rows);
  next = 0;
  in_parallel(shards_.size(), [&](size_t) {
    for (size_t s; (s = next++) < n_shards;) {
      Row* row = rows.data() + first_row[s];
      for (const Shard::Cell& cell : shards_[0][s].cells()) {
        if (cell.tag == 0) continue;
        const std::string_view word = shards_[0][s].word(cell);
        uint64_t prefix = 0;
        std::memcpy(&prefix, word.data(), std::min<size_t>(word.size(), 8));
        *row++ = {__builtin_bswap64(prefix), &shards_[0][s], &cell};
      }
    }
  });
  std::vector<size_t> parts;
  for (size_t i = 0; i <= shards_.size(); ++i) parts.push_back(n_rows * i / shards_.size());
  if (sorted) {
    auto before = [](const Row& a, const Row& b) {
      if (a.prefix != b.prefix) return a.prefix < b.prefix;
      const int order = a.shard->word(*a.cell).compare(b.shard->word(*b.cell));
      return order != 0 ? order < 0 : a.cell->group < b.cell->group;
    };
    in_parallel(shards_.size(), [&](size_t i) {
      std::sort(rows.begin() + parts[i], rows.begin() + parts[i + 1], before);
    });
    for (size_t i = 1; i < shards_.size(); ++i)
      std::inplace_merge(rows.begin(), rows.begin() + parts[i], rows.begin() + parts[i + 1], before);
  }
  Table table;
  table.offsets.resize(n_rows + 1);
  table.groups.resize(n_rows);
  table.counts.resize(n_rows);
  for (size_t i = 0; i < n_rows; ++i)
    table.offsets[i + 1] = table.offsets[i] + rows[i].shard->word(*rows[i].cell).size();
  table.bytes.resize(table.offsets[n_rows]);
  in_parallel(shards_.size(), [&](size_t part) {
    for (size_t i = parts[part]; i < parts[part + 1]; ++i) {
      const std::string_view word = rows[i].shard->word(*rows[i].cell);
      std::memcpy(table.bytes.data() + table.offsets[i], word.data(), word.size());
      table.groups[i] = rows[i].cell->group;
      table.counts[i] = rows[i].cell->count;
    }
  });
  for (Shard& shard : shards_[0]) shard = {};
  return table;
}

}  // namespace gristmill
