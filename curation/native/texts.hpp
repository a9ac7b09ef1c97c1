// A string column of an Arrow record batch, read where it lies.
//
// Python hands over anything with `__arrow_c_array__` (Arrow's C data interface, PyCapsules): the
// buffers stay the owner's, nothing is copied, and the capsules that keep them alive are let go with
// the Texts. Reading needs no GIL; making and letting go of one does.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace gristmill {

namespace nb = nanobind;

// The two structures of Arrow's C data interface, as its specification lays them out.
struct ArrowSchema {
  const char* format;
  const char* name;
  const char* metadata;
  int64_t flags;
  int64_t n_children;
  ArrowSchema** children;
  ArrowSchema* dictionary;
  void (*release)(ArrowSchema*);
  void* private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void** buffers;
  ArrowArray** children;
  ArrowArray* dictionary;
  void (*release)(ArrowArray*);
  void* private_data;
};

class Texts {
 public:
  // Raises TypeError for what is not an Arrow array, ValueError for one that is not of strings.
  explicit Texts(nb::handle array) {
    if (!nb::hasattr(array, "__arrow_c_array__"))
      throw nb::type_error(("expected an Arrow array of strings, found " +
                            nb::cast<std::string>(array.type().attr("__name__")) +
                            " (of a chunked array, pass its chunks)")
                               .c_str());
    capsules_ = array.attr("__arrow_c_array__")();
    const auto* schema = static_cast<const ArrowSchema*>(
        PyCapsule_GetPointer(nb::object(capsules_[0]).ptr(), "arrow_schema"));
    const auto* data = static_cast<const ArrowArray*>(
        PyCapsule_GetPointer(nb::object(capsules_[1]).ptr(), "arrow_array"));
    if (!schema || !data) throw nb::python_error();
    if (!schema->release || !data->release)
      throw nb::value_error("expected an Arrow array, found one that was let go of already");
    const std::string_view format = schema->format;
    // The indices of a dictionary have a format of their own, so this refuses it as well.
    if (format != "u" && format != "U")
      throw nb::value_error(("expected an Arrow array of string or large_string, found format '" +
                             std::string(format) + "'").c_str());
    wide_ = format == "U";
    size_ = static_cast<size_t>(data->length);
    first_ = static_cast<size_t>(data->offset);
    valid_ = data->null_count == 0 ? nullptr : static_cast<const uint8_t*>(data->buffers[0]);
    offsets_ = data->buffers[1];
    bytes_ = static_cast<const char*>(data->buffers[2]);
  }

  size_t size() const { return size_; }

  bool is_null(size_t i) const {
    const size_t at = first_ + i;
    return valid_ && !(valid_[at / 8] >> at % 8 & 1);
  }

  // UTF-8; empty for a null. Never of a null pointer, which memcpy and the like must not be given.
  std::string_view operator[](size_t i) const {
    if (is_null(i)) return "";
    const int64_t begin = offset(i), end = offset(i + 1);
    return end > begin ? std::string_view(bytes_ + begin, static_cast<size_t>(end - begin))
                       : std::string_view("");
  }

  size_t bytes() const {
    return size_ ? static_cast<size_t>(offset(size_) - offset(0)) : 0;
  }

 private:
  int64_t offset(size_t i) const {
    const size_t at = first_ + i;
    return wide_ ? static_cast<const int64_t*>(offsets_)[at]
                 : static_cast<const int32_t*>(offsets_)[at];
  }

  nb::object capsules_;
  bool wide_;
  size_t size_, first_;
  const uint8_t* valid_;
  const void* offsets_;
  const char* bytes_;
};

}  // namespace gristmill
