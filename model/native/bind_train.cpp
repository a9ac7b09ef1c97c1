// Training's passes, as Python sees them.

#include "bind.hpp"
#include "gemm.hpp"
#include "train.hpp"

#include <optional>

namespace gristmill {

#if GRISTMILL_AVX512
namespace {

template <size_t N>
using In = nb::ndarray<const float, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <size_t N>
using Out = nb::ndarray<float, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
using Index = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename Array>
void expect_shape(const Array& array, std::initializer_list<size_t> shape) {
  size_t i = 0;
  for (const size_t size : shape) expect(array.shape(i++) == size);
}

void expect_below(const Index& index, size_t size) {
  for (size_t i = 0; i < index.shape(0); ++i)
    expect(index.data()[i] >= 0 && static_cast<size_t>(index.data()[i]) < size);
}

template <typename Array>
auto data(std::optional<Array>& array) -> decltype(array->data()) {
  return array ? array->data() : nullptr;
}

void linear(In<2> x, In<2> w, Out<2> out) {
  expect_shape(w, {w.shape(0), x.shape(1)});
  expect_shape(out, {x.shape(0), w.shape(0)});
  expect(x.size() > 0 && w.size() > 0);
  nb::gil_scoped_release release;
  train::linear(x.data(), w.data(), x.shape(0), w.shape(0), x.shape(1), out.data());
}

void linear_backward(In<2> grad, In<2> x, In<2> w, std::optional<Out<2>> grad_x,
                     std::optional<Out<2>> grad_w) {
  const size_t t = x.shape(0), k = x.shape(1), n = w.shape(0);
  expect_shape(w, {n, k});
  expect_shape(grad, {t, n});
  expect(x.size() > 0 && w.size() > 0);
  if (grad_x) expect_shape(*grad_x, {t, k});
  if (grad_w) expect_shape(*grad_w, {n, k});
  nb::gil_scoped_release release;
  train::linear_backward(grad.data(), x.data(), w.data(), t, n, k, data(grad_x), data(grad_w));
}

// The networks, when their shapes are what they have to be; gives the number of rows as well.
std::pair<train::Networks, size_t> checked(In<2>& x, In<3>& gate_up, In<3>& down,
                                           std::vector<size_t>& counts, std::optional<In<1>>& gain,
                                           std::optional<Index>& token) {
  const size_t d = x.shape(1), m = down.shape(2), networks = counts.size();
  size_t rows = 0;
  for (const size_t count : counts) rows += count;
  expect_shape(gate_up, {networks, 2 * m, d});
  expect_shape(down, {networks, d, m});
  expect(networks > 0 && m > 0 && d > 0 && (token ? token->shape(0) : x.shape(0)) == rows);
  if (token) expect_below(*token, x.shape(0));
  if (gain) expect_shape(*gain, {rows});
  return {{d, m, x.data(), gate_up.data(), down.data(), data(gain), data(token), counts}, rows};
}

void networks(In<2> x, In<3> gate_up, In<3> down, std::vector<size_t> counts,
              std::optional<In<1>> gain, std::optional<Index> token, Out<2> h, Out<2> y) {
  const auto [of, rows] = checked(x, gate_up, down, counts, gain, token);
  expect_shape(h, {rows, 2 * of.m});
  expect_shape(y, {rows, of.d});
  nb::gil_scoped_release release;
  train::networks(of, h.data(), y.data());
}

void networks_backward(In<2> x, In<3> gate_up, In<3> down, std::vector<size_t> counts,
                       std::optional<In<1>> gain, std::optional<Index> token, In<2> grad, Out<2> h,
                       Out<2> inner, Out<2> grad_x, Out<3> grad_gate_up, Out<3> grad_down,
                       std::optional<Out<1>> grad_gain) {
  const auto [of, rows] = checked(x, gate_up, down, counts, gain, token);
  expect_shape(grad, {x.shape(0), of.d});
  expect_shape(h, {rows, 2 * of.m});
  expect_shape(inner, {rows, of.m});
  expect_shape(grad_x, {rows, of.d});
  expect_shape(grad_gate_up, {counts.size(), 2 * of.m, of.d});
  expect_shape(grad_down, {counts.size(), of.d, of.m});
  if (grad_gain) expect_shape(*grad_gain, {rows});
  nb::gil_scoped_release release;
  train::networks_backward(of, grad.data(), h.data(), inner.data(), grad_x.data(),
                           grad_gate_up.data(), grad_down.data(), data(grad_gain));
}

train::Heads checked(In<4>& q, In<4>& kv, In<3>& k_rotary, In<3>& table, float scale) {
  const size_t b = q.shape(0), l = q.shape(1), h = q.shape(2), rotary = k_rotary.shape(2);
  expect(q.size() > 0 && q.shape(3) >= rotary && rotary % 2 == 0);
  const size_t plain = q.shape(3) - rotary;
  expect(kv.shape(3) > plain);
  expect_shape(kv, {b, l, h, kv.shape(3)});
  expect_shape(k_rotary, {b, l, rotary});
  expect_shape(table, {l, rotary / 2, 2});
  return {b,        l,         h,           plain,           rotary,      kv.shape(3) - plain,
          q.data(), kv.data(), k_rotary.data(), table.data(), scale};
}

void attention(In<4> q, In<4> kv, In<3> k_rotary, In<3> table, float scale, Out<4> out,
               std::optional<Out<3>> weights) {
  const train::Heads of = checked(q, kv, k_rotary, table, scale);
  expect_shape(out, {of.b, of.l, of.h, of.value});
  if (weights) expect_shape(*weights, {of.b, of.h, train::weights_of(of.l)});
  nb::gil_scoped_release release;
  train::attention(of, out.data(), data(weights));
}

void attention_backward(In<4> q, In<4> kv, In<3> k_rotary, In<3> table, float scale, In<4> grad,
                        std::optional<Out<3>> weights, Out<4> grad_q, Out<4> grad_kv,
                        Out<4> grad_rotary) {
  const train::Heads of = checked(q, kv, k_rotary, table, scale);
  expect_shape(grad, {of.b, of.l, of.h, of.value});
  if (weights) expect_shape(*weights, {of.b, of.h, train::weights_of(of.l)});
  expect_shape(grad_q, {of.b, of.l, of.h, of.plain + of.rotary});
  expect_shape(grad_kv, {of.b, of.l, of.h, of.plain + of.value});
  expect_shape(grad_rotary, {of.b, of.h, of.l, of.rotary});
  nb::gil_scoped_release release;
  train::attention_backward(of, grad.data(), data(weights), grad_q.data(), grad_kv.data(),
                            grad_rotary.data());
}

void cross_entropy(In<2> hidden, In<2> head, Index labels, Index rows, Out<1> losses,
                   std::optional<Out<2>> grad_hidden, std::optional<Out<2>> grad_head) {
  const size_t tokens = hidden.shape(0), d = hidden.shape(1), vocabulary = head.shape(0);
  expect_shape(head, {vocabulary, d});
  expect_shape(labels, {tokens});
  expect_shape(losses, {rows.shape(0)});
  expect(vocabulary > 0 && d > 0 && rows.shape(0) > 0);
  expect_below(rows, tokens);
  std::vector<size_t> labelled(rows.data(), rows.data() + rows.shape(0));
  for (const size_t row : labelled)
    if (labels.data()[row] < 0 || static_cast<size_t>(labels.data()[row]) >= vocabulary)
      throw nb::index_error("label outside of the vocabulary");
  expect(grad_hidden.has_value() == grad_head.has_value());
  if (grad_head) {
    expect_shape(*grad_hidden, {tokens, d});
    expect_shape(*grad_head, {vocabulary, d});
  }
  nb::gil_scoped_release release;
  train::cross_entropy(hidden.data(), head.data(), labels.data(), labelled, d, vocabulary,
                       losses.data(), data(grad_hidden), data(grad_head));
}

}  // namespace

void bind_train(nb::module_& m) {
  m.attr("TRAINS") = train::has_avx512();
  m.def("set_threads", &train::set_threads, nb::arg("count"));
  // What is written must be the caller's own array, never a copy of it.
  m.def("linear", &linear, nb::arg("x"), nb::arg("w"), nb::arg("out").noconvert());
  m.def("linear_backward", &linear_backward, nb::arg("grad"), nb::arg("x"), nb::arg("w"),
        nb::arg("grad_x").noconvert().none(), nb::arg("grad_w").noconvert().none());
  m.def("networks", &networks, nb::arg("x"), nb::arg("gate_up"), nb::arg("down"),
        nb::arg("counts"), nb::arg("gain").none(), nb::arg("token").none(),
        nb::arg("h").noconvert(), nb::arg("y").noconvert());
  m.def("networks_backward", &networks_backward, nb::arg("x"), nb::arg("gate_up"),
        nb::arg("down"), nb::arg("counts"), nb::arg("gain").none(), nb::arg("token").none(),
        nb::arg("grad"), nb::arg("h").noconvert(), nb::arg("inner").noconvert(),
        nb::arg("grad_x").noconvert(), nb::arg("grad_gate_up").noconvert(),
        nb::arg("grad_down").noconvert(), nb::arg("grad_gain").noconvert().none());
  m.def("weights_of", &train::weights_of, nb::arg("length"));
  m.def("attention", &attention, nb::arg("q"), nb::arg("kv"), nb::arg("k_rotary"),
        nb::arg("table"), nb::arg("scale"), nb::arg("out").noconvert(),
        nb::arg("weights").noconvert().none());
  m.def("attention_backward", &attention_backward, nb::arg("q"), nb::arg("kv"),
        nb::arg("k_rotary"), nb::arg("table"), nb::arg("scale"), nb::arg("grad"),
        nb::arg("weights").noconvert().none(), nb::arg("grad_q").noconvert(),
        nb::arg("grad_kv").noconvert(), nb::arg("grad_rotary").noconvert());
  m.def("cross_entropy", &cross_entropy, nb::arg("hidden"), nb::arg("head"), nb::arg("labels"),
        nb::arg("rows"), nb::arg("losses").noconvert(), nb::arg("grad_hidden").noconvert().none(),
        nb::arg("grad_head").noconvert().none());
}
#else
void bind_train(nb::module_& m) { m.attr("TRAINS") = false; }
#endif

}  // namespace gristmill
