// The pass of a few tokens, as Python sees it.

#include "bind.hpp"
#include "decode.hpp"

#include <algorithm>
#include <memory>
#include <optional>

namespace gristmill {
namespace {

template <typename T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Rows = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Stacked = nb::ndarray<const T, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Output = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// The layers of a model, their weights where torch has them, and a team that reads them.
template <typename T>
class Stack {
 public:
  Stack(size_t hidden, size_t heads, size_t plain, size_t rotary, size_t value, size_t latent,
        double eps, double scale, size_t chosen, size_t groups, size_t chosen_groups,
        double routed_scale, bool normalise_gates, size_t threads)
      : shape_{hidden, heads,  plain,         rotary,       value,          latent, eps,
               scale,  chosen, groups,        chosen_groups, routed_scale,  normalise_gates},
        team_(std::make_unique<decode::Team>(threads ? threads : 1)) {}

  void add_layer(Vector<T> attention_norm, Rows<T> query, std::optional<Vector<T>> query_norm,
                 std::optional<Rows<T>> query_up, Rows<T> latent, Vector<T> latent_norm,
                 Rows<T> key_value, Rows<T> out, Vector<T> mlp_norm, Rows<T> gate, Rows<T> up,
                 Rows<T> down) {
    const size_t heads = shape_.heads, d = shape_.hidden;
    decode::Layer<T> layer;
    layer.attention_norm = vector(attention_norm, d);
    const size_t wide = heads * (shape_.plain + shape_.rotary);
    layer.query = matrix(query, query_up ? query.shape(0) : wide, d);
    expect(query_up.has_value() == query_norm.has_value());
    if (query_up) {
      layer.query_norm = vector(*query_norm, query.shape(0));
      layer.query_up = matrix(*query_up, wide, query.shape(0));
    }
    layer.latent = matrix(latent, shape_.latent + shape_.rotary, d);
    layer.latent_norm = vector(latent_norm, shape_.latent);
    layer.key_value = matrix(key_value, heads * (shape_.plain + shape_.value), shape_.latent);
    layer.out = matrix(out, d, heads * shape_.value);
    layer.mlp_norm = vector(mlp_norm, d);
    layer.always = {matrix(gate, gate.shape(0), d), matrix(up, gate.shape(0), d),
                    matrix(down, d, gate.shape(0))};
    layers_.push_back(std::move(layer));
  }

  void add_experts(Rows<T> router, Vector<T> bias, Stacked<T> gate_up, Stacked<T> down) {
    expect(!layers_.empty());
    decode::Layer<T>& layer = layers_.back();
    const size_t experts = router.shape(0), d = shape_.hidden, m = down.shape(2);
    expect(gate_up.shape(0) == experts && gate_up.shape(1) == 2 * m && gate_up.shape(2) == d &&
           down.shape(0) == experts && down.shape(1) == d);
    expect(shape_.chosen > 0 && shape_.chosen <= experts && shape_.groups > 0 &&
           experts % shape_.groups == 0 && shape_.chosen_groups > 0 &&
           shape_.chosen_groups <= shape_.groups &&
           shape_.chosen / shape_.chosen_groups <= experts / shape_.groups &&
           shape_.chosen <= shape_.chosen_groups * (experts / shape_.groups));
    const T* biases = vector(bias, experts);
    layer.router = matrix(router, experts, d);
    layer.bias = biases;
    kept_.push_back(nb::cast(gate_up));
    kept_.push_back(nb::cast(down));
    for (size_t e = 0; e < experts; ++e) {
      const T* gate = gate_up.data() + e * 2 * m * d;
      layer.experts.push_back(
          {{gate, m, d, nullptr},
           {gate + m * d, m, d, nullptr},
           {down.data() + e * d * m, d, m, nullptr}});
    }
  }

  void set_ends(Rows<T> embedding, Vector<T> norm, Rows<T> head) {
    norm_ = vector(norm, shape_.hidden);
    embedding_ = matrix(embedding, embedding.shape(0), shape_.hidden);
    head_ = matrix(head, head.shape(0), shape_.hidden);
    guesses_ = {};
  }

  void add_module(Vector<T> embedding_norm, Vector<T> hidden_norm, Rows<T> projection,
                  Vector<T> norm) {
    const size_t d = shape_.hidden;
    expect(!layers_.empty());
    modules_.push_back({layers_.size() - 1, vector(embedding_norm, d), vector(hidden_norm, d),
                        matrix(projection, d, 2 * d), vector(norm, d)});
  }

