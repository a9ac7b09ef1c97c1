#include "gemm.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#if GRISTMILL_AVX512
#include <immintrin.h>
// Behind the headers: what they define must run on every machine.
#pragma GCC push_options
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 about its own header
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")

namespace gristmill::train {
namespace {

constexpr size_t kDeep = 256;            // terms of a sum that are added up in registers
constexpr size_t kBroad = 10 * kWide;    // with it, a packed piece takes half of a level 2 cache
constexpr size_t kTaken = 2 * kRows;     // columns that are transposed at a time: a cache line
static_assert(kTaken == kLanes);

inline __mmask16 first_lanes(size_t n) {
  return n >= kLanes ? 0xffff : static_cast<__mmask16>((1u << n) - 1);
}

// out [R, 16 V] = or += a [R, k] b [k, kWide]. Number (i, j) of a is a[i][j * step].
template <size_t R, size_t V>
__attribute__((always_inline)) inline void tile(const float* const* a, size_t step, const float* b,
                                                size_t k, float* out, size_t apart, __mmask16 last,
                                                bool add) {
  __m512 sums[R][V];
  const float* rows[R];
#pragma GCC unroll 16
  for (size_t i = 0; i < R; ++i) {
    rows[i] = a[i];
#pragma GCC unroll 4
    for (size_t v = 0; v < V; ++v) sums[i][v] = _mm512_setzero_ps();
  }
  for (size_t at = 0; at < k; ++at, b += kWide) {
    __m512 right[V];
#pragma GCC unroll 4
    for (size_t v = 0; v < V; ++v) right[v] = _mm512_loadu_ps(b + v * kLanes);
#pragma GCC unroll 16
    for (size_t i = 0; i < R; ++i) {
      const __m512 left = _mm512_set1_ps(rows[i][at * step]);
#pragma GCC unroll 4
      for (size_t v = 0; v < V; ++v) sums[i][v] = _mm512_fmadd_ps(left, right[v], sums[i][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (size_t v = 0; v < V; ++v) {
      float* to = out + i * apart + v * kLanes;
      const __mmask16 mask = v + 1 == V ? last : 0xffff;
      const __m512 old = add ? _mm512_maskz_loadu_ps(mask, to) : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(sums[i][v], old));
    }
}

template <size_t V>
void tiles(const float* const* a, size_t step, size_t rows, const float* b, size_t k, float* out,
           size_t apart, __mmask16 last, bool add) {
  switch (rows) {
    case 1: return tile<1, V>(a, step, b, k, out, apart, last, add);
    case 2: return tile<2, V>(a, step, b, k, out, apart, last, add);
    case 3: return tile<3, V>(a, step, b, k, out, apart, last, add);
    case 4: return tile<4, V>(a, step, b, k, out, apart, last, add);
    case 5: return tile<5, V>(a, step, b, k, out, apart, last, add);
    case 6: return tile<6, V>(a, step, b, k, out, apart, last, add);
    case 7: return tile<7, V>(a, step, b, k, out, apart, last, add);
    default: return tile<kRows, V>(a, step, b, k, out, apart, last, add);
  }
}

// Up to kRows rows of out.
void strip(const float* const* a, size_t step, size_t rows, const float* b, size_t stride,
           size_t n, size_t k, float* out, size_t apart, bool add) {
  for (size_t j = 0; j < n; j += kWide, b += stride) {
    const size_t wide = std::min(n - j, kWide);
    const __mmask16 last = first_lanes((wide - 1) % kLanes + 1);
    switch ((wide - 1) / kLanes) {
      case 0: tiles<1>(a, step, rows, b, k, out + j, apart, last, add); break;
      case 1: tiles<2>(a, step, rows, b, k, out + j, apart, last, add); break;
      default: tiles<3>(a, step, rows, b, k, out + j, apart, last, add);
    }
  }
}

#define PAIRS(x) _mm512_castps_pd(x)
#define ONES(x) _mm512_castpd_ps(x)

// 16 rows of 16 numbers, in place: first within each 128 bits, then across them.
__attribute__((always_inline)) inline void transpose(__m512* r) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = ONES(_mm512_unpacklo_pd(PAIRS(t[i]), PAIRS(t[i + 2])));
    r[i + 1] = ONES(_mm512_unpackhi_pd(PAIRS(t[i]), PAIRS(t[i + 2])));
    r[i + 2] = ONES(_mm512_unpacklo_pd(PAIRS(t[i + 1]), PAIRS(t[i + 3])));
    r[i + 3] = ONES(_mm512_unpackhi_pd(PAIRS(t[i + 1]), PAIRS(t[i + 3])));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// A piece of the right side, packed: one for each thread.
float* piece() {
  thread_local Buffer buffer;
  return buffer.room(kDeep * kBroad);
}

// e^x, to about one unit in the last place; 0 for what is far below, NaN for NaN.
inline __m512 exponential(__m512 x) {
  x = _mm512_min_ps(_mm512_set1_ps(90.0f), _mm512_max_ps(_mm512_set1_ps(-110.0f), x));
  const __m512 times = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                            _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // x less a multiple of log 2, which is written as two numbers for its last bits.
  __m512 rest = _mm512_fnmadd_ps(times, _mm512_set1_ps(0.693359375f), x);
  rest = _mm512_fnmadd_ps(times, _mm512_set1_ps(-2.12194440e-4f), rest);
  // Its power series, which needs seven terms up to half of log 2.
  __m512 sum = _mm512_set1_ps(1.0f / 5040);
  for (const float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(term));
  return _mm512_scalef_ps(sum, times);
}

inline __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

}  // namespace

bool has_avx512() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("fma");
}

void pack(Rows b, size_t k, size_t column, size_t n, Packed to) {
  for (size_t at = 0; at < k; ++at) {
    const float* row = b[at] + column;
    float* panel = to.numbers + at * kWide;
    for (size_t j = 0; j < n; j += kWide, panel += to.stride)
#pragma GCC unroll 4
      for (size_t v = 0; v < kWide; v += kLanes)
        if (j + v < n)
          _mm512_storeu_ps(panel + v,
                           _mm512_maskz_loadu_ps(first_lanes(n - j - v), row + j + v));
  }
}

void pack_transposed(Rows b, size_t n, size_t column, size_t k, Packed to) {
  for (size_t j = 0; j < n; j += kLanes) {
    const size_t rows = std::min(n - j, kLanes);
    float* panel = to.numbers + j / kWide * to.stride + j % kWide;
    for (size_t at = 0; at < k; at += kLanes) {
      const __mmask16 mask = first_lanes(k - at);
      __m512 square[16];
#pragma GCC unroll 16
      for (size_t i = 0; i < 16; ++i)
        square[i] = i < rows ? _mm512_maskz_loadu_ps(mask, b[j + i] + column + at)
                             : _mm512_setzero_ps();
      transpose(square);
      const size_t deep = std::min(k - at, kLanes);
#pragma GCC unroll 16
      for (size_t i = 0; i < 16; ++i)
        if (i < deep) _mm512_storeu_ps(panel + (at + i) * kWide, square[i]);
    }
  }
}

void multiply(Rows a, size_t m, Packed b, size_t n, size_t k, float* out, size_t apart) {
  const float* rows[kRows];
  for (size_t first = 0; first < k; first += kDeep) {
    const size_t deep = std::min(k - first, kDeep);
    for (size_t i = 0; i < m; i += kRows) {
      const size_t some = std::min(m - i, kRows);
      for (size_t j = 0; j < some; ++j) rows[j] = a[i + j] + first;
      strip(rows, 1, some, b.numbers + first * kWide, b.stride, n, deep, out + i * apart, apart,
            first > 0);
    }
  }
}

void product(Rows a, size_t m, Rows b, Right right, size_t n, size_t k, float* out, size_t apart) {
  float* packed = piece();
  const float* rows[kRows];
  for (size_t from = 0; from < n; from += kBroad) {
    const size_t broad = std::min(n - from, kBroad);
    for (size_t first = 0; first < k; first += kDeep) {
      const size_t deep = std::min(k - first, kDeep);
      const Packed to{packed, deep * kWide};
      if (right == Right::kTransposed)
        pack_transposed(b + from, broad, first, deep, to);
      else
        pack(b + first, deep, from, broad, to);
      for (size_t i = 0; i < m; i += kRows) {
        const size_t some = std::min(m - i, kRows);
        for (size_t j = 0; j < some; ++j) rows[j] = a[i + j] + first;
        strip(rows, 1, some, packed, to.stride, broad, deep, out + i * apart + from, apart,
              first > 0);
      }
    }
  }
}

void multiply_transposed(Rows a, size_t column, size_t m, Packed b, size_t n, size_t k, float* out,
                         size_t apart, bool add) {
  alignas(64) float left[kDeep * kTaken];
  const float* rows[kTaken];
  for (size_t i = 0; i < kTaken; ++i) rows[i] = left + i;
  for (size_t first = 0; first < k; first += kDeep) {
    const size_t deep = std::min(k - first, kDeep);
    for (size_t i = 0; i < m; i += kTaken) {
      const size_t some = std::min(m - i, kTaken);
      const __mmask16 mask = first_lanes(some);
      for (size_t at = 0; at < deep; ++at)
        _mm512_store_ps(left + at * kTaken,
                        _mm512_maskz_loadu_ps(mask, a[first + at] + column + i));
      for (size_t j = 0; j < some; j += kRows)
        strip(rows + j, kTaken, std::min(some - j, kRows), b.numbers + first * kWide, b.stride, n,
              deep, out + (i + j) * apart, apart, add || first > 0);
    }
  }
}

void transposed_product(Rows a, size_t column, size_t m, Rows b, size_t b_column, size_t n,
                        size_t k, float* out, size_t apart, bool add) {
  if (k == 0 && !add)
    for (size_t i = 0; i < m; ++i) std::fill_n(out + i * apart, n, 0.0f);
  float* packed = piece();
  for (size_t from = 0; from < n; from += kBroad) {
    const size_t broad = std::min(n - from, kBroad);
    for (size_t first = 0; first < k; first += kDeep) {
      const size_t deep = std::min(k - first, kDeep);
      const Packed to{packed, deep * kWide};
      pack(b + first, deep, b_column + from, broad, to);
      multiply_transposed(a + first, column, m, to, broad, deep, out + from, apart,
                          add || first > 0);
    }
  }
}

void swiglu(const float* gate_up, size_t m, float gain, float* inner) {
  const __m512 factor = _mm512_set1_ps(gain);
  for (size_t i = 0; i < m; i += kLanes) {
    const __mmask16 mask = first_lanes(m - i);
    const __m512 gate = _mm512_maskz_loadu_ps(mask, gate_up + i);
    const __m512 up = _mm512_maskz_loadu_ps(mask, gate_up + m + i);
    const __m512 silu = _mm512_mul_ps(gate, sigmoid(gate));
    _mm512_mask_storeu_ps(inner + i, mask, _mm512_mul_ps(_mm512_mul_ps(silu, up), factor));
  }
}

float swiglu_backward(float* gate_up, size_t m, const float* grad, float gain, float* inner) {
  const __m512 factor = _mm512_set1_ps(gain), one = _mm512_set1_ps(1.0f);
  __m512 sum = _mm512_setzero_ps();
  for (size_t i = 0; i < m; i += kLanes) {
    const __mmask16 mask = first_lanes(m - i);
    const __m512 gate = _mm512_maskz_loadu_ps(mask, gate_up + i);
    const __m512 up = _mm512_maskz_loadu_ps(mask, gate_up + m + i);
    const __m512 from = _mm512_maskz_loadu_ps(mask, grad + i);
    const __m512 share = sigmoid(gate), silu = _mm512_mul_ps(gate, share);
    const __m512 result = _mm512_mul_ps(silu, up);
    sum = _mm512_fmadd_ps(from, result, sum);
    _mm512_mask_storeu_ps(inner + i, mask, _mm512_mul_ps(result, factor));
    const __m512 scaled = _mm512_mul_ps(from, factor);
    // The derivative of silu: s + silu (1 - s).
    const __m512 slope = _mm512_fmadd_ps(silu, _mm512_sub_ps(one, share), share);
    _mm512_mask_storeu_ps(gate_up + i, mask, _mm512_mul_ps(_mm512_mul_ps(scaled, up), slope));
    _mm512_mask_storeu_ps(gate_up + m + i, mask, _mm512_mul_ps(scaled, silu));
  }
  return _mm512_reduce_add_ps(sum);
}

Sum softmax(float* numbers, size_t n) {
  const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  __m512 highest = lowest;
  for (size_t i = 0; i < n; i += kLanes)
    highest = _mm512_max_ps(
        highest, _mm512_mask_loadu_ps(lowest, first_lanes(n - i), numbers + i));
  const float top = _mm512_reduce_max_ps(highest);
  const __m512 tops = _mm512_set1_ps(top);
  __m512 sum = _mm512_setzero_ps();
  for (size_t i = 0; i < n; i += kLanes) {
    const __mmask16 mask = first_lanes(n - i);
    const __m512 power =
        exponential(_mm512_sub_ps(_mm512_mask_loadu_ps(lowest, mask, numbers + i), tops));
    sum = _mm512_mask_add_ps(sum, mask, sum, power);
    _mm512_mask_storeu_ps(numbers + i, mask, power);
  }
  const float total = _mm512_reduce_add_ps(sum);
  const __m512 share = _mm512_set1_ps(1.0f / total);
  for (size_t i = 0; i < n; i += kLanes) {
    const __mmask16 mask = first_lanes(n - i);
    _mm512_mask_storeu_ps(numbers + i, mask,
                          _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, numbers + i), share));
  }
  return {top, std::log(total)};
}

void softmax_backward(float* weights, size_t n, const float* grad) {
  __m512 sum = _mm512_setzero_ps();
  for (size_t i = 0; i < n; i += kLanes) {
    const __mmask16 mask = first_lanes(n - i);
    sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, weights + i),
                          _mm512_maskz_loadu_ps(mask, grad + i), sum);
  }
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum));
  for (size_t i = 0; i < n; i += kLanes) {
    const __mmask16 mask = first_lanes(n - i);
    const __m512 off = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, grad + i), mean);
    _mm512_mask_storeu_ps(weights + i, mask,
                          _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, weights + i), off));
  }
}

}  // namespace gristmill::train
#pragma GCC pop_options
#endif
