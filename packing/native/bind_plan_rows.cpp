// A plan's Arrow files and the gathering of rows from them.

#include "bind.hpp"
#include "plan_rows.hpp"

#include <string>
#include <utility>

namespace gristmill {
namespace {

using plan_rows::File;
using plan_rows::Found;
using plan_rows::kColumns;
using plan_rows::Problem;

// The files of one set, opened as they are needed; holds on to the arrays that it points into.
class PlanRows {
 public:
  PlanRows(size_t files, size_t rows_in_batch, size_t rows_in_file)
      : files_(files), rows_in_batch_(rows_in_batch), rows_in_file_(rows_in_file) {
    if (rows_in_batch == 0 || rows_in_file % rows_in_batch != 0)
      throw nb::value_error("files are of whole batches");
  }

  void open(size_t number, Array<uint8_t> bytes, size_t batches) {
    if (number >= files_.size()) throw nb::index_error("no such file");
    files_[number] = {bytes.data(), bytes.shape(0), std::vector<int64_t>(batches * kColumns, -1)};
    kept_.push_back(nb::cast(bytes));
  }

  void tell(size_t number, size_t batch, Array<int64_t> begins) {
    if (number >= files_.size() || (batch + 1) * kColumns > files_[number].begins.size() ||
        begins.shape(0) != kColumns)
      throw nb::index_error("no such batch");
    for (size_t k = 0; k < kColumns; ++k)
      files_[number].begins[batch * kColumns + k] = begins.data()[k];
  }

  nb::object gather(Array<int64_t> rows) const {
    Found found;
    const size_t guess = rows.shape(0) * 16;
    found.ends.reserve(rows.shape(0));
    found.shard.reserve(guess), found.document.reserve(guess);
    found.start.reserve(guess), found.length.reserve(guess);
    for (size_t k = 0; k < rows.shape(0); ++k) {
      const auto row = static_cast<uint64_t>(rows.data()[k]);  // a negative one is too large
      const uint64_t number = row / rows_in_file_, batch = row % rows_in_file_ / rows_in_batch_;
      if (number >= files_.size()) throw nb::index_error("a row past the last file");
      const Problem problem =
          plan_rows::gather(files_[number], batch, row % rows_in_batch_, found);
      if (problem != Problem::none)
        return nb::make_tuple(number, batch, problem == Problem::damaged);
    }
    return nb::make_tuple(to_numpy(std::move(found.ends)), to_numpy(std::move(found.shard)),
                          to_numpy(std::move(found.document)), to_numpy(std::move(found.start)),
                          to_numpy(std::move(found.length)));
  }

 private:
  std::vector<File> files_;
  size_t rows_in_batch_, rows_in_file_;
  std::vector<nb::object> kept_;
};

}  // namespace

void bind_plan_rows(nb::module_& m) {
  nb::class_<PlanRows>(m, "PlanRows", "The rows of one set of a plan, in its mapped Arrow files.")
      .def(nb::init<size_t, size_t, size_t>(), nb::arg("files"), nb::arg("rows_in_batch"),
           nb::arg("rows_in_file"))
      .def("open", &PlanRows::open, nb::arg("number"), nb::arg("bytes"), nb::arg("batches"),
           "Open a file: its bytes, and how many record batches of it may be asked for.")
      .def("tell", &PlanRows::tell, nb::arg("number"), nb::arg("batch"), nb::arg("begins"),
           "Say where the columns of a batch begin in its file, in bytes: int64 [5], list offsets, "
           "shard, document, start, length.")
      .def("gather", &PlanRows::gather, nb::arg("rows"),
           "The pieces of rows, in the order asked for: ends (running number of pieces, int64 "
           "[rows]), shard int32, document int64, start int64, length int32. Or, where a row is in "
           "a file or batch not told of yet, or its pieces are outside of the file: (number of the "
           "file, number of the batch, whether it is damaged).");
}

}  // namespace gristmill
