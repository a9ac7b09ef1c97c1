#include "train.hpp"

#include <algorithm>
#include <cstring>

#include "gemm.hpp"

#if GRISTMILL_AVX512
#include <omp.h>

namespace gristmill::train {
namespace {

constexpr size_t kPiece = 512;   // rows that one thread takes through a network
constexpr size_t kLeast = 256;   // rows of a part, for which a thread packs a matrix of its own
constexpr size_t kQueries = 64;  // of a block of attention: rows that see the same keys
constexpr size_t kSpan = 1024;   // queries whose weights are made once more at a time: whole blocks
constexpr size_t kLogits = 2 << 20;  // numbers of a block of logits, 8 MB

size_t threads() { return static_cast<size_t>(std::max(omp_get_max_threads(), 1)); }

// Call work(i) for all of them, on all threads, whoever comes first. A lack of memory in it ends
// the process.
template <typename Work>
void each(size_t count, const Work& work) {
#pragma omp parallel for schedule(dynamic, 1)
  for (size_t i = 0; i < count; ++i) work(i);
}

using Pointers = std::vector<const float*>;

Pointers rows_of(const float* base, size_t apart, size_t count, const int64_t* index = nullptr) {
  Pointers rows(count);
  for (size_t i = 0; i < count; ++i) rows[i] = base + (index ? index[i] : i) * apart;
  return rows;
}

struct Part {
  size_t begin, end;
  size_t size() const { return end - begin; }
};

// The nth of so many parts of 0 … count, cut at multiples of a step.
Part part(size_t count, size_t n, size_t parts, size_t step) {
  const size_t steps = (count + step - 1) / step;
  return {std::min(count, steps * n / parts * step), std::min(count, steps * (n + 1) / parts * step)};
}

// Call work(rows, columns) for parts of an [m, n] result, enough for all threads.
template <typename Work>
void over(size_t m, size_t n, const Work& work) {
  const size_t tall = std::clamp<size_t>(m / kLeast, 1, threads());
  const size_t broad =
      std::min((threads() + tall - 1) / tall, std::max<size_t>(n / (2 * kWide), 1));
  each(tall * broad, [&](size_t i) {
    const Part rows = part(m, i / broad, tall, kLanes), columns = part(n, i % broad, broad, kWide);
    if (rows.size() && columns.size()) work(rows, columns);
  });
}

}  // namespace

void set_threads(size_t count) { omp_set_num_threads(static_cast<int>(count)); }

void linear(const float* x, const float* w, size_t t, size_t n, size_t k, float* out) {
  const Pointers left = rows_of(x, k, t), right = rows_of(w, k, n);
  over(t, n, [&](Part rows, Part columns) {
    product(left.data() + rows.begin, rows.size(), right.data() + columns.begin,
            Right::kTransposed, columns.size(), k, out + rows.begin * n + columns.begin, n);
  });
}

void linear_backward(const float* grad, const float* x, const float* w, size_t t, size_t n,
                     size_t k, float* grad_x, float* grad_w) {
  const Pointers from = rows_of(grad, n, t);
  if (grad_x)
    over(t, k, [&](Part rows, Part columns) {
      product(from.data() + rows.begin, rows.size(), rows_of(w + columns.begin, k, n).data(),
              Right::kAsIs, columns.size(), n, grad_x + rows.begin * k + columns.begin, k);
    });
  if (grad_w) {
    const Pointers inputs = rows_of(x, k, t);
    over(n, k, [&](Part rows, Part columns) {
      transposed_product(from.data(), rows.begin, rows.size(), inputs.data(), columns.begin,
                         columns.size(), t, grad_w + rows.begin * k + columns.begin, k, false);
    });
  }
}

namespace {

struct Piece {
  size_t network;
  Part rows;
};

std::vector<Piece> pieces(const std::vector<size_t>& counts) {
  size_t all = 0;
  for (const size_t count : counts) all += count;
  const size_t most = std::clamp<size_t>(all / (2 * threads()), kRows, kPiece);
  std::vector<Piece> found;
  size_t begin = 0;
  for (size_t network = 0; network < counts.size(); ++network) {
    const size_t parts = (counts[network] + most - 1) / most;
    for (size_t i = 0; i < parts; ++i) {
      const Part rows = part(counts[network], i, parts, kRows);
      if (rows.size()) found.push_back({network, {begin + rows.begin, begin + rows.end}});
    }
    begin += counts[network];
  }
  return found;
}

// The rows of x, or of its gradient, that the rows of a piece are.
Pointers rows_of(const Networks& of, const float* base, Part rows) {
  if (of.token) return rows_of(base, of.d, rows.size(), of.token + rows.begin);
  return rows_of(base + rows.begin * of.d, of.d, rows.size());
}

}  // namespace

void networks(const Networks& of, float* h, float* y) {
  const size_t d = of.d, m = of.m;
  const std::vector<Piece> all = pieces(of.counts);
  each(all.size(), [&](size_t i) {
    thread_local Buffer room;
    const auto [network, rows] = all[i];
    float* own = h + rows.begin * 2 * m;
    const Pointers gate_up = rows_of(of.gate_up + network * 2 * m * d, d, 2 * m);
    product(rows_of(of, of.x, rows).data(), rows.size(), gate_up.data(), Right::kTransposed, 2 * m,
            d, own, 2 * m);
    float* inner = room.room(rows.size() * m);
    for (size_t row = 0; row < rows.size(); ++row)
      swiglu(own + row * 2 * m, m, of.gain ? of.gain[rows.begin + row] : 1.0f, inner + row * m);
    product(rows_of(inner, m, rows.size()).data(), rows.size(),
            rows_of(of.down + network * d * m, m, d).data(), Right::kTransposed, d, m,
            y + rows.begin * d, d);
  });
}

void networks_backward(const Networks& of, const float* grad, float* h, float* inner,
                       float* grad_x, float* grad_gate_up, float* grad_down, float* grad_gain) {
  const size_t d = of.d, m = of.m, networks = of.counts.size();
  const std::vector<Piece> all = pieces(of.counts);
  each(all.size(), [&](size_t i) {
    thread_local Buffer room;
    const auto [network, rows] = all[i];
    float* from = room.room(rows.size() * m);
    product(rows_of(of, grad, rows).data(), rows.size(),
            rows_of(of.down + network * d * m, m, d).data(), Right::kAsIs, m, d, from, m);
    for (size_t row = 0; row < rows.size(); ++row) {
      const size_t at = rows.begin + row;
      const float more = swiglu_backward(h + at * 2 * m, m, from + row * m,
                                         of.gain ? of.gain[at] : 1.0f, inner + at * m);
      if (grad_gain) grad_gain[at] = more;
    }
    product(rows_of(h + rows.begin * 2 * m, 2 * m, rows.size()).data(), rows.size(),
            rows_of(of.gate_up + network * 2 * m * d, d, 2 * m).data(), Right::kAsIs, d, 2 * m,
            grad_x + rows.begin * d, d);
  });
  // The weights' gradients, for which all rows of a network are added up in order.
  std::vector<size_t> begins(networks + 1);
  for (size_t i = 0; i < networks; ++i) begins[i + 1] = begins[i] + of.counts[i];
  const size_t parts = std::max<size_t>(2 * threads() / networks, 1);
  each(networks * 2 * parts, [&](size_t i) {
    const size_t network = i / (2 * parts), which = i / parts % 2;
    const Part rows{begins[network], begins[network + 1]};
    const Part own = part(which ? d : 2 * m, i % parts, parts, kLanes);
    if (!own.size()) return;
    const Pointers outer = rows_of(of, which ? grad : of.x, rows);
    if (which) {
      const Pointers inside = rows_of(inner + rows.begin * m, m, rows.size());
      transposed_product(outer.data(), own.begin, own.size(), inside.data(), 0, m, rows.size(),
                         grad_down + (network * d + own.begin) * m, m, false);
    } else {
      const Pointers inside = rows_of(h + rows.begin * 2 * m, 2 * m, rows.size());
      transposed_product(inside.data(), own.begin, own.size(), outer.data(), 0, d, rows.size(),
                         grad_gate_up + (network * 2 * m + own.begin) * d, d, false);
    }
  });
}

namespace {

// One head of one sequence.
class Head {
 public:
  Head(const Heads& of, size_t i, size_t head)
      : of_(of), wide_(of.plain + of.rotary), i_(i), head_(head) {}

