// The pass over a text. See private_data.hpp.

#include "private_data.hpp"

#include <algorithm>
#include <array>

namespace gristmill {

namespace {

enum Stop : uint8_t { kNone, kAt, kPlus, kDigit, kColon, kEquals, kKeyByte };

constexpr auto kStops = [] {
  std::array<uint8_t, 256> stops{};
  stops['@'] = kAt;
  stops['+'] = kPlus;
  for (int c = '0'; c <= '9'; ++c) stops[c] = kDigit;
  stops[':'] = kColon;
  stops['='] = kEquals;
  for (const char c : {'-', '_', 'A', 'I', 'J', 'G'})
    stops[static_cast<unsigned char>(c)] = kKeyByte;
  return stops;
}();

}  // namespace

void find_private(std::string_view text, const PrivateRules& rules,
                  std::vector<PrivateSpan>& found) {
  const size_t first = found.size();
  const PrivateText t{text, rules, found};
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const size_t size = text.size();
  for (size_t i = 0; i < size; ++i) {
    switch (kStops[bytes[i]]) {
      case kNone:
        break;
      case kAt:
        find_email(t, i);
        break;
      case kPlus:
        find_international_phone(t, i);
        break;
      case kDigit: {
        size_t end = i + 1;
        while (end < size && ascii::digit(bytes[end])) ++end;
        if (end - i <= 3 && t.at(end) == '.') find_ipv4(t, i);
        find_numbers(t, i, end);
        i = end - 1;
        break;
      }
      case kColon:
        find_ipv6(t, i);
        find_assignment(t, i);
        break;
      case kEquals:
        find_assignment(t, i);
        break;
      case kKeyByte:
        find_key(t, i);
        break;
    }
  }
  if (found.size() - first < 2) return;
  std::sort(found.begin() + static_cast<ptrdiff_t>(first), found.end(),
            [](const PrivateSpan& a, const PrivateSpan& b) {
              if (a.start != b.start) return a.start < b.start;
              if (a.end != b.end) return a.end > b.end;
              return a.kind < b.kind;
            });
  size_t kept = first;
  for (size_t i = first + 1; i < found.size(); ++i)
    if (found[i].start >= found[kept].end) found[++kept] = found[i];
  found.resize(kept + 1);
}

}  // namespace gristmill
