// Telephones, cards and accounts: the rules that begin at a number.
//
// Precision comes first: dates, prices, ISBNs, counters and the numbers of tables look much the
// same. Each rule wants the whole of a number (no digit or letter goes on at its ends), the
// grouping that people write it in, and its checksum where it has one.

#include <algorithm>
#include <array>
#include <cstring>

#include "private_data.hpp"

namespace gristmill {

namespace {

using ascii::alnum;
using ascii::digit;
using ascii::letter;
using ascii::upper;
using ascii::word;

// What may stand between two groups of digits: a space, dot or hyphen, or one bracket with one of
// these outside of it. Gives its length, 0 if the number ends here.
size_t joint(const PrivateText& t, size_t i) {
  const auto plain = [](unsigned char c) { return c == ' ' || c == '.' || c == '-'; };
  size_t size = 0;
  if (t.at(i) == ')')
    size = plain(t.at(i + 1)) ? 2 : 1;
  else if (t.at(i) == '(')
    size = 1;
  else if (plain(t.at(i)))
    size = t.at(i + 1) == '(' ? 2 : 1;
  return size && digit(t.at(i + size)) ? size : 0;
}

struct Groups {
  static constexpr size_t kMax = 16;
  size_t ends[kMax];
  uint8_t sizes[kMax];
  size_t count = 0;
  bool dots_only = true, same_threes = true;
};

// The groups of digits from `begin`, as far as they have at most 15 digits together (ITU-T E.164).
Groups read_groups(const PrivateText& t, size_t begin) {
  Groups groups;
  size_t i = begin, digits = 0;
  while (groups.count < Groups::kMax) {
    const size_t first = i;
    while (digit(t.at(i)) && digits + (i - first) <= 15) ++i;
    digits += i - first;
    if (digits > 15) break;
    groups.sizes[groups.count] = static_cast<uint8_t>(i - first);
    groups.ends[groups.count++] = i;
    const size_t gap = joint(t, i);
    if (!gap) break;
    i += gap;
  }
  return groups;
}

// Whether a telephone's number may end here: not within a word, nor before a decimal comma.
bool cut_off(const PrivateText& t, size_t end) {
  return !word(t.at(end)) && !(t.at(end) == ',' && digit(t.at(end + 1)));
}

// Bounds of the ranges of int32 and uint32, which are written with a plus more often than dialled.
bool machine_number(std::string_view digits) {
  for (const auto* bound : {"2147483647", "2147483648", "4294967295", "4294967296"})
    if (digits == bound) return true;
  return false;
}

// The years 1998-2004, and dates that are written in groups: 12.05.2020, 2020-05-12.
bool dates(const PrivateText& t, size_t begin, const Groups& g, size_t count) {
  const auto year = [&](size_t at) {
    return (t.at(at) == '1' && t.at(at + 1) == '9') || (t.at(at) == '2' && t.at(at + 1) == '0');
  };
  if (count == 2) return g.sizes[0] == 4 && g.sizes[1] == 4 && year(begin) && year(g.ends[1] - 4);
  if (count != 3) return false;
  return (g.sizes[0] <= 2 && g.sizes[1] <= 2 && g.sizes[2] == 4) ||
         (g.sizes[0] == 4 && g.sizes[1] <= 2 && g.sizes[2] <= 2);
}

constexpr std::string_view kPhoneWords[] = {"tel",      "phone",   "telephone", "fax",
                                            "mobile",   "telefax", "whatsapp",  "telefon",
                                            "telefono", "telefone"};
constexpr std::string_view kAccentedPhoneWords[] = {"тел",      "телефон", "Тел",       "Телефон",
                                                    "tél",      "Tél",     "téléphone", "Téléphone",
                                                    "teléfono", "Teléfono"};
constexpr std::string_view kHanPhoneWords[] = {"电话", "電話", "手机", "手機", "传真", "傳真"};

// Whether a word for telephone comes before, with a few marks between.
bool after_phone_word(const PrivateText& t, size_t begin) {
  size_t end = begin;
  for (int skipped = 0; skipped < 4 && end > 0; ++skipped) {
    if (std::memchr(" :.#(", t.at(end - 1), 5))
      --end;
    else if (end >= 3 && t.text.substr(end - 3, 3) == "：")
      end -= 3;
    else
      break;
  }
  if (end == begin) return false;
  const auto ends_with = [&](std::string_view word) {
    return end >= word.size() && t.text.substr(end - word.size(), word.size()) == word;
  };
  const auto starts = [&](size_t size) {  // no hotel
    const unsigned char before = t.at(end - size - 1);
    return before < 0x80 && !letter(before);
  };
  const unsigned char last = t.at(end - 1);
  if (last >= 0x80 || letter(last)) {
    for (const auto word : kHanPhoneWords)
      if (ends_with(word)) return true;
    for (const auto word : kAccentedPhoneWords)
      if (ends_with(word) && starts(word.size())) return true;
  }
  char word[10];
  size_t length = 0;
  while (length < 10 && end > length && letter(t.at(end - length - 1))) {
    ++length;
    word[10 - length] = static_cast<char>(ascii::lower(t.at(end - length)));
  }
  const std::string_view found(word + 10 - length, length);
  for (const auto known : kPhoneWords)
    if (found == known) return starts(length);
  return false;
}

// Any grouping will do after "Tel.: ".
void find_announced_phone(const PrivateText& t, size_t begin) {
  const unsigned char before = t.at(begin - 1);
  if (before < 0x80 && !std::memchr(" :.#(", before, 5)) return;
  if (!after_phone_word(t, begin)) return;
  const Groups groups = read_groups(t, begin);
  size_t digits = 0, end = 0;
  for (size_t k = 0; k < groups.count; ++k) {
    digits += groups.sizes[k];
    if (digits >= 7 && cut_off(t, groups.ends[k]) && !dates(t, begin, groups, k + 1))
      end = groups.ends[k];
  }
  if (!end) return;
  if (before == '(') --begin;
  t.add(begin, end, PrivateKind::kPhone);
}

bool starts_number(const PrivateText& t, size_t begin) {
  const unsigned char before = t.at(begin - 1);
  return !word(before) && !(before && std::memchr(".-+/=&%#", before, 8));
}

bool ends_number(const PrivateText& t, size_t end) {
  const unsigned char after = t.at(end);
  return !word(after) && !((after == '.' || after == '-') && digit(t.at(end + 1)));
}

bool all_digits(const PrivateText& t, size_t begin, size_t count) {
  for (size_t i = 0; i < count; ++i)
    if (!digit(t.at(begin + i))) return false;
  return true;
}

bool from_two(unsigned char c) { return c >= '2' && c <= '9'; }

// North America: 212-555-0123, 212.555.0123, (212) 555-0123. Neither code begins with 0 or 1.
void find_american_phone(const PrivateText& t, size_t begin) {
  if (!from_two(t.at(begin))) return;
  size_t start = begin, i = begin + 3;
  if (t.at(i) == ')') {
    if (t.at(begin - 1) != '(' || word(t.at(begin - 2))) return;
    start = begin - 1;
    i += t.at(i + 1) == ' ' ? 2 : 1;
    const unsigned char gap = t.at(i + 3);
    if (gap != '-' && gap != '.' && gap != ' ') return;
  } else {
    if ((t.at(i) != '-' && t.at(i) != '.') || t.at(i + 4) != t.at(i)) return;
    const bool long_distance = t.at(begin - 1) == t.at(i) && t.at(begin - 2) == '1' && begin > 1 &&
                               starts_number(t, begin - 2);
    if (!starts_number(t, begin) && !long_distance) return;
    ++i;
  }
  if (!from_two(t.at(i)) || !all_digits(t, i, 3) || !all_digits(t, i + 4, 4)) return;
  if (!ends_number(t, i + 8)) return;
  // 555-0100 to 555-0199 are for fiction, and the placeholder.
  if (t.text.substr(i, 3) == "555" && t.text.substr(i + 4, 2) == "01") return;
  t.add(start, i + 8, PrivateKind::kPhone);
}

// A trunk 0, hyphens, 10 or 11 digits: 03-1234-5678, 090-1234-5678, 010-12345678.
void find_trunk_phone(const PrivateText& t, size_t begin, size_t size) {
  if (t.at(begin + 1) == '0' || !starts_number(t, begin) || t.at(begin + size) != '-') return;
  size_t i = begin + size + 1, second = 0, third = 0;
  while (second < 9 && digit(t.at(i))) ++second, ++i;
  if (t.at(i) == '-' && digit(t.at(i + 1))) {
    ++i;
    while (third < 5 && digit(t.at(i))) ++third, ++i;
  }
  const size_t digits = size + second + third;
  if (digits < 10 || digits > 11 || !ends_number(t, i)) return;
  const bool two = third == 0 && (size == 3 || size == 4) && (second == 7 || second == 8);
  const bool three = (third == 3 || third == 4) && second >= 2 && second <= 4;
  if (two || three) t.add(begin, i, PrivateKind::kPhone);
}

uint32_t number(const PrivateText& t, size_t begin, size_t count) {
  uint32_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value * 10 + (t.at(begin + i) - '0');
  return value;
}

// Whether a card of so many digits may begin so (ISO/IEC 7812 issuers).
bool issued(uint32_t four, size_t size) {
  const uint32_t two = four / 100, three = four / 10;
  if (size == 14) return two == 36 || two == 38 || (three >= 300 && three <= 305);
  if (size == 15) return two == 34 || two == 37;
  if (size == 19) return two == 62 || two == 65 || four == 6011 || two / 10 == 4;
  return size == 16 &&
         (two / 10 == 4 || (two >= 51 && two <= 55) || (four >= 2221 && four <= 2720) ||
          four == 6011 || two == 65 || (three >= 644 && three <= 649) ||
          (four >= 3528 && four <= 3589) || two == 62);
}

bool luhn(const PrivateText& t, size_t begin, size_t end) {
  uint32_t sum = 0;
  bool twice = false;
  for (size_t i = end; i-- > begin;) {
    if (!digit(t.at(i))) continue;
    const uint32_t value = (t.at(i) - '0') << twice;
    sum += value > 9 ? value - 9 : value;
    twice = !twice;
  }
  return sum % 10 == 0;
}

void find_card(const PrivateText& t, size_t begin, size_t size) {
  const unsigned char gap = t.at(begin + size);
  size_t end = begin + size, digits = size;
  if (size == 4) {
    if (gap != ' ' && gap != '-') return;
    const uint32_t first = number(t, begin, 2);
    if (first == 34 || first == 37) {
      if (!all_digits(t, end + 1, 6) || t.at(end + 7) != gap || !all_digits(t, end + 8, 5)) return;
      end += 13;
      digits = 15;
    } else {
      for (int k = 0; k < 3; ++k, end += 5)
        if (t.at(end) != gap || !all_digits(t, end + 1, 4)) return;
      digits = 16;
    }
    if (gap == ' ' && ((t.at(begin - 1) == ' ' && digit(t.at(begin - 2))) ||
                       (t.at(end) == ' ' && digit(t.at(end + 1)))))
      return;  // a row of numbers
  }
  if (digit(t.at(end)) || !starts_number(t, begin) || !ends_number(t, end)) return;
  if (issued(number(t, begin, 4), digits) && luhn(t, begin, end))
    t.add(begin, end, PrivateKind::kCard);
}

// Length by country, from the IBAN registry (ISO 13616).
constexpr std::string_view kIban =
    "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29ES24FI18FO18FR"
    "27"
    "GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC"
    "27"
    "MD24ME22MK19MR27MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SD18SE24SI19SK24SM27ST25SV"
    "28"
    "TL23TN24TR26UA29VA22VG24XK20";

void find_iban(const PrivateText& t, size_t begin) {  // begin: of the two letters
  if (word(t.at(begin - 1))) return;
  size_t wanted = 0;
  for (size_t i = 0; i < kIban.size(); i += 4)
    if (kIban[i] == t.text[begin] && kIban[i + 1] == t.text[begin + 1])
      wanted = static_cast<size_t>((kIban[i + 2] - '0') * 10 + kIban[i + 3] - '0');
  if (!wanted || !digit(t.at(begin + 3))) return;
  const bool spaced = t.at(begin + 4) == ' ';
  std::array<unsigned char, 34> symbols;
  size_t i = begin;
  for (size_t k = 0; k < wanted; ++k) {
    if (spaced && k > 0 && k % 4 == 0 && t.at(i++) != ' ') return;
    const unsigned char c = t.at(i++);
    if (!digit(c) && !upper(c)) return;
    symbols[k] = c;
  }
  if (word(t.at(i))) return;
  uint32_t rest = 0;  // of the number with its first four symbols put last, modulo 97
  for (size_t k = 0; k < wanted; ++k) {
    const unsigned char c = symbols[(k + 4) % wanted];
    rest = digit(c) ? (rest * 10 + (c - '0')) % 97 : (rest * 100 + (c - 'A' + 10)) % 97;
  }
  if (rest == 1) t.add(begin, i, PrivateKind::kIban);
}

}  // namespace

void find_numbers(const PrivateText& t, size_t begin, size_t end) {
  const size_t size = end - begin;
  if (t.wants(PrivateKind::kPhone)) {
    if (size == 3) find_american_phone(t, begin);
    if (size >= 2 && size <= 5 && t.at(begin) == '0') find_trunk_phone(t, begin, size);
    find_announced_phone(t, begin);
  }
  if (size == 4 || (size >= 14 && size <= 19)) find_card(t, begin, size);
  if (size >= 2 && begin >= 2 && upper(t.at(begin - 1)) && upper(t.at(begin - 2)))
    find_iban(t, begin - 2);
}

// + and 9 to 15 digits in groups; with codes 1 and 7 always 11.
void find_international_phone(const PrivateText& t, size_t plus) {
  const unsigned char before = t.at(plus - 1);
  const unsigned char first = t.at(plus + 1);
  if (word(before) || before == '+' || !digit(first) || first == '0') return;
  const Groups groups = read_groups(t, plus + 1);
  size_t digits = 0, end = 0;
  bool thousands = groups.count > 0 && groups.sizes[0] <= 3;
  for (size_t k = 0; k < groups.count; ++k) {
    digits += groups.sizes[k];
    thousands &= k == 0 || groups.sizes[k] == 3;
    if (digits < 9 || !cut_off(t, groups.ends[k])) continue;
    if ((first == '1' || first == '7') && digits != 11) continue;
    if (thousands && digits == 9) continue;  // +250 000 000
    if (k == 0 && (digits < 10 || machine_number(t.text.substr(plus + 1, digits)))) continue;
    if (k <= 1 && t.at(groups.ends[0]) == '.' && digit(t.at(groups.ends[0] + 1)))
      continue;  // a decimal fraction
    end = groups.ends[k];
  }
  if (end) t.add(plus, end, PrivateKind::kPhone);
}

}  // namespace gristmill
