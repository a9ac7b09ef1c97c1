"""What native code says to arrays that it was not made for, and to those at the edges of it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from curation import _native

TEXTS = ["one two", "", None, "é three", "four five six"]


def samples(array, tokens=1) -> list[list[int]]:
    """A number for each token of each text: that is what windows of one token give."""
    found, ends = _native.sample_substrings(array, np.zeros(len(array), np.uint8), tokens)
    starts = [0, *ends.tolist()]
    return [found[a:b].tolist() for a, b in zip(starts, ends.tolist(), strict=False)]


EXPECTED = samples(pa.array(TEXTS))


def test_both_widths_of_strings_are_read_and_a_null_is_empty():
    assert [len(found) for found in EXPECTED] == [2, 0, 0, 2, 3]
    assert samples(pa.array(TEXTS, pa.large_string())) == EXPECTED
    assert EXPECTED[1] == EXPECTED[2] == []
    assert len({value for found in EXPECTED for value in found}) == sum(map(len, EXPECTED))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_slices_begin_where_they_say(kind):
    # Sixteen and more texts, so that the bits of nulls begin inside a later byte.
    array = pa.array(TEXTS * 4, kind)
    for start in range(len(array)):
        for length in (0, 1, 7, 20):
            part = array.slice(start, length)
            assert samples(part) == (EXPECTED * 4)[start : start + length]
            assert samples(part.slice(1)) == (EXPECTED * 4)[start : start + length][1:]


def test_columns_of_sliced_batches_are_slices():
    batch = pa.record_batch({"n": range(5), "text": TEXTS}).slice(3)
    assert samples(batch.column("text")) == EXPECTED[3:]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_empty_arrays_and_empty_buffers_are_read(kind):
    assert samples(pa.array([], kind)) == []
    assert samples(pa.array([None, None], kind)) == [[], []]
    assert samples(pa.array(["", ""], kind)) == [[], []]
    nothing = pa.py_buffer(b"")
    assert samples(pa.Array.from_buffers(kind, 0, [None, nothing, nothing])) == []
    width = np.int64 if kind == pa.large_string() else np.int32
    offsets = pa.py_buffer(np.zeros(3, width).tobytes())
    assert samples(pa.Array.from_buffers(kind, 2, [None, offsets, nothing])) == [[], []]


def test_strings_of_an_extension_type_are_strings():
    assert samples(pa.ExtensionArray.from_storage(pa.json_(), pa.array(TEXTS))) == EXPECTED


@pytest.mark.parametrize(
    "array",
    [
        pa.nulls(3),
        pa.array([1, 2]),
        pa.array([b"one"]),
        pa.array([b"one"], pa.large_binary()),
        pa.array(["one"]).dictionary_encode(),
        pa.array(["one"]).cast(pa.string_view()),
        pa.array([["one"]]),
        pa.record_batch({"text": ["one"]}),
    ],
    ids=lambda array: str(getattr(array, "type", "batch")),
)
def test_what_is_not_of_strings_is_refused(array):
    with pytest.raises(ValueError, match="expected an Arrow array of string or large_string"):
        samples(array)


@pytest.mark.parametrize(
    "array",
    [
        pa.chunked_array([["one"], ["two"]]),
        pa.table({"text": ["one"]}),
        ["one"],
        "one",
        np.array(["one"]),
    ],
    ids=lambda array: type(array).__name__,
)
def test_what_is_not_an_array_is_refused_by_name(array):
    with pytest.raises(TypeError, match=f"found {type(array).__name__}"):
        samples(array)


def test_none_and_classes_are_refused():
    for array in (None, pa.Array, pa.StringArray):
        with pytest.raises(TypeError):
            _native.sample_substrings(array, np.zeros(1, np.uint8), 1)


class Gives:
    """Something that gives what it likes for an Arrow array."""

    def __init__(self, *given):
        self.given = given

    def __len__(self):
        return 1

    def __arrow_c_array__(self, requested_schema=None):
        if isinstance(self.given[0], Exception):
            raise self.given[0]
        return self.given if len(self.given) > 1 else self.given[0]


def test_what_only_looks_like_an_array_is_refused():
    schema, array = pa.array(["one"]).__arrow_c_array__()
    for given in [(1, 2), (schema, 1), (array, schema), (None,), ((),), ((schema,),)]:
        with pytest.raises((TypeError, ValueError, IndexError)):
            samples(Gives(*given))
    with pytest.raises(OSError, match="of its own"):
        samples(Gives(OSError("of its own")))
    assert samples(Gives(schema, array)) == samples(pa.array(["one"]))


def test_an_array_that_was_moved_elsewhere_is_refused():
    capsules = pa.array(["one"]).__arrow_c_array__()
    pa.Array._import_from_c_capsule(*capsules)
    with pytest.raises(ValueError, match="let go of"):
        samples(Gives(*capsules))


def test_the_array_may_be_let_go_of_as_soon_as_the_call_is_over():
    text = "one two " * 1000
    found, ends = _native.sample_substrings(pa.array([text]), np.zeros(1, np.uint8), 1)
    before = pa.total_allocated_bytes()
    array = pa.array([text] * 100)
    _native.sample_substrings(array, np.zeros(100, np.uint8), 1)
    del array
    assert pa.total_allocated_bytes() == before
    assert len(found) == ends[0] == 2


def test_bytes_that_are_not_utf8_neither_crash_nor_join_texts():
    broken = [b"one \xff two", b"\xe0\xa4", b"\xf0\x9f\x98", b"\xc3", b"\x80 a", b"\xed\xa0\x80"]
    array = pa.array([*broken, b"a\xc3"], pa.binary()).view(pa.string())
    found = samples(array)
    assert found[0] == samples(pa.array(["one two"]))[0]
    assert found[1:4] == [[], [], []] and found[4] == found[6] == samples(pa.array(["a"]))[0]


def test_numbers_of_another_kind_are_refused_and_not_rounded():
    texts = pa.array(["one"])
    for skip in (np.zeros(1), np.zeros(1, np.int64), np.zeros((1, 1), np.uint8), [0], None):
        with pytest.raises(TypeError):
            _native.sample_substrings(texts, skip, 1)
    with pytest.raises(TypeError):
        _native.sample_substrings(texts, np.zeros(2, np.uint8)[::2].astype(np.float32), 1)
    for tokens in (-1, 1 << 40, 1.5, "1"):
        with pytest.raises(TypeError):
            _native.sample_substrings(texts, np.zeros(1, np.uint8), tokens)
    for tokens in (0, 10_001):
        with pytest.raises(ValueError, match="tokens"):
            _native.sample_substrings(texts, np.zeros(1, np.uint8), tokens)
        with pytest.raises(ValueError, match="tokens"):
            _native.SubstringMerge(".", 1, tokens, True)


def test_threads_read_the_same_array_at_once():
    array = pa.array([f"text {i} of many " * 50 for i in range(500)])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: samples(array, 3), range(8)))
    assert all(one == found[0] for one in found)
