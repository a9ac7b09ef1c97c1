// Byte-level BPE training from a table of words and counts.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace gristmill {

struct Merge {
  int32_t left, right;  // symbol ids: 0..255 in byte-level order, then 256 + index of the merge
  int64_t count;        // occurrences of the pair, weighted by the words' counts, when it was merged
};

// Learn at most `max_merges` merges. `words` holds the symbols (0..255) of all words end to end;
// word w spans offsets[w] .. offsets[w + 1] and stands for counts[w] occurrences. The pair of the
// highest count is merged first; ties go to the smaller (left, right). Pairs counted fewer than
// `min_count` times, or whose token would be longer than `max_token_bytes`, are never merged.
// `progress(done)` is called now and then and may throw to stop.
std::vector<Merge> train(std::span<const uint8_t> words, std::span<const int64_t> offsets,
                         std::span<const int64_t> counts, int64_t max_merges, int64_t min_count,
                         int64_t max_token_bytes, const std::function<void(int64_t)>& progress);

}  // namespace gristmill
