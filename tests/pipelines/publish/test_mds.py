"""MosaicML's format: every row is there, by a reader of our own and by theirs."""

import json
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from pipelines.publish import mds
from pipelines.publish.verify import verify

# Python of an environment with mosaicml-streaming, which wants a torch of its own.
PYTHON = os.environ.get("GRISTMILL_STREAMING", sys.executable)

READ = """
import json, sys
from streaming import StreamingDataset
for name in sys.argv[2:]:
    config, _, split = name.rpartition("/")
    data = StreamingDataset(
        local=f"{sys.argv[1]}/{config}", split=split, shuffle=False, batch_size=1,
        validate_hash="xxh3_64",
    )
    rows = [{k: v.tolist() if hasattr(v, "tolist") else v for k, v in s.items()} for s in data]
    print("rows", json.dumps(rows))
"""


def decode(encoding: str, data: bytes):
    """A value of a column, after the format's description."""
    if encoding == "str":
        return data.decode()
    if encoding == "int":
        return struct.unpack("<q", data)[0]
    if encoding == "json":
        return json.loads(data)
    assert data[0] >> 2 == 1
    width = 1 << (data[0] & 3)
    values = np.frombuffer(data[1 + width :], encoding.removeprefix("ndarray:"))
    assert int.from_bytes(data[1 : 1 + width], "little") == len(values)
    return values.tolist()


def read(folder) -> list[dict]:
    """All samples of a split, slowly."""
    rows = []
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        packed = (folder / shard["zip_data"]["basename"]).read_bytes()
        raw = pa.Codec("zstd").decompress(packed, shard["raw_data"]["bytes"], asbytes=True)
        for about, data in (("zip_data", packed), ("raw_data", raw)):
            assert shard[about]["bytes"] == len(data)
            assert shard[about]["hashes"]["xxh3_64"] == xxhash.xxh3_64_hexdigest(data)
        (n,) = struct.unpack_from("<I", raw)
        begins = struct.unpack_from(f"<{n + 1}I", raw, 4)
        assert n == shard["samples"] and begins[-1] == len(raw)
        described = json.loads(raw[4 + 4 * (n + 1) : begins[0]])
        names = described["column_names"]
        assert names == sorted(names)
        for at in begins[:-1]:
            sizes = list(described["column_sizes"])
            for c, size in enumerate(sizes):
                if size is None:
                    (sizes[c],) = struct.unpack_from("<I", raw, at)
                    at += 4
            row = {}
            for name, encoding, size in zip(
                names, described["column_encodings"], sizes, strict=True
            ):
                row[name] = decode(encoding, raw[at : at + size])
                at += size
            rows.append(row)
    return rows


def expected(rows: list[dict]) -> list[dict]:
    renamed = [{"tokens" if k == "input_ids" else k: v for k, v in row.items()} for row in rows]
    return [{k: "" if v is None else v for k, v in row.items()} for row in renamed]


@pytest.fixture(scope="module")
def exported(phases, tmp_path_factory):
    out = tmp_path_factory.mktemp("mds") / "out"
    mds.write_mds(phases.root, out)
    return out


def sets(phases):
    for config in ("text", "tokenized", "packed/phase-0", "packed/phase-1"):
        yield config, "train", expected(phases.rows(config))
    for config in ("text", "tokenized", "packed"):
        yield config, "validation", expected(phases.rows(config, "validation"))


def test_every_row_is_a_sample_in_order(phases, exported):
    for config, split, rows in sets(phases):
        assert read(exported / config / split) == rows
    assert not verify(exported, deep=True).problems


def test_shards_are_cut_by_size(phases, tmp_path, monkeypatch, exported):
    monkeypatch.setattr(mds, "SHARD_BYTES", 10_000)
    mds.write_mds(phases.root, tmp_path / "out", ["text"])
    folder = tmp_path / "out" / "text" / "train"
    shards = json.loads((folder / "index.json").read_text())["shards"]
    assert len(shards) > 3 and all(s["raw_data"]["bytes"] <= 10_000 for s in shards)
    assert read(folder) == expected(phases.rows("text"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "manifest.json", "source.json", "text"
    ]  # fmt: skip


def test_an_export_that_was_killed_goes_on_behind_the_last_whole_split(phases, tmp_path, exported):
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    (out / "manifest.json").unlink()
    (out / "tokenized" / "train" / "index.json").unlink()
    kept = out / "text" / "train" / "index.json"
    before = kept.stat().st_mtime_ns
    mds.write_mds(phases.root, out)
    assert kept.stat().st_mtime_ns == before
    assert (out / "manifest.json").read_bytes() == (exported / "manifest.json").read_bytes()
    assert not verify(out).problems


def test_neither_another_folder_nor_another_configuration_is_written_over(made, exported):
    with pytest.raises(ValueError, match="something else"):
        mds.write_mds(made.root, exported)
    with pytest.raises(ValueError, match=r"'nothing', expected packed, text, tokenized"):
        mds.write_mds(made.root, exported, ["nothing"])


@pytest.mark.slow
def test_mosaicml_streaming_reads_the_same(phases, exported, tmp_path):
    known = subprocess.run([PYTHON, "-c", "import streaming"], capture_output=True)
    if known.returncode:
        pytest.skip("mosaicml-streaming is not installed; GRISTMILL_STREAMING names a Python")
    shutil.copytree(exported, tmp_path / "out")
    names, rows = zip(*((f"{c}/{split}", rows) for c, split, rows in sets(phases)), strict=True)
    done = subprocess.run(
        [PYTHON, "-c", READ, str(tmp_path / "out"), *names],
        capture_output=True,
        text=True,
        timeout=100,
    )
    lines = [line[5:] for line in done.stdout.splitlines() if line.startswith("rows ")]
    assert [json.loads(line) for line in lines] == list(rows), done.stderr
    assert not verify(tmp_path / "out").problems  # unpacked shards are theirs
