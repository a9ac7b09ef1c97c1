"""Web archives: real and broken files, cuts, bombs."""

import gzip
import json
import random
import tracemalloc
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest

from curation.readers import Source, plan_splits, read_parts, read_split
from curation.warc import plan_warc

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "web"


def read(path, split_bytes=32 << 20, **options):
    source = Source(str(path), "crawl", "web", **({"format": "warc"} | options))
    problems, rows = [], []
    for split in json.loads(json.dumps(plan_splits(source, split_bytes))):
        for batch in read_split(split, problems.append):
            batch.validate(full=True)
            rows += batch.to_pylist()
    return rows, [str(problem) for problem in problems]


def record(kind, uri, block, media="application/http; msgtype=response", **fields):
    head = {
        "WARC-Type": kind, "WARC-Target-URI": uri, "WARC-Date": "2024-05-06T07:08:09Z",
        "WARC-Record-ID": f"<urn:uuid:{random.Random(uri).getrandbits(128):x}>",
        "Content-Type": media, **fields, "Content-Length": str(len(block)),
    }  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"WARC/1.0\r\n{lines}\r\n".encode() + block + b"\r\n\r\n"


def answer(body, media="text/html; charset=utf-8", status="200 OK", **fields):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\n{lines}\r\n".encode() + body


def page(n):
    prose = f"This is page number {n} of a crawl, with an article in it. " * 5
    return f"<html><title>Page {n}</title><body><p>{prose}</p></body></html>".encode()


def pages(count, size=0):
    filler = random.Random(3)
    records = [record("warcinfo", "", b"software: x\r\n", "application/warc-fields")]
    for n in range(count):
        junk = f"<!--{filler.randbytes(size).hex()}-->".encode()
        records.append(record("response", f"http://h/{n}", answer(page(n) + junk)))
        records.append(record("request", f"http://h/{n}", b"GET / HTTP/1.1\r\n\r\n"))
    return records


def pack(records, how):
    if how == "some":
        return b"".join(gzip.compress(b"".join(records[i : i + 7])) for i in range(0, 99, 7))
    if how == "gz":
        return b"".join(map(gzip.compress, records))
    if how == "one":
        return gzip.compress(b"".join(records))
    if how == "zst":
        return b"".join(pa.Codec("zstd").compress(r, asbytes=True) for r in records)
    return b"".join(records)


NAMES = {
    "gz": "a.warc.gz",
    "one": "a.warc.gz",
    "some": "a.warc.gz",
    "zst": "a.warc.zst",
    "plain": "a.warc",
}


@pytest.mark.parametrize("how", NAMES)
def test_responses_become_documents_however_the_archive_is_packed(tmp_path, how):
    path = tmp_path / NAMES[how]
    path.write_bytes(pack(pages(20), how))
    rows, problems = read(tmp_path, format=None)
    assert problems == []
    assert [row["uri"] for row in rows] == [f"http://h/{n}" for n in range(20)]
    assert all(f"page number {n} of" in row["text"] for n, row in enumerate(rows))
    about = json.loads(rows[7]["metadata"])
    assert about.pop("record").startswith("<urn:uuid:")
    assert about == {
        "archive": path.name, "content_type": "text/html", "date": "2024-05-06T07:08:09Z",
        "status": 200, "title": "Page 7",
    }  # fmt: skip


def test_only_documents_are_taken(tmp_path):
    html = page(0)
    records = [
        record("response", "http://h/ok", answer(html)),
        record("response", "http://h/plain", answer("naïve\r\n".encode(), "text/plain")),
        record("response", "http://h/gone", answer(html, status="404 Not Found")),
        record("response", "http://h/image", answer(b"\x89PNG", "image/png")),
        record("response", "http://h/packed", answer(gzip.compress(html), Content_Encoding="gzip")),
        record("response", "http://h/untold", answer(html).replace(b"Content-Type", b"X-Nothing")),
        record("response", "http://h/empty", answer(b"<html><body></body></html>")),
        record("response", "dns:h", b"20240506 h. 300 IN A 10.0.0.1", "text/dns"),
        record("response", "http://h/none", b"not an answer"),
        record("resource", "<http://h/wget>", html, "text/html"),
        record("resource", "http://h/log", b"x", "application/json"),
        record("revisit", "http://h/ok", answer(b"")),
        record("metadata", "http://h/ok", b"fetchTimeMs: 1\r\n", "application/warc-fields"),
        record("conversion", "http://h/wet", "Szöveg\nsorok".encode(), "text/plain",
               **{"WARC-Identified-Content-Language": "hun"}),
        record("response", "http://h/cut", answer(html), **{"WARC-Truncated": "length"}),
        record("response", "", answer(html)),
    ]  # fmt: skip
    (tmp_path / "a.warc.gz").write_bytes(pack(records, "gz"))
    rows, problems = read(tmp_path / "a.warc.gz")
    found = {row["uri"].removeprefix("http://h/"): row for row in rows}
    assert list(found) == ["ok", "plain", "packed", "untold", "empty", "wget", "wet", "cut"]
    assert found["ok"]["text"] == found["packed"]["text"] == found["wget"]["text"]
    assert found["plain"]["text"] == "naïve\n"
    assert found["wet"]["text"] == "Szöveg\nsorok"
    assert found["empty"]["text"] == ""
    assert json.loads(found["wet"]["metadata"])["content_languages"] == "hun"
    assert json.loads(found["cut"]["metadata"])["truncated"] == "length"
    assert len(problems) == 2
    assert problems[0].endswith("a response without an HTTP status line; skipped")
    assert problems[1].endswith("no WARC-Target-URI; skipped")


