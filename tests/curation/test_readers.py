import gzip
import json
import os
import random
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.document import SCHEMA, document_id, make_batch
from curation.readers import Source, SourceError, plan_splits, read_split

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def read(path, split_bytes=32 << 20, batch_bytes=4 << 20, **options):
    """Plan and read a source; the splits go through JSON as they do between two machines."""
    source = Source(str(path), "src", options.pop("domain", "web"), **options)
    problems, rows = [], []
    for split in json.loads(json.dumps(plan_splits(source, split_bytes))):
        for batch in read_split(split, problems.append, batch_bytes):
            assert batch.schema == SCHEMA
            batch.validate(full=True)
            rows += batch.to_pylist()
    return rows, [str(problem) for problem in problems]


def jsonl(path, *rows):
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        with pa.output_stream(path, compression="zstd") as out:
            out.write(data)
        return path
    path.write_bytes(data)
    return path


def test_a_row_becomes_a_document_with_its_origin(tmp_path):
    row = {
        "text": "né", "id": 7, "url": "http://x/y", "language": "de", "license": "MIT",
        "score": 0.5, "n": 3, "ok": True, "none": None, "nan": float("nan"), "tags": ["a"],
        "title": "é",
    }  # fmt: skip
    path = jsonl(tmp_path / "a.jsonl", row, {"text": "plain"})
    rows, problems = read(path, language="en", license="CC0-1.0")
    assert problems == []
    assert rows[0] == {
        "id": document_id("src", "http://x/y", "né"), "text": "né", "source": "src",
        "domain": "web", "language": "deu_Latn", "uri": "http://x/y", "license": "MIT",
        "metadata": '{"n": 3, "ok": true, "score": 0.5, "title": "é"}',
        "parents": None, "spans": None, "messages": None,
    }  # fmt: skip
    assert rows[1]["uri"] == "a.jsonl#2"
    assert rows[1]["id"] == document_id("src", "a.jsonl#2", "plain")
    assert (rows[1]["language"], rows[1]["license"]) == ("eng_Latn", "CC0-1.0")
    assert rows[1]["metadata"] is None


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "jsonl.gz", "jsonl.zst", "json.gz"])
def test_lines_are_the_same_compressed_or_not(tmp_path, suffix):
    path = jsonl(tmp_path / f"a.{suffix}", *({"text": f"t{i}"} for i in range(100)))
    rows, problems = read(path)
    assert [row["text"] for row in rows] == [f"t{i}" for i in range(100)]
    assert [row["uri"] for row in rows] == [f"{path.name}#{i + 1}" for i in range(100)]
    assert problems == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(['{"text": "aé"}', "", "{", '{"text": "long long"}\r', "  "])),
    st.booleans(),
    st.integers(1, 80),
)
def test_lines_and_their_numbers_do_not_depend_on_the_splits(tmp_path_factory, body, final, size):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_text("\n".join(body) + "\n" * final, newline="")
    if path.stat().st_size == 0:
        return
    whole = read(path)
    assert read(path, split_bytes=size, batch_bytes=1) == whole
    expected = [i for i, line in enumerate(body, 1) if "text" in line]
    assert [int(row["uri"].split("#")[1]) for row in whole[0]] == expected
    assert len(whole[1]) == body.count("{")


def test_line_numbers_hold_across_chunks_of_a_large_file(tmp_path):
    rng = random.Random(2)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{"x" * rng.randrange(300)}"}}\n' for _ in range(20_000)))
    whole, problems = read(path)
    assert problems == []
    assert [row["uri"] for row in whole] == [f"a.jsonl#{i + 1}" for i in range(20_000)]
    assert read(path, split_bytes=777_777)[0] == whole


