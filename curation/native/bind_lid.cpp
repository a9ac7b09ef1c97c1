// fastText's answer for a quantised supervised model with hierarchical softmax, as lid.176.ftz is.
//
// The answer is fastText's own (the test compares), several times as soon: fastText makes each
// character n-gram a string, hashes it from its beginning, looks it up in a std::unordered_map and
// puts its vector together from a product quantiser's codes. Here n-grams that begin at a character
// share one running hash (FNV-1a), a bitmap tells that most of them are not in the model, and all
// vectors are put together once (50,000 of 16 floats, 3 MB).

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <unordered_map>

#include "bind.hpp"

namespace gristmill {
namespace {

using std::string_view;

constexpr uint32_t kStart = 2166136261u;
uint32_t hash_on(uint32_t hash, char c) {  // fastText takes the byte as signed
  return (hash ^ static_cast<uint32_t>(static_cast<int8_t>(c))) * 16777619u;
}

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(path, std::ios::binary) {
    if (!file_) fail("cannot be read");
  }

  template <typename T>
  T one() {
    T value;
    bytes(&value, sizeof value);
    return value;
  }

  template <typename T>
  std::vector<T> many(int64_t count) {
    if (count < 0 || count > int64_t{1} << 32) fail("has an impossible length");
    std::vector<T> values(static_cast<size_t>(count));
    bytes(values.data(), values.size() * sizeof(T));
    return values;
  }

  std::string word() {
    std::string text;
    if (!std::getline(file_, text, '\0')) fail("is cut short");
    return text;
  }

  [[noreturn]] void fail(const char* what) const {
    throw std::runtime_error(path_ + ": " + what +
                             "; expected a model of fastText like lid.176.ftz");
  }

 private:
  void bytes(void* to, size_t size) {
    if (!file_.read(static_cast<char*>(to), static_cast<std::streamsize>(size)))
      fail("is cut short");
  }

  std::string path_;
  std::ifstream file_;
};

struct Quantizer {
  explicit Quantizer(Reader& in) {
    const auto dim = in.one<int32_t>();
    parts = in.one<int32_t>(), width = in.one<int32_t>(), last = in.one<int32_t>();
    if (parts < 1 || width < 1 || last < 1) in.fail("has an impossible quantiser");
    centroids = in.many<float>(int64_t{dim} * 256);
    if (dim != (parts - 1) * width + last) in.fail("has an impossible quantiser");
  }

  void add(float* to, const uint8_t* codes, float scale) const {
    for (int32_t part = 0; part < parts; ++part) {
      const int32_t size = part + 1 < parts ? width : last;
      const float* from = &centroids[static_cast<size_t>(part * 256 * width + codes[part] * size)];
      for (int32_t i = 0; i < size; ++i) to[part * width + i] += scale * from[i];
    }
  }

  int32_t parts, width, last;
  std::vector<float> centroids;
};

class LanguageModel {
 public:
  explicit LanguageModel(const std::string& path) {
    Reader in(path);
    if (in.one<int32_t>() != 793712314 || in.one<int32_t>() != 12) in.fail("is another format");
    const auto settings = in.many<int32_t>(12);  // dim, ws, epoch, minCount, neg, wordNgrams, loss…
    in.one<double>();
    dim_ = settings[0], bucket_ = static_cast<uint32_t>(settings[8]);
    shortest_ = settings[9], longest_ = settings[10];
    if (dim_ != kDim || settings[5] != 1 || settings[6] != 1 || settings[7] != 3 || !bucket_)
      in.fail("has other settings");

    const auto entries = in.one<int32_t>(), words = in.one<int32_t>();
    in.one<int32_t>(), in.one<int64_t>();
    const auto kept = in.one<int64_t>();
    if (kept < 0) in.fail("is not pruned");
    std::vector<int64_t> counts;
    for (int32_t i = 0; i < entries; ++i) {
      std::string word = in.word();
      const auto count = in.one<int64_t>();
      if (in.one<int8_t>() == 0) {
        if (word == "</s>") end_ = i;
        words_.emplace(std::move(word), i);
      } else {
        labels_.push_back(std::move(word));
        counts.push_back(count);
      }
    }
    if (labels_.size() < 2 || words_.size() != static_cast<size_t>(words))
      in.fail("has no words or no labels");
    present_.resize(bucket_ / 64 + 1);
    slots_.resize(kSlots, {kEmpty, 0});
    for (int64_t i = 0; i < kept; ++i) {
      const auto ngram = static_cast<uint32_t>(in.one<int32_t>());
      const auto row = static_cast<uint32_t>(in.one<int32_t>() + words);
      if (ngram >= bucket_ || kept * 2 > int64_t{kSlots}) in.fail("has impossible n-grams");
      present_[ngram / 64] |= uint64_t{1} << ngram % 64;
      uint32_t at = slot(ngram);
      while (slots_[at].first != kEmpty) at = (at + 1) % kSlots;
      slots_[at] = {ngram, row};
    }
    read_vectors(in);
    for (const auto& [ngram, row] : slots_)
      if (row >= rows_) in.fail("has impossible n-grams");
    if (words_.size() > rows_) in.fail("has more words than vectors");
    if (in.one<uint8_t>()) in.fail("has a quantised output");
    const auto out_rows = in.one<int64_t>(), out_columns = in.one<int64_t>();
    if (out_rows != static_cast<int64_t>(labels_.size()) || out_columns != dim_)
      in.fail("has an impossible output");
    output_ = in.many<float>(out_rows * out_columns);
    build_tree(counts);
  }

