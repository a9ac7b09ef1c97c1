#include "bind.hpp"

namespace gristmill {

void bind_private_data(nb::module_&) {}

}  // namespace gristmill
