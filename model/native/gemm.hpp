// Products of float32 matrices for training, made by one thread, and the passes between them.
//
// Written for AVX-512 as GCC compiles it; elsewhere nothing of it exists, and torch computes the
// same. A sum over k is made in one order, 256 terms at a time, whatever part
// of a matrix it belongs to: cutting the work differently changes no bit of the result.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(_OPENMP) && !defined(__clang__)
#define GRISTMILL_AVX512 1
#endif

namespace gristmill::train {

// A matrix by its rows, each in one piece: where each of them begins.
using Rows = const float* const*;

// Numbers that are not zeroed, aligned to a cache line.
class Buffer {
 public:
  // Room for so many; what was in it is lost if it has to grow.
  float* room(size_t count) {
    if (count > size_) {
      const size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
      numbers_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
      size_ = numbers_ ? count : 0;
      if (!numbers_) throw std::bad_alloc();
    }
    return numbers_.get();
  }

 private:
  struct Free {
    void operator()(float* numbers) const { std::free(numbers); }
  };
  std::unique_ptr<float, Free> numbers_;
  size_t size_ = 0;
};

// The right side of a product, rearranged: panels of kWide columns, row after row, each panel
// `stride` numbers behind the one before.
struct Packed {
  float* numbers;
  size_t stride;
};
constexpr size_t kLanes = 16, kVectors = 3, kWide = kVectors * kLanes, kRows = 8;
constexpr size_t panels(size_t columns) { return (columns + kWide - 1) / kWide; }

// Whether this machine has the instructions.
bool has_avx512();

// Pack b [k, n], its columns beginning at `column`; `to.stride` is at least k * kWide.
void pack(Rows b, size_t k, size_t column, size_t n, Packed to);
// Pack the transpose of b [n, k], its columns beginning at `column`.
void pack_transposed(Rows b, size_t n, size_t column, size_t k, Packed to);

// out [m, n], its rows `apart` numbers apart, = a [m, k] b [k, n].
void multiply(Rows a, size_t m, Packed b, size_t n, size_t k, float* out, size_t apart);

// out = or += the transpose of a [k, m], whose columns begin at `column`, times b.
void multiply_transposed(Rows a, size_t column, size_t m, Packed b, size_t n, size_t k, float* out,
                         size_t apart, bool add);

// The same with the packing, piece by piece so that a piece stays in the cache.
enum class Right { kAsIs, kTransposed };  // b [k, n], or b [n, k]
void product(Rows a, size_t m, Rows b, Right right, size_t n, size_t k, float* out, size_t apart);
// As `multiply_transposed`, with b [k, n] whose columns begin at `b_column`.
void transposed_product(Rows a, size_t column, size_t m, Rows b, size_t b_column, size_t n,
                        size_t k, float* out, size_t apart, bool add);

// inner [m] = silu(gate) * up * gain, for gate and up [m] each, side by side.
void swiglu(const float* gate_up, size_t m, float gain, float* inner);
// Its gradient in the place of gate and up, for grad [m] of the result, `inner` once more, and the
// gradient of the gain.
float swiglu_backward(float* gate_up, size_t m, const float* grad, float gain, float* inner);

// Numbers [n] to exp(number - the largest) times what makes their sum 1. Gives the largest, and the
// logarithm of the sum: kept apart, since the first can be so large that it swallows the second.
struct Sum {
  float largest, logarithm;
};
Sum softmax(float* numbers, size_t n);
// grad [n] of a softmax's result to that of its input, in the place of the result, `weights` [n].
void softmax_backward(float* weights, size_t n, const float* grad);

}  // namespace gristmill::train
