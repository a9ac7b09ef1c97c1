// The table of characters, for the Python twins.

#include "bind.hpp"
#include "characters.hpp"

namespace gristmill {

void bind_characters(nb::module_& m) {
  m.def(
      "characters",
      [] {
        const auto& table = characters::Table::get();
        std::vector<uint16_t> flags(0x110000);
        std::vector<uint32_t> lower(0x110000);
        for (uint32_t point = 0; point < 0x110000; ++point) {
          flags[point] = table.flags(point);
          lower[point] = table.lower(point);
        }
        return nb::make_tuple(to_numpy(std::move(flags)), to_numpy(std::move(lower)));
      },
      "(flags uint16 [0x110000], lower case uint32 [0x110000]): bits as in characters.inc.");
}

}  // namespace gristmill