@pytest.mark.parametrize("how", NAMES)
@pytest.mark.parametrize("split_bytes", [1, 3000, 10_000])
def test_cuts_change_nothing(tmp_path, how, split_bytes):
    path = tmp_path / NAMES[how]
    path.write_bytes(pack(pages(30, 500), how))
    whole = read(path)
    assert len(whole[0]) == 30
    assert read(path, split_bytes) == whole
    plan = plan_warc(path, split_bytes)
    assert (len(plan) > 2) == (how in ("gz", "some", "plain"))
    if how == "gz":
        data = path.read_bytes()
        assert all(data[part["start"] :].startswith(b"\x1f\x8b\x08") for part in plan)
        assert [part["end"] for part in plan[:-1]] == [part["start"] for part in plan[1:]]


def test_a_task_goes_on_behind_the_batch_it_had_finished(tmp_path):
    path = tmp_path / "a.warc.gz"
    path.write_bytes(pack(pages(20), "gz"))
    split = plan_splits(Source(str(path), "crawl", "web"))[0]
    parts = list(read_parts(split, pytest.fail, 1000))
    assert len(parts) > 5
    for at in range(len(parts)):
        place = json.loads(json.dumps(parts[at][0]))
        rest = [batch for _, batch in read_parts(split, pytest.fail, 1000, place)]
        assert rest == [batch for _, batch in parts[at + 1 :]]


@pytest.mark.parametrize("how", NAMES)
def test_an_archive_cut_off_anywhere_keeps_the_records_before(tmp_path, how):
    data = pack(pages(6), how)
    whole = [row["id"] for row in read_bytes(tmp_path, NAMES[how], data)[0]]
    rng = random.Random(8)
    kept = set()
    for at in sorted({*rng.sample(range(1, len(data)), 40), len(data) - 1}):
        rows, problems = read_bytes(tmp_path, NAMES[how], data[:at])
        assert [row["id"] for row in rows] == whole[: len(rows)]
        assert len(problems) <= 1
        kept.add(len(rows))
    assert {0, 6} <= kept
    if how in ("gz", "plain"):
        assert len(kept) >= 5


def read_bytes(folder, name, data, **options):
    (folder / name).write_bytes(data)
    return read(folder / name, **options)


@pytest.mark.parametrize("how", ["gz", "plain"])
def test_damage_costs_the_record_it_is_in(tmp_path, how):
    records = [pack([r], how) for r in pages(10)]
    place = len(b"".join(records[:9]))  # records[9] is the response to page 4
    data = bytearray(b"".join(records))
    data[place : place + 40] = b"\xff" * 40
    rows, problems = read_bytes(tmp_path, NAMES[how], bytes(data))
    assert [row["uri"] for row in rows] == [f"http://h/{n}" for n in range(10) if n != 4]
    assert len(problems) == 1
    assert "reading goes on at byte" in problems[0]
    cut = read(tmp_path / NAMES[how], 700)[0]
    assert cut == rows


