// The encoder's Python face. Arrow's buffers come as addresses: tok/encoder.py keeps them alive,
// and everything that the offsets say is checked here before a byte is read.

#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <thread>
#include <tuple>

#include "bind.hpp"
#include "encoder.hpp"

namespace gristmill {

using namespace nb::literals;

namespace {

// data address, data bytes, offsets address, offsets are 64-bit, index of the first, count, address
// of the validity bitmap (0: all valid).
using ArrayParts = std::tuple<uintptr_t, int64_t, uintptr_t, bool, int64_t, int64_t, uintptr_t>;
// content, id, special, normalized
using AddedParts = std::tuple<nb::bytes, int32_t, bool, bool>;

void check_offsets(Array<int64_t> offsets, size_t size) {
  const int64_t* o = offsets.data();
  const size_t n = offsets.shape(0);
  if (n == 0 || o[0] != 0 || o[n - 1] != static_cast<int64_t>(size))
    throw std::invalid_argument("offsets must run from 0 to the number of bytes");
  for (size_t i = 0; i + 1 < n; ++i)
    if (o[i + 1] < o[i]) throw std::invalid_argument("offsets must ascend");
}

std::unique_ptr<Encoder> make_encoder(const std::string& scheme, Array<uint8_t> tokens,
                                      Array<int64_t> offsets, Array<int32_t> ids,
                                      nb::ndarray<const int32_t, nb::shape<-1, 3>, nb::c_contig,
                                                  nb::device::cpu> merges,
                                      bool whole_words, const std::vector<AddedParts>& added) {
  check_offsets(offsets, tokens.shape(0));
  if (offsets.shape(0) != ids.shape(0) + 1)
    throw std::invalid_argument("offsets must be one longer than ids");
  std::vector<MergeRule> rules(merges.shape(0));
  for (size_t i = 0; i < rules.size(); ++i)
    rules[i] = {merges.data()[3 * i], merges.data()[3 * i + 1], merges.data()[3 * i + 2]};
  std::vector<AddedToken> extra;
  for (const auto& [content, id, special, normalized] : added)
    extra.push_back({std::string(content.c_str(), content.size()), id, special, normalized});
  nb::gil_scoped_release release;
  return std::make_unique<Encoder>(
      Bpe({tokens.data(), tokens.shape(0)}, {offsets.data(), offsets.shape(0)},
          {ids.data(), ids.shape(0)}, rules, whole_words),
      scheme_of(scheme), std::move(extra));
}

nb::tuple result(Ids&& ids, std::vector<int64_t>&& offsets) {
  const size_t size = ids.size();
  int32_t* data = ids.release();
  if (data == nullptr) data = static_cast<int32_t*>(std::malloc(sizeof(int32_t)));
  nb::capsule owner(data, [](void* p) noexcept { std::free(p); });
  return nb::make_tuple(
      nb::cast(nb::ndarray<nb::numpy, int32_t, nb::ndim<1>>(data, {size}, owner)),
      to_numpy(std::move(offsets)));
}

nb::tuple encode(const Encoder& encoder, const std::vector<ArrayParts>& parts,
                 std::vector<int32_t> special, int threads, int64_t piece_bytes, double split_share,
                 Array<uint64_t> split_keys) {
  Ids ids;
  std::vector<int64_t> offsets;
  {
    nb::gil_scoped_release release;
    std::vector<TextArray> arrays;
    int64_t total = 0;
    for (const auto& [data, size, where, wide, first, count, valid] : parts) {
      arrays.push_back({reinterpret_cast<const uint8_t*>(data), size,
                        reinterpret_cast<const void*>(where), wide, first, count,
                        reinterpret_cast<const uint8_t*>(valid)});
      const TextArray& array = arrays.back();
      if (count == 0) continue;
      bool good = array.offset(0) >= 0 && array.offset(count) <= size;
      for (int64_t i = 0; i < count; ++i) good &= array.offset(i) <= array.offset(i + 1);
      if (!good)
        throw std::invalid_argument(
            "the array's offsets do not ascend within its data: it is damaged");
      total += count;
    }
    if (!(split_share >= 0 && split_share <= 1))
      throw std::invalid_argument("the share of tokens to split must be from 0 to 1");
    if (split_share > 0 && split_keys.shape(0) != static_cast<size_t>(total))
      throw std::invalid_argument("expected one key a text: " + std::to_string(total) + ", found " +
                                  std::to_string(split_keys.shape(0)));
    EncodeOptions options;
    options.special = std::move(special);
    options.threads = std::clamp(threads, 1, 1024);
    options.piece_bytes = piece_bytes;
    options.split_share = split_share;
    options.split_keys = split_keys.data();
    encoder.encode(arrays, options, ids, offsets);
  }
  return result(std::move(ids), std::move(offsets));
}

nb::tuple encode_words(const Encoder& encoder, Array<uint8_t> words, Array<int64_t> offsets) {
  check_offsets(offsets, words.shape(0));
  Ids ids;
  std::vector<int64_t> bounds;
  {
    nb::gil_scoped_release release;
    encoder.encode_words({words.data(), words.shape(0)}, {offsets.data(), offsets.shape(0)}, ids,
                         bounds);
  }
  return result(std::move(ids), std::move(bounds));
}

void set_joined(Encoder& encoder,
                const std::vector<std::tuple<int32_t, std::vector<int32_t>>>& joined) {
  std::vector<Joined> all;
  for (const auto& [id, parts] : joined) {
    if (id < 0 || id >= 1 << 28) throw std::invalid_argument("an id is out of range");
    all.push_back({id, parts});
  }
  encoder.set_joined(std::move(all));
}

}  // namespace

void bind_encoder(nb::module_& m) {
  static nb::exception<Unsuitable> unsuitable(m, "Unsuitable", PyExc_ValueError);
  nb::class_<Encoder>(m, "Encoder")
      .def(nb::new_(&make_encoder), "scheme"_a, "tokens"_a, "offsets"_a, "ids"_a, "merges"_a,
           "whole_words"_a, "added"_a)
      .def("set_joined", &set_joined, "joined"_a)
      .def("encode", &encode, "arrays"_a, "special"_a, "threads"_a, "piece_bytes"_a,
           "split_share"_a, "split_keys"_a)
      .def("encode_words", &encode_words, "words"_a, "offsets"_a);
}

}  // namespace gristmill
