// MinHash: the least value of each of many permutations over the n-grams of a text.
//
// A permutation is x -> a·x + b modulo 2^64, a odd. Eight are done together, in the way that suits
// the processor: AVX-512 multiplies 64 bits in one instruction, AVX2 in three of 32, and without
// either, plain multiplications are the fastest. The n-grams pass by in tiles that stay in the
// first-level cache while all the permutations see them.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

#include "words.hpp"

namespace gristmill::minhash {

constexpr size_t kLanes = 8, kTile = 2048;
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
using Lower = void (*)(const uint64_t* hashes, size_t count, const Permutations&, int64_t* minima);

#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("no-tree-vectorize")))
#endif
inline void lower_plain(const uint64_t* hashes, size_t count, const Permutations& p,
                        int64_t* minima) {
  for (size_t start = 0; start < count; start += kTile) {
    const uint64_t* const x = hashes + start;
    const size_t size = count - start < kTile ? count - start : kTile;
    for (size_t k = 0; k < p.vectors * kLanes; k += 2) {
      const uint64_t a0 = p.factors[k], a1 = p.factors[k + 1];
      const uint64_t b0 = p.offsets[k], b1 = p.offsets[k + 1];
      int64_t least0 = minima[k], least1 = minima[k + 1];
      for (size_t i = 0; i < size; ++i) {
        const auto value0 = static_cast<int64_t>(a0 * x[i] + b0);
        const auto value1 = static_cast<int64_t>(a1 * x[i] + b1);
        least0 = value0 < least0 ? value0 : least0;
        least1 = value1 < least1 ? value1 : least1;
      }
      minima[k] = least0, minima[k + 1] = least1;
    }
  }
}

#if defined(__x86_64__) && defined(__GNUC__)
// AVX2 multiplies 32 bits by 32 only, and the compiler's way to 64 from there is six times as slow:
// with a = a1·2^32 + a0 and x alike, a·x = a0·x0 + (a1·x0 + a0·x1)·2^32 modulo 2^64.
__attribute__((target("avx2"))) inline void lower_avx2(const uint64_t* hashes, size_t count,
                                                       const Permutations& p, int64_t* minima) {
  constexpr size_t kHalves = kLanes / 4;
  for (size_t start = 0; start < count; start += kTile) {
    const uint64_t* const x = hashes + start;
    const size_t size = count - start < kTile ? count - start : kTile;
    for (size_t v = 0; v < p.vectors * kLanes; v += kLanes) {
      __m256i a0[kHalves], a1[kHalves], b[kHalves], least[kHalves];
      for (size_t h = 0; h < kHalves; ++h) {
        a0[h] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&p.factors[v + 4 * h]));
        a1[h] = _mm256_srli_epi64(a0[h], 32);
        b[h] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&p.offsets[v + 4 * h]));
        least[h] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(minima + v + 4 * h));
      }
      for (size_t i = 0; i < size; ++i) {
        const __m256i x0 = _mm256_set1_epi64x(static_cast<int64_t>(x[i]));
        const __m256i x1 = _mm256_srli_epi64(x0, 32);
        for (size_t h = 0; h < kHalves; ++h) {
          const __m256i cross =
              _mm256_add_epi64(_mm256_mul_epu32(a1[h], x0), _mm256_mul_epu32(a0[h], x1));
          const __m256i value = _mm256_add_epi64(
              _mm256_add_epi64(_mm256_mul_epu32(a0[h], x0), b[h]), _mm256_slli_epi64(cross, 32));
          least[h] = _mm256_blendv_epi8(least[h], value, _mm256_cmpgt_epi64(least[h], value));
        }
      }
      for (size_t h = 0; h < kHalves; ++h)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(minima + v + 4 * h), least[h]);
    }
  }
}

__attribute__((target("avx512f,avx512dq"))) inline void lower_avx512(const uint64_t* hashes,
                                                                     size_t count,
                                                                     const Permutations& p,
                                                                     int64_t* minima) {
  for (size_t start = 0; start < count; start += kTile) {
    const uint64_t* const x = hashes + start;
    const size_t size = count - start < kTile ? count - start : kTile;
    for (size_t v = 0; v < p.vectors * kLanes; v += kLanes) {
      const __m512i a = _mm512_loadu_si512(&p.factors[v]), b = _mm512_loadu_si512(&p.offsets[v]);
      __m512i least = _mm512_loadu_si512(minima + v);
      for (size_t i = 0; i < size; ++i) {
        const __m512i moved = _mm512_mullo_epi64(a, _mm512_set1_epi64(static_cast<int64_t>(x[i])));
        const __m512i value = _mm512_add_epi64(moved, b);
        least = value < least ? value : least;  // _mm512_min_epi64, of which GCC 12 warns
      }
      _mm512_storeu_si512(minima + v, least);
    }
  }
}
#endif

// The ways to compute it on this processor, the fastest first. All give the same numbers.
inline std::vector<std::pair<const char*, Lower>> ways() {
  std::vector<std::pair<const char*, Lower>> found;
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
    found.emplace_back("avx512", lower_avx512);
  if (__builtin_cpu_supports("avx2")) found.emplace_back("avx2", lower_avx2);
#endif
  found.emplace_back("plain", lower_plain);
  return found;
}

}  // namespace gristmill::minhash
