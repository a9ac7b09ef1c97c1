// The trainer's Python face.

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <tuple>

#include "bind.hpp"
#include "trainer.hpp"

namespace gristmill {

using namespace nb::literals;

namespace {

using Table = std::tuple<Array<uint8_t>, Array<int64_t>, Array<int64_t>>;  // bytes, offsets, counts
using MergeRows = nb::ndarray<const int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

Words checked(const Table& table) {
  const auto& [bytes, offsets, counts] = table;
  const size_t n = counts.shape(0);
  if (offsets.shape(0) != n + 1) throw std::invalid_argument("offsets must be one longer than counts");
  if (n >= (size_t{1} << 32)) throw std::invalid_argument("more than 2^32 distinct words");
  const int64_t* o = offsets.data();
  if (o[0] < 0 || o[n] > static_cast<int64_t>(bytes.shape(0)))
    throw std::invalid_argument("offsets must lie within the bytes");
  for (size_t i = 0; i < n; ++i) {
    if (o[i + 1] < o[i]) throw std::invalid_argument("offsets must ascend");
    if (counts.data()[i] < 0) throw std::invalid_argument("counts must not be negative");
  }
  return {{bytes.data(), bytes.shape(0)}, {o, n + 1}, {counts.data(), n}};
}

TrainOptions options_of(const std::vector<nb::bytes>& tokens, const MergeRows& merges,
                        int64_t max_tokens, int64_t min_count, int64_t max_token_bytes,
                        const std::vector<nb::bytes>& forbidden, size_t threads,
                        nb::object progress) {
  if (threads < 1) throw std::invalid_argument("threads must be at least 1");
  if (merges.shape(0) > 0 && merges.shape(1) < 3)
    throw std::invalid_argument("merges must have the columns left, right, merged");
  TrainOptions options{};
  for (const nb::bytes& token : tokens) options.tokens.emplace_back(token.c_str(), token.size());
  for (size_t i = 0; i < merges.shape(0); ++i)
    options.merges.push_back({merges(i, 0), merges(i, 1), merges(i, 2), 0});
  for (const nb::bytes& token : forbidden) options.forbidden.emplace(token.c_str(), token.size());
  options.max_tokens = max_tokens;
  options.min_count = min_count;
  options.max_token_bytes = max_token_bytes;
  options.threads = threads;
  options.progress = [progress = std::move(progress)](int64_t done) {
    nb::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (!progress.is_none()) progress(done);
  };
  return options;
}

nb::object as_python(const Learned& learned) {
  const std::vector<Merge>& merges = learned.merges;
  auto* rows = new int64_t[merges.size() * 4];
  for (size_t i = 0; i < merges.size(); ++i) {
    rows[4 * i] = merges[i].left;
    rows[4 * i + 1] = merges[i].right;
    rows[4 * i + 2] = merges[i].merged;
    rows[4 * i + 3] = merges[i].count;
  }
  nb::capsule owner(rows, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  nb::list tokens;
  for (const std::string& token : learned.tokens) tokens.append(nb::bytes(token.data(), token.size()));
  return nb::make_tuple(
      nb::ndarray<nb::numpy, int64_t, nb::ndim<2>>(rows, {merges.size(), 4}, owner), tokens);
}

nb::object learn_merges(const Table& words, const std::vector<nb::bytes>& tokens,
                        const MergeRows& merges, int64_t max_tokens, int64_t min_count,
                        int64_t max_token_bytes, const std::vector<nb::bytes>& forbidden,
                        size_t threads, nb::object progress) {
  const TrainOptions options = options_of(tokens, merges, max_tokens, min_count, max_token_bytes,
                                          forbidden, threads, std::move(progress));
  const Words checked_words = checked(words);
  Learned learned;
  {
    nb::gil_scoped_release release;
    learned = train(checked_words, options);
  }
  return as_python(learned);
}

nb::object learn_merges_parity(const std::vector<std::tuple<Table, Table, double>>& languages,
                               int64_t window, double alpha, const std::vector<nb::bytes>& tokens,
                               const MergeRows& merges, int64_t max_tokens, int64_t min_count,
                               int64_t max_token_bytes, const std::vector<nb::bytes>& forbidden,
                               nb::object progress) {
  const TrainOptions options = options_of(tokens, merges, max_tokens, min_count, max_token_bytes,
                                          forbidden, 1, std::move(progress));
  std::vector<Language> checked_languages;
  for (const auto& [train_words, dev_words, units] : languages)
    checked_languages.push_back({checked(train_words), checked(dev_words), units});
  Learned learned;
  {
    nb::gil_scoped_release release;
    learned = train_parity(checked_languages, options, {window, alpha});
  }
  return as_python(learned);
}

}  // namespace

void bind_trainer(nb::module_& m) {
  m.def("learn_merges", &learn_merges, "words"_a, "tokens"_a, "merges"_a, "max_tokens"_a,
        "min_count"_a, "max_token_bytes"_a, "forbidden"_a, "threads"_a, "progress"_a.none());
  m.def("learn_merges_parity", &learn_merges_parity, "languages"_a, "window"_a, "alpha"_a,
        "tokens"_a, "merges"_a, "max_tokens"_a, "min_count"_a, "max_token_bytes"_a, "forbidden"_a,
        "progress"_a.none());
}

}  // namespace gristmill
