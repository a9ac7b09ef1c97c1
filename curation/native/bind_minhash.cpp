#include "bind.hpp"

namespace gristmill {

void bind_minhash(nb::module_&) {}

}  // namespace gristmill
