#include "bind.hpp"

namespace gristmill {

void bind_decontaminate(nb::module_&) {}

}  // namespace gristmill
