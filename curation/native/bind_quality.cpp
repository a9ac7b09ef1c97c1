// The quality filters' measures and C4's edits, for whole columns of texts.

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <limits>
#include <optional>

#include "bind.hpp"
#include "c4.hpp"
#include "measures.hpp"

namespace gristmill {
namespace {

// Words that Python found: of all texts together, bytes within their text.
using Spans = nb::ndarray<const uint32_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
using Given = std::optional<std::pair<Array<int64_t>, Spans>>;

constexpr size_t kMost = std::numeric_limits<uint32_t>::max();

void check_size(std::string_view text) {
  if (text.size() >= kMost)
    throw std::length_error("a text of 4 GiB or more can't be measured: split it first");
}

// Call f(document, text, words) for each text, without the GIL.
template <typename F>
void each_text(const Texts& texts, const Given& given, F&& f) {
  std::vector<Word> words;
  if (given && given->first.size() != texts.size() + 1)
    throw std::invalid_argument("splits must have one more element than there are texts");
  const nb::gil_scoped_release release;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i];
    check_size(text);
    if (!given) {
      segment(text, words);
    } else {
      const auto* const splits = given->first.data();
      const auto* const spans = given->second.data();
      words.clear();
      for (int64_t k = splits[i]; k < splits[i + 1]; ++k) {
        if (k < 0 || static_cast<size_t>(k) >= given->second.shape(0))
          throw std::out_of_range("splits go past the last span");
        const uint32_t begin = spans[2 * k], end = spans[2 * k + 1];
        if (begin > end || end > text.size())
          throw std::out_of_range("a word goes past the end of its text");
        words.push_back(measure_word(text, begin, end));
      }
    }
    f(i, text, words);
  }
}

nb::object bound_words(nb::handle array) {
  const Texts texts(array);
  std::vector<int64_t> splits{0};
  std::vector<uint32_t> spans;
  each_text(texts, std::nullopt, [&](size_t, std::string_view, const std::vector<Word>& words) {
    for (const Word& word : words) {
      spans.push_back(word.begin);
      spans.push_back(word.end);
    }
    splits.push_back(static_cast<int64_t>(spans.size() / 2));
  });
  return nb::make_tuple(to_numpy(std::move(splits)), to_numpy(std::move(spans), 2));
}

nb::object bound_sentences(nb::handle array) {
  const Texts texts(array);
  std::vector<int64_t> found;
  each_text(texts, std::nullopt, [&](size_t, std::string_view, const std::vector<Word>& words) {
    found.push_back(static_cast<int64_t>(count_sentences(words, kMost)));
  });
  return to_numpy(std::move(found));
}

nb::object bound_gopher_quality(nb::handle array,
                                const std::vector<std::vector<std::string>>& stop_words,
                                Array<int64_t> list, Array<int64_t> enough, const Given& given) {
  const Texts texts(array);
  std::vector<StopWords> lists(stop_words.begin(), stop_words.end());
  if (list.size() != texts.size() || enough.size() != texts.size())
    throw std::invalid_argument("list and enough must have an element for each text");
  for (size_t i = 0; i < list.size(); ++i)
    if (list.data()[i] < 0 || static_cast<size_t>(list.data()[i]) >= lists.size())
      throw std::out_of_range("a text's list of stop words is not there");
  std::vector<double> out(texts.size() * kGopherQuality);
  each_text(texts, given, [&](size_t i, std::string_view text, const std::vector<Word>& words) {
    const int64_t wanted = enough.data()[i];
    gopher_quality(text, words, lists[static_cast<size_t>(list.data()[i])],
                   wanted > 0 ? static_cast<size_t>(wanted) : 0, &out[i * kGopherQuality]);
  });
  return to_numpy(std::move(out), kGopherQuality);
}

nb::object bound_gopher_repetition(nb::handle array, const Given& given) {
  const Texts texts(array);
  std::vector<double> out(texts.size() * kGopherRepetition);
  Repeats repeats;
  each_text(texts, given, [&](size_t i, std::string_view text, const std::vector<Word>& words) {
    gopher_repetition(text, words, repeats, &out[i * kGopherRepetition]);
  });
  return to_numpy(std::move(out), kGopherRepetition);
}

