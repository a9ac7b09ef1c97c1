"""Bad input through the real command: the file is named, the good documents are all there."""

import gzip
import json
import os
import subprocess
import sys
from pydoc_data.topics import topics

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

GOOD = [text for _, text in sorted(topics.items()) if len(text) > 500][:12]


def jsonl(texts) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def write_bad_sources(folder):
    """Good documents in four formats, and beside them everything that goes wrong in practice."""
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for i in range(3):
        (texts / f"good-{i}.txt").write_text(GOOD[i])
    (texts / "latin-1.txt").write_bytes(
        "Il a été à la fête, où ça va très bien. ".encode("latin-1")
    )
    (texts / "empty.txt").write_bytes(b"")

    lines = folder / "lines"
    lines.mkdir()
    (lines / "good.jsonl").write_bytes(jsonl(GOOD[3:6]))
    (lines / "huge-line.jsonl").write_bytes(
        jsonl(GOOD[6:7]) + b'{"text": "' + b"x" * 50_000_000 + b'"}\n' + jsonl(GOOD[7:8])
    )
    # Zipped in two members, so that the first is whole however the second is cut off.
    whole = gzip.compress(jsonl(GOOD[8:9])) + gzip.compress(os.urandom(50_000) + b"\n")
    (lines / "truncated.jsonl.gz").write_bytes(whole[:-20_000])

    tables = folder / "tables"
    tables.mkdir()
    pq.write_table(pa.table({"text": GOOD[9:11]}), tables / "good.parquet")
    pq.write_table(pa.table({"text": GOOD[9:11]}), tables / "corrupt.parquet")
    data = (tables / "corrupt.parquet").read_bytes()
    (tables / "corrupt.parquet").write_bytes(data[: len(data) // 2])
    (tables / "special.jsonl").write_bytes(
        jsonl([GOOD[11] + " <｜end▁of▁sentence｜> <｜fim▁hole｜> " + GOOD[11][::-1]])
    )


def recipe(folder, **changes):
    sources = [
        {"path": "texts", "name": "texts", "domain": "web"},
        {"path": "lines", "name": "lines", "domain": "web"},
        {"path": "tables/good.parquet", "name": "good", "domain": "web"},
        {"path": "tables/corrupt.parquet", "name": "corrupt", "domain": "web"},
        {"path": "tables/special.jsonl", "name": "special", "domain": "web"},
    ]
    content = {
        "name": "bad",
        "sources": sources,
        "curate": {"steps": ["length"]},
        "tokenizer": {"vocab_size": 400},
        "encode": {"fim": {"rate": {}}},
        "plan": {"phases": [{"length": 64, "tokens": 1000, "mixture": {"web": 1.0}}]},
    }
    (folder / "bad.yaml").write_text(yaml.safe_dump(content | changes))


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300", "GRISTMILL_TRACEBACK": ""},
    )  # fmt: skip


BAD = ("latin-1.txt", "empty.txt", "huge-line.jsonl", "truncated.jsonl.gz", "corrupt.parquet")


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    write_bad_sources(folder)
    recipe(folder)
    return folder, run(folder, "curate", "bad.yaml")


def test_every_bad_file_is_named_and_every_good_document_kept(curated):
    folder, done = curated
    assert done.returncode == 0, done.stdout + done.stderr
    for name in BAD:
        assert name in done.stdout, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    kept = [
        text
        for path in sorted((folder / "runs" / "bad" / "curate" / "documents").glob("*.parquet"))
        for text in pq.read_table(path)["text"].to_pylist()
    ]
    assert sorted(kept) == sorted([*GOOD[:11], *(t for t in kept if "｜fim▁hole｜" in t)])
    assert len(kept) == 12


def test_text_that_spells_special_tokens_is_ordinary_text_in_the_shards(curated):
    from packing import Shard

    folder, _ = curated
    for stage in ("tokenizer", "encode"):
        done = run(folder, stage, "bad.yaml")
        assert done.returncode == 0, done.stderr
    out = folder / "runs" / "bad"
    tokenizer = json.loads((out / "tokenizer" / "tokenizer.json").read_text("utf-8"))
    special = {token["id"] for token in tokenizer["added_tokens"]}
    for path in sorted((out / "encode").glob("*.bin")):
        shard = Shard.open(path.with_suffix(""))
        for i in range(len(shard.offsets) - 1):
            tokens = shard.document(i).tolist()
            assert tokens[-1] == 1 and not special & set(tokens[:-1])


@pytest.mark.parametrize("name", BAD)
def test_on_error_stop_names_the_file_in_one_line(curated, tmp_path, name):
    folder, _ = curated
    (path,) = [p for p in folder.glob("*/*") if p.name == name]
    os.link(path, tmp_path / name)
    source = {"path": name, "name": "s", "domain": "web"}
    recipe(tmp_path, on_error="stop", sources=[source], workers=1)
    done = run(tmp_path, "curate", "bad.yaml")
    assert done.returncode == 1
    assert name in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "runs" / "bad" / "curate" / "manifest.json").exists()


def test_sources_with_nothing_usable_say_so(tmp_path):
    (tmp_path / "short.jsonl").write_bytes(jsonl(["too short"]))
    recipe(tmp_path, sources=[{"path": "short.jsonl", "name": "s", "domain": "web"}])
    done = run(tmp_path, "curate", "bad.yaml")
    assert done.returncode == 1 and "no document is left of 1 read" in done.stderr
    assert "length:min_chars" in done.stderr
