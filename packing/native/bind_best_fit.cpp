// Best-fit packing, and rows of a plan's files.

#include "best_fit.hpp"
#include "bind.hpp"

#include <stdexcept>
#include <utility>

namespace gristmill {
namespace {

nb::object best_fit(Array<int32_t> lengths, size_t length) {
  std::vector<int32_t> bins;
  int64_t sequences = 0;
  {
    nb::gil_scoped_release release;
    std::vector<int64_t> counts(length + 1);
    for (size_t k = 0; k < lengths.shape(0); ++k) {
      const int32_t size = lengths.data()[k];
      if (size < 1 || static_cast<size_t>(size) > length)
        throw std::invalid_argument("a piece that is empty or longer than a sequence");
      ++counts[size];
    }
    const auto made = packing::best_fit(counts, length);
    for (const packing::Class& one : made) sequences += one.count;
    bins = packing::deal(lengths.data(), lengths.shape(0), packing::entries(made, length), length);
  }
  return nb::make_tuple(to_numpy(std::move(bins)), sequences);
}

nb::object in_rows(Array<uint64_t> place, Array<int32_t> start, Array<int32_t> length,
                   Array<int32_t> bins) {
  const size_t count = place.shape(0);
  packing::Rows made;
  {
    nb::gil_scoped_release release;
    int32_t least = 0, most = -1;
    for (size_t k = 0; k < bins.shape(0); ++k) {
      least = std::min(least, bins.data()[k]);
      most = std::max(most, bins.data()[k]);
    }
    if (start.shape(0) != count || length.shape(0) != count || bins.shape(0) != count || least < 0)
      throw std::invalid_argument("arrays that don't belong together");
    made = packing::in_rows(place.data(), start.data(), length.data(), bins.data(), count,
                            static_cast<size_t>(most + 1));
  }
  return nb::make_tuple(to_numpy(std::move(made.counts)), to_numpy(std::move(made.shard)),
                        to_numpy(std::move(made.document)), to_numpy(std::move(made.start)),
                        to_numpy(std::move(made.length)));
}

}  // namespace

void bind_best_fit(nb::module_& m) {
  m.def("best_fit", &best_fit, nb::arg("lengths"), nb::arg("length"),
        "The sequence of each piece, int32 [pieces], and the number of sequences. Raises ValueError "
        "for a length that is not 1 to `length`.");
  m.def("in_rows", &in_rows, nb::arg("place"), nb::arg("start"), nb::arg("length"), nb::arg("bins"),
        "Pieces in the order of their rows: the number of pieces of each row, int64, and shard "
        "int32, document int64, start int64, length int32 [pieces].");
}

}  // namespace gristmill
