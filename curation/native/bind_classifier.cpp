// Texts as lines of words for fastText; the twin is in tests/curation/test_classifier.py.

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "bind.hpp"
#include "characters.hpp"

namespace gristmill {
namespace {

void append_utf8(std::string& out, uint32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
    return;
  }
  if (point < 0x800) {
    out += static_cast<char>(0xc0 | point >> 6);
  } else {
    if (point < 0x10000) {
      out += static_cast<char>(0xe0 | point >> 12);
    } else {
      out += static_cast<char>(0xf0 | point >> 18);
      out += static_cast<char>(0x80 | (point >> 12 & 0x3f));
    }
    out += static_cast<char>(0x80 | (point >> 6 & 0x3f));
  }
  out += static_cast<char>(0x80 | (point & 0x3f));
}

std::string normalise(std::string_view text, size_t max_chars) {
  using namespace characters;
  const Table& table = Table::get();
  enum { kNothing, kWords, kAlone, kAloneLetter } last = kNothing;
  std::string out;
  out.reserve(std::min(text.size(), max_chars) * 5 / 4);
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const auto* end = p + text.size();
  for (; p < end && max_chars; --max_chars) {
    const auto [point, size] = decode(p, end);
    p += size;
    const uint16_t flags = table.flags(point);
    if (flags & (kSpace | kControl)) {
      last = kNothing;
      continue;
    }
    const bool mark = flags & kMark;
    const bool word = mark || (flags & (kLetter | kNumber) && !(flags & kUnspaced));
    const bool joined = word && (last == kWords || (mark && last == kAloneLetter));
    if (!joined) {
      if (!out.empty()) out += ' ';
      last = word ? kWords : flags & kLetter ? kAloneLetter : kAlone;
    }
    append_utf8(out, table.lower(point));
  }
  return out;
}

}  // namespace

void bind_classifier(nb::module_& m) {
  m.def(
      "normalise",
      [](nb::handle array, size_t max_chars) {
        const Texts texts(array);
        std::vector<std::string> lines(texts.size());
        {
          nb::gil_scoped_release release;
          for (size_t i = 0; i < texts.size(); ++i) lines[i] = normalise(texts[i], max_chars);
        }
        return lines;
      },
      nb::arg("texts"), nb::arg("max_chars"),
      "Each text as one line: lower-case words, marks and letters of unspaced scripts apart.");
}

}  // namespace gristmill
