"""Reading on from a place, files larger than the memory, pages in tables and folders."""

import gzip
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from curation.readers import Source, plan_splits, read_parts, read_split

ROOT = Path(__file__).parents[2]
ROWS = [{"text": f"text number {i} " + "x" * (i % 90), "n": i} for i in range(3000)]
BAD = {0: b'{"text": 5}', 1700: b'{"text": "\xff"}', 2999: b"{"}


def read(path, split_bytes=32 << 20, **options):
    source = Source(str(path), "src", options.pop("domain", "web"), **options)
    problems, rows = [], []
    for split in json.loads(json.dumps(plan_splits(source, split_bytes))):
        for batch in read_split(split, problems.append):
            batch.validate(full=True)
            rows += batch.to_pylist()
    return rows, [str(problem) for problem in problems]


def write(folder, form):
    lines = [BAD.get(i) or json.dumps(row).encode() for i, row in enumerate(ROWS)]
    data = b"\n".join(lines)
    if form == "jsonl":
        (folder / "a.jsonl").write_bytes(data)
    elif form == "gz":
        (folder / "a.jsonl.gz").write_bytes(gzip.compress(data))
    elif form == "zst":
        with pa.output_stream(folder / "a.jsonl.zst", compression="zstd") as out:
            out.write(data)
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet", row_group_size=700)
    elif form == "datasets":
        Dataset.from_list(ROWS).save_to_disk(str(folder))
    else:
        for row in ROWS[:200]:
            (folder / f"{row['n']:04d}.txt").write_text(row["text"])


@pytest.mark.parametrize("form", ["jsonl", "gz", "zst", "parquet", "datasets", "text"])
def test_a_split_is_read_on_from_any_batch_it_gave(tmp_path, form):
    write(tmp_path, form)
    for split in plan_splits(Source(str(tmp_path), "src", "web"), 100_000)[:1]:
        problems = []
        parts = [
            (place, batch, len(problems))
            for place, batch in read_parts(split, problems.append, 3000)
        ]
        assert len(parts) > 4
        for at in range(0, len(parts), 9):
            place, _, told = parts[at]
            later = []
            rest = list(read_parts(split, later.append, 3000, json.loads(json.dumps(place))))
            assert [batch for _, batch in rest] == [batch for _, batch, _ in parts[at + 1 :]]
            assert later == problems[told:]


