// What the files that show packing's native core to Python share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace gristmill {

namespace nb = nanobind;

void bind_rows(nb::module_& m);

}  // namespace gristmill
