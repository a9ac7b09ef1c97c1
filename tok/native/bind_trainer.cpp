// The trainer's Python face.

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "bind.hpp"
#include "trainer.hpp"

namespace gristmill {

using namespace nb::literals;

namespace {

Words checked_words(const Array<uint32_t>& symbols, const Array<int64_t>& offsets,
                    const Array<int64_t>& counts, size_t n_symbols) {
  const size_t n = counts.shape(0);
  if (offsets.shape(0) != n + 1) throw std::invalid_argument("offsets must be one longer than counts");
  if (n >= (size_t{1} << 32)) throw std::invalid_argument("more than 2^32 distinct words");
  const int64_t* o = offsets.data();
  if (o[0] != 0 || o[n] != static_cast<int64_t>(symbols.shape(0)))
    throw std::invalid_argument("offsets must run from 0 to the number of symbols");
  for (size_t i = 0; i < n; ++i) {
    if (o[i + 1] < o[i]) throw std::invalid_argument("offsets must ascend");
    if (counts.data()[i] < 0) throw std::invalid_argument("counts must not be negative");
  }
  for (size_t i = 0; i < symbols.shape(0); ++i)
    if (symbols.data()[i] >= n_symbols) throw std::invalid_argument("a symbol without a token");
  return {{symbols.data(), symbols.shape(0)}, {o, n + 1}, {counts.data(), n}};
}

nb::object learn_merges(Array<uint32_t> symbols, Array<int64_t> offsets, Array<int64_t> counts,
                        const std::vector<nb::bytes>& tokens, int64_t max_symbols,
                        int64_t min_count, int64_t max_token_bytes, size_t threads, nb::object progress) {
  const Words words = checked_words(symbols, offsets, counts, tokens.size());
  std::vector<std::string> spelled;
  for (const nb::bytes& token : tokens) spelled.emplace_back(token.c_str(), token.size());
  std::vector<Merge> merges;
  {
    nb::gil_scoped_release release;
    merges = train(words, std::move(spelled), {max_symbols, min_count, max_token_bytes, threads},
                   [&](int64_t done) {
                     nb::gil_scoped_acquire acquire;
                     if (PyErr_CheckSignals() != 0) throw nb::python_error();
                     if (!progress.is_none()) progress(done);
                   });
  }
  auto* rows = new int64_t[merges.size() * 4];
  for (size_t i = 0; i < merges.size(); ++i) {
    rows[4 * i] = merges[i].left;
    rows[4 * i + 1] = merges[i].right;
    rows[4 * i + 2] = merges[i].merged;
    rows[4 * i + 3] = merges[i].count;
  }
  nb::capsule owner(rows, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, int64_t, nb::ndim<2>>(rows, {merges.size(), 4}, owner));
}

}  // namespace

void bind_trainer(nb::module_& m) {
  m.def("learn_merges", &learn_merges, "symbols"_a, "offsets"_a, "counts"_a, "tokens"_a,
        "max_symbols"_a, "min_count"_a, "max_token_bytes"_a, "threads"_a, "progress"_a.none());
}

}  // namespace gristmill
