// Sorting on disk and union-find, for the merges of deduplication.

#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include "bind.hpp"
#include "sorter.hpp"
#include "union_find.hpp"

#include <array>
#include <system_error>

namespace gristmill {
namespace {

using Records = nb::ndarray<const uint64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// What Python sees: records of any width.
class RecordSorter {
 public:
  virtual ~RecordSorter() = default;
  virtual size_t width() const = 0;
  virtual void add(const uint64_t* records, size_t count, bool sorted) = 0;
  virtual void read(std::vector<uint64_t>& out, size_t most) = 0;
};

template <size_t W>
class SorterOf final : public RecordSorter {
  using Record = std::array<uint64_t, W>;
  static_assert(sizeof(Record) == W * sizeof(uint64_t));

 public:
  SorterOf(const std::string& folder, size_t memory) : sorter_(folder, memory) {}

  size_t width() const override { return W; }

  void add(const uint64_t* records, size_t count, bool sorted) override {
    if (reading_) throw std::logic_error("records were added to a sorter that is being read");
    const auto* record = reinterpret_cast<const Record*>(records);
    if (sorted) return sorter_.add_sorted(record, count);
    for (size_t i = 0; i < count; ++i) sorter_.add(record[i]);
  }

  void read(std::vector<uint64_t>& out, size_t most) override {
    if (!reading_) sorter_.finish();
    reading_ = true;
    out.reserve(std::min<size_t>(most, 1 << 16) * W);
    for (; most; --most, sorter_.pop()) {
      const Record* record = sorter_.peek();
      if (!record) return;
      out.insert(out.end(), record->begin(), record->end());
    }
  }

 private:
  Sorter<Record> sorter_;
  bool reading_ = false;
};

std::unique_ptr<RecordSorter> make(const std::string& folder, size_t width, size_t memory) {
  switch (width) {
    case 2: return std::make_unique<SorterOf<2>>(folder, memory);
    case 3: return std::make_unique<SorterOf<3>>(folder, memory);
    case 4: return std::make_unique<SorterOf<4>>(folder, memory);
    default: throw std::invalid_argument("expected records of 2, 3 or 4 numbers");
  }
}

void add(RecordSorter& sorter, Records records, bool sorted) {
  if (records.shape(1) != sorter.width())
    throw nb::value_error(("expected records of " + std::to_string(sorter.width()) +
                           " numbers, found " + std::to_string(records.shape(1))).c_str());
  nb::gil_scoped_release release;
  sorter.add(records.data(), records.shape(0), sorted);
}

nb::object read(RecordSorter& sorter, size_t most) {
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
        gristmill::unite(parents.data(), static_cast<T>(a.data()[i]), static_cast<T>(b.data()[i]));
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
      out[i] = root(parents.data(), static_cast<T>(first + i));
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
  nb::class_<RecordSorter>(m, "Sorter",
                     "Sorts records of `width` (2 to 4) unsigned 64-bit numbers, more than fit in "
                     "`memory` (bytes), in a nameless file in `folder`.")
      .def("add", &add, nb::arg("records"), nb::arg("sorted") = false,
           "Take records, uint64 [n, width]; `sorted` says that they are in order and come after "
           "those that were said to be so before. Raises ValueError if they do not.")
      .def("read", &read, nb::arg("most"),
           "The next records in order, at most `most`; fewer only at the end.");
  m.def("sorter", &make, nb::arg("folder"), nb::arg("width"), nb::arg("memory"));
  bind_parents<uint32_t>(m);
  bind_parents<uint64_t>(m);
}

}  // namespace gristmill
