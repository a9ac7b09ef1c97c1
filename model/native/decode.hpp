// The forward pass of the next few tokens: what `model/attention.py`, `moe.py` and `feedforward.py`
// say for many, said for up to kMost rows and shared by a team of threads.
//
// One token multiplies every active weight with one vector, so a pass costs what reading the weights
// costs, if nothing else is in the way. Each step of a layer is split by the outputs of its product:
// every thread reads a stretch of each matrix from end to end, once for all rows, and meets the
// others before the next step, seven times a layer (half a microsecond each). What is small, norms
// and the choice of experts, every thread does for itself.
//
// Legend: l rows, d hidden size, h heads, c latent size, n plain and r rotary dimensions of a query,
// v of a value, m inner size of an expert, E experts, K chosen.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "kernels.hpp"
#include "team.hpp"

namespace gristmill::decode {

struct Shape {
  size_t hidden, heads, plain, rotary, value, latent;
  double eps, scale;  // of norms; of attention's scores
  size_t chosen, groups, chosen_groups;
  double routed_scale;
  bool normalise_gates;
};

// A matrix in a quarter of its room: of each row the nearest whole numbers of a 127th of its largest.
// For drafts: it is read four times as fast, and what it says is right nearly always.
struct Quantized {
  std::vector<int32_t> words;  // as `quantized_products` reads them
  std::vector<float> scales;
  size_t blocks = 0;
};

template <typename T>
struct Matrix {
  const T* data = nullptr;
  size_t rows = 0, columns = 0;
  std::shared_ptr<Quantized> quantized = nullptr;  // which is read instead, if there
  explicit operator bool() const { return data != nullptr; }
};

template <typename T>
void quantize(Matrix<T>& matrix) {
  const size_t k = matrix.columns, blocks = (k + kBlock - 1) / kBlock;
  auto made = std::make_shared<Quantized>();
  made->blocks = blocks;
  made->words.resize(matrix.rows * blocks * kBlock / 4);
  made->scales.resize(matrix.rows);
  std::vector<float> row(blocks * kBlock);
  for (size_t j = 0; j < matrix.rows; ++j) {
    std::copy_n(matrix.data + j * k, k, row.data());
    made->scales[j] = quantize_row(row.data(), blocks, &made->words[j * blocks * kBlock / 4]);
  }
  matrix.quantized = std::move(made);
}

// Rows of a matrix times some vectors, as `products`.
template <typename T>
void multiply(const Matrix<T>& matrix, size_t begin, size_t end, const T* const* x, size_t count,
              T* const* out, bool add) {
  const size_t k = matrix.columns, rows = end - begin;
  if (!matrix.quantized) return products(matrix.data + begin * k, rows, k, x, count, out, add);
  const Quantized& small = *matrix.quantized;
  const size_t wide = small.blocks * kBlock;
  std::vector<float> from(count * wide), to(count * rows);
  const float* vectors[kMost];
  float* results[kMost];
  for (size_t i = 0; i < count; ++i) {
    vectors[i] = from.data() + i * wide;
    std::copy_n(x[i], k, from.data() + i * wide);
    if (add) std::copy_n(out[i], rows, to.data() + i * rows);
    results[i] = to.data() + i * rows;
  }
  quantized_products(small.words.data() + begin * wide / 4, small.scales.data() + begin, rows,
                   small.blocks, vectors, count, results, add);
  for (size_t i = 0; i < count; ++i) std::copy_n(results[i], rows, out[i]);
}

// SwiGLU of inner size m: gate, up [m, d], down [d, m].
template <typename T>
struct Network {
  Matrix<T> gate, up, down;
};

template <typename T>
struct Layer {
  const T* attention_norm = nullptr;
  Matrix<T> query;                 // [h (n + r), d], or compressed [q, d] and then:
  const T* query_norm = nullptr;   // [q]
  Matrix<T> query_up;              // [h (n + r), q]
  Matrix<T> latent;                // [c + r, d]
  const T* latent_norm = nullptr;  // [c]
  Matrix<T> key_value;             // [h (n + v), c]
  Matrix<T> out;                   // [d, h v]
  const T* mlp_norm = nullptr;
  Matrix<T> router;  // [E, d]; without, there is one network, the dense one
  const T* bias = nullptr;
  std::vector<Network<T>> experts;
  Network<T> always;  // the dense layer, or the shared experts
};

// Rows that go through a network, and how much their results count.
template <typename T>
struct Task {
  const Network<T>* network;
  std::vector<size_t> rows;
  std::vector<T> gains;
};

template <typename T>
void normalise(const T* x, size_t size, const T* weight, double eps, T* out) {
  double sum = 0;
  for (size_t k = 0; k < size; ++k) sum += static_cast<double>(x[k]) * x[k];
  const T inverse = static_cast<T>(1 / std::sqrt(sum / static_cast<double>(size) + eps));
  for (size_t k = 0; k < size; ++k) out[k] = x[k] * inverse * weight[k];
}

// Turn neighbouring pairs by the unit complex numbers of a table [r].
template <typename T>
void rotate(const T* x, const T* table, size_t rotary, T* out) {
  for (size_t k = 0; k < rotary; k += 2) {
    const T real = x[k], imaginary = x[k + 1];
    out[k] = real * table[k] - imaginary * table[k + 1];
    out[k + 1] = real * table[k + 1] + imaginary * table[k];
  }
}

// The `count` largest of scores, the first of equal ones.
template <typename T>
std::vector<size_t> largest(const std::vector<T>& scores, size_t count) {
  std::vector<size_t> by(scores.size());
  for (size_t k = 0; k < by.size(); ++k) by[k] = k;
  std::partial_sort(by.begin(), by.begin() + static_cast<std::ptrdiff_t>(count), by.end(),
                    [&](size_t a, size_t b) {
                      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
                    });
  by.resize(count);
  return by;
}

// Equation 16 and node-limited routing; as `model.moe.choose_experts`.
template <typename T>
std::vector<size_t> choose(const T* affinity, const T* bias, size_t experts, const Shape& shape) {
  std::vector<T> scores(experts);
  for (size_t e = 0; e < experts; ++e) scores[e] = affinity[e] + bias[e];
  if (shape.chosen_groups < shape.groups) {
    const size_t size = experts / shape.groups, each = shape.chosen / shape.chosen_groups;
    std::vector<T> groups(shape.groups);
    for (size_t g = 0; g < shape.groups; ++g) {
      std::vector<T> own(scores.begin() + static_cast<std::ptrdiff_t>(g * size),
                         scores.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
      for (const size_t k : largest(own, each)) groups[g] += own[k];
    }
    std::vector<bool> allowed(shape.groups);
    for (const size_t g : largest(groups, shape.chosen_groups)) allowed[g] = true;
    for (size_t e = 0; e < experts; ++e)
      if (!allowed[e / size]) scores[e] = -std::numeric_limits<T>::infinity();
  }
  return largest(scores, shape.chosen);
}

// A pass of some rows through layers. Its arrays are shared by the team, what a member computes for
// itself is local.
template <typename T>
class Pass {
 public:
  Pass(Team& team, const Shape& shape, size_t rows, T* x)
      : team_(team), shape_(shape), l_(rows), x_(x) {}

  // `table` [l, r] turns the rows' positions; `cache` [t, c + r] remembers them, from `known` on.
  void add(const Layer<T>& layer, const T* table, T* cache, size_t known) {
    const size_t query = shape_.heads * (shape_.plain + shape_.rotary);
    const size_t outputs = layer.query.rows + layer.latent.rows;
    first_.resize(l_ * outputs);
    query_.resize(l_ * query);
    heads_.resize(l_ * shape_.heads * shape_.value);
    const size_t experts = layer.router.rows;
    affinity_.resize(l_ * experts);
    size_t inner = layer.always.gate.rows;
    if (experts) inner += shape_.chosen * layer.experts[0].gate.rows;
    inner_.resize(l_ * inner);
    team_.run([&](size_t member) {
      attend(layer, table, cache, known, member);
      feed_forward(layer, member);
    });
  }

  // Rows [l, k] times a matrix, shared by the team: out [l, n].
  void times(const Matrix<T>& matrix, const T* rows, T* out) {
    team_.run([&](size_t member) { own_products(matrix, rows, out, matrix.rows, member, false); });
  }

  // For each of the rows [l, k] the row of a matrix with which its product is largest, the first of
  // equal ones.
  std::vector<size_t> likeliest(const Matrix<T>& matrix, const T* rows) {
    const size_t n = matrix.rows;
    std::vector<T> products(l_ * n);
    std::vector<size_t> found(team_.members() * l_);
    team_.run([&](size_t member) {
      own_products(matrix, rows, products.data(), n, member, false);
      const Share share(n, member, team_.members());
      for (size_t i = 0; i < l_; ++i) {
        const T* row = products.data() + i * n;
        const auto most = std::max_element(row + share.begin, row + share.end);
        found[member * l_ + i] = static_cast<size_t>(most - row);
      }
    });
    std::vector<size_t> best(l_, n);
    for (size_t at = 0; at < found.size(); ++at) {
      const size_t i = at % l_, one = found[at];
      const Share share(n, at / l_, team_.members());
      if (share.begin == share.end) continue;
      if (best[i] == n || products[i * n + one] > products[i * n + best[i]]) best[i] = one;
    }
    return best;
  }

 private:
  // A member's share of a product: `out` has `stride` numbers a row.
  void own_products(const Matrix<T>& matrix, const T* rows, T* out, size_t stride, size_t member,
                    bool add) const {
    const Share share(matrix.rows, member, team_.members());
    const T* from[kMost];
    T* to[kMost];
    for (size_t i = 0; i < l_; ++i) {
      from[i] = rows + i * matrix.columns;
      to[i] = out + i * stride + share.begin;
    }
    multiply(matrix, share.begin, share.end, from, l_, to, add);
  }

  std::vector<T> normal(const T* x, size_t stride, size_t size, const T* weight) const {
    std::vector<T> result(l_ * size);
    for (size_t i = 0; i < l_; ++i)
      normalise(x + i * stride, size, weight, shape_.eps, result.data() + i * size);
    return result;
  }

  // Equations 1 to 10, with the key's matrix applied to the queries and the value's to the result.
  void attend(const Layer<T>& layer, const T* table, T* cache, size_t known, size_t member) {
    const size_t c = shape_.latent, n = shape_.plain, r = shape_.rotary, v = shape_.value;
    const size_t width = c + r, each = n + r, first = layer.query.rows + layer.latent.rows;
    {
      const auto x = normal(x_, shape_.hidden, shape_.hidden, layer.attention_norm);
      own_products(layer.query, x.data(), first_.data(), first, member, false);
      own_products(layer.latent, x.data(), first_.data() + layer.query.rows, first, member, false);
    }
    team_.meet();
    if (member == 0)
      for (size_t i = 0; i < l_; ++i) {
        const T* made = &first_[i * first + layer.query.rows];
        T* kept = cache + (known + i) * width;
        normalise(made, c, layer.latent_norm, shape_.eps, kept);
        rotate(made + c, table + i * r, r, kept + c);
      }
    const T* queries = first_.data();
    size_t stride = first;
    if (layer.query_up) {
      const auto q = normal(first_.data(), first, layer.query.rows, layer.query_norm);
      own_products(layer.query_up, q.data(), query_.data(), layer.query_up.rows, member, false);
      queries = query_.data();
      stride = layer.query_up.rows;
    }
    team_.meet();
    std::vector<T> q(width), scores(known + l_), mixed(c);
    const Share share(shape_.heads, member, team_.members());
    for (size_t h = share.begin; h < share.end; ++h) {
      const T* key = layer.key_value.data + h * (n + v) * c;
      for (size_t i = 0; i < l_; ++i) {
        const T* own = queries + i * stride + h * each;
        const size_t seen = known + i + 1;
        mix(key, c, n, c, own, q.data());
        rotate(own + n, table + i * r, r, q.data() + c);
        const T* vector = q.data();
        T* to = scores.data();
        products(cache, seen, width, &vector, 1, &to, false);
        softmax(scores.data(), seen);
        mix(cache, width, seen, c, scores.data(), mixed.data());
        vector = mixed.data();
        to = &heads_[(i * shape_.heads + h) * v];
        products(key + n * c, v, c, &vector, 1, &to, false);
      }
    }
    team_.meet();
    own_products(layer.out, heads_.data(), x_, shape_.hidden, member, true);
    team_.meet();
  }

  void softmax(T* scores, size_t size) const {
    T most = scores[0];
    for (size_t k = 0; k < size; ++k) most = std::max(most, scores[k]);
    const T scale = static_cast<T>(shape_.scale);
    T sum = 0;
    for (size_t k = 0; k < size; ++k) sum += scores[k] = std::exp((scores[k] - most) * scale);
    for (size_t k = 0; k < size; ++k) scores[k] /= sum;
  }

  // A dense layer, or equation 12.
  void feed_forward(const Layer<T>& layer, size_t member) {
    const size_t d = shape_.hidden;
    const auto x = normal(x_, d, d, layer.mlp_norm);
    if (layer.router) {
      own_products(layer.router, x.data(), affinity_.data(), layer.router.rows, member, false);
      team_.meet();
    }
    const auto tasks = tasks_of(layer);
    // Each task's rows, one after the other, have their inner numbers side by side.
    size_t at = 0;
    for (const Task<T>& task : tasks) {
      const size_t m = task.network->gate.rows;
      const Share share(m, member, team_.members());
      const size_t own = share.end - share.begin, count = task.rows.size();
      std::vector<T> up(count * own);
      const T* from[kMost];
      T *to_gate[kMost], *to_up[kMost];
      for (size_t i = 0; i < count; ++i) {
        from[i] = x.data() + task.rows[i] * d;
        to_gate[i] = &inner_[at + i * m] + share.begin;
        to_up[i] = up.data() + i * own;
      }
      multiply(task.network->gate, share.begin, share.end, from, count, to_gate, false);
      multiply(task.network->up, share.begin, share.end, from, count, to_up, false);
      for (size_t i = 0; i < count; ++i)
        for (size_t k = 0; k < own; ++k) {
          T& gate = to_gate[i][k];
          gate = gate / (1 + std::exp(-gate)) * to_up[i][k] * task.gains[i];
        }
      at += count * m;
    }
    team_.meet();
    at = 0;
    for (const Task<T>& task : tasks) {
      const size_t m = task.network->gate.rows;
      const Share share(d, member, team_.members());
      const T* from[kMost];
      T* to[kMost];
      for (size_t i = 0; i < task.rows.size(); ++i) {
        from[i] = &inner_[at + i * m];
        to[i] = x_ + task.rows[i] * d + share.begin;
      }
      multiply(task.network->down, share.begin, share.end, from, task.rows.size(), to, true);
      at += task.rows.size() * m;
    }
  }

  // By expert, so that one that several rows chose is read once; the same in every member.
  std::vector<Task<T>> tasks_of(const Layer<T>& layer) const {
    std::vector<Task<T>> tasks;
    if (layer.router) {
      const size_t experts = layer.router.rows;
      std::vector<Task<T>> by_expert(experts);
      for (size_t i = 0; i < l_; ++i) {
        std::vector<T> affinity(experts);
        for (size_t e = 0; e < experts; ++e)
          affinity[e] = 1 / (1 + std::exp(-affinity_[i * experts + e]));
        const auto chosen = choose(affinity.data(), layer.bias, experts, shape_);
        T sum = static_cast<T>(1e-20);
        for (const size_t e : chosen) sum += affinity[e];
        for (const size_t e : chosen) {
          const T gate = shape_.normalise_gates ? affinity[e] / sum : affinity[e];
          by_expert[e].network = &layer.experts[e];
          by_expert[e].rows.push_back(i);
          by_expert[e].gains.push_back(gate * static_cast<T>(shape_.routed_scale));
        }
      }
      for (Task<T>& task : by_expert)
        if (!task.rows.empty()) tasks.push_back(std::move(task));
    }
    Task<T> always{&layer.always, {}, std::vector<T>(l_, T{1})};
    for (size_t i = 0; i < l_; ++i) always.rows.push_back(i);
    tasks.push_back(std::move(always));
    return tasks;
  }

  Team& team_;
  const Shape& shape_;
  size_t l_;
  T* x_;
  std::vector<T> first_, query_, heads_, affinity_, inner_;
};

}  // namespace gristmill::decode