  // Row `at` of an array [b, l, h, size].
  template <typename T>
  T* row(T* base, size_t at, size_t size) const {
    return base + ((i_ * of_.l + at) * of_.h + head_) * size;
  }

  // Queries [l, wide] with the rotary pairs turned, and the scale.
  void turn(float* to) const {
    for (size_t at = 0; at < of_.l; ++at) {
      const float* from = row(of_.q, at, wide_);
      float* out = to + at * wide_;
      for (size_t j = 0; j < of_.plain; ++j) out[j] = from[j] * of_.scale;
      turn_pairs(from + of_.plain, at, out + of_.plain, 1.0f);
    }
  }

  // grad [l, h, wide] of the turned queries to that of the queries, in place.
  void turn_back(float* grad_q, Part rows) const {
    for (size_t at = rows.begin; at < rows.end; ++at) {
      float* out = row(grad_q, at, wide_);
      for (size_t j = 0; j < of_.plain; ++j) out[j] *= of_.scale;
      turn_pairs(out + of_.plain, at, out + of_.plain, -1.0f);
    }
  }

  // Keys [l, wide].
  void keys(float* to) const {
    for (size_t at = 0; at < of_.l; ++at) {
      std::memcpy(to + at * wide_, row(of_.kv, at, of_.plain + of_.value),
                  of_.plain * sizeof(float));
      std::memcpy(to + at * wide_ + of_.plain, of_.k_rotary + (i_ * of_.l + at) * of_.rotary,
                  of_.rotary * sizeof(float));
    }
  }