  // The most likely label and its probability; of a line without words too, by fastText's end mark.
  std::pair<uint32_t, float> predict(string_view text) const {
    std::array<float, kDim> sum{};
    size_t count = 0;
    std::string padded;
    for (size_t i = 0; i < text.size();) {
      size_t j = i;
      while (j < text.size() && !std::strchr(" \t\n\r\v\f", text[j])) ++j;  // and NUL
      const string_view word = text.substr(i, j - i);
      if (word == "</s>") break;  // the end mark, which fastText takes for the end
      if (!word.empty()) add_word(word, padded, sum, count);
      i = j + 1;
    }
    if (end_ >= 0) add_row(static_cast<uint32_t>(end_), sum, count);
    if (!count) return {0, 0.0f};
    for (float& value : sum) value *= static_cast<float>(1.0 / static_cast<double>(count));
    std::pair<uint32_t, float> best{0, -1e30f};
    descend(static_cast<uint32_t>(2 * labels_.size() - 2), 0.0f, sum, best);
    return {best.first, std::exp(best.second)};
  }

  std::vector<std::string> labels() const { return labels_; }

 private:
  static constexpr int32_t kDim = 16;
  static constexpr uint32_t kSlots = 1 << 18, kEmpty = ~0u;

  static uint32_t slot(uint32_t ngram) { return ngram * 2654435761u >> 14; }

  void read_vectors(Reader& in) {
    if (!in.one<uint8_t>()) in.fail("is not quantised");
    const bool normed = in.one<uint8_t>();
    const auto rows = in.one<int64_t>(), columns = in.one<int64_t>();
    const auto codes = in.many<uint8_t>(in.one<int32_t>());
    const Quantizer quantizer(in);
    std::vector<uint8_t> norm_codes;
    std::vector<float> norms(256, 1.0f);
    if (normed) {
      norm_codes = in.many<uint8_t>(rows);
      norms = Quantizer(in).centroids;
    }
    if (columns != dim_ || static_cast<int64_t>(codes.size()) != rows * quantizer.parts ||
        (quantizer.parts - 1) * quantizer.width + quantizer.last != dim_ || norms.size() != 256)
      in.fail("has impossible vectors");
    rows_ = static_cast<size_t>(rows);
    vectors_.resize(rows_ * kDim);
    for (size_t row = 0; row < rows_; ++row)
      quantizer.add(&vectors_[row * kDim], &codes[row * static_cast<size_t>(quantizer.parts)],
                    norms[normed ? norm_codes[row] : 0]);
  }

  void add_row(uint32_t row, std::array<float, kDim>& sum, size_t& count) const {
    const float* from = &vectors_[row * size_t{kDim}];
    for (int32_t i = 0; i < kDim; ++i) sum[i] += from[i];
    ++count;
  }

