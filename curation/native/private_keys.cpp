// Keys, tokens and passwords: by the prefixes that services give them, by the armour of a private
// key, or because something called a password is set to a text that is not a word.
//
// A rule with a prefix wants no letter, digit, - or _ before it. What follows a prefix is made of
// these alone, so no two attempts of a rule read the same bytes, and the time stays linear.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "private_data.hpp"

namespace gristmill {

namespace {

using ascii::alnum;
using ascii::digit;
using ascii::letter;
using ascii::upper;
using ascii::word;

bool token_byte(unsigned char c) { return word(c) || c == '-'; }

struct Prefix {
  std::string_view text;
  size_t stop;      // the byte of it that the pass stops at
  bool marks;       // whether - and _ may follow, besides letters and digits
  size_t min, max;  // bytes that follow
  bool mixed;       // whether capitals, small letters and digits must be among them
};

constexpr Prefix kPrefixes[] = {
    {"AKIA", 3, false, 16, 16, false},          // Amazon
    {"ASIA", 3, false, 16, 16, false},          //
    {"AIza", 1, true, 35, 35, false},           // Google
    {"GOCSPX-", 6, true, 28, 28, false},        //
    {"ghp_", 3, false, 36, 255, false},         // GitHub
    {"gho_", 3, false, 36, 255, false},         //
    {"ghu_", 3, false, 36, 255, false},         //
    {"ghs_", 3, false, 36, 255, false},         //
    {"ghr_", 3, false, 36, 255, false},         //
    {"github_pat_", 10, true, 22, 255, false},  //
    {"glpat-", 5, true, 20, 64, false},         // GitLab
    {"xoxa-", 4, true, 16, 255, false},         // Slack
    {"xoxb-", 4, true, 16, 255, false},         //
    {"xoxe-", 4, true, 16, 255, false},         //
    {"xoxp-", 4, true, 16, 255, false},         //
    {"xoxr-", 4, true, 16, 255, false},         //
    {"xoxs-", 4, true, 16, 255, false},         //
    {"sk_live_", 7, false, 16, 255, false},     // Stripe
    {"sk_test_", 7, false, 16, 255, false},     //
    {"rk_live_", 7, false, 16, 255, false},     //
    {"rk_test_", 7, false, 16, 255, false},     //
    {"whsec_", 5, false, 32, 64, false},        //
    {"sk-", 2, true, 20, 255, true},            // OpenAI, Anthropic and others
    {"hf_", 2, false, 30, 40, false},           // Hugging Face
    {"npm_", 3, false, 36, 36, false},          // npm
    {"pypi-", 4, true, 85, 255, false},         // PyPI
    {"shpat_", 5, false, 32, 32, false},        // Shopify
    {"dop_v1_", 6, false, 64, 64, false},       // DigitalOcean
};

// The bytes that come before the stops: of the many _ and - in a text, few follow one of these.
constexpr auto kBeforeStop = [] {
  std::array<bool, 256> before{};
  for (const auto& prefix : kPrefixes)
    before[static_cast<unsigned char>(prefix.text[prefix.stop - 1])] = true;
  return before;
}();

bool mixed(std::string_view text) {
  bool capital = false, small = false, number = false;
  for (const unsigned char c : text) {
    capital |= upper(c);
    small |= letter(c) && !upper(c);
    number |= digit(c);
  }
  return capital && small && number;
}

size_t token_run(const PrivateText& t, size_t i, bool marks) {
  while (marks ? token_byte(t.at(i)) : alnum(t.at(i))) ++i;
  return i;
}

void find_prefixed(const PrivateText& t, size_t stop) {
  if (!kBeforeStop[t.at(stop - 1)]) return;
  for (const auto& prefix : kPrefixes) {
    if (prefix.text[prefix.stop] != t.text[stop] || stop < prefix.stop) continue;
    const size_t begin = stop - prefix.stop;
    if (t.text.compare(begin, prefix.text.size(), prefix.text) != 0) continue;
    if (token_byte(t.at(begin - 1))) return;
    const size_t body = begin + prefix.text.size();
    const size_t end = token_run(t, body, prefix.marks);
    if (end - body < prefix.min || end - body > prefix.max) return;
    if (!prefix.mixed || mixed(t.text.substr(body, end - body)))
      t.add(begin, end, PrivateKind::kKey);
    return;
  }
}

// A JSON web token: two objects, which begin with {" in base64, and a signature.
void find_web_token(const PrivateText& t, size_t stop) {
  if (stop < 2 || t.text.compare(stop - 2, 3, "eyJ") != 0 || token_byte(t.at(stop - 3))) return;
  size_t i = token_run(t, stop + 1, true);
  if (i - stop - 1 < 10 || t.text.compare(i, 4, ".eyJ") != 0) return;
  const size_t second = i + 4;
  i = token_run(t, second, true);
  if (i - second < 10 || t.at(i) != '.') return;
  const size_t third = i + 1;
  i = token_run(t, third, true);
  if (i - third >= 16) t.add(stop - 2, i, PrivateKind::kKey);
}

// SendGrid: SG. and 22 and 43 characters.
void find_sendgrid(const PrivateText& t, size_t stop) {
  if (stop < 1 || t.text.compare(stop - 1, 3, "SG.") != 0 || token_byte(t.at(stop - 2))) return;
  const size_t dot = token_run(t, stop + 2, true);
  if (dot - stop - 2 != 22 || t.at(dot) != '.') return;
  const size_t end = token_run(t, dot + 1, true);
  if (end - dot - 1 == 43) t.add(stop - 1, end, PrivateKind::kKey);
}

// The label in "-----BEGIN label-----" or "-----END label-----", empty if no private key has it.
std::string_view armour_label(const PrivateText& t, size_t begin) {
  size_t end = begin;
  while (end - begin < 64 && (upper(t.at(end)) || digit(t.at(end)) || t.at(end) == ' ')) ++end;
  const std::string_view label = t.text.substr(begin, end - begin);
  return t.text.compare(end, 5, "-----") == 0 &&
                 (label.ends_with("PRIVATE KEY") || label.ends_with("PRIVATE KEY BLOCK"))
             ? label
             : std::string_view();
}

// From the first line of a private key to its last. The next five hyphens are the last line's, so
// that the search of one key ends where another's can begin.
void find_armoured(const PrivateText& t, size_t begin) {
  constexpr std::string_view kBegin = "-----BEGIN ", kEnd = "-----END ";
  if (t.text.compare(begin, kBegin.size(), kBegin) != 0) return;
  const std::string_view label = armour_label(t, begin + kBegin.size());
  if (label.empty()) return;
  const size_t body = begin + kBegin.size() + label.size() + 5;
  const size_t last = t.text.find("-----", body);
  if (last == std::string_view::npos || last - body < 40 || last - body > 32768) return;
  if (t.text.compare(last, kEnd.size(), kEnd) != 0) return;
  if (armour_label(t, last + kEnd.size()) == label)
    t.add(begin, last + kEnd.size() + label.size() + 5, PrivateKind::kKey);
}

constexpr size_t kMaxValue = 128, kMaxName = 48, kMaxSpaces = 8;

// Shannon's entropy of a value's bytes against a bound in bits a byte. c·log2(c) is rounded to
// 2^-16, so that every compiler decides alike.
bool entropy_at_least(std::string_view value, double bits) {
  static const auto table = [] {
    std::array<int64_t, kMaxValue + 1> t{};
    for (size_t c = 1; c < t.size(); ++c)
      t[c] = std::llround(65536 * static_cast<double>(c) * std::log2(static_cast<double>(c)));
    return t;
  }();
  std::array<uint8_t, 256> counts{};
  for (const unsigned char c : value) ++counts[c];
  int64_t total = table[value.size()];
  for (const uint8_t count : counts) total -= table[count];
  return total >= std::llround(65536 * bits) * static_cast<int64_t>(value.size());
}

constexpr std::string_view kSecretNames[] = {"password",   "passwd",    "pwd",    "passphrase",
                                             "secret",     "secretkey", "apikey", "accesskey",
                                             "privatekey", "token"};

// Whether a name says that its value is a secret, marks and capitals apart: DB_PASSWORD, apiKey.
bool secret_name(std::string_view name) {
  char letters[kMaxName];
  size_t size = 0;
  for (const unsigned char c : name)
    if (alnum(c)) letters[size++] = static_cast<char>(ascii::lower(c));
  const std::string_view plain(letters, size);
  if (plain.ends_with("publickeytoken")) return false;  // names an assembly of .NET
  return std::any_of(std::begin(kSecretNames), std::end(kSecretNames),
                     [&](std::string_view known) { return plain.ends_with(known); });
}

bool quote(unsigned char c) { return c == '"' || c == '\''; }
bool blank(unsigned char c) { return c == ' ' || c == '\t'; }

// The name that ends before `end`, at most kMaxName bytes of it.
std::string_view name_before(const PrivateText& t, size_t end) {
  size_t begin = end;
  while (begin > 0 && end - begin < kMaxName &&
         (token_byte(t.at(begin - 1)) || t.at(begin - 1) == '.'))
    --begin;
  return t.text.substr(begin, end - begin);
}

// What is written to be replaced or computed is no secret: {{ key }}, <key>, f(x), a URL.
bool literal_secret(std::string_view value) {
  bool letters = false, digits = false;
  for (const unsigned char c : value) {
    if (std::memchr("{}<>()[]", c, 8)) return false;
    letters |= letter(c);
    digits |= digit(c);
  }
  return letters && digits && value[0] != '$' && value[0] != '%' &&
         value.find("://") == std::string_view::npos && entropy_at_least(value, 3.0);
}

// NAME=value alone on its line, as in files of environment variables.
void find_environment(const PrivateText& t, size_t stop) {
  const std::string_view name = name_before(t, stop);
  const size_t begin = stop - name.size();
  const unsigned char before = t.at(begin - 1);
  if (before && before != '\n' && before != ' ') return;
  if (!std::all_of(name.begin(), name.end(),
                   [](unsigned char c) { return upper(c) || digit(c) || c == '_'; }))
    return;
  size_t end = stop + 1;
  while (end - stop <= kMaxValue + 1 &&
         (alnum(t.at(end)) || (t.at(end) && std::memchr("+/=_~-", t.at(end), 6))))
    ++end;
  const std::string_view value = t.text.substr(stop + 1, end - stop - 1);
  if (value.size() < 16 || value.size() > kMaxValue) return;
  const unsigned char after = t.at(end);
  if (after && after != '\n' && after != '\r' && after != ' ') return;
  if (mixed(value) && entropy_at_least(value, 3.5)) t.add(stop + 1, end, PrivateKind::kKey);
}

}  // namespace

void find_key(const PrivateText& t, size_t stop) {
  if (!t.wants(PrivateKind::kKey)) return;
  const char c = t.text[stop];
  if (c == 'J') return find_web_token(t, stop);
  if (c == 'G') return find_sendgrid(t, stop);
  if (c == '-' && t.at(stop - 1) == '-') return;  // a rule of hyphens
  if (c == '-' && t.at(stop + 1) == '-') find_armoured(t, stop);
  find_prefixed(t, stop);
}

void find_assignment(const PrivateText& t, size_t stop) {
  if (!t.wants(PrivateKind::kKey)) return;
  const bool equals = t.text[stop] == '=';
  size_t i = stop + 1;
  if (t.at(i) == (equals ? '>' : '=')) ++i;
  for (size_t k = 0; k < kMaxSpaces && blank(t.at(i)); ++k) ++i;
  const unsigned char mark = t.at(i);
  const bool unquoted = equals && i == stop + 1 && alnum(mark);
  if (!quote(mark) && !unquoted) return;
  size_t end = stop;
  if (!unquoted) {
    for (size_t k = 0; k < kMaxSpaces && end > 0 && blank(t.at(end - 1)); ++k) --end;
    if (end > 0 && quote(t.at(end - 1))) --end;
  }
  if (!secret_name(name_before(t, end))) return;
  if (unquoted) return find_environment(t, stop);
  const size_t begin = ++i;
  while (i - begin <= kMaxValue && t.at(i) > ' ' && t.at(i) < 0x7f && t.at(i) != '\\' &&
         t.at(i) != mark)
    ++i;
  if (i - begin < 8 || i - begin > kMaxValue || t.at(i) != mark) return;
  if (literal_secret(t.text.substr(begin, i - begin))) t.add(begin, i, PrivateKind::kKey);
}

}  // namespace gristmill
