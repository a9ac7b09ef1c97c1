// The scanner's Python face.

#include <nanobind/stl/string_view.h>

#include "bind.hpp"
#include "scanner.hpp"

namespace gristmill {

using namespace nb::literals;

namespace {

nb::object word_ends(std::string_view scheme_name, nb::bytes text) {
  const Scheme scheme = scheme_of(scheme_name);
  const auto* bytes = static_cast<const uint8_t*>(text.data());
  std::vector<int64_t> ends;
  {
    nb::gil_scoped_release release;
    Scanner scanner(scheme, bytes, text.size());
    size_t some[1024];
    while (const size_t count = scanner.next(some, std::size(some)))
      ends.insert(ends.end(), some, some + count);
  }
  return to_numpy(std::move(ends));
}

}  // namespace

void bind_scanner(nb::module_& m) {
  m.def("word_ends", &word_ends, "scheme_name"_a, "text"_a);
}

}  // namespace gristmill