  void quantize_drafts() {
    expect(static_cast<bool>(head_));
    nb::gil_scoped_release release;
    guesses_ = head_;
    std::vector<decode::Matrix<T>*> all{&guesses_};
    for (Module& module : modules_) {
      all.push_back(&module.projection);
      decode::Layer<T>& layer = layers_[module.layer];
      for (decode::Matrix<T>* one : {&layer.query, &layer.query_up, &layer.latent, &layer.out})
        all.push_back(one);
      for (decode::Matrix<T>* one : {&layer.always.gate, &layer.always.up, &layer.always.down})
        all.push_back(one);
      for (auto& expert : layer.experts)
        for (decode::Matrix<T>* one : {&expert.gate, &expert.up, &expert.down}) all.push_back(one);
    }
    for (decode::Matrix<T>* one : all)
      if (*one) decode::quantize(*one);
  }

  void read(const std::vector<size_t>& tokens, Rows<T> table, std::vector<Output<T>> caches,
            size_t known, Output<T> out) {
    const std::vector<T> x = embedded(tokens);
    expect(out.shape(0) == tokens.size() && out.shape(1) == shape_.hidden);
    std::copy(x.begin(), x.end(), out.data());
    add(0, out.data(), tokens.size(), table, caches, known);
    normalise(out.data(), tokens.size(), norm_, out.data(), shape_.hidden);
  }

  void read_ahead(size_t depth, Rows<T> hidden, const std::vector<size_t>& tokens, Rows<T> table,
                  Output<T> cache, size_t known, Output<T> out) {
    const size_t d = shape_.hidden, rows = tokens.size();
    expect(depth > 0 && depth <= modules_.size());
    const Module& module = modules_[depth - 1];
    const std::vector<T> x = embedded(tokens);
    expect(hidden.shape(0) == rows && hidden.shape(1) == d);
    expect(out.shape(0) == rows && out.shape(1) == d);
    std::vector<T> joined(rows * 2 * d);
    normalise(x.data(), rows, module.embedding_norm, joined.data(), 2 * d);
    normalise(hidden.data(), rows, module.hidden_norm, joined.data() + d, 2 * d);
    pass(rows).times(module.projection, joined.data(), out.data());
    add(module.layer, out.data(), rows, table, {cache}, known);
    normalise(out.data(), rows, module.norm, out.data(), d);
  }

  void logits(Rows<T> rows, Output<T> out) {
    expect_rows(rows);
    expect(out.shape(0) == rows.shape(0) && out.shape(1) == head_.rows);
    nb::gil_scoped_release release;
    pass(rows.shape(0)).times(head_, rows.data(), out.data());
  }

  std::vector<size_t> likeliest(Rows<T> rows) {
    expect_rows(rows);
    nb::gil_scoped_release release;
    return pass(rows.shape(0)).likeliest(head_, rows.data());
  }

  std::vector<size_t> guess(Rows<T> rows) {
    expect_rows(rows);
    nb::gil_scoped_release release;
    return pass(rows.shape(0)).likeliest(guesses_ ? guesses_ : head_, rows.data());
  }

 private:
  struct Module {
    size_t layer;
    const T *embedding_norm, *hidden_norm;
    decode::Matrix<T> projection;
    const T* norm;
  };

  decode::Pass<T> pass(size_t rows) { return {*team_, shape_, rows, nullptr}; }

  void expect_rows(const Rows<T>& rows) const {
    expect(head_ && rows.shape(0) > 0 && rows.shape(0) <= decode::kMost &&
           rows.shape(1) == shape_.hidden);
  }

  std::vector<T> embedded(const std::vector<size_t>& tokens) const {
    const size_t d = shape_.hidden;
    expect(tokens.size() > 0 && tokens.size() <= decode::kMost);
    std::vector<T> x(tokens.size() * d);
    for (size_t i = 0; i < tokens.size(); ++i) {
      expect(tokens[i] < embedding_.rows);
      std::copy_n(embedding_.data + tokens[i] * d, d, x.data() + i * d);
    }
    return x;
  }

  void normalise(const T* x, size_t rows, const T* weight, T* out, size_t apart) const {
    for (size_t i = 0; i < rows; ++i)
      decode::normalise(x + i * shape_.hidden, shape_.hidden, weight, shape_.eps, out + i * apart);
  }

  // Send x [rows, d] through the layers from `first` on, as many as there are caches.
  void add(size_t first, T* x, size_t rows, const Rows<T>& table,
           const std::vector<Output<T>>& caches, size_t known) {
    expect(table.shape(0) == rows && table.shape(1) == shape_.rotary && first <= layers_.size() &&
           caches.size() <= layers_.size() - first);
    for (const auto& cache : caches)
      expect(cache.shape(1) == shape_.latent + shape_.rotary && known <= cache.shape(0) &&
             rows <= cache.shape(0) - known);
    nb::gil_scoped_release release;
    decode::Pass<T> pass(*team_, shape_, rows, x);
    for (size_t k = 0; k < caches.size(); ++k)
      pass.add(layers_[first + k], table.data(), caches[k].data(), known);
  }

