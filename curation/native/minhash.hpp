// MinHash: the least value of each of many permutations over the n-grams of a text.
//
// A permutation is x -> a·x + b modulo 2^64, a odd. Eight of them are one vector, which the compiler
// lowers to what the processor has (AVX-512 multiplies 64 bits in one instruction, AVX2 in three
// multiplications of 32 bits); which, is asked when the module is loaded. The n-grams pass by in tiles that
// stay in the first-level cache while all the permutations see them.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "words.hpp"

namespace gristmill::minhash {

constexpr size_t kLanes = 8, kTile = 2048;
using Lanes = int64_t __attribute__((vector_size(8 * kLanes)));
using Wide = uint64_t __attribute__((vector_size(8 * kLanes)));

struct Permutations {
  size_t vectors;
  std::vector<uint64_t> factors, offsets;  // filled up to whole vectors

  Permutations(const uint64_t* a, const uint64_t* b, size_t count)
      : vectors((count + kLanes - 1) / kLanes), factors(a, a + count), offsets(b, b + count) {
    // Vectors compare as signed numbers; 2^63 more keeps the order of unsigned ones.
    for (auto& offset : offsets) offset += uint64_t{1} << 63;
    factors.resize(vectors * kLanes);
    offsets.resize(vectors * kLanes);
  }
};

// Lower `minima` [vectors·kLanes] by the values that the permutations give `count` hashes.
[[gnu::always_inline]] inline void lower_all(const uint64_t* hashes, size_t count,
                                             const Permutations& permutations, int64_t* minima) {
  for (size_t start = 0; start < count; start += kTile) {
    const uint64_t* const x = hashes + start;
    const size_t size = count - start < kTile ? count - start : kTile;
    for (size_t v = 0; v < permutations.vectors; ++v) {
      Wide a, b;
      Lanes least;
      std::memcpy(&a, &permutations.factors[v * kLanes], sizeof a);
      std::memcpy(&b, &permutations.offsets[v * kLanes], sizeof b);
      std::memcpy(&least, minima + v * kLanes, sizeof least);
      for (size_t i = 0; i < size; ++i) {
        const auto value = reinterpret_cast<Lanes>(a * x[i] + b);
        least = value < least ? value : least;
      }
      std::memcpy(minima + v * kLanes, &least, sizeof least);
    }
  }
}

using Lower = void (*)(const uint64_t*, size_t, const Permutations&, int64_t*);

inline void lower_plain(const uint64_t* x, size_t count, const Permutations& p, int64_t* minima) {
  lower_all(x, count, p, minima);
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) inline void lower_avx2(const uint64_t* x, size_t count,
                                                       const Permutations& p, int64_t* minima) {
  lower_all(x, count, p, minima);
}
__attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"))) inline void
lower_avx512(const uint64_t* x, size_t count, const Permutations& p, int64_t* minima) {
  lower_all(x, count, p, minima);
}

inline Lower fastest() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return lower_avx512;
  return __builtin_cpu_supports("avx2") ? lower_avx2 : lower_plain;
}
#else
inline Lower fastest() { return lower_plain; }
#endif

}  // namespace gristmill::minhash