def test_each_bad_line_is_told_and_skipped_and_the_rest_is_read(tmp_path):
    lines = [
        b'\xef\xbb\xbf{"text": "first"}', b'{"text": "bad \xff"}', b'{"text": ', b'{"txt": "x"}',
        b'{"text": null}', b'{"text": 5}', b'["text"]', b"[" * 100_000, b'{"text": "\\ud800"}',
        b'{"text": "x", "url": "\\udfff"}', b'{"text": "x", "k": "\\ud8ff"}', b"1" * 5000,
        b'{"text": "nul \\u0000 stays"}', b'{"text": "inf", "x": 1e999}',
        b'{"text": "\\ud83d\\ude00"}', b'{"text": ""}',
    ]  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    rows, problems = read(path)
    texts = ["first", "nul \0 stays", "inf", "😀", ""]
    assert [row["text"] for row in rows] == texts
    assert [p.split(": ")[:2] for p in problems] == [["a.jsonl", f"line {i}"] for i in range(2, 13)]
    for problem, what in zip(
        problems,
        ["UTF-8", "JSON", "no 'text'", "no 'text'", "int, expected", "list", "JSON"]
        + ["surrogate"] * 3 + ["JSON"],
        strict=True,
    ):  # fmt: skip
        assert what in problem
        assert "\n" not in problem


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_a_huge_line_is_skipped_in_bounded_memory(tmp_path, suffix):
    rows = {"text": "before"}, {"text": "x" * (50 << 20)}, {"text": "after"}
    path = jsonl(tmp_path / f"a.{suffix}", *rows)
    del rows
    tracemalloc.start()
    found, problems = read(path, max_document_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row["text"] for row in found] == ["before", "after"]
    assert problems == [f"a.{suffix}: line 2: longer than max_document_bytes (1048576); skipped"]
    assert peak < 12 << 20
    if suffix == "jsonl":
        assert read(path, split_bytes=4 << 20, max_document_bytes=1 << 20) == (found, problems)


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst"])
def test_rows_before_the_damage_of_a_stream_are_kept(tmp_path, suffix):
    rng = random.Random(0)
    rows = [{"text": f"{rng.random()}"} for _ in range(20_000)]
    path = jsonl(tmp_path / f"a.{suffix}", *rows)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    found, problems = read(path)
    assert len(problems) == 1
    assert "truncated" in problems[0].lower()
    assert 10_000 < len(found) < 20_000
    assert [row["text"] for row in found] == [row["text"] for row in rows[: len(found)]]
    path.write_bytes(b"this is no archive")
    assert [len(part) for part in read(path)] == [0, 1]


def test_empty_files_are_told_in_every_format(tmp_path):
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b""))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "e.parquet")
    rows, problems = read(tmp_path)
    assert rows == []
    assert [p.split(" (")[0] for p in problems] == [
        f"{name}: empty file"
        for name in ("a.jsonl", "b.jsonl.gz", "c.parquet", "d.jsonl.gz", "e.parquet")
    ]
    (tmp_path / "f.txt").write_bytes(b"")
    assert read(tmp_path, format="text") == ([], ["f.txt: empty file"])


def write_parquet(path, rows=100, **options):
    table = pa.table({"text": [f"text {i}" for i in range(rows)], "n": list(range(rows))})
    pq.write_table(table, path, row_group_size=10, **options)


def test_row_groups_are_split_and_rows_keep_their_numbers(tmp_path):
    write_parquet(tmp_path / "a.parquet")
    source = Source(str(tmp_path), "src", "web")
    assert len(plan_splits(source)) == 1
    assert len(plan_splits(source, 1)) == 10
    rows, problems = read(tmp_path)
    assert problems == []
    assert [row["uri"] for row in rows] == [f"a.parquet#{i}" for i in range(100)]
    assert [json.loads(row["metadata"]) for row in rows] == [{"n": i} for i in range(100)]
    for size in (1, 300, 1000):
        assert read(tmp_path, split_bytes=size, batch_bytes=50)[0] == rows


