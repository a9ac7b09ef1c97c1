// The counter's Python face.

#include <nanobind/stl/string.h>

#include <stdexcept>

#include "bind.hpp"
#include "counter.hpp"

namespace gristmill {

using namespace nb::literals;

void bind_counter(nb::module_& m) {
  nb::class_<Counter>(m, "Counter")
      .def(
          "__init__",
          [](Counter* self, const std::string& scheme, size_t threads) {
            if (threads < 1) throw std::invalid_argument("threads must be at least 1");
            new (self) Counter(scheme_of(scheme), threads);
          },
          "scheme"_a, "threads"_a)
      .def(
          "add",
          [](Counter& self, Array<uint8_t> data, Array<int64_t> offsets, Array<uint32_t> groups) {
            const size_t n = offsets.shape(0);
            const int64_t* o = offsets.data();
            if (n == 0 || o[0] < 0 || o[n - 1] > static_cast<int64_t>(data.shape(0)))
              throw std::invalid_argument("offsets must lie within the data");
            for (size_t i = 1; i < n; ++i)
              if (o[i] < o[i - 1]) throw std::invalid_argument("offsets must ascend");
            if (groups.shape(0) != 0 && groups.shape(0) != n - 1)
              throw std::invalid_argument("there must be one group for each text, or none");
            nb::gil_scoped_release release;
            self.add(data.data(), {o, n}, {groups.data(), groups.shape(0)});
          },
          "data"_a, "offsets"_a, "groups"_a)
      .def("memory", &Counter::memory)
      .def(
          "take",
          [](Counter& self, bool sorted) {
            Counter::Table table;
            {
              nb::gil_scoped_release release;
              table = self.take(sorted);
            }
            return nb::make_tuple(to_numpy(std::move(table.bytes)), to_numpy(std::move(table.offsets)),
                                  to_numpy(std::move(table.groups)),
                                  to_numpy(std::move(table.counts)));
          },
          "sorted"_a);
}

}  // namespace gristmill