  decode::Matrix<T> matrix(const Rows<T>& of, size_t rows, size_t columns) {
    expect(of.shape(0) == rows && of.shape(1) == columns);
    kept_.push_back(nb::cast(of));
    return {of.data(), rows, columns, nullptr};
  }

  const T* vector(const Vector<T>& of, size_t size) {
    expect(of.shape(0) == size);
    kept_.push_back(nb::cast(of));
    return of.data();
  }

  decode::Shape shape_;
  std::vector<decode::Layer<T>> layers_;
  std::vector<Module> modules_;
  decode::Matrix<T> embedding_, head_, guesses_;  // the last is the head, quantized
  const T* norm_ = nullptr;
  std::vector<nb::object> kept_;
  std::unique_ptr<decode::Team> team_;
};

template <typename T>
void bind_stack(nb::module_& m, const char* name) {
  using Self = Stack<T>;
  nb::class_<Self>(m, name,
                   "A model's layers, for passes of up to 4 rows. Not for several threads at once.")
      .def(nb::init<size_t, size_t, size_t, size_t, size_t, size_t, double, double, size_t, size_t,
                    size_t, double, bool, size_t>(),
           nb::kw_only(), nb::arg("hidden"), nb::arg("heads"), nb::arg("plain"), nb::arg("rotary"),
           nb::arg("value"), nb::arg("latent"), nb::arg("eps"), nb::arg("scale"),
           nb::arg("chosen"), nb::arg("groups"), nb::arg("chosen_groups"), nb::arg("routed_scale"),
           nb::arg("normalise_gates"), nb::arg("threads"))
      .def("add_layer", &Self::add_layer, nb::kw_only(), nb::arg("attention_norm"),
           nb::arg("query"), nb::arg("query_norm").none(), nb::arg("query_up").none(),
           nb::arg("latent"), nb::arg("latent_norm"), nb::arg("key_value"), nb::arg("out"),
           nb::arg("mlp_norm"), nb::arg("gate"), nb::arg("up"), nb::arg("down"),
           "Add a layer behind those before; its arrays are used where they are. gate, up and down "
           "are the dense layer's or the shared experts'.")
      .def("add_experts", &Self::add_experts, nb::kw_only(), nb::arg("router"), nb::arg("bias"),
           nb::arg("gate_up"), nb::arg("down"), "Give the last layer its routed experts.")
      .def("set_ends", &Self::set_ends, nb::kw_only(), nb::arg("embedding"), nb::arg("norm"),
           nb::arg("head"), "Give what stands before and behind the layers.")
      .def("add_module", &Self::add_module, nb::kw_only(), nb::arg("embedding_norm"),
           nb::arg("hidden_norm"), nb::arg("projection"), nb::arg("norm"),
           "Make the last layer that of the next multi-token module.")
      .def("read", &Self::read, nb::arg("tokens"), nb::arg("table"), nb::arg("caches").noconvert(),
           nb::arg("known"), nb::arg("out").noconvert(),
           "Tokens (l of them) to out [l, d] behind the final norm, through as many layers as there "
           "are caches [capacity, c + r], of which `known` tokens are filled and l more will be; "
           "`table` [l, r] turns their positions.")
      .def("read_ahead", &Self::read_ahead, nb::arg("depth"), nb::arg("hidden"), nb::arg("tokens"),
           nb::arg("table"), nb::arg("cache").noconvert(), nb::arg("known"),
           nb::arg("out").noconvert(),
           "The same by multi-token module `depth` (from 1), with hidden [l, d] of the one before.")
      .def("logits", &Self::logits, nb::arg("rows"), nb::arg("out").noconvert(),
           "Rows [l, d] times the head, into out [l, vocabulary].")
      .def("likeliest", &Self::likeliest, nb::arg("rows"), "The largest logit of each row [l, d].")
      .def("quantize_drafts", &Self::quantize_drafts,
           "Copy what drafts read, the multi-token modules and the head for `guess`, in 8 bits.")
      .def("guess", &Self::guess, nb::arg("rows"),
           "As `likeliest`, by the quantized head if there is one.");
}

}  // namespace

void bind_decode(nb::module_& m) {
  m.attr("MOST") = decode::kMost;
  bind_stack<float>(m, "Stack32");
  bind_stack<double>(m, "Stack64");
}

}  // namespace gristmill
