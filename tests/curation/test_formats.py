import gzip
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.formats import code_language, format_of, gzip_chunks, lines, zstd_chunks


def chunked(data, sizes):
    out, at = [], 0
    for size in sizes:
        out.append(data[at : at + size])
        at += size
    return [*out, data[at:]]


@given(
    st.binary(max_size=60).map(lambda b: bytes(b"\nab"[x % 3] for x in b)),
    st.lists(st.integers(0, 9), max_size=9),
    st.integers(0, 6),
    st.integers(1, 70),
)
def test_lines_are_the_same_however_the_stream_is_cut(data, sizes, limit, end):
    expected, begin = [], 0
    for line in data.split(b"\n"):
        last = begin + len(line) == len(data)
        if begin < end and not (last and not line):
            expected.append(line if len(line) <= limit else None)
        begin += len(line) + 1
    assert list(lines(chunked(data, sizes), limit, end)) == expected


def test_a_stream_without_a_line_break_is_held_up_to_the_limit_only():
    tracemalloc.start()
    found = list(lines((bytes(1 << 16) for _ in range(2000)), 1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [None]
    assert peak < 4 << 20


def test_reading_stops_where_no_line_of_the_range_can_begin():
    def endless():
        for _ in range(100):
            yield b"x" * 10
        raise AssertionError("read on")

    assert list(lines(endless(), 20, end=50)) == [None]


@pytest.mark.parametrize("size", [0, 1, 1 << 14, (1 << 14) + 1, 300_000])
def test_gzip_members_joined_and_padded_are_one_stream(tmp_path, size):
    path = tmp_path / "a.gz"
    data = bytes(i * i % 251 for i in range(size))
    path.write_bytes(gzip.compress(data) + gzip.compress(b"") + gzip.compress(b"end") + bytes(99))
    assert b"".join(gzip_chunks(path)) == data + b"end"


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_all_before_the_damage_comes_out_and_then_the_damage(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    data = b"".join(b"%d line\n" % (i * 7919) for i in range(100_000))
    if kind == "gz":
        path.write_bytes(gzip.compress(data))
    else:
        with pa.output_stream(path, compression="zstd") as out:
            out.write(data)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    out = b""
    with pytest.raises((EOFError, OSError)):
        for chunk in gzip_chunks(path) if kind == "gz" else zstd_chunks(path):
            out += chunk
    assert data.startswith(out)
    assert len(out) > len(data) // 4


def test_the_language_of_a_file_is_told_by_its_name():
    assert code_language("a/b.py") == "python"
    assert code_language("x.R") == "r"
    assert code_language("Makefile") == "makefile"
    assert code_language("deep/CMakeLists.txt") == "cmake"
    assert code_language("README.md") == "markdown"
    assert code_language("photo.jpeg") is None
    assert code_language("LICENSE") is None


def test_the_format_of_a_file_is_told_by_its_suffix():
    found = {
        "a.jsonl": "jsonl", "a.JSONL.gz": "jsonl", "a.ndjson.zst": "jsonl", "a.json.gz": "jsonl",
        "a.json": None, "a.parquet": "parquet", "a.txt": "text", "a.txt.gz": None, "a.py": None,
        "a.arrow": None,
    }  # fmt: skip
    assert {name: format_of(name, "web", None) for name in found} == found
    assert format_of("a.json", "web", "jsonl") == "jsonl"
    assert format_of("a.json", "code", None) == "text"
    assert format_of("a.py", "code", None) == "text"
    assert format_of("a.arrow", "web", None, named=True) == "datasets"