  Pointers values() const {
    const size_t size = of_.plain + of_.value;
    return rows_of(row(of_.kv, 0, size) + of_.plain, of_.h * size, of_.l);
  }

 private:
  void turn_pairs(const float* from, size_t at, float* to, float way) const {
    const float* turns = of_.table + at * of_.rotary;
    for (size_t j = 0; j < of_.rotary; j += 2) {
      const float x = from[j], y = from[j + 1], c = turns[j], s = way * turns[j + 1];
      to[j] = (x * c - y * s) * of_.scale;
      to[j + 1] = (x * s + y * c) * of_.scale;
    }
  }

  const Heads& of_;
  size_t wide_, i_, head_;
};

Part block(size_t at, size_t l) {
  const size_t begin = at / kQueries * kQueries;
  return {begin, std::min(begin + kQueries, l)};
}

// Weights of one block, by turned queries and packed keys.
void weigh(Rows queries, Part own, Packed keys, size_t wide, float* weights) {
  multiply(queries + own.begin, own.size(), keys, own.end, wide, weights, own.end);
  for (size_t at = own.begin; at < own.end; ++at, weights += own.end) {
    softmax(weights, at + 1);
    std::fill(weights + at + 1, weights + own.end, 0.0f);
  }
}

// The numbers of l rows packed, and of l columns.
size_t packed_rows(size_t l, size_t n) { return panels(n) * kWide * l; }
size_t packed_columns(size_t l, size_t n) { return panels(l) * kWide * n; }

}  // namespace

size_t weights_of(size_t l) {
  size_t sum = 0;
  for (size_t begin = 0; begin < l; begin += kQueries) {
    const Part own = block(begin, l);
    sum += own.size() * own.end;
  }
  return sum;
}

void attention(const Heads& of, float* out, float* weights) {
  const size_t l = of.l, wide = of.plain + of.rotary, v = of.value, kept = weights_of(l);
  each(of.b * of.h, [&](size_t task) {
    thread_local Buffer queries, keys, packed, some;
    const Head head(of, task / of.h, task % of.h);
    float* turned = queries.room(l * wide);
    head.turn(turned);
    float* k = keys.room(l * wide);
    head.keys(k);
    float* room = packed.room(packed_columns(l, wide) + packed_rows(l, v));
    const Packed right{room, wide * kWide};
    pack_transposed(rows_of(k, wide, l).data(), l, 0, wide, right);
    const Packed values{room + packed_columns(l, wide), l * kWide};
    pack(head.values().data(), l, 0, v, values);
    const Pointers rows = rows_of(turned, wide, l);
    float* own = weights ? weights + task * kept : nullptr;
    for (size_t begin = 0; begin < l; begin += kQueries) {
      const Part part = block(begin, l);
      float* here = own ? own : some.room(kQueries * l);
      weigh(rows.data(), part, right, wide, here);
      multiply(rows_of(here, part.end, part.size()).data(), part.size(), values, v, part.end,
               head.row(out, begin, v), of.h * v);
      if (own) own += part.size() * part.end;
    }
  });
}

void attention_backward(const Heads& of, const float* grad, float* weights, float* grad_q,
                        float* grad_kv, float* grad_rotary) {
  const size_t l = of.l, wide = of.plain + of.rotary, v = of.value, kept = weights_of(l);
  const size_t both = of.plain + v;
  each(of.b * of.h, [&](size_t task) {
    thread_local Buffer queries, keys, packed, made, some, sums;
    const Head head(of, task / of.h, task % of.h);
    float* turned = queries.room(l * wide);
    head.turn(turned);
    float* k = keys.room(l * wide);
    head.keys(k);
    const Pointers q_rows = rows_of(turned, wide, l), k_rows = rows_of(k, wide, l);
    const Pointers from = rows_of(head.row(grad, 0, v), of.h * v, l);
    // Everything that stands on the right side of a product, rearranged once.
    float* room = packed.room(packed_columns(l, wide) + 2 * packed_rows(l, wide) +
                              packed_columns(l, v) + packed_rows(l, v));
    const Packed k_columns{room, wide * kWide};
    const Packed k_packed{k_columns.numbers + packed_columns(l, wide), l * kWide};
    const Packed q_packed{k_packed.numbers + packed_rows(l, wide), l * kWide};
    const Packed v_columns{q_packed.numbers + packed_rows(l, wide), v * kWide};
    const Packed grads{v_columns.numbers + packed_columns(l, v), l * kWide};
    if (!weights) pack_transposed(k_rows.data(), l, 0, wide, k_columns);
    pack(k_rows.data(), l, 0, wide, k_packed);
    pack(q_rows.data(), l, 0, wide, q_packed);
    pack_transposed(head.values().data(), l, 0, v, v_columns);
    pack(from.data(), l, 0, v, grads);
    float* grad_keys = sums.room(l * wide);
    float* own = weights ? weights + task * kept : nullptr;
    for (size_t first = 0; first < l; first += kSpan) {
      const size_t end = std::min(first + kSpan, l);
      if (!weights) own = made.room((end - first) * end);
      Pointers rows(end - first);  // of weights, for the queries of this span
      float* here = own;
      for (size_t begin = first; begin < end; begin += kQueries) {
        const Part part = block(begin, l);
        if (!weights) weigh(q_rows.data(), part, k_columns, wide, here);
        for (size_t at = begin; at < part.end; ++at, here += part.end) rows[at - first] = here;
      }
      // What the queries of the span, from a block of keys on, give to those keys.
      const auto give = [&](Packed right, size_t n, size_t key, float* out, size_t apart) {
        const size_t query = std::max(key, first);
        multiply_transposed(rows.data() + (query - first), key, block(key, l).size(),
                            {right.numbers + query * kWide, right.stride}, n, end - query, out,
                            apart, key < first);
      };
      for (size_t key = 0; key < end; key += kQueries)
        give(grads, v, key, head.row(grad_kv, key, both) + of.plain, of.h * both);
      // The gradients of scores, in the place of the weights, and of queries.
      here = own;
      for (size_t begin = first; begin < end; begin += kQueries) {
        const Part part = block(begin, l);
        float* scores = some.room(kQueries * l);
        multiply(from.data() + begin, part.size(), v_columns, part.end, v, scores, part.end);
        for (size_t row = 0; row < part.size(); ++row)
          softmax_backward(here + row * part.end, begin + row + 1, scores + row * part.end);
        multiply(rows.data() + (begin - first), part.size(), k_packed, wide, part.end,
                 head.row(grad_q, begin, wide), of.h * wide);
        head.turn_back(grad_q, part);
        here += part.size() * part.end;
      }
      for (size_t key = 0; key < end; key += kQueries)
        give(q_packed, wide, key, grad_keys + key * wide, wide);
      own = here;
    }
    for (size_t at = 0; at < l; ++at) {
      const float* one = grad_keys + at * wide;
      std::memcpy(head.row(grad_kv, at, both), one, of.plain * sizeof(float));
      std::memcpy(grad_rotary + (task * l + at) * of.rotary, one + of.plain,
                  of.rotary * sizeof(float));
    }
  });
}

void cross_entropy(const float* hidden, const float* head, const int64_t* labels,
                   const std::vector<size_t>& rows, size_t d, size_t vocabulary, float* losses,
                   float* grad_hidden, float* grad_head) {
  const size_t height = std::clamp<size_t>(kLogits / vocabulary, 1, std::max<size_t>(rows.size(), 1));
  Buffer room;
  float* logits = room.room(height * vocabulary);
  const Pointers right = rows_of(head, d, vocabulary);
  for (size_t begin = 0; begin < rows.size(); begin += height) {
    const size_t count = std::min(height, rows.size() - begin);
    Pointers inputs(count);
    for (size_t i = 0; i < count; ++i) inputs[i] = hidden + rows[begin + i] * d;
    const Pointers outputs = rows_of(logits, vocabulary, count);
    const size_t parts = std::max<size_t>(std::min(threads(), vocabulary / kWide), 1);
    each(parts, [&](size_t i) {
      const Part own = part(vocabulary, i, parts, kWide);
      product(inputs.data(), count, right.data() + own.begin, Right::kTransposed, own.size(), d,
              logits + own.begin, vocabulary);
    });
    each(count, [&](size_t i) {
      float* own = logits + i * vocabulary;
      const int64_t label = labels[rows[begin + i]];
      const float wanted = own[label];
      const Sum sum = softmax(own, vocabulary);
      losses[begin + i] = (sum.largest - wanted) + sum.logarithm;
      own[label] -= 1.0f;
    });
    if (!grad_head) continue;
    const size_t broad = std::max<size_t>(std::min(threads(), d / kWide), 1);
    each(broad, [&](size_t i) {
      thread_local Buffer buffer;
      const Part own = part(d, i, broad, kWide);
      float* result = buffer.room(count * own.size());
      product(outputs.data(), count, rows_of(head + own.begin, d, vocabulary).data(), Right::kAsIs,
              own.size(), vocabulary, result, own.size());
      for (size_t row = 0; row < count; ++row)
        std::memcpy(grad_hidden + rows[begin + row] * d + own.begin, result + row * own.size(),
                    own.size() * sizeof(float));
    });
    each(parts, [&](size_t i) {
      const Part own = part(vocabulary, i, parts, kLanes);
      transposed_product(outputs.data(), own.begin, own.size(), inputs.data(), 0, d, count,
                         grad_head + own.begin * d, d, begin > 0);
    });
  }
}

}  // namespace gristmill::train
#endif
