#include "kernels.hpp"

#include <algorithm>
#include <cstring>

// A copy for each generation of vector instructions; the machine's own is chosen when it is loaded.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_MACHINE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_MACHINE
#endif
#define INLINED inline __attribute__((always_inline))

namespace gristmill::decode {
namespace {

// 64 bytes: one register or several, as the machine has them.
template <typename T>
struct Lanes {
  typedef T Vector __attribute__((vector_size(64)));
  static constexpr size_t kCount = 64 / sizeof(T);
};

template <typename T>
INLINED void load(const T* from, typename Lanes<T>::Vector& to) {
  std::memcpy(&to, from, sizeof to);
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
      const Vector both = sums[i][0] + sums[i][1];
      T sum = 0;
      for (size_t lane = 0; lane < kLanes; ++lane) sum += both[lane];
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

FOR_EACH_MACHINE void mix(const float* rows, size_t stride, size_t n, size_t k,
                          const float* weights, float* out) {
  mix_of(rows, stride, n, k, weights, out);
}

FOR_EACH_MACHINE void mix(const double* rows, size_t stride, size_t n, size_t k,
                          const double* weights, double* out) {
  mix_of(rows, stride, n, k, weights, out);
}

}  // namespace gristmill::decode
