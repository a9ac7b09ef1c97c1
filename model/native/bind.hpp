// What the files that show the model's native core to Python share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

namespace gristmill {

namespace nb = nanobind;

inline void expect(bool good) {
  if (!good) throw nb::value_error("arrays of shapes that don't belong together");
}

void bind_decode(nb::module_& m);
void bind_train(nb::module_& m);

}  // namespace gristmill
