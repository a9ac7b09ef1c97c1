// The pass of a few tokens, as Python sees it.

#include "bind.hpp"
#include "decode.hpp"

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

void expect(bool good) {
  if (!good) throw nb::value_error("arrays of shapes that don't belong together");
}

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
          {{gate, m, d}, {gate + m * d, m, d}, {down.data() + e * d * m, d, m}});
    }
  }

  void add(size_t first, Output<T> x, Rows<T> table, std::vector<Output<T>> caches, size_t known) {
    const size_t rows = x.shape(0);
    expect(rows > 0 && rows <= decode::kMost && x.shape(1) == shape_.hidden &&
           table.shape(0) == rows && table.shape(1) == shape_.rotary &&
           first <= layers_.size() && caches.size() <= layers_.size() - first);
    for (const auto& cache : caches)
      expect(cache.shape(1) == shape_.latent + shape_.rotary && known <= cache.shape(0) &&
             rows <= cache.shape(0) - known);
    nb::gil_scoped_release release;
    decode::Pass<T> pass(*team_, shape_, rows, x.data());
    for (size_t k = 0; k < caches.size(); ++k)
      pass.add(layers_[first + k], table.data(), caches[k].data(), known);
  }

  void normalise(Rows<T> x, Vector<T> weight, Output<T> out) const {
    expect(weight.shape(0) == x.shape(1) && out.shape(0) == x.shape(0) &&
           out.shape(1) == x.shape(1));
    for (size_t i = 0; i < x.shape(0); ++i)
      decode::normalise(x.data() + i * x.shape(1), x.shape(1), weight.data(), shape_.eps,
                        out.data() + i * x.shape(1));
  }

  void times(Rows<T> weight, Rows<T> rows, Output<T> out) {
    expect(rows.shape(0) > 0 && rows.shape(0) <= decode::kMost &&
           rows.shape(1) == weight.shape(1) && out.shape(0) == rows.shape(0) &&
           out.shape(1) == weight.shape(0));
    nb::gil_scoped_release release;
    decode::Pass<T> pass(*team_, shape_, rows.shape(0), nullptr);
    pass.times({weight.data(), weight.shape(0), weight.shape(1)}, rows.data(), out.data());
  }

 private:
  decode::Matrix<T> matrix(const Rows<T>& of, size_t rows, size_t columns) {
    expect(of.shape(0) == rows && of.shape(1) == columns);
    kept_.push_back(nb::cast(of));
    return {of.data(), rows, columns};
  }

  const T* vector(const Vector<T>& of, size_t size) {
    expect(of.shape(0) == size);
    kept_.push_back(nb::cast(of));
    return of.data();
  }

  decode::Shape shape_;
  std::vector<decode::Layer<T>> layers_;
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
      .def("add", &Self::add, nb::arg("first"), nb::arg("x").noconvert(), nb::arg("table"),
           nb::arg("caches").noconvert(), nb::arg("known"),
           "Send x [l, d] through the layers from `first` on, as many as there are caches "
           "[capacity, c + r], of which `known` tokens are filled and l more will be; `table` "
           "[l, r] turns the rows' positions. x becomes the result.")
      .def("normalise", &Self::normalise, nb::arg("x"), nb::arg("weight"),
           nb::arg("out").noconvert(), "RMSNorm of x [l, d], into out [l, d].")
      .def("times", &Self::times, nb::arg("weight"), nb::arg("rows"), nb::arg("out").noconvert(),
           "Rows [l, k] times a weight [n, k], into out [l, n].");
}

}  // namespace

void bind_decode(nb::module_& m) {
  m.attr("MOST") = decode::kMost;
  bind_stack<float>(m, "Stack32");
  bind_stack<double>(m, "Stack64");
}

}  // namespace gristmill
