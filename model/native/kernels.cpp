#include "kernels.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

// A copy for each generation of vector instructions; the machine's own is chosen when it is loaded.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_MACHINE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_MACHINE
#endif
#define INLINED inline __attribute__((always_inline))
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLES 1
#endif

namespace gristmill::decode {
namespace {

// 64 bytes: one register or several, as the machine has them.
template <typename T>
struct Lanes {
  typedef T Vector __attribute__((vector_size(64)));
  static constexpr size_t kCount = 64 / sizeof(T);
};

// Bytes ahead that are asked for: the processor itself looks ahead within 4 KB only, and less far the
// more is computed of each number.
constexpr size_t kAhead = 8192;

template <typename T>
INLINED void load(const T* from, typename Lanes<T>::Vector& to) {
  std::memcpy(&to, from, sizeof to);
}

// The sum of all lanes, half by half: one after the other, each would wait for the one before.
INLINED float total(const Lanes<float>::Vector& v) {
#if SHUFFLES
  const auto by8 = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                   __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const auto by4 = __builtin_shufflevector(by8, by8, 0, 1, 2, 3) +
                   __builtin_shufflevector(by8, by8, 4, 5, 6, 7);
  return (by4[0] + by4[2]) + (by4[1] + by4[3]);
#else
  float sum = 0;
  for (size_t lane = 0; lane < Lanes<float>::kCount; ++lane) sum += v[lane];
  return sum;
#endif
}

INLINED double total(const Lanes<double>::Vector& v) {
#if SHUFFLES
  const auto by4 = __builtin_shufflevector(v, v, 0, 1, 2, 3) +
                   __builtin_shufflevector(v, v, 4, 5, 6, 7);
  return (by4[0] + by4[2]) + (by4[1] + by4[3]);
#else
  double sum = 0;
  for (size_t lane = 0; lane < Lanes<double>::kCount; ++lane) sum += v[lane];
  return sum;
#endif
}

template <typename T, size_t Count>
INLINED void products_with(const T* rows, size_t n, size_t k, const T* const* x, T* const* out,
                           bool add) {
  using Vector = typename Lanes<T>::Vector;
  constexpr size_t kLanes = Lanes<T>::kCount;
  for (size_t j = 0; j < n; ++j, rows += k) {
    // Two sums, as an addition has to wait for the one before. (Unrolled, or they leave registers.)
    Vector sums[Count][2] = {};
    size_t at = 0;
    for (; at + 2 * kLanes <= k; at += 2 * kLanes) {
#pragma GCC unroll 2
      for (size_t half = 0; half < 2; ++half) {
        Vector row, one;
        __builtin_prefetch(reinterpret_cast<const char*>(rows + at + half * kLanes) + kAhead);
        load(rows + at + half * kLanes, row);
#pragma GCC unroll 4
        for (size_t i = 0; i < Count; ++i) {
          load(x[i] + at + half * kLanes, one);
          sums[i][half] += row * one;
        }
      }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < Count; ++i) {
      T sum = total(sums[i][0] + sums[i][1]);
      for (size_t rest = at; rest < k; ++rest) sum += rows[rest] * x[i][rest];
      out[i][j] = add ? out[i][j] + sum : sum;
    }
  }
}

template <typename T>
INLINED void products_of(const T* rows, size_t n, size_t k, const T* const* x, size_t count,
                         T* const* out, bool add) {
  switch (count) {
    case 1: return products_with<T, 1>(rows, n, k, x, out, add);
    case 2: return products_with<T, 2>(rows, n, k, x, out, add);
    case 3: return products_with<T, 3>(rows, n, k, x, out, add);
    default: return products_with<T, kMost>(rows, n, k, x, out, add);
  }
}

typedef int32_t Words __attribute__((vector_size(64)));

template <size_t Count>
INLINED void quantized_products_with(const int32_t* rows, const float* scales, size_t n,
                                     size_t blocks, const float* const* x, float* const* out,
                                     bool add) {
  using Vector = Lanes<float>::Vector;
  for (size_t j = 0; j < n; ++j) {
    Vector sums[Count][2] = {};
    for (size_t block = 0; block < blocks; ++block, rows += 16) {
      Words words;
      __builtin_prefetch(reinterpret_cast<const char*>(rows) + kAhead);
      std::memcpy(&words, rows, sizeof words);
#pragma GCC unroll 4
      for (int byte = 0; byte < 4; ++byte) {
        const Words numbers = words << (24 - 8 * byte) >> 24;
        const Vector row = __builtin_convertvector(numbers, Vector);
#pragma GCC unroll 4
        for (size_t i = 0; i < Count; ++i) {
          Vector one;
          load(x[i] + block * kBlock + byte * 16, one);
          sums[i][byte % 2] += row * one;
        }
      }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < Count; ++i) {
      const float product = total(sums[i][0] + sums[i][1]) * scales[j];
      out[i][j] = add ? out[i][j] + product : product;
    }
  }
}

INLINED void quantized_products_of(const int32_t* rows, const float* scales, size_t n,
                                   size_t blocks, const float* const* x, size_t count,
                                   float* const* out, bool add) {
  switch (count) {
    case 1: return quantized_products_with<1>(rows, scales, n, blocks, x, out, add);
    case 2: return quantized_products_with<2>(rows, scales, n, blocks, x, out, add);
    case 3: return quantized_products_with<3>(rows, scales, n, blocks, x, out, add);
    default: return quantized_products_with<kMost>(rows, scales, n, blocks, x, out, add);
  }
}

INLINED float quantized_row(const float* x, size_t blocks, int32_t* row) {
  using Vector = Lanes<float>::Vector;
  float most = 0;
  for (size_t at = 0; at < blocks * kBlock; ++at) most = std::max(most, std::abs(x[at]));
  if (!(most > 0) || !std::isfinite(most)) {
    std::memset(row, 0, blocks * kBlock);
    return 0;
  }
  // Where this is added, what is left of a number below 2^22 is the nearest whole one, in its last
  // bits.
  const Vector whole = Vector{} + 12582912.0f;
  const float factor = 127 / most;
  for (size_t block = 0; block < blocks; ++block) {
    Words words = {};
#pragma GCC unroll 4
    for (int byte = 0; byte < 4; ++byte) {
      Vector one;
      load(x + block * kBlock + byte * 16, one);
      const Vector moved = one * factor + whole;
      Words bits;
      std::memcpy(&bits, &moved, sizeof bits);
      words |= (bits & 0xff) << (8 * byte);
    }
    std::memcpy(row + block * 16, &words, sizeof words);
  }
  return most / 127;
}

template <typename T>
INLINED void mix_of(const T* rows, size_t stride, size_t n, size_t k, const T* weights, T* out) {
  std::fill(out, out + k, T{0});
  for (size_t j = 0; j < n; ++j, rows += stride)
    for (size_t at = 0; at < k; ++at) out[at] += weights[j] * rows[at];
}

}  // namespace

FOR_EACH_MACHINE void products(const float* rows, size_t n, size_t k, const float* const* x,
                               size_t count, float* const* out, bool add) {
  products_of(rows, n, k, x, count, out, add);
}

FOR_EACH_MACHINE void products(const double* rows, size_t n, size_t k, const double* const* x,
                               size_t count, double* const* out, bool add) {
  products_of(rows, n, k, x, count, out, add);
}

FOR_EACH_MACHINE void quantized_products(const int32_t* rows, const float* scales, size_t n,
                                         size_t blocks, const float* const* x, size_t count,
                                         float* const* out, bool add) {
  quantized_products_of(rows, scales, n, blocks, x, count, out, add);
}

FOR_EACH_MACHINE float quantize_row(const float* x, size_t blocks, int32_t* row) {
  return quantized_row(x, blocks, row);
}

FOR_EACH_MACHINE void mix(const float* rows, size_t stride, size_t n, size_t k,
                          const float* weights, float* out) {
  mix_of(rows, stride, n, k, weights, out);
}

FOR_EACH_MACHINE void mix(const double* rows, size_t stride, size_t n, size_t k,
                          const double* weights, double* out) {
  mix_of(rows, stride, n, k, weights, out);
}

}  // namespace gristmill::decode
