// Private data, as Python sees it.

#include "bind.hpp"
#include "private_data.hpp"

namespace gristmill {

void bind_private_data(nb::module_& m) {
  m.def(
      "find_private",
      [](nb::handle array, uint32_t kinds, bool public_ips_only) {
        const Texts texts(array);
        std::vector<int64_t> rows, starts, ends;
        std::vector<uint8_t> found_kinds;
        {
          nb::gil_scoped_release release;
          const PrivateRules rules{kinds, public_ips_only};
          std::vector<PrivateSpan> found;
          for (size_t row = 0; row < texts.size(); ++row) {
            found.clear();
            find_private(texts[row], rules, found);
            for (const auto& span : found) {
              rows.push_back(static_cast<int64_t>(row));
              starts.push_back(static_cast<int64_t>(span.start));
              ends.push_back(static_cast<int64_t>(span.end));
              found_kinds.push_back(static_cast<uint8_t>(span.kind));
            }
          }
        }
        return nb::make_tuple(to_numpy(std::move(rows)), to_numpy(std::move(starts)),
                              to_numpy(std::move(ends)), to_numpy(std::move(found_kinds)));
      },
      nb::arg("texts"), nb::arg("kinds"), nb::arg("public_ips_only"),
      "The private data in an Arrow array of strings: (row int64, start int64, end int64: bytes "
      "of\n"
      "its text, kind uint8), in order, none overlapping another. `kinds` has a bit for each kind\n"
      "that is looked for: e-mail, IPv4, IPv6, phone, key, card, IBAN.");
}

}  // namespace gristmill
