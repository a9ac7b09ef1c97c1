// The pass over a text, and the rule for e-mail addresses. See private_data.hpp.

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
  for (const char c : {'-', '_', 'A', 'I', 'J', 'G'}) stops[static_cast<unsigned char>(c)] = kKeyByte;
  return stops;
}();

// Letters of Latin script outside of ASCII, U+00C0 to U+024F, are C3 80 to C9 8F in UTF-8.
bool latin_letter(unsigned char lead, unsigned char next) {
  return lead >= 0xc3 && lead <= 0xc9 && next >= 0x80 && next < (lead == 0xc9 ? 0x90 : 0xc0);
}

constexpr size_t kMaxLocal = 64, kMaxDomain = 254;  // RFC 5321, section 4.5.3.1

// The beginning of the part before the @, or the @'s place if there is none.
size_t local_part(const PrivateText& t, size_t at) {
  size_t run = at;
  while (run > 0 && at - run <= kMaxLocal) {
    const unsigned char c = t.at(run - 1);
    if (ascii::word(c) || c == '.' || c == '+' || c == '-')
      --run;
    else if (c >= 0x80 && c < 0xc0 && run > 1 && latin_letter(t.at(run - 2), c))
      run -= 2;
    else
      break;
  }
  if (at - run > kMaxLocal || run == at || t.at(at - 1) == '.') return at;
  for (size_t i = at - 1; i > run; --i)
    if (t.at(i) == '.' && t.at(i - 1) == '.') {
      run = i + 1;
      break;
    }
  while (run < at && (t.at(run) == '.' || t.at(run) == '+' || t.at(run) == '-')) ++run;
  return run;
}

// The end of the longest domain name after the @ that ends in two letters or more; 0 if there is none.
size_t domain_end(const PrivateText& t, size_t begin, size_t& top) {
  size_t stop = begin;
  while (stop - begin <= kMaxDomain &&
         (ascii::alnum(t.at(stop)) || t.at(stop) == '.' || t.at(stop) == '-'))
    ++stop;
  if (stop - begin > kMaxDomain) return 0;
  size_t end = 0;
  for (size_t label = begin; label < stop;) {
    if (!ascii::alnum(t.at(label))) break;
    size_t letters = label, next = label;
    while (letters < stop && ascii::letter(t.at(letters))) ++letters;
    while (next < stop && t.at(next) != '.') ++next;
    if (label > begin && letters - label >= 2 && letters - label <= 24 &&
        (letters == next || t.at(letters) == '-')) {
      end = letters;
      top = label;
    }
    if (t.at(next - 1) == '-') break;
    label = next + 1;
  }
  return end;
}

bool equals(const PrivateText& t, size_t begin, size_t end, std::string_view lower) {
  if (end - begin != lower.size()) return false;
  for (size_t i = 0; i < lower.size(); ++i)
    if (ascii::lower(t.at(begin + i)) != static_cast<unsigned char>(lower[i])) return false;
  return true;
}

// Names that RFC 2606 keeps for examples and tests (the placeholder is of them), and what SSH calls its
// algorithms: chacha20-poly1305@openssh.com.
bool reserved(const PrivateText& t, size_t begin, size_t top, size_t end) {
  for (const auto* name : {"example", "invalid", "test", "localhost"})
    if (equals(t, top, end, name)) return true;
  for (const std::string_view name : {"example.com", "example.org", "example.net", "example.edu",
                                     "openssh.com"})
    if (end - begin >= name.size() && equals(t, end - name.size(), end, name) &&
        (end - begin == name.size() || t.at(end - name.size() - 1) == '.'))
      return true;
  return false;
}

void find_email(const PrivateText& t, size_t at) {
  const size_t begin = local_part(t, at);
  if (begin == at) return;
  size_t top = 0;
  const size_t end = domain_end(t, at + 1, top);
  // x@w.transpose( multiplies matrices, name@entry.content.0 is a path in a structure; git@host: is
  // everybody's; icon@2x.png is a file.
  if (end == 0 || t.at(end) == '(' || (t.at(end) == '.' && ascii::digit(t.at(end + 1)))) return;
  if (t.text.substr(begin, at - begin) == "git") return;
  for (const auto* name : {"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "html"})
    if (equals(t, top, end, name)) return;
  if (!reserved(t, at + 1, top, end)) t.add(begin, end, PrivateKind::kEmail);
}

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
