#include <nanobind/stl/string.h>

#include <cerrno>
#include <stdexcept>

#include "bind.hpp"
#include "substrings.hpp"

namespace gristmill {

namespace {

using substrings::Cut;
using substrings::Merge;
using substrings::Scratch;

// The samples of texts, joined, and how many each has. A text whose `skip` is not 0 has none.
nb::tuple sample(nb::handle array, Array<uint8_t> skip, uint32_t tokens) {
  substrings::check(tokens);
  const Texts texts(array);
  if (skip.size() != texts.size()) throw nb::value_error("skip: expected one byte for each text");
  std::vector<uint64_t> samples;
  std::vector<int64_t> ends(texts.size());
  {
    nb::gil_scoped_release release;
    Scratch scratch;
    for (size_t i = 0; i < texts.size(); ++i) {
      if (!skip.data()[i]) substrings::sample(texts[i], tokens, scratch, samples);
      ends[i] = static_cast<int64_t>(samples.size());
    }
  }
  return nb::make_tuple(to_numpy(std::move(samples)), to_numpy(std::move(ends)));
}

void add_samples(Merge& merge, uint64_t row, Array<uint64_t> samples, Array<int64_t> offsets) {
  for (size_t i = 0; i < offsets.size(); ++i) {
    const int64_t offset = offsets.data()[i];
    if (offset < (i ? offsets.data()[i - 1] : 0) || static_cast<uint64_t>(offset) > samples.size())
      throw nb::value_error("offsets: expected to ascend and to lie within the samples");
  }
  nb::gil_scoped_release release;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const auto from = static_cast<size_t>(offsets.data()[i]);
    merge.add_samples(row + i, {samples.data() + from,
                                static_cast<size_t>(offsets.data()[i + 1]) - from});
  }
}

// Take up the texts that are wanted of these, whose rows begin at `row`.
void add_texts(Merge& merge, uint64_t row, nb::handle array) {
  const Texts texts(array);
  nb::gil_scoped_release release;
  for (int64_t next; (next = merge.next_row()) >= 0;) {
    const auto place = static_cast<uint64_t>(next) - row;
    if (static_cast<uint64_t>(next) < row)
      throw std::invalid_argument("the text of row " + std::to_string(next) + " was left out");
    if (place >= texts.size()) break;
    merge.add_text(static_cast<uint64_t>(next), texts[place]);
  }
}

nb::tuple take(Merge& merge, size_t limit) {
  std::vector<int64_t> rows, begins, ends;
  {
    nb::gil_scoped_release release;
    for (Cut cut; rows.size() < limit && merge.take(cut);) {
      rows.push_back(static_cast<int64_t>(cut.row));
      begins.push_back(cut.begin);
      ends.push_back(cut.end);
    }
  }
  return nb::make_tuple(to_numpy(std::move(rows)), to_numpy(std::move(begins)),
                        to_numpy(std::move(ends)));
}

nb::tuple split(nb::bytes text) {
  std::vector<substrings::Token> tokens;
  substrings::split({text.c_str(), text.size()}, tokens);
  std::vector<uint64_t> hashes;
  std::vector<uint32_t> begins, ends, units;
  for (const auto& token : tokens) {
    hashes.push_back(token.hash);
    begins.push_back(token.begin);
    ends.push_back(token.end);
    units.push_back(token.units);
  }
  return nb::make_tuple(to_numpy(std::move(hashes)), to_numpy(std::move(begins)),
                        to_numpy(std::move(ends)), to_numpy(std::move(units)));
}

}  // namespace

void bind_substrings(nb::module_& m) {
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const std::system_error& error) {
      nb::object made = nb::module_::import_("builtins").attr("OSError")(
          error.code().value(), error.what());
      PyErr_SetObject(PyExc_OSError, made.ptr());
    }
  });
  m.def("split_tokens", &split, nb::arg("text"),
        "(hashes uint64, begins, ends uint32 in bytes, units uint32), one for each token of UTF-8.");
  m.def("sample_substrings", &sample, nb::arg("texts"), nb::arg("skip").noconvert(),
        nb::arg("tokens"), "(samples uint64 of all texts joined, ends int64 of each text's).");
  nb::class_<Merge>(m, "SubstringMerge")
      .def(nb::init<std::string, uint64_t, uint32_t, bool>(), nb::arg("folder"), nb::arg("memory"),
           nb::arg("tokens"), nb::arg("keep_first"))
      .def("add_samples", &add_samples, nb::arg("row"), nb::arg("samples").noconvert(),
           nb::arg("offsets").noconvert())
      .def("match", &Merge::match, nb::call_guard<nb::gil_scoped_release>())
      .def("next_row", &Merge::next_row)
      .def("add_texts", &add_texts, nb::arg("row"), nb::arg("texts"))
      .def("decide", &Merge::decide, nb::call_guard<nb::gil_scoped_release>())
      .def("take", &take, nb::arg("limit"));
}

}  // namespace gristmill