nb::object bound_fineweb(nb::handle array, size_t short_line, const Given& given) {
  const Texts texts(array);
  std::vector<double> out(texts.size() * kFineweb);
  Repeats repeats;
  each_text(texts, given, [&](size_t i, std::string_view text, const std::vector<Word>& words) {
    fineweb(text, words, short_line, repeats, &out[i * kFineweb]);
  });
  return to_numpy(std::move(out), kFineweb);
}

nb::object bound_symbols(nb::handle array) {
  const Texts texts(array);
  std::vector<double> out(texts.size() * kSymbols);
  {
    const nb::gil_scoped_release release;
    for (size_t i = 0; i < texts.size(); ++i) symbols(texts[i], &out[i * kSymbols]);
  }
  return to_numpy(std::move(out), kSymbols);
}

// Limits have nine columns: the six switches of C4Rules, min_words, max_word, min_sentences, in this
// order; below zero is off.
nb::object bound_c4(nb::handle array, Array<int64_t> limits) {
  constexpr size_t kColumns = 9;
  const Texts texts(array);
  if (limits.size() != texts.size() * kColumns)
    throw std::invalid_argument("limits must have nine elements for each text");
  std::vector<int64_t> offsets{0};
  std::vector<uint8_t> verdicts;
  std::string out;
  {
    const nb::gil_scoped_release release;
    C4 c4;
    out.reserve(texts.bytes());
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto text = texts[i];
      check_size(text);
      const int64_t* const l = limits.data() + i * kColumns;
      const auto limit = [&](size_t at, size_t off) {
        return l[at] < 0 ? off : static_cast<size_t>(l[at]);
      };
      const C4Rules rules{l[0] > 0, l[1] > 0, l[2] > 0, l[3] > 0, l[4] > 0, l[5] > 0,
                          limit(6, 0), limit(7, kOff), limit(8, 0)};
      const size_t begin = out.size();
      const C4Verdict verdict = c4(text, rules, out);
      if (verdict != C4Verdict::kKept) {
        out.resize(begin);
        out += text;
      }
      verdicts.push_back(static_cast<uint8_t>(verdict));
      offsets.push_back(static_cast<int64_t>(out.size()));
    }
  }
  return nb::make_tuple(to_numpy(std::move(offsets)), nb::bytes(out.data(), out.size()),
                        to_numpy(std::move(verdicts)));
}

}  // namespace

void bind_quality(nb::module_& m) {
  m.def("words", bound_words, nb::arg("texts"),
        "Prose's words: (splits int64 [texts + 1], spans uint32 [words, 2]), a span being bytes "
        "within its text.");
  m.def("count_sentences", bound_sentences, nb::arg("texts"), "int64 [texts].");
  m.def("gopher_quality", bound_gopher_quality, nb::arg("texts"), nb::arg("stop_words"),
        nb::arg("list"), nb::arg("enough"), nb::arg("words") = nb::none(),
        "float64 [texts, 8], see measures.hpp. `list` says which of `stop_words` is a text's, which "
        "are counted up to `enough`; `words` is like what words() gives.");
  m.def("gopher_repetition", bound_gopher_repetition, nb::arg("texts"),
        nb::arg("words") = nb::none(), "float64 [texts, 13], see measures.hpp.");
  m.def("fineweb", bound_fineweb, nb::arg("texts"), nb::arg("short_line"),
        nb::arg("words") = nb::none(), "float64 [texts, 4], see measures.hpp.");
  m.def("symbols", bound_symbols, nb::arg("texts"), "float64 [texts, 5], see measures.hpp.");
  m.def("c4", bound_c4, nb::arg("texts"), nb::arg("limits"),
        "(offsets int64 [texts + 1], bytes, verdicts uint8 [texts]): the texts as C4 leaves them, "
        "or as they are where the verdict is not 0; see c4.hpp.");
}

}  // namespace gristmill
