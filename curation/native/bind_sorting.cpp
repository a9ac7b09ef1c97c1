// Sorting on disk and union-find, for the merges of deduplication.

#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include "bind.hpp"
#include "sorting.hpp"

#include <system_error>

namespace gristmill {
namespace {

using sorting::Sorter;
using Records = nb::ndarray<const uint64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void add(Sorter& sorter, Records records, bool sorted) {
  if (records.shape(1) != sorter.width())
    throw nb::value_error(("expected records of " + std::to_string(sorter.width()) +
                           " numbers, found " + std::to_string(records.shape(1))).c_str());
  nb::gil_scoped_release release;
  sorter.add(records.data(), records.shape(0), sorted);
}

nb::object read(Sorter& sorter, size_t most) {
  std::vector<uint64_t> out;
  {
    nb::gil_scoped_release release;
    sorter.read(out, most);
  }
  return to_numpy(std::move(out), sorter.width());
}

template <typename T>
using Parents = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void check(bool inside) {
  if (!inside) throw nb::index_error("a row is past the end of the parents");
}

template <typename T>
void unite(Parents<T> parents, Array<uint64_t> a, Array<uint64_t> b) {
  if (a.shape(0) != b.shape(0)) throw nb::value_error("expected as many ends as beginnings");
  const size_t size = parents.shape(0);
  bool inside = true;
  {
    nb::gil_scoped_release release;
    for (size_t i = 0; inside && i < a.shape(0); ++i) {
      inside = a.data()[i] < size && b.data()[i] < size;
      if (inside)
        sorting::unite(parents.data(), static_cast<T>(a.data()[i]), static_cast<T>(b.data()[i]));
    }
  }
  check(inside);
}

template <typename T>
nb::object roots(Parents<T> parents, uint64_t first, uint64_t count) {
  check(first <= parents.shape(0) && count <= parents.shape(0) - first);
  std::vector<uint64_t> out(count);
  {
    nb::gil_scoped_release release;
    for (uint64_t i = 0; i < count; ++i)
      out[i] = sorting::root(parents.data(), static_cast<T>(first + i));
  }
  return to_numpy(std::move(out));
}

template <typename T>
void bind_parents(nb::module_& m) {
  m.def("unite", &unite<T>, nb::arg("parents").noconvert(), nb::arg("a"), nb::arg("b"),
        "Join the components of a[i] and b[i], for each i; `parents` begins as 0, 1, 2, ...");
  m.def("roots", &roots<T>, nb::arg("parents").noconvert(), nb::arg("first"), nb::arg("count"),
        "The first row of the component of each row from `first`: uint64 [count].");
}

}  // namespace

void bind_sorting(nb::module_& m) {
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::system_error& error) {
      const nb::tuple arguments = nb::make_tuple(error.code().value(), error.what());
      PyErr_SetObject(PyExc_OSError, arguments.ptr());
    }
  });
  nb::class_<Sorter>(m, "Sorter",
                     "Sorts records of `width` (2 to 4) unsigned 64-bit numbers, more than fit in "
                     "`memory` (bytes), in a nameless file in `folder`.")
      .def("add", &add, nb::arg("records"), nb::arg("sorted") = false,
           "Take records, uint64 [n, width]; `sorted` says that they are in order and come after "
           "those that were said to be so before. Raises ValueError if they do not.")
      .def("read", &read, nb::arg("most"),
           "The next records in order, at most `most`; fewer only at the end.");
  m.def("sorter", &sorting::make, nb::arg("folder"), nb::arg("width"), nb::arg("memory"));
  bind_parents<uint32_t>(m);
  bind_parents<uint64_t>(m);
}

}  // namespace gristmill
