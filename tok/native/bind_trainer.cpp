// The trainer's Python face.

#include <nanobind/stl/function.h>

#include <stdexcept>

#include "bind.hpp"
#include "trainer.hpp"

namespace gristmill {

using namespace nb::literals;

namespace {

nb::object merges_from_words(Array<uint8_t> words, Array<int64_t> offsets, Array<int64_t> counts,
                             int64_t max_merges, int64_t min_count, int64_t max_token_bytes,
                             nb::object progress) {
  const size_t n = counts.shape(0);
  if (offsets.shape(0) != n + 1) throw std::invalid_argument("offsets must be one longer than counts");
  if (n >= (size_t{1} << 31)) throw std::invalid_argument("more than 2^31 distinct words");
  const int64_t* o = offsets.data();
  if (o[0] != 0 || o[n] != static_cast<int64_t>(words.shape(0)))
    throw std::invalid_argument("offsets must run from 0 to the number of symbols");
  for (size_t i = 0; i < n; ++i) {
    if (o[i + 1] < o[i] || o[i + 1] - o[i] >= (int64_t{1} << 31))
      throw std::invalid_argument("offsets must ascend, by less than 2^31");
    if (counts.data()[i] < 0) throw std::invalid_argument("counts must not be negative");
  }

  std::vector<Merge> merges;
  {
    nb::gil_scoped_release release;
    merges = train({words.data(), words.shape(0)}, {o, n + 1}, {counts.data(), n},
                              max_merges, min_count, max_token_bytes, [&](int64_t done) {
                                nb::gil_scoped_acquire acquire;
                                if (PyErr_CheckSignals() != 0) throw nb::python_error();
                                if (!progress.is_none()) progress(done);
                              });
  }
  auto* rows = new int64_t[merges.size() * 3];
  for (size_t i = 0; i < merges.size(); ++i) {
    rows[3 * i] = merges[i].left;
    rows[3 * i + 1] = merges[i].right;
    rows[3 * i + 2] = merges[i].count;
  }
  nb::capsule owner(rows, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, int64_t, nb::ndim<2>>(rows, {merges.size(), 3}, owner));
}

}  // namespace

void bind_trainer(nb::module_& m) {
  m.def("train", &merges_from_words, "words"_a, "offsets"_a, "counts"_a, "max_merges"_a,
        "min_count"_a, "max_token_bytes"_a, "progress"_a.none());
}

}  // namespace gristmill
