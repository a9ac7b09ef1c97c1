// What training spends its time on, forward and backward, on all threads.
//
// The threads are OpenMP's, and so torch's own: two sets of threads would wait in each other's way.
// Each piece of work is one thread's from the first product to the last, so that what is made of a
// row is still in the cache where it is used. Shapes as in `model/`, all arrays in one piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gristmill::train {

// How many threads the passes that this thread calls are made by.
void set_threads(size_t count);

// out [t, n] = x [t, k] w^T, for w [n, k].
void linear(const float* x, const float* w, size_t t, size_t n, size_t k, float* out);
// Its gradients: for x [t, k] and for w [n, k], of grad [t, n]; null for one not wanted.
void linear_backward(const float* grad, const float* x, const float* w, size_t t, size_t n,
                     size_t k, float* grad_x, float* grad_w);

// Networks down(silu(gate x) * up x), many of them, each for its own rows (model/feedforward.py).
struct Networks {
  size_t d, m;
  const float* x;                // [T, d]
  const float* gate_up;          // [E, 2 m, d]
  const float* down;             // [E, d, m]
  const float* gain;             // [R], or null for one
  const int64_t* token;          // [R], the row of x, or null for x's own rows
  std::vector<size_t> counts;    // [E], the rows of each network
};
// h [R, 2 m] is what the gate and up products give; y [R, d] the result.
void networks(const Networks& of, float* h, float* y);
// grad [T, d] is that of y, by token; h is overwritten; inner [R, m] is room. grad_gain [R], or
// null where there is no gain.
void networks_backward(const Networks& of, const float* grad, float* h, float* inner,
                       float* grad_x, float* grad_gate_up, float* grad_down, float* grad_gain);

// Causal attention of heads that share a rotary key (model/attention.py).
struct Heads {
  size_t b, l, h, plain, rotary, value;
  const float* q;         // [b, l, h, plain + rotary], not turned yet
  const float* kv;        // [b, l, h, plain + value]
  const float* k_rotary;  // [b, l, rotary], turned
  const float* table;     // [l, rotary / 2, 2], cosines and sines
  float scale;
};
// Numbers of the weights of one head of one sequence: a row for each query, up to the end of its
// block of keys.
size_t weights_of(size_t l);
// out [b, l, h, value]; weights [b, h, weights_of(l)], or null to keep none.
void attention(const Heads& of, float* out, float* weights);
// grad_rotary [b, h, l, rotary] is for each head. weights as `attention` left them, overwritten;
// null to make them once more.
void attention_backward(const Heads& of, const float* grad, float* weights, float* grad_q,
                        float* grad_kv, float* grad_rotary);

// The losses [rows] of labels under softmax(hidden [T, d] head^T), head [V, d], for the tokens of
// `rows`; and where wanted the gradients of their sum, grad_hidden [T, d], of which only these rows
// are written, and grad_head [V, d], else null.
void cross_entropy(const float* hidden, const float* head, const int64_t* labels,
                   const std::vector<size_t>& rows, size_t d, size_t vocabulary, float* losses,
                   float* grad_hidden, float* grad_head);

}  // namespace gristmill::train
