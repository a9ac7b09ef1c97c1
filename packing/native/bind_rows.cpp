// The loader's shards and the filling of its batches.

#include "bind.hpp"
#include "rows.hpp"

namespace gristmill {
namespace {

template <typename T>
using Table = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// The shards of a plan, opened as they are needed; holds on to the arrays that it points into.
class Shards {
 public:
  explicit Shards(size_t count) : shards_(count) {}

  void open(size_t number, Array<int32_t> tokens, Array<uint8_t> lengths, Array<uint8_t> offsets,
            nb::ndarray<nb::ndim<1>, nb::c_contig, nb::device::cpu, nb::ro> sources) {
    const size_t documents = lengths.shape(0) / 4, bytes = sources.itemsize();
    if (number >= shards_.size()) throw nb::index_error("no such shard");
    if (offsets.shape(0) != 8 * documents || bytes > 4 ||
        (sources.shape(0) != documents && sources.shape(0) != 1))
      throw nb::value_error("arrays of different numbers of documents");
    // An empty array has no address; it is open all the same.
    static const int32_t none = 0;
    if (is_open(number)) return;
    kept_.push_back(nb::make_tuple(tokens, lengths, offsets, sources));
    rows::open(shards_[number],
               {tokens.shape(0) ? tokens.data() : &none, tokens.shape(0), lengths.data(),
                offsets.data(), documents, static_cast<const uint8_t*>(sources.data()), bytes,
                sources.shape(0) == 1});
  }

  bool is_open(size_t number) const {
    return number < shards_.size() && rows::is_open(shards_[number]);
  }

  size_t fill(Array<int64_t> ends, Array<int32_t> shard, Array<int64_t> document,
              Array<int64_t> start, Array<int32_t> length, int32_t pad, bool apart,
              Table<int64_t> ids, Table<int64_t> labels, Table<int32_t> documents,
              Table<int32_t> sources) const {
    const size_t rows = ids.shape(0), width = ids.shape(1), pieces = shard.shape(0);
    const auto same = [&](const auto& table) {
      return table.shape(0) == rows && table.shape(1) == width;
    };
    bool good = same(labels) && same(documents) && same(sources) && ends.shape(0) == rows &&
                document.shape(0) == pieces && start.shape(0) == pieces &&
                length.shape(0) == pieces && width > 0;
    int64_t before = 0;
    for (size_t row = 0; good && row < rows; ++row) {
      good = ends.data()[row] >= before;
      before = ends.data()[row];
    }
    if (!good || before != static_cast<int64_t>(pieces))
      throw nb::value_error("arrays that don't belong together");
    nb::gil_scoped_release release;
    return rows::fill(shards_.data(), shards_.size(),
                      {ends.data(), shard.data(), document.data(), start.data(), length.data()},
                      rows, width, pad, apart,
                      {ids.data(), labels.data(), documents.data(), sources.data()});
  }

  size_t copy(Array<int32_t> shard, Array<int64_t> document, Array<int64_t> start,
              Array<int32_t> length,
              nb::ndarray<int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> tokens) const {
    const size_t pieces = shard.shape(0);
    if (document.shape(0) != pieces || start.shape(0) != pieces || length.shape(0) != pieces)
      throw nb::value_error("arrays that don't belong together");
    nb::gil_scoped_release release;
    return rows::copy(shards_.data(), shards_.size(),
                      {nullptr, shard.data(), document.data(), start.data(), length.data()},
                      pieces, tokens.data(), tokens.shape(0));
  }

 private:
  std::vector<rows::Shard> shards_;
  std::vector<nb::tuple> kept_;
};

}  // namespace

void bind_rows(nb::module_& m) {
  nb::class_<Shards>(m, "Shards", "Token shards in memory (mapped), and rows filled from them.")
      .def(nb::init<size_t>(), nb::arg("count"))
      .def("open", &Shards::open, nb::arg("number"), nb::arg("tokens"), nb::arg("lengths"),
           nb::arg("offsets"), nb::arg("sources"),
           "Open a shard: tokens int32; the bytes of the lengths (int32 [documents], in tokens) and "
           "of the offsets (int64 [documents], in bytes); the source of each document, unsigned of "
           "at most 4 bytes, or a single one for all.")
      .def("is_open", &Shards::is_open, nb::arg("number"))
      .def("fill", &Shards::fill, nb::arg("ends"), nb::arg("shard"), nb::arg("document"),
           nb::arg("start"), nb::arg("length"), nb::arg("pad"), nb::arg("apart"),
           nb::arg("input_ids").noconvert(), nb::arg("labels").noconvert(),
           nb::arg("document_ids").noconvert(), nb::arg("source_ids").noconvert(),
           "Fill the rows of four arrays [rows, L]. `ends` is the running number of pieces of the "
           "rows. Returns the number of pieces, or, having stopped there, that of the first piece "
           "whose shard is not open, that its shard does not have, or that does not fit its row.")
      .def("copy", &Shards::copy, nb::arg("shard"), nb::arg("document"), nb::arg("start"),
           nb::arg("length"), nb::arg("tokens").noconvert(),
           "Write the tokens of pieces end to end into an array; returns as `fill` does.");
}

}  // namespace gristmill
