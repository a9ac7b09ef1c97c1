// The census' records and a plan's passes over them.

#include "bind.hpp"
#include "records.hpp"

#include <utility>

namespace gristmill {
namespace {

using records::Record;

template <typename T>
using Table = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void expect(bool good) {
  if (!good) throw nb::value_error("arrays that don't belong together");
}

// Records as Python has them: bytes.
struct Records {
  const Record* at;
  size_t count;
  explicit Records(const Array<uint8_t>& bytes)
      : at(reinterpret_cast<const Record*>(bytes.data())), count(bytes.shape(0) / sizeof(Record)) {
    expect(bytes.shape(0) % sizeof(Record) == 0);
  }
  void expect_piles(size_t piles) const {
    expect(std::all_of(at, at + count, [&](const Record& record) { return record.pile < piles; }));
  }
};

nb::object to_bytes(std::vector<Record>&& records) {
  auto* owned = new std::vector<Record>(std::move(records));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<Record>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>>(
      owned->data(), {owned->size() * sizeof(Record)}, owner));
}

records::Documents documents_of(const Array<uint64_t>* keys, const Array<bool>& held_out,
                                const Array<uint32_t>& tokens, const Array<int32_t>& piles,
                                size_t names) {
  const size_t count = tokens.shape(0);
  expect((keys == nullptr || keys->shape(0) == count) && held_out.shape(0) == count &&
         piles.shape(0) == count);
  expect(std::all_of(piles.data(), piles.data() + count,
                     [&](int32_t pile) { return pile >= 0 && static_cast<size_t>(pile) < names; }));
  return {keys ? keys->data() : nullptr, held_out.data(), tokens.data(), piles.data(), count};
}

nb::object tally(Array<bool> held_out, Array<uint32_t> tokens, Array<int32_t> piles,
                 size_t names) {
  std::vector<int64_t> found;
  {
    nb::gil_scoped_release release;
    found = records::tally(documents_of(nullptr, held_out, tokens, piles, names), names);
  }
  return to_numpy(std::move(found));
}

nb::object lay_out(Array<uint64_t> keys, Array<bool> held_out, Array<uint32_t> tokens,
                   Array<int32_t> piles, Array<uint32_t> numbers, uint64_t first, size_t windows) {
  expect(std::has_single_bit(windows));
  std::vector<Record> made;
  std::vector<int64_t> starts(windows + 1);
  {
    nb::gil_scoped_release release;
    const auto documents = documents_of(&keys, held_out, tokens, piles, numbers.shape(0));
    made = records::lay_out(documents, numbers.data(), first, windows, starts.data());
  }
  return nb::make_tuple(to_bytes(std::move(made)), to_numpy(std::move(starts)));
}

nb::object in_order(Array<uint8_t> bytes) {
  std::vector<Record> sorted;
  {
    nb::gil_scoped_release release;
    const Records records(bytes);
    sorted = records::in_order(records.at, records.count);
  }
  return to_bytes(std::move(sorted));
}

// The turns of a plan that are looked at, and the buckets of keys that some piles have in them.
class Turns {
 public:
  Turns(Array<int64_t> numbers, Array<uint64_t> draws) {
    expect(numbers.shape(0) == draws.shape(0));
    for (size_t t = 0; t < numbers.shape(0); ++t)
      turns_.push_back({numbers.data()[t] == 0, draws.data()[t]});
  }

  nb::object weigh(Array<uint8_t> bytes, Table<int64_t> first, Array<uint64_t> shift,
                   size_t size) const {
    std::vector<int64_t> tokens(size);
    in_buckets(bytes, first, shift, size, [&](const Record& record, uint64_t, int64_t at) {
      tokens[at] += record.tokens;
    });
    return to_numpy(std::move(tokens));
  }

  nb::object gather(Array<uint8_t> bytes, Table<int64_t> first, Array<uint64_t> shift,
                    Array<bool> wanted) const {
    std::vector<Record> chosen;
    std::vector<int64_t> places;
    in_buckets(bytes, first, shift, wanted.shape(0),
               [&](const Record& record, uint64_t key, int64_t at) {
                 if (!wanted.data()[at]) return;
                 chosen.push_back({key, record.place, record.tokens, record.pile});
                 places.push_back(at);
               });
    return nb::make_tuple(to_bytes(std::move(chosen)), to_numpy(std::move(places)));
  }

