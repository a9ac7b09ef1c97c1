// The loops that a forward pass of a few tokens consists of. They read matrices row after row, in
// the order of their addresses, which is what memory is fastest at.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gristmill::decode {

// Rows of a matrix [n, k] times each of `count` (1 to kMost) vectors x [k]: out [n] each, added to
// what is there if `add`.
constexpr size_t kMost = 4;
void products(const float* rows, size_t n, size_t k, const float* const* x, size_t count,
              float* const* out, bool add);
void products(const double* rows, size_t n, size_t k, const double* const* x, size_t count,
              double* const* out, bool add);

// The same for rows of whole numbers, -127 to 127, each row times its scale. A row is `blocks` times
// 16 words; the bytes of a block are the numbers 0 to 15, 16 to 31, … of 64, one in each word, the
// lowest first. A vector x has 64 numbers for each block.
constexpr size_t kBlock = 64;
void quantized_products(const int32_t* rows, const float* scales, size_t n, size_t blocks,
                        const float* const* x, size_t count, float* const* out, bool add);
// One such row, of x with 64 numbers for each block. Gives its scale.
float quantize_row(const float* x, size_t blocks, int32_t* row);

// The sum of n rows (k numbers, `stride` apart), each times its weight: out [k].
void mix(const float* rows, size_t stride, size_t n, size_t k, const float* weights, float* out);
void mix(const double* rows, size_t stride, size_t n, size_t k, const double* weights, double* out);

}  // namespace gristmill::decode