def test_a_damaged_row_group_is_lost_and_the_others_are_kept(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, compression="snappy", use_dictionary=False)
    group = pq.ParquetFile(path).metadata.row_group(3).column(0)
    data = bytearray(path.read_bytes())
    at = group.data_page_offset
    data[at : at + group.total_compressed_size] = b"\xff" * group.total_compressed_size
    path.write_bytes(data)
    rows, problems = read(path)
    assert [row["text"] for row in rows] == [f"text {i}" for i in range(100) if i // 10 != 3]
    assert len(problems) == 1
    assert problems[0].startswith("a.parquet: row group 3, from row 30: corrupt: ")


def test_a_broken_footer_costs_its_file_only(tmp_path):
    write_parquet(tmp_path / "b.parquet", 20)
    (tmp_path / "a.parquet").write_bytes((tmp_path / "b.parquet").read_bytes()[:-9])
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    rows, problems = read(tmp_path)
    assert len(rows) == 20
    assert [p.split(": ")[0] for p in problems] == ["a.parquet", "c.parquet"]


def test_parquet_texts_may_be_of_any_string_type_and_bad_rows_are_skipped(tmp_path):
    texts = [b"good", b"bad \xff", None, b"x" * 200, "漢".encode()]
    binary = pa.array(texts, pa.binary())
    unchecked = pa.Array.from_buffers(pa.string(), 5, binary.buffers())
    for i, column in enumerate((binary, unchecked, binary.cast(pa.large_binary()))):
        pq.write_table(pa.table({"text": column}), tmp_path / f"{i}.parquet")
    words = pa.array(["good", "漢"]).dictionary_encode()
    pq.write_table(pa.table({"text": words}), tmp_path / "3.parquet")
    rows, problems = read(tmp_path, max_document_bytes=100)
    assert [row["text"] for row in rows] == ["good", "漢"] * 4
    assert len(problems) == 9
    assert "0.parquet: row 1: invalid UTF-8 at byte 4" in problems[0]
    assert "0.parquet: row 2: no 'text'" in problems[1]
    assert "0.parquet: row 3: 200 bytes, more than max_document_bytes (100)" in problems[2]


def test_scalars_of_all_types_go_into_the_metadata_and_the_rest_is_left_out(tmp_path):
    when = datetime(2024, 5, 6, tzinfo=UTC)
    table = pa.table(
        {
            "text": ["t"], "when": pa.array([when], pa.timestamp("ns", "UTC")),
            "price": pa.array(["1.50"]).cast(pa.decimal128(5, 2)), "raw": [b"\xff\0"],
            "list": [[1, 2]], "struct": [{"a": 1}], "f": [float("inf")], "flag": [False],
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    rows, problems = read(tmp_path)
    assert problems == []
    metadata = json.loads(rows[0]["metadata"])
    assert metadata.pop("when").startswith("2024-05-06 00:00:00")
    assert metadata == {"flag": False, "price": "1.50"}


def test_a_missing_text_column_is_told_for_one_file_and_refused_for_all(tmp_path):
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": [1]}), tmp_path / "c.parquet")
    with pytest.raises(SourceError, match=r"no column 'text'; the columns are body"):
        read(tmp_path)
    assert [row["text"] for row in read(tmp_path / "a.parquet", text_field="body")[0]] == ["x"]
    write_parquet(tmp_path / "b.parquet", 3)
    rows, problems = read(tmp_path)
    assert len(rows) == 3
    assert len(problems) == 2
    assert "c.parquet: column 'text' is int64, expected a string" in problems[1]


def test_documents_of_our_own_pass_through_with_everything_they_have(tmp_path):
    ours = make_batch(
        [
            {"text": "a", "source": "other", "domain": "book", "uri": "u", "metadata": '{"k": 1}',
             "parents": ["0" * 32], "spans": [{"start": 0, "end": 1, "kind": "f", "path": "p"}],
             "messages": [{"role": "user", "content": "hi"}]},
            {"text": "b", "source": "other", "domain": "code", "language": "python",
             "license": "MIT"},
        ]
    )  # fmt: skip
    pq.write_table(pa.table(ours), tmp_path / "a.parquet")
    rows, problems = read(tmp_path / "a.parquet", language="de", license="CC0-1.0")
    assert problems == []
    expected = ours.to_pylist()
    expected[0] |= {"language": "deu_Latn", "license": "CC0-1.0"}
    assert rows == expected
    path = jsonl(tmp_path / "a.jsonl", *ours.to_pylist())
    assert read(path, language="de", license="CC0-1.0")[0] == expected


def test_a_row_that_only_looks_like_ours_is_a_new_document_or_a_problem(tmp_path):
    base = {"text": "x", "source": "other", "domain": "book"}
    rows, problems = read(
        jsonl(
            tmp_path / "a.jsonl",
            {**base, "id": "42"},
            {**base, "id": "0" * 32, "spans": "no list"},
            {**base, "id": "0" * 32, "language": 5},
            {**base, "id": "0" * 32, "uri": "\ud800"},
            {**base, "id": "0" * 32, "metadata": "no JSON"},
            {**base, "id": "0" * 32, "metadata": "[]"},
            {**base, "id": "0" * 32, "metadata": "[" * 100_000},
            {**base, "id": "0" * 32, "spans": [{"start": 10**30}]},
        )
    )
    assert [(row["source"], row["id"]) for row in rows] == [
        ("src", document_id("src", "a.jsonl#1", "x"))
    ]
    assert [p.split(": ")[1] for p in problems] == [f"line {i}" for i in range(2, 9)]


def test_text_trees_are_read_in_the_order_of_their_paths(tmp_path):
    for name, text in {
        "b.md": "bee", "a/z.txt": "zed", "a/é.rst": "é", "c.py": "code", "d.png": "no",
        ".git/config.txt": "no", "a/.hidden.txt": "no", "crlf.txt": "a\r\nb",
    }.items():  # fmt: skip
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    (tmp_path / "tree" / "bad.txt").write_bytes(b"abc\xff")
    rows, problems = read(tmp_path / "tree")
    assert [(row["uri"], row["text"]) for row in rows] == [
        ("a/z.txt", "zed"), ("a/é.rst", "é"), ("b.md", "bee"), ("crlf.txt", "a\r\nb"),
    ]  # fmt: skip
    assert problems == ["bad.txt: byte 3: invalid UTF-8; skipped"]
    assert read(tmp_path / "tree", split_bytes=4)[0] == rows
    code, _ = read(tmp_path / "tree", domain="code")
    assert [(row["uri"], row["language"]) for row in code] == [
        ("a/z.txt", "text"), ("a/é.rst", "restructuredtext"), ("b.md", "markdown"),
        ("c.py", "python"), ("crlf.txt", "text"),
    ]  # fmt: skip
    _, problems = read(tmp_path / "tree", max_document_bytes=3)
    assert problems[-1] == "crlf.txt: 4 bytes, more than max_document_bytes (3); skipped"


def test_links_out_of_the_source_and_special_files_are_told_and_not_followed(tmp_path):
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (tree / "sub" / "own.txt").write_text("own")
    (tree / "a.txt").symlink_to(outside / "secret.txt")
    (tree / "b.txt").symlink_to(tree / "sub" / "own.txt")
    (tree / "c.txt").symlink_to(tree / "nowhere")
    (tree / "dir").symlink_to(outside)
    (tree / "loop").symlink_to(tree)
    os.mkfifo(tree / "pipe.txt")
    rows, problems = read(tree)
    assert [(row["uri"], row["text"]) for row in rows] == [("b.txt", "own"), ("sub/own.txt", "own")]
    assert [p.split(": ")[0] for p in problems] == ["a.txt", "c.txt", "dir", "pipe.txt"]
    assert "symbolic link that leaves" in problems[0]
    assert "not a regular file" in problems[3]


def test_a_file_name_that_is_no_text_is_still_read_and_told(tmp_path):
    name = os.fsdecode(b"caf\xe9\n.txt")
    try:
        (tmp_path / name).write_text("x")
    except OSError:
        pytest.skip("this file system wants UTF-8 names")
    rows, _ = read(tmp_path)
    assert rows[0]["uri"] == "caf�\n.txt"
    (tmp_path / name).write_bytes(b"\xff")
    _, problems = read(tmp_path)
    assert problems == ["caf? .txt: byte 0: invalid UTF-8; skipped"]


def test_saved_datasets_are_read_with_their_splits(tmp_path):
    rows = [{"text": f"t{i}", "n": i} for i in range(3000)]
    one = Dataset.from_list(rows)
    one.save_to_disk(str(tmp_path / "one"), num_shards=2)
    (tmp_path / "one" / "cache-0123.arrow").write_bytes(b"left by map()")
    found, problems = read(tmp_path / "one")
    assert problems == []
    assert [row["text"] for row in found] == [row["text"] for row in rows]
    assert found[0]["uri"] == "data-00000-of-00002.arrow#0"
    assert found[1500]["uri"] == "data-00001-of-00002.arrow#0"
    both = DatasetDict({"train": one, "dev": one.select(range(2))})
    both.save_to_disk(str(tmp_path / "both"))
    found, problems = read(tmp_path / "both", batch_bytes=1000)
    assert (len(found), problems) == (3002, [])
    assert found[0]["uri"] == "dev/data-00000-of-00001.arrow#0"


def test_a_damaged_arrow_file_keeps_the_rows_before_and_follows_no_wild_offset(tmp_path):
    Dataset.from_list([{"text": f"t{i}"} for i in range(3000)]).save_to_disk(str(tmp_path / "d"))
    path = tmp_path / "d" / "data-00000-of-00001.arrow"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    rows, problems = read(tmp_path / "d")
    assert len(problems) == 1
    assert [row["text"] for row in rows] == [f"t{i}" for i in range(len(rows))]
    rng = random.Random(5)
    for _ in range(60):
        bad = bytearray(data)
        for _ in range(20):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        path.write_bytes(bad)
        rows, problems = read(tmp_path / "d")
        assert len(rows) <= 3000
    (tmp_path / "d" / "state.json").write_text("[]")
    with pytest.raises(SourceError, match=r"state\.json: not a dataset's state"):
        read(tmp_path / "d")


def test_a_dataset_without_the_text_column_is_one_problem(tmp_path):
    Dataset.from_list([{"body": "x"}] * 9).save_to_disk(str(tmp_path / "d"))
    rows, problems = read(tmp_path / "d")
    assert rows == []
    assert len(problems) == 1
    assert "no column 'text'; the columns are body" in problems[0]


def test_a_source_that_is_wrong_as_a_whole_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"^/nowhere: no such file"):
        read("/nowhere")
    with pytest.raises(SourceError, match="unknown format 'csv'"):
        read(tmp_path, format="csv")
    with pytest.raises(SourceError, match="no known files found"):
        read(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(SourceError, match="no known files found"):
        read(tmp_path / "a.bin")
    with pytest.raises(SourceError, match="no jsonl files found"):
        read(tmp_path, format="jsonl")
    assert [row["text"] for row in read(tmp_path / "a.bin", format="text")[0]] == ["x"]


def test_tables_hide_the_readme_beside_them_unless_text_is_asked_for(tmp_path):
    jsonl(tmp_path / "a.jsonl", {"text": "row"})
    (tmp_path / "README.md").write_text("about")
    assert [row["text"] for row in read(tmp_path)[0]] == ["row"]
    assert [row["text"] for row in read(tmp_path, format="text")[0]] == ["about"]


def test_the_plan_is_the_same_whatever_order_files_were_made_in(tmp_path):
    for folder, seed in (("x", 1), ("y", 2)):
        names = [f"{i}.txt" for i in range(30)] + ["A.txt", "é.txt", "d/a.txt"]
        random.Random(seed).shuffle(names)
        for name in names:
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    plans = [
        [split["files"] for split in plan_splits(Source(str(tmp_path / f), "s", "web"), 20)]
        for f in ("x", "y")
    ]
    assert plans[0] == plans[1]
    names = [name for files in plans[0] for name in files]
    assert names == sorted(names, key=str.encode)


def test_batches_are_of_about_the_size_asked_for(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", *({"text": "x" * 1000} for _ in range(100)))
    split = plan_splits(Source(str(path), "s", "web"))[0]
    batches = list(read_split(split, pytest.fail, 10_000))
    assert sum(batch.num_rows for batch in batches) == 100
    assert all(9 <= batch.num_rows <= 11 for batch in batches[:-1])


@pytest.mark.parametrize(
    ("path", "options", "least"),
    [
        ("math/math_text.jsonl.zst", {"domain": "math"}, 2000),
        ("math/gsm8k-train.jsonl", {"text_field": "question"}, 7000),
        ("benchmarks/HumanEval.jsonl", {"text_field": "prompt"}, 164),
    ],
)
def test_real_files_are_read_without_a_problem(path, options, least):
    if not (DATA / path).exists():
        pytest.skip(f"{path} is not here")
    rows, problems = read(DATA / path, **options)
    assert problems == []
    assert len(rows) >= least
    assert len({row["id"] for row in rows}) == len(rows)


def test_text_beside_tables_is_read_and_a_code_project_is_its_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a row"}\n')
    (tmp_path / "note.txt").write_text("a note")
    (tmp_path / "main.py").write_text("x = 1")
    for domain, names in (("web", {"a.jsonl", "note.txt"}), ("code", {"main.py"})):
        splits = plan_splits(Source(str(tmp_path), "s", domain))
        assert {name for split in splits for name in split["files"]} >= names
        assert ("a.jsonl" in {n for s in splits for n in s["files"]}) == (domain == "web")