  // A word's own vector, if it has one, and those of its n-grams of characters, between < and >.
  void add_word(string_view word, std::string& padded, std::array<float, kDim>& sum,
                size_t& count) const {
    padded.assign(1, '<').append(word).append(1, '>');
    const auto known = words_.find(padded.substr(1, word.size()));
    if (known != words_.end()) {
      add_row(static_cast<uint32_t>(known->second), sum, count);
    } else if (word.starts_with("__label__")) {
      return;
    }
    const size_t size = padded.size();
    auto goes_on = [&](size_t i) { return (padded[i] & 0xc0) == 0x80; };
    for (size_t i = 0; i < size; ++i) {
      if (goes_on(i)) continue;
      uint32_t hash = kStart;
      size_t j = i;
      for (int32_t n = 1; j < size && n <= longest_; ++n) {
        do hash = hash_on(hash, padded[j++]);
        while (j < size && goes_on(j));
        if (n < shortest_ || (n == 1 && (i == 0 || j == size))) continue;
        const uint32_t ngram = hash % bucket_;
        if (!(present_[ngram / 64] >> ngram % 64 & 1)) continue;
        uint32_t at = slot(ngram);
        while (slots_[at].first != ngram) at = (at + 1) % kSlots;
        add_row(slots_[at].second, sum, count);
      }
    }
  }

  // A Huffman tree over labels, which come most frequent first: its inner nodes follow the leaves.
  void build_tree(const std::vector<int64_t>& counts) {
    const size_t leaves = labels_.size();
    std::vector<int64_t> weight(counts);
    weight.resize(2 * leaves - 1, int64_t{1000000000000000});
    children_.resize(leaves - 1);
    auto leaf = static_cast<int64_t>(leaves) - 1;
    size_t inner = leaves;
    for (size_t i = leaves; i < weight.size(); ++i) {
      for (uint32_t& child : children_[i - leaves])
        child = leaf >= 0 && (inner >= i || weight[static_cast<size_t>(leaf)] < weight[inner])
                    ? static_cast<uint32_t>(leaf--)
                    : static_cast<uint32_t>(inner++);
      weight[i] = weight[children_[i - leaves][0]] + weight[children_[i - leaves][1]];
    }
  }

  void descend(uint32_t node, float score, const std::array<float, kDim>& hidden,
               std::pair<uint32_t, float>& best) const {
    if (score < best.second) return;
    if (node < labels_.size()) {
      best = {node, score};
      return;
    }
    const size_t inner = node - labels_.size();
    float product = 0;
    for (int32_t i = 0; i < kDim; ++i) product += output_[inner * kDim + i] * hidden[i];
    const float right = 1.0f / (1.0f + std::exp(-product));
    auto log = [](float x) { return static_cast<float>(std::log(x + 1e-5)); };  // fastText's
    descend(children_[inner][0], score + log(1.0f - right), hidden, best);
    descend(children_[inner][1], score + log(right), hidden, best);
  }

  int32_t dim_, shortest_, longest_, end_ = -1;
  uint32_t bucket_;
  size_t rows_ = 0;
  std::unordered_map<std::string, int32_t> words_;
  std::vector<std::string> labels_;
  std::vector<uint64_t> present_;  // a bit for each n-gram
  std::vector<std::pair<uint32_t, uint32_t>> slots_;  // n-gram, row
  std::vector<float> vectors_, output_;
  std::vector<std::array<uint32_t, 2>> children_;
};

}  // namespace

void bind_lid(nb::module_& m) {
  nb::class_<LanguageModel>(m, "LanguageModel")
      .def(nb::init<const std::string&>(), nb::arg("path"),
           "Read a model like lid.176.ftz; RuntimeError if it is another.")
      .def_prop_ro("labels", &LanguageModel::labels)
      .def(
          "predict",
          [](const LanguageModel& model, nb::handle array) {
            const Texts texts(array);
            std::vector<uint32_t> labels(texts.size());
            std::vector<float> scores(texts.size());
            {
              nb::gil_scoped_release release;
              for (size_t i = 0; i < texts.size(); ++i)
                std::tie(labels[i], scores[i]) = model.predict(texts[i]);
            }
            return nb::make_tuple(to_numpy(std::move(labels)), to_numpy(std::move(scores)));
          },
          nb::arg("texts"), "(label uint32, probability float32) of each text, read as one line.");
}

}  // namespace gristmill
