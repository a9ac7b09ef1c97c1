"""A sample of text: small, alike in kind to all of it, and right about how much there is."""

import gzip
import json
import random
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.text_sample import sample_texts
from pipelines.texts import read_texts

# Sorted by language, as crawls are published; German has half of the documents.
RANDOM = random.Random(0)
ROWS = [
    {"text": f"{language} {i} " + RANDOM.randbytes(100 + i % 60).hex(" "), "language": language}
    for language, n in (("deu", 3000), ("eng", 1500), ("fra", 1500))
    for i in range(n)
]
BYTES = sum(len(row["text"]) for row in ROWS)


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {name: tmp_path_factory.mktemp(name) for name in ("parquet", "jsonl", "gz", "text")}
    pq.write_table(pa.Table.from_pylist(ROWS), made["parquet"] / "all.parquet", row_group_size=500)
    # Above a megabyte, so that it is read in stretches.
    (made["jsonl"] / "all.jsonl").write_bytes(jsonl(ROWS))
    for i in range(0, len(ROWS), 250):
        (made["gz"] / f"{i:05}.jsonl.gz").write_bytes(gzip.compress(jsonl(ROWS[i : i + 250])))
    for i, row in enumerate(ROWS):
        (made["text"] / f"{i:05}.{row['language']}").write_text(row["text"])
    return made


@pytest.mark.parametrize("name", ["parquet", "jsonl", "gz", "text"])
def test_a_part_tells_how_much_there_is_and_keeps_the_shares(folders, name):
    sample = sample_texts([folders[name]], ("language",), BYTES // 8)
    assert BYTES / 16 < sample.size < BYTES / 4
    assert sample.bytes == pytest.approx(BYTES, rel=0.05)
    assert sample.documents == pytest.approx(len(ROWS), rel=0.05)
    shares = Counter(sample.table["language"].to_pylist())
    assert shares["deu"] / len(sample.table) == pytest.approx(0.5, abs=0.08)
    assert shares["fra"] / len(sample.table) == pytest.approx(0.25, abs=0.08)
    again = sample_texts([folders[name]], ("language",), BYTES // 8)
    assert again.table.equals(sample.table)


@pytest.mark.parametrize("name", ["parquet", "jsonl", "gz", "text"])
def test_no_more_than_asked_for_is_all_of_it_once(folders, name):
    sample = sample_texts([folders[name]], ("language",), 1 << 40)
    assert sample.size == sample.bytes == BYTES
    assert sample.documents == len(ROWS)
    everything = pa.Table.from_batches(read_texts([folders[name]], ("language",)))
    order = [("text", "ascending"), ("language", "ascending")]
    assert (
        sample.table.drop(["key"])
        .sort_by(order)
        .equals(everything.drop(["key"]).sort_by(order).combine_chunks())
    )
    assert sample.table["text"].to_pylist() != everything["text"].to_pylist()


def test_one_long_file_is_one_document(tmp_path):
    text = "ひらがな、カタカナ。" * 200_000
    (tmp_path / "long.txt").write_text(text, "utf-8")
    sample = sample_texts([tmp_path / "long.txt"], (), 1 << 20)
    [part] = sample.table["text"].to_pylist()
    assert sample.documents == 1 and text.startswith(part) and len(part) == 1 << 20
    assert sample.bytes == sample.largest == len(text.encode())


def test_a_table_whose_text_repeats_has_more_bytes_than_its_pages(tmp_path):
    texts = ["the same text over and over " * 40, "and another " * 50] * 4000
    pq.write_table(pa.table({"text": texts}), tmp_path / "t.parquet", row_group_size=1000)
    sample = sample_texts([tmp_path], (), 1000)
    assert sample.bytes == pytest.approx(sum(map(len, texts)), rel=0.01)
    assert sample.documents == len(texts)


def test_files_that_are_no_utf8_are_left_out_of_folders_only(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"plain")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    sample = sample_texts([tmp_path], (), 1 << 20)
    assert sample.table["text"].to_pylist() == ["plain"]
    with pytest.raises(ValueError, match="no UTF-8 at byte 3"):
        sample_texts([tmp_path / "b.txt"], (), 1 << 20)


def test_a_table_without_text_is_named(tmp_path):
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"t\.parquet: no column 'text' \(it has body\)"):
        sample_texts([tmp_path], (), 1 << 20)