CHILD = """
import resource, sys
from curation.readers import Source, plan_splits, read_split
import pyarrow.parquet, curation.rows, json
path, form, extra = sys.argv[1], sys.argv[2], int(sys.argv[3])
problems = []
def read(path):
    splits = plan_splits(Source(path, "s", "web", max_document_bytes=1 << 20))
    return sum(b.num_rows for s in splits for b in read_split(s, problems.append, 1 << 18))
read(sys.argv[4])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + extra, used + extra))
print(json.dumps([read(path), list(map(str, problems))]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc and RLIMIT_AS")
@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
def test_a_file_much_larger_than_the_memory_is_read(tmp_path, form):
    """A file of 120 MB of text, in one row group or one stream, with 48 MB to spare."""
    rows, size = 1200, 100_000
    path, small = tmp_path / f"big.{form}", tmp_path / f"small.{form}"
    text = random.Random(4).randbytes(size // 2).hex()
    if form == "parquet":
        schema = pa.schema([("text", pa.string())])
        # A page is at least as many values as are written at once, and a page is read as a whole.
        with pq.ParquetWriter(path, schema, write_batch_size=16) as writer:
            table = pa.table({"text": [f"{i}{text}" for i in range(rows)]})
            writer.write_table(table, row_group_size=rows)
        del table
        pq.write_table(pa.table({"text": ["x"]}), small)
        assert pq.read_metadata(path).num_row_groups == 1
    else:
        opener = gzip.open if form == "jsonl.gz" else open
        with opener(path, "wb", **({"compresslevel": 1} if form == "jsonl.gz" else {})) as file:
            for i in range(rows):
                file.write(json.dumps({"text": f"{i}{text}"}).encode() + b"\n")
        with opener(small, "wb") as file:
            file.write(b'{"text": "x"}\n')
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), form, str(48 << 20), str(small)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
             "MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == [rows, []]


PAGE = "<html><title>Titel</title><body><p>" + "Ein Absatz über Dinge, lang genug. " * 9 + "</p>"


def test_a_folder_of_pages_is_read_when_it_is_called_html(tmp_path):
    (tmp_path / "a.html").write_text(PAGE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.htm").write_bytes(PAGE.encode("windows-1252"))
    (tmp_path / "c.html").write_bytes(b"")
    (tmp_path / "d.txt").write_text("no page")
    rows, problems = read(tmp_path, format="html", language="deu")
    assert [row["uri"] for row in rows] == ["a.html", "sub/b.htm"]
    assert rows[0]["text"] == rows[1]["text"] == ("Ein Absatz über Dinge, lang genug. " * 9).strip()
    assert json.loads(rows[0]["metadata"]) == {"title": "Titel"}
    assert problems == ["c.html: empty file"]
    assert read(tmp_path, 10, format="html", language="deu")[0] == rows
    assert [row["uri"] for row in read(tmp_path / "a.html")[0]] == ["a.html"]
    assert [row["uri"] for row in read(tmp_path)[0]] == ["d.txt"]
    assert read(tmp_path, domain="code")[0][0]["text"] == PAGE
    assert (
        "more than max_document_bytes" in read(tmp_path, format="html", max_document_bytes=9)[1][0]
    )


def test_a_column_of_html_becomes_the_text(tmp_path):
    columns = {
        "html": [PAGE.encode(), PAGE.encode("windows-1252"), None, b"\xff\xfe\x00"],
        "url": ["http://h/0", "http://h/1", "http://h/2", "http://h/3"],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    rows, problems = read(tmp_path, html_field="html")
    assert [row["uri"] for row in rows] == ["http://h/0", "http://h/1", "http://h/3"]
    assert rows[0]["text"] == rows[1]["text"]
    assert rows[0]["text"].startswith("Ein Absatz über")
    assert problems == ["a.parquet: row 2: no 'html'; skipped"]
    path = tmp_path / "b.jsonl"
    path.write_text(json.dumps({"page": PAGE, "n": 1}) + '\n{"page": 5}\n{"page": ""}\n')
    rows, problems = read(path, html_field="page")
    assert [row["text"][:12] for row in rows] == ["Ein Absatz ü", ""]
    assert json.loads(rows[0]["metadata"]) == {"n": 1, "title": "Titel"}
    assert len(problems) == 1


LONG = ["a text that is stored outside", "b text that is stored outside"]
WILD = [
    (pa.array(LONG), struct.pack("<3i", 0, 29, 58), struct.pack("<3i", 0, 29, 10**9)),
    (pa.array(LONG), struct.pack("<3i", 0, 29, 58), struct.pack("<3i", 0, -(10**9), 58)),
    (pa.array(LONG, pa.large_string()), struct.pack("<3q", 0, 29, 58),
     struct.pack("<3q", 0, 10**15, 58)),
    (pa.array(LONG, pa.string_view()), struct.pack("<i4sii", 29, b"b te", 0, 29),
     struct.pack("<i4sii", 29, b"b te", 77, 29)),
    (pa.array(LONG, pa.string_view()), struct.pack("<i4sii", 29, b"b te", 0, 29),
     struct.pack("<i4sii", 29, b"b te", 0, 10**9)),
    (pa.DictionaryArray.from_arrays(pa.array([1, 0, 1, 1, 0], pa.int32()), pa.array(LONG)),
     struct.pack("<5i", 1, 0, 1, 1, 0), struct.pack("<5i", 1, 0, 10**9, 1, 0)),
    (pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int32()), pa.array(LONG)),
     struct.pack("<3i", 0, 29, 58), struct.pack("<3i", 0, 29, 10**9)),
]  # fmt: skip


@pytest.mark.parametrize("column", ["text", "other"])
@pytest.mark.parametrize("number", range(len(WILD)))
def test_what_leads_out_of_its_buffer_is_found_before_it_is_followed(tmp_path, number, column):
    array, good, bad = WILD[number]
    Dataset.from_list(ROWS[:3]).save_to_disk(str(tmp_path))
    path = tmp_path / "data-00000-of-00001.arrow"
    columns = {"text": pa.array(["fine"] * len(array)), column: array}
    batch = pa.RecordBatch.from_pydict(columns)
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, batch.schema) as stream:
        stream.write_batch(batch)
    assert len(read(tmp_path)[0]) == len(array)
    data = path.read_bytes()
    assert data.count(good) == 1
    path.write_bytes(data.replace(good, bad))
    rows, problems = read(tmp_path)
    assert rows == []
    assert len(problems) == 1
    assert "corrupt Arrow stream" in problems[0]


def bad_files(folder):
    (folder / "line.jsonl").write_bytes(b'{"text": "\xff"}\n')
    (folder / "long.jsonl").write_bytes(json.dumps({"text": "é" * 60}).encode())
    (folder / "noise.jsonl.gz").write_bytes(b"no archive")
    for name, value in (("row", b"\xff"), ("size", b"x" * 200)):
        pq.write_table(
            pa.table({"text": pa.array([value], pa.binary())}), folder / f"{name}.parquet"
        )
    (folder / "text.txt").write_bytes(b"\xff")
    (folder / "bad.warc").write_bytes(b"no archive")
    head = b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://h/\r\nContent-Length: 1"
    (folder / "none.warc").write_bytes(head + b"\r\n\r\nx\r\n\r\n")
    return sorted(folder.iterdir())


def test_a_caller_that_stops_at_a_problem_gets_its_own_error_about_the_first(tmp_path):
    files = bad_files(tmp_path)
    assert len(files) == 8
    for path in files:
        seen = []

        def stop(problem, seen=seen):
            seen.append(str(problem))
            raise ValueError(f"stopped: {problem}")

        split = plan_splits(Source(str(path), "s", "web", max_document_bytes=100))[0]
        with pytest.raises(ValueError, match=f"^stopped: {path.name}: ") as info:
            list(read_split(split, stop))
        assert [f"stopped: {text}" for text in seen] == [str(info.value)]


def test_nul_and_invalid_bytes_and_long_lines_cost_their_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "a"}\n\0\0\0\n{"text": "b\0"}\n{"text": "' + b"x" * (3 << 20)
        + b'"}\n{"text": "\xc3\x28"}\n{"text": "c"}'
    )  # fmt: skip
    rows, problems = read(path, max_document_bytes=1 << 20)
    assert [row["text"] for row in rows] == ["a", "c"]
    assert [problem.split(": ")[1] for problem in problems] == [f"line {i}" for i in (2, 3, 4, 5)]
