// The index of benchmarks, as Python sees it.

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "bind.hpp"
#include "decontaminate.hpp"

namespace gristmill {

void bind_decontaminate(nb::module_& m) {
  m.def("split_words", &split_words, nb::arg("text"),
        "The words of a text, in lower case, as NgramIndex compares them.");
  nb::class_<NgramIndex>(m, "NgramIndex",
                         "Runs of `ngram` words of passages, and which texts have them.")
      .def(
          "__init__",
          [](NgramIndex* self, nb::handle array, const Array<uint32_t>& entries, size_t ngram,
             size_t max_entries, uint64_t mask) {
            const Texts passages(array);
            if (entries.size() != passages.size())
              throw nb::value_error("expected as many entries as passages");
            NgramIndex index(ngram, mask);
            {
              nb::gil_scoped_release release;
              for (size_t i = 0; i < passages.size(); ++i)
                index.add(passages[i], entries.data()[i]);
              index.build(max_entries);
            }
            new (self) NgramIndex(std::move(index));
          },
          nb::arg("passages"), nb::arg("entries"), nb::arg("ngram"), nb::arg("max_entries"),
          nb::arg("mask") = ~uint64_t{0},
          "Take in an Arrow array of passages and the entry, uint32 and ascending, of each. "
          "Passages\n"
          "of fewer words than `ngram` are matched as a whole; n-grams of more than `max_entries`\n"
          "entries are left out. `mask` is for tests: hashes keep only its bits.")
      .def(
          "find",
          [](const NgramIndex& self, nb::handle array, size_t limit) {
            const Texts texts(array);
            std::vector<int64_t> rows, starts, ends;
            std::vector<uint32_t> entries;
            {
              nb::gil_scoped_release release;
              std::vector<NgramIndex::Match> found;
              for (size_t row = 0; row < texts.size(); ++row) {
                found.clear();
                self.find(texts[row], limit, found);
                for (const auto& match : found) {
                  rows.push_back(static_cast<int64_t>(row));
                  entries.push_back(match.entry);
                  starts.push_back(static_cast<int64_t>(match.start));
                  ends.push_back(static_cast<int64_t>(match.end));
                }
              }
            }
            return nb::make_tuple(to_numpy(std::move(rows)), to_numpy(std::move(entries)),
                                  to_numpy(std::move(starts)), to_numpy(std::move(ends)));
          },
          nb::arg("texts"), nb::arg("limit"),
          "What an Arrow array of texts has of the passages: (row int64, entry uint32, start "
          "int64,\n"
          "end int64: bytes of the text), in order, at most `limit` for each text.")
      .def("__len__", &NgramIndex::size, "N-grams and whole passages in the index.")
      .def_prop_ro("bytes", &NgramIndex::bytes, "Memory of the index.");
}

}  // namespace gristmill
