#include "bind.hpp"

namespace gristmill {

void bind_quality(nb::module_&) {}

}  // namespace gristmill
