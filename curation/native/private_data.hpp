// Private data in a text: where its addresses, numbers and keys are.
//
// One pass over the bytes stops only at those that a match cannot be without: @ + : = - _ the
// digits and four capitals. What follows a stop is a rule of its own that looks at the bytes around
// it, over a distance that is bounded, or that no other stop of the same rule looks over again: the
// time is linear whatever the text. Rules know nothing of each other; where their matches overlap,
// the one that begins first stays, then the longer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace gristmill {

enum class PrivateKind : uint8_t { kEmail, kIpv4, kIpv6, kPhone, kKey, kCard, kIban };

struct PrivateSpan {
  size_t start, end;  // bytes
  PrivateKind kind;
};

struct PrivateRules {
  uint32_t kinds;        // a bit of each kind that is looked for
  bool public_ips_only;  // addresses of private and reserved networks stay
};

// Append the matches in a text, in order, none overlapping another.
void find_private(std::string_view text, const PrivateRules& rules,
                  std::vector<PrivateSpan>& found);

// A text and where to put what is found in it. The rules below are each given the byte to look at.
struct PrivateText {
  std::string_view text;
  const PrivateRules& rules;
  std::vector<PrivateSpan>& found;

  // The byte at i, 0 outside of the text.
  unsigned char at(size_t i) const {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  }
  bool wants(PrivateKind kind) const { return rules.kinds >> static_cast<int>(kind) & 1; }
  void add(size_t start, size_t end, PrivateKind kind) const {
    if (wants(kind)) found.push_back({start, end, kind});
  }
};

// private_addresses.cpp
void find_email(const PrivateText& text, size_t at);
void find_ipv4(const PrivateText& text, size_t digit);
void find_ipv6(const PrivateText& text, size_t colon);

// private_numbers.cpp
void find_numbers(const PrivateText& text, size_t start, size_t end);  // a run of digits
void find_international_phone(const PrivateText& text, size_t plus);

// private_keys.cpp
void find_key(const PrivateText& text, size_t stop);         // - _ A I J G
void find_assignment(const PrivateText& text, size_t stop);  // = :

namespace ascii {

inline bool digit(unsigned char c) { return c >= '0' && c <= '9'; }
inline bool upper(unsigned char c) { return c >= 'A' && c <= 'Z'; }
inline bool letter(unsigned char c) { return static_cast<unsigned char>((c | 32) - 'a') < 26; }
inline bool alnum(unsigned char c) { return digit(c) || letter(c); }
inline bool word(unsigned char c) { return alnum(c) || c == '_'; }
inline unsigned char lower(unsigned char c) { return upper(c) ? c | 32 : c; }

}  // namespace ascii

}  // namespace gristmill
