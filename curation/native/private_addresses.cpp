// Addresses of people and of networks: e-mail, IPv4, IPv6.
//
// Versions and numbered sections look like IPv4, decorators and products of matrices like e-mail:
// what stands around a match decides.

#include <algorithm>
#include <array>
#include <cstring>

#include "private_data.hpp"

namespace gristmill {

namespace {

using ascii::alnum;
using ascii::digit;
using ascii::letter;
using ascii::word;

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

// The end of the longest domain name after the @ that ends in two letters or more, else 0.
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

// Names that RFC 2606 keeps for examples and tests (the placeholder is of them), and what SSH calls
// its algorithms: chacha20-poly1305@openssh.com.
bool reserved(const PrivateText& t, size_t begin, size_t top, size_t end) {
  for (const auto* name : {"example", "invalid", "test", "localhost"})
    if (equals(t, top, end, name)) return true;
  for (const std::string_view name :
       {"example.com", "example.org", "example.net", "example.edu", "openssh.com"})
    if (end - begin >= name.size() && equals(t, end - name.size(), end, name) &&
        (end - begin == name.size() || t.at(end - name.size() - 1) == '.'))
      return true;
  return false;
}

constexpr std::string_view kVersionWords[] = {"v", "ver", "release", "rev", "build", "section"};

// Whether "version", "release 4." or the like comes before: 1.20.3.4 is no address then.
bool after_version_word(const PrivateText& t, size_t begin) {
  size_t end = begin;
  for (int skipped = 0; skipped < 3 && end > 0; ++skipped, --end)
    if (std::memchr(" :=\"'(.", t.at(end - 1), 7) == nullptr) break;
  char word[16];
  size_t length = 0;
  while (length < 16 && end > length && letter(t.at(end - length - 1))) {
    ++length;
    word[16 - length] = static_cast<char>(ascii::lower(t.at(end - length)));
  }
  const std::string_view found(word + 16 - length, length);
  if (found.size() >= 7 && found.substr(found.size() - 7) == "version") return true;
  for (const auto known : kVersionWords)
    if (found == known) return true;
  return false;
}

// The networks of IANA's registry of special-purpose addresses, and those of multicast.
bool public_ipv4(const std::array<uint32_t, 4>& part) {
  const auto [a, b, c, d] = part;
  return !(a == 0 || a == 10 || a == 127 || a >= 224 || (a == 100 && b >= 64 && b < 128) ||
           (a == 169 && b == 254) || (a == 172 && b >= 16 && b < 32) ||
           (a == 192 && b == 0 && (c == 0 || c == 2)) || (a == 192 && b == 168) ||
           (a == 198 && (b == 18 || b == 19 || (b == 51 && c == 100))) ||
           (a == 203 && b == 0 && c == 113));
}

}  // namespace

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

void find_ipv4(const PrivateText& t, size_t begin) {
  const unsigned char before = t.at(begin - 1);
  if (word(before) || before == '.') return;
  if (before == '-' && letter(t.at(begin - 2))) return;  // the file name-1.2.3.40.zip
  if (before == '/' && alnum(t.at(begin - 2))) return;   // the user agent Name/1.2.3.40
  std::array<uint32_t, 4> part{};
  size_t i = begin;
  uint32_t largest = 0;
  for (int k = 0; k < 4; ++k) {
    if (k > 0 && t.at(i++) != '.') return;
    const size_t first = i;
    while (i - first < 4 && digit(t.at(i))) part[k] = part[k] * 10 + (t.at(i++) - '0');
    if (i == first || part[k] > 255 || i - first > 3 || (t.at(first) == '0' && i - first > 1))
      return;
    largest = std::max(largest, part[k]);
  }
  if (largest < 32) return;  // 12.6.2.2 is a section or a version; of addresses one in 4,096
  if (largest < 100 && before == ' ' && digit(t.at(begin - 2))) return;  // 0 1 1.94.56.7, a drawing
  const unsigned char after = t.at(i);
  if (word(after) || (after == '.' && alnum(t.at(i + 1)))) return;
  if (after == '-' && (letter(t.at(i + 1)) || t.at(i + 1) == '.')) return;  // a release, a drawing
  if (t.rules.public_ips_only && !public_ipv4(part)) return;
  size_t compared = begin;  // the requirement name>=1.2.3.40
  if (t.at(compared - 1) == ' ') --compared;
  if (t.at(compared - 1) == '=' && std::memchr("=<>~!", t.at(compared - 2), 5)) return;
  if (!after_version_word(t, begin)) t.add(begin, i, PrivateKind::kIpv4);
}

// Global addresses begin with a group of four from 2000 to 3fff, others that are looked for with
// fc, fd (private networks) or fe80 (the link).
void find_ipv6(const PrivateText& t, size_t colon) {
  if (colon < 4) return;
  const size_t begin = colon - 4;
  const auto hex = [](unsigned char c) {
    return digit(c) || static_cast<unsigned char>((c | 32) - 'a') < 6;
  };
  const unsigned char first = t.at(begin);
  const bool global = first == '2' || first == '3';
  if (!global && (t.rules.public_ips_only || (first | 32) != 'f')) return;
  for (size_t i = begin; i < colon; ++i)
    if (!hex(t.at(i))) return;
  const unsigned char before = t.at(begin - 1);
  if (word(before) || (before && std::memchr(".:-", before, 3))) return;
  size_t end = colon;
  while (end - begin < 41 && (hex(t.at(end)) || t.at(end) == ':')) ++end;
  if (t.at(end - 1) == ':' && t.at(end - 2) != ':') --end;  // the colon after a name
  if (end - begin > 39 || word(t.at(end))) return;
  uint32_t group[8] = {};
  size_t groups = 0, gaps = 0;
  for (size_t i = begin; i < end;) {
    if (groups == 8) return;
    const size_t start = i;
    while (i < end && t.at(i) != ':') {
      const unsigned char c = ascii::lower(t.at(i++));
      group[groups] = group[groups] << 4 | static_cast<uint32_t>(digit(c) ? c - '0' : c - 'a' + 10);
    }
    if (i - start == 0 || i - start > 4) return;
    ++groups;
    if (i == end) break;
    if (t.at(i + 1) == ':' && i + 1 < end) {
      ++gaps;
      i += 2;
      if (i < end && t.at(i) == ':') return;
    } else {
      ++i;
    }
  }
  if (groups < 3 || gaps > 1 || (gaps == 0 ? groups != 8 : groups > 7)) return;
  const bool documentation =
      (group[0] == 0x2001 && group[1] == 0xdb8) || (group[0] == 0x3fff && group[1] < 0x1000);
  if (t.rules.public_ips_only && documentation) return;
  if (!global && (group[0] & 0xfe00) != 0xfc00 && (group[0] & 0xffc0) != 0xfe80) return;
  t.add(begin, end, PrivateKind::kIpv6);
}

}  // namespace gristmill