  nb::object pick(Array<uint8_t> bytes, Array<int64_t> whole, Table<uint64_t> bounds) const {
    records::Parts parts;
    const size_t piles = whole.shape(0);
    expect(bounds.shape(0) == turns_.size() * piles && bounds.shape(1) == 6);
    {
      nb::gil_scoped_release release;
      const Records records(bytes);
      records.expect_piles(piles);
      parts = records::pick(records.at, records.count, whole.data(), piles, turns_,
                            reinterpret_cast<const records::Bounds*>(bounds.data()));
    }
    return nb::make_tuple(to_numpy(std::move(parts.place)), to_numpy(std::move(parts.start)),
                          to_numpy(std::move(parts.tokens)), to_numpy(std::move(parts.documents)));
  }

 private:
  template <typename With>
  void in_buckets(const Array<uint8_t>& bytes, const Table<int64_t>& first,
                  const Array<uint64_t>& shift, size_t size, With with) const {
    const size_t piles = shift.shape(0);
    expect(first.shape(0) == turns_.size() && first.shape(1) == piles);
    nb::gil_scoped_release release;
    const Records records(bytes);
    records.expect_piles(piles);
    const records::Buckets buckets{first.data(), shift.data(), piles};
    for (size_t t = 0; t < turns_.size(); ++t)
      for (const Record* record = records.at; record != records.at + records.count; ++record) {
        const uint64_t key = turns_[t].key(record->key);
        const int64_t at = buckets.of(*record, t, key);
        if (at < 0) continue;
        expect(static_cast<size_t>(at) < size);
        with(*record, key, at);
      }
  }

  std::vector<records::Turn> turns_;
};

}  // namespace

void bind_records(nb::module_& m) {
  m.def("tally", &tally, nb::arg("held_out"), nb::arg("tokens"), nb::arg("piles"), nb::arg("names"),
        "Documents and tokens for training, and documents held out, of each of `names` piles: int64 "
        "[3 * names].");
  m.def("lay_out", &lay_out, nb::arg("keys"), nb::arg("held_out"), nb::arg("tokens"),
        nb::arg("piles"), nb::arg("numbers"), nb::arg("first"), nb::arg("windows"),
        "Records (bytes) of the documents for training, window after window, and where each window "
        "begins: int64 [windows + 1], in records. `numbers` says what records call the piles, "
        "`first` the first document's place; `windows` is a power of two.");
  m.def("in_order", &in_order, nb::arg("records"), "Records (bytes) in the order of key and place.");
  nb::class_<Turns>(m, "Turns", "Turns through the piles, in each of which keys order documents.")
      .def(nb::init<Array<int64_t>, Array<uint64_t>>(), nb::arg("numbers"), nb::arg("draws"),
           "The turns' numbers, and what their keys are drawn with (of turn 0: they are the "
           "records' own).")
      .def("weigh", &Turns::weigh, nb::arg("records"), nb::arg("first"), nb::arg("shift"),
           nb::arg("size"),
           "Tokens in each bucket: int64 [size]. A pile's buckets begin at `first` (int64 [turns, "
           "piles]; -1: it has none), and a key belongs to that of its bits above the lowest, "
           "shifted by `shift` (uint64 [piles]).")
      .def("gather", &Turns::gather, nb::arg("records"), nb::arg("first"), nb::arg("shift"),
           nb::arg("wanted"),
           "The records (bytes) of wanted buckets (bool [size]), with their turn's keys, and their "
           "buckets: int64.")
      .def("pick", &Turns::pick, nb::arg("records"), nb::arg("whole"), nb::arg("bounds"),
           "What a phase takes of records: place uint64, first token and number of tokens int32 "
           "[parts], and how many documents of each pile, int64. `whole`: turns taken from end to "
           "end, int64 [piles]; `bounds`: uint64 [turns * piles, 6], key, place and token from "
           "which and up to which a turn is taken in part, from key 1 to key 0 for nothing.");
}

}  // namespace gristmill
