// Words, MinHash signatures and what is hashed whole of a column of texts.

#include <algorithm>
#include <string>

#include <nanobind/stl/string.h>

#include "bind.hpp"
#include "minhash.hpp"
#include "spaces.hpp"
#include "words.hpp"

namespace gristmill {
namespace {

nb::object hash_words(nb::handle column) {
  const Texts texts(column);
  std::vector<uint64_t> hashes;
  std::vector<int64_t> lengths, counts;
  {
    nb::gil_scoped_release release;
    hashes.reserve(texts.bytes() / 6);
    lengths.reserve(texts.bytes() / 6);
    std::string buffer;
    for (size_t i = 0; i < texts.size(); ++i) {
      const size_t before = hashes.size();
      words::each(texts[i], buffer, [&](uint64_t hash, size_t size) {
        hashes.push_back(hash);
        lengths.push_back(static_cast<int64_t>(size));
      });
      counts.push_back(static_cast<int64_t>(hashes.size() - before));
    }
  }
  return nb::make_tuple(to_numpy(std::move(hashes)), to_numpy(std::move(lengths)),
                        to_numpy(std::move(counts)));
}

// [texts, bands] and which texts have an n-gram at all; the others' bands are 0.
nb::object signatures(nb::handle column, size_t ngram, size_t rows, Array<uint64_t> factors,
                      Array<uint64_t> offsets, const std::string& way) {
  const Texts texts(column);
  const size_t count = factors.shape(0);
  if (ngram < 1 || rows < 1 || count < 1 || count % rows || offsets.shape(0) != count)
    throw nb::value_error("expected n-grams of a word or more and as many factors as offsets, a "
                          "multiple of rows");
  minhash::Lower lower = nullptr;
  for (const auto& [name, function] : minhash::ways())
    if (!lower && (way.empty() || way == name)) lower = function;
  if (!lower) throw nb::value_error(("this processor has no " + way).c_str());
  const size_t bands = count / rows;
  const minhash::Permutations permutations(factors.data(), offsets.data(), count);
  std::vector<uint64_t> out(texts.size() * bands);
  std::vector<uint8_t> any(texts.size());
  {
    nb::gil_scoped_release release;
    std::vector<int64_t> minima(permutations.factors.size());
    std::vector<uint64_t> hashes(1 << 12), values(count);
    std::string buffer;
    for (size_t i = 0; i < texts.size(); ++i) {
      size_t size = 0;
      words::each(texts[i], buffer, [&](uint64_t hash, size_t) {
        if (size == hashes.size()) [[unlikely]]
          hashes.resize(2 * size);
        hashes[size++] = hash;
      });
      words::ngrams(hashes.data(), size, ngram);
      if (!size) continue;
      any[i] = 1;
      std::fill(minima.begin(), minima.end(), INT64_MAX);
      lower(hashes.data(), size, permutations, minima.data());
      for (size_t k = 0; k < count; ++k)
        values[k] = static_cast<uint64_t>(minima[k]) ^ uint64_t{1} << 63;
      for (size_t band = 0; band < bands; ++band)
        out[i * bands + band] = words::hash(&values[band * rows], 8 * rows, 8 * rows);
    }
  }
  return nb::make_tuple(to_numpy(std::move(out), bands), to_numpy(std::move(any)));
}

// The texts' bytes without white space, joined, and where each ends.
nb::object without_space(nb::handle column) {
  const Texts texts(column);
  std::vector<uint8_t> out(texts.bytes());
  std::vector<int64_t> ends(texts.size());
  {
    nb::gil_scoped_release release;
    const Spaces spaces;
    uint8_t* to = out.data();
    for (size_t i = 0; i < texts.size(); ++i) {
      to = spaces.remove(texts[i], to);
      ends[i] = to - out.data();
    }
    out.resize(to - out.data());
  }
  return nb::make_tuple(to_numpy(std::move(out)), to_numpy(std::move(ends)));
}

// The paragraphs of `least` characters or more, joined, where each ends, and how many each text has.
nb::object paragraphs(nb::handle column, bool lines, size_t least) {
  const Texts texts(column);
  std::vector<uint8_t> out(texts.bytes());
  std::vector<int64_t> ends, counts(texts.size());
  {
    nb::gil_scoped_release release;
    const Spaces spaces;
    uint8_t* to = out.data();
    for (size_t i = 0; i < texts.size(); ++i)
      to = spaces.paragraphs(texts[i], lines, least, to, [&](const uint8_t* end) {
        ends.push_back(end - out.data());
        ++counts[i];
      });
    out.resize(to - out.data());
  }
  return nb::make_tuple(to_numpy(std::move(out)), to_numpy(std::move(ends)),
                        to_numpy(std::move(counts)));
}

}  // namespace

void bind_minhash(nb::module_& m) {
  m.def("hash_words", &hash_words, nb::arg("texts"),
        "(hashes uint64 [words], characters int64 [words], words of each text int64 [texts]).");
  m.def("minhash", &signatures, nb::arg("texts"), nb::arg("ngram"), nb::arg("rows"),
        nb::arg("factors"), nb::arg("offsets"), nb::arg("way") = "",
        "(bands uint64 [texts, bands], has an n-gram uint8 [texts]); see curation/dedup.py. `way` is "
        "one of minhash_ways() instead of the fastest, for tests.");
  m.def("minhash_ways", [] {
    nb::list names;
    for (const auto& [name, function] : minhash::ways()) names.append(name);
    return names;
  }, "The instructions that minhash can use on this processor, the fastest first.");
  m.def("without_space", &without_space, nb::arg("texts"),
        "(the texts' bytes without white space, uint8, joined; where each ends, int64 [texts]).");
  m.def("paragraphs", &paragraphs, nb::arg("texts"), nb::arg("lines"), nb::arg("least"),
        "(bytes of the paragraphs, or lines, of `least` characters or more, uint8, joined; where "
        "each ends, int64; how many each text has, int64 [texts]); see curation/paragraphs.py.");
}

}  // namespace gristmill