@pytest.mark.parametrize("how", ["gz", "zst", "plain"])
def test_random_damage_never_stops_the_reading(tmp_path, how):
    data = pack(pages(6), how)
    rng = random.Random(9)
    for _ in range(40):
        bad = bytearray(data)
        for _ in range(rng.randrange(1, 20)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        rows, _ = read_bytes(tmp_path, NAMES[how], bytes(bad))
        assert len(rows) <= 6


def test_bombs_are_told_and_cost_no_memory(tmp_path):
    zeros = gzip.compress(bytes(64 << 20))
    records = [
        record("response", "http://h/body", answer(zeros, Content_Encoding="gzip")),
        record("response", "http://h/record", answer(bytes(64 << 20))),
        record("response", "http://h/head", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000),
        record("response", "http://h/fine", answer(page(1))),
    ]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(pack(records, "gz"))
    del records
    read(path, max_document_bytes=1000)  # imports
    tracemalloc.start()
    rows, problems = read(path, max_document_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row["uri"] for row in rows] == ["http://h/fine"]
    assert "expands to more than max_document_bytes (1048576)" in problems[0]
    assert "more than max_document_bytes (1048576)" in problems[1]
    assert peak < 16 << 20


def test_a_header_without_end_is_refused(tmp_path):
    data = b"WARC/1.0\r\n" + b"X-Long: " + b"y" * (1 << 20) + b"\r\n" * 2
    rows, problems = read_bytes(tmp_path, "a.warc", data + pack(pages(2), "plain"))
    assert [row["uri"] for row in rows] == ["http://h/0", "http://h/1"]
    assert len(problems) == 1


ARC = (
    "filedesc://x.arc 0.0.0.0 20240506070809 text/plain 75\n1 0 InternetArchive\n"
    "URL IP-address Archive-date Content-type Archive-length\n"
)


@pytest.mark.parametrize("packed", [False, True])
def test_arc_files_are_read(tmp_path, packed):
    parts = [ARC.encode()]
    for n in range(3):
        block = answer(page(n))
        line = f"http://h/a {n} 10.0.0.1 2024050607080{n} text/html {len(block)}\n"
        parts.append(line.encode() + block + b"\n")
    data = b"".join(map(gzip.compress, parts)) if packed else b"".join(parts)
    name = "a.arc.gz" if packed else "a.arc"
    rows, problems = read_bytes(tmp_path, name, data)
    assert problems == []
    assert [row["uri"] for row in rows] == [f"http://h/a%20{n}" for n in range(3)]
    assert json.loads(rows[1]["metadata"])["date"] == "2024-05-06T07:08:01Z"
    rows, problems = read_bytes(tmp_path, name, data, max_document_bytes=100)
    assert rows == []
    assert len(problems) == 3
    for at in range(1, len(data), 37):
        rows, problems = read_bytes(tmp_path, name, data[:at])
        assert len(problems) <= 1


# Documents and problems of each file of other projects' tests.
KNOWN = {
    "chatnoir-resiliparse--block-sized-records.warc": (0, 0),
    "chatnoir-resiliparse--clipped.warc.gz": (0, 1),
    "chatnoir-resiliparse--clueweb-quirk.warc.gz": (29, 0),
    "chatnoir-resiliparse--warcfile.warc": (16, 0),
    "chatnoir-resiliparse--warcfile.warc.gz": (16, 0),
    "chatnoir-resiliparse--warcfile.warc.lz4": (16, 0),
    "dolma--sample-0000.warc.gz": (24, 0),
    "warc-specifications--20130729-heritrix-original.warc.gz": (1, 0),
    "warcio--bad.arc": (0, 1),
    "warcio--example-bad-non-chunked.warc.gz": (1, 0),
    "warcio--example-bad.warc.gz.bad": (1, 0),
    "warcio--example-iana.org-chunked.warc": (1, 0),
    "warcio--example-trunc.warc": (1, 1),
    "warcio--example-wget-bad-target-uri.warc.gz": (3, 0),
    "warcio--example-wrong-chunks.warc.gz": (1, 0),
    "warcio--example.arc": (1, 0),
    "warcio--example.arc.gz": (1, 0),
    "warcio--example.warc": (1, 0),
    "warcio--example.warc.gz": (1, 0),
}


def test_the_files_of_other_projects_are_read():
    folder = DATA / "warc"
    if not folder.exists():
        pytest.skip("web/warc is not here")
    files = sorted(folder.iterdir())
    assert len(files) >= 27
    for path in files:
        rows, problems = read(path)
        assert (len(rows), len(problems)) == KNOWN.get(path.name, (len(rows), len(problems)))
        assert len(problems) <= 1
        if "sample" in path.name or "example" in path.name:
            again = read(path, 10_000)
            assert [row["id"] for row in again[0]] == [row["id"] for row in rows]


def test_a_mark_of_a_member_inside_of_data_is_no_cut(tmp_path):
    """The bytes that begin a gzip member are in the data; only a WARC record behind them counts."""
    noise = b"\x1f\x8b\x08\0" * 2000 + gzip.compress(b"not a record") * 50
    records = []
    for n in range(6):
        stored = BytesIO()
        with gzip.GzipFile(fileobj=stored, mode="wb", compresslevel=0) as out:
            out.write(record("response", f"http://h/{n}", answer(page(n) + noise)))
        records.append(stored.getvalue())
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(records))
    whole = read(path)
    assert len(whole[0]) == 6
    assert read(path, 1000) == whole


@pytest.mark.parametrize("how", ["gz", "plain"])
def test_damage_that_was_passed_over_is_not_told_again_when_reading_goes_on(tmp_path, how):
    records = pages(40)
    packed = [pack([record], how) for record in records]
    for n in (10, 50):
        packed[n] = packed[n][: len(packed[n]) // 2]
    (tmp_path / NAMES[how]).write_bytes(b"".join(packed))
    (split,) = plan_splits(Source(str(tmp_path), "crawl", "web"))
    problems = []
    parts = [(place, len(problems)) for place, _ in read_parts(split, problems.append, 1000)]
    assert len(problems) >= 2 and problems[0].where != problems[-1].where and len(parts) > 9
    for place, told in parts[:-1]:
        later = []
        list(read_parts(split, later.append, 1000, json.loads(json.dumps(place))))
        assert later == problems[told:]
    assert list(read_parts(split, later.append, 1000, parts[-1][0])) == []
