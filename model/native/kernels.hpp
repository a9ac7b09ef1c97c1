// The two loops that a forward pass of a few tokens consists of. Both read matrices row after row,
// in the order of their addresses, which is what memory is fastest at.
#pragma once

#include <cstddef>

namespace gristmill::decode {

// Rows of a matrix [n, k] times each of `count` (1 to kMost) vectors x [k]: out [n] each, added to
// what is there if `add`.
constexpr size_t kMost = 4;
void products(const float* rows, size_t n, size_t k, const float* const* x, size_t count,
              float* const* out, bool add);
void products(const double* rows, size_t n, size_t k, const double* const* x, size_t count,
              double* const* out, bool add);

// The sum of n rows (k numbers, `stride` apart), each times its weight: out [k].
void mix(const float* rows, size_t stride, size_t n, size_t k, const float* weights, float* out);
void mix(const double* rows, size_t stride, size_t n, size_t k, const double* weights, double* out);

}  // namespace gristmill::decode
