// What the files that show curation's native core to Python share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <utility>
#include <vector>

#include "texts.hpp"

namespace gristmill {

template <typename T>
using Array = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Hand a vector over to NumPy without copying it: one dimension, or rows of `columns`.
template <typename T>
nb::object to_numpy(std::vector<T>&& values, size_t columns = 0) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  if (columns == 0)
    return nb::cast(nb::ndarray<nb::numpy, T>(owned->data(), {owned->size()}, owner));
  return nb::cast(
      nb::ndarray<nb::numpy, T>(owned->data(), {owned->size() / columns, columns}, owner));
}

void bind_characters(nb::module_& m);
void bind_quality(nb::module_& m);
void bind_minhash(nb::module_& m);
void bind_sorting(nb::module_& m);
void bind_decontaminate(nb::module_& m);
void bind_private_data(nb::module_& m);
void bind_substrings(nb::module_& m);
void bind_language(nb::module_& m);
void bind_classifier(nb::module_& m);
void bind_lid(nb::module_& m);

}  // namespace gristmill
