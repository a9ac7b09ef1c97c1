"""Texts to measure on: every format gives the same documents, and nothing bad is passed over."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.texts import find_files, present_columns, read_texts

ROWS = [
    {"text": f"text {i} of é 中", "language": ("eng", "deu", "")[i % 3] or None, "line": i // 3}
    for i in range(3000)
]


def read(paths, columns=("language",), **options):
    return [row for batch in read_texts(paths, columns, **options) for row in batch.to_pylist()]


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write(path, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {name: tmp_path_factory.mktemp(name) for name in ("parquet", "jsonl", "gz", "zst")}
    half = len(ROWS) // 2
    for i, part in enumerate((ROWS[:half], ROWS[half:])):
        write(made["parquet"] / f"{i}.parquet", part, row_group_size=100)
        (made["jsonl"] / f"{i}.jsonl").write_bytes(jsonl(part) + b"\n\n")
        (made["gz"] / f"{i}.jsonl.gz").write_bytes(gzip.compress(jsonl(part)))
        with pa.CompressedOutputStream(str(made["zst"] / f"{i}.jsonl.zst"), "zstd") as file:
            file.write(jsonl(part))
    (made["parquet"] / "README.md").write_text("about the data")
    return made


EXPECTED = [
    {"text": row["text"], "key": str(row["line"]), "language": row["language"]} for row in ROWS
]


@pytest.mark.parametrize("name", ["parquet", "jsonl", "gz", "zst"])
def test_the_same_rows_come_from_every_format(folders, name):
    assert read([folders[name]]) == EXPECTED
    assert read(find_files([folders[name]])) == EXPECTED


def test_lines_and_limit_choose_the_same_of_every_language(folders):
    chosen = read([folders["parquet"]], lines=(10, 19))
    assert chosen == [row for row in EXPECTED if 10 <= int(row["key"]) <= 19]
    chosen = read([folders["jsonl"]], limit=4)
    assert chosen == EXPECTED[:12]


def test_batches_stay_small_and_lose_nothing(tmp_path):
    rows = [{"text": "x" * size} for size in (9_000_000, 1, 5_000_000, 5_000_000, 0, 2)]
    sizes = [
        [len(text) for text in batch["text"].to_pylist()]
        for batch in read_texts([write(tmp_path / "a.parquet", rows)])
    ]
    assert sizes == [[9_000_000], [1, 5_000_000], [5_000_000, 0, 2]]


def test_strings_of_all_kinds_are_read_and_rows_without_text_left_out(tmp_path):
    for type_ in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        text = pa.array(["a", None, "b"]).cast(type_)
        pq.write_table(pa.table({"text": text, "id": [7, 8, 9]}), tmp_path / "a.parquet")
        rows = read([tmp_path / "a.parquet"])
        assert rows == [
            {"text": "a", "key": "7", "language": None},
            {"text": "b", "key": "9", "language": None},
        ]


def test_plain_files_are_documents_named_by_their_suffix(tmp_path):
    for name, text in {"a.py": "x = 1", "b.deu": "Hallo", "sub/c.txt": "é"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / ".hidden.py").write_text("y")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    skipped = []
    rows = read([tmp_path], ("language", "domain"), skipped=skipped.append)
    assert [(row["text"], row["language"], row["domain"]) for row in rows] == [
        ("x = 1", "python", None), ("Hallo", "deu", None), ("é", "text", None),
    ]  # fmt: skip
    assert skipped == [tmp_path / "picture.png"]
    with pytest.raises(ValueError, match=r"picture\.png: no UTF-8 at byte 0"):
        read([tmp_path / "picture.png"])


def test_columns_that_some_file_has_are_present(folders, tmp_path):
    other = write(tmp_path / "other.parquet", [{"text": "a", "source": "s"}])
    names = ("language", "domain", "source")
    assert present_columns([folders["parquet"]], names) == ("language",)
    assert present_columns([folders["parquet"], other], names) == ("language", "source")
    rows = read([other, folders["parquet"]], ("language", "source"))
    assert rows[0] == {"text": "a", "key": None, "language": None, "source": "s"}
    assert rows[1]["language"] == "eng" and rows[1]["source"] is None


def bad_files(folder):
    write(folder / "no-text.parquet", [{"content": "a"}])
    write(folder / "numbers.parquet", [{"text": 1}])
    write(folder / "nested.parquet", [{"text": "a", "language": ["x"]}])
    binary = pa.array([b"ok", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"text": binary}), folder / "latin.parquet")
    whole = write(folder / "cut.parquet", ROWS).read_bytes()
    (folder / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "bad.jsonl").write_bytes(b'{"text": "a"}\n{"text": \n')
    (folder / "other.jsonl").write_bytes(b'{"text": "a"}\n{"content": "b"}\n')
    (folder / "list.jsonl").write_bytes(b"[1]\n")
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(jsonl(ROWS))[:-200])
    (folder / "empty").mkdir()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.parquet", "no such file or folder"),
        ("empty", "no files in this folder"),
        ("no-text.parquet", r"no column 'text' \(it has content\); rename"),
        ("numbers.parquet", "'text' is of type int64, expected strings"),
        ("nested.parquet", "'language' is of type list"),
        ("latin.parquet", "expected UTF-8"),
        ("cut.parquet", "cannot be opened as Parquet"),
        ("bad.jsonl", r"bad\.jsonl, line 2: no JSON"),
        ("other.jsonl", r"line 2: no string 'text' \(found content\)"),
        ("list.jsonl", r"line 1: no string 'text' \(found list\)"),
        ("cut.jsonl.gz", "cannot be read"),
    ],
)
def test_the_first_thing_that_is_wrong_is_an_error_naming_the_file(tmp_path, name, message):
    bad_files(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        read([tmp_path / name])
    assert name in str(caught.value)


def test_choosing_lines_needs_numbers_of_lines(tmp_path):
    path = write(tmp_path / "a.parquet", [{"text": "a", "id": "x1"}])
    with pytest.raises(ValueError, match=r"a\.parquet: --lines needs a column 'line'"):
        read([path], lines=(0, 9))
