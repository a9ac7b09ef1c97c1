"""MosaicML's streaming format (MDS), made from a published directory.

    OUT/packed/train/index.json               `StreamingDataset(local=OUT/packed, split="train")`
    OUT/packed/train/shard.00000.mds.zstd

A shard is, little-endian: u32 samples n | u32 [n + 1] where each sample begins | the columns'
description, JSON | the samples. A sample is the u32 sizes of its columns of no fixed size, then the
columns' bytes, in the order of their names. The index lists shards with sizes and xxh3. Arrays are
`ndarray:TYPE`: a byte 4 · dimensions + log2 of the bytes of a dimension's number, the dimensions,
the values. Written here because the library would bring another torch; read back with it in tests.

Token ids are in the column `tokens`, int32. What is null is an empty string. Killed, it goes on
behind the last split that is whole.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pipelines.files import atomic, check_output, read_json, write_json
from pipelines.publish.manifest import NAME, entry, read_manifest, write_manifest

SHARD_BYTES = 1 << 26  # before compression, as the library has it
_SOURCE = "source.json"
_RENAMED = {"input_ids": "tokens"}


def _encoding(kind: pa.DataType) -> tuple[str, int | None, Callable[[Any], bytes]]:
    """The name of a column's encoding, its size where it is fixed, and how a value is written."""
    if pa.types.is_list(kind) and pa.types.is_integer(kind.value_type):
        name = str(kind.value_type)
        return f"ndarray:{name}", None, lambda value: _array(np.asarray(value, name))
    if pa.types.is_list(kind):
        return "json", None, lambda value: json.dumps(value).encode()
    if pa.types.is_integer(kind):
        return "int", 8, lambda value: np.int64(value).tobytes()
    return "str", None, lambda value: (value or "").encode()


def _array(values: np.ndarray) -> bytes:
    """An array of one dimension, with it in front."""
    n = len(values)
    log2 = 0 if n < 1 << 8 else 1 if n < 1 << 16 else 2
    return bytes([4 | log2]) + n.to_bytes(1 << log2, "little") + values.tobytes()


class _Shards:
    """Writes samples into the shards of a folder."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """The folder is emptied."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._columns = sorted(
            (_RENAMED.get(f.name, f.name), f.name, *_encoding(f.type)) for f in schema
        )
        self._described = {
            "column_encodings": [encoding for _, _, encoding, _, _ in self._columns],
            "column_names": [name for name, *_ in self._columns],
            "column_sizes": [size for _, _, _, size, _ in self._columns],
            "compression": "zstd",
            "format": "mds",
            "hashes": ["xxh3_64"],
            "size_limit": SHARD_BYTES,
            "version": 2,
        }
        self._config = json.dumps(self._described, sort_keys=True).encode()
        self._samples: list[bytes] = []
        self._size = self._empty = 8 + len(self._config)
        self.shards: list[dict] = []

    def add(self, row: dict) -> None:
        """Add a sample."""
        data = [write(row[name]) for _, name, _, _, write in self._columns]
        sizes = [
            len(part)
            for part, (*_, size, _) in zip(data, self._columns, strict=True)
            if size is None
        ]
        sample = b"".join([np.array(sizes, "<u4").tobytes(), *data])
        if self._samples and self._size + len(sample) + 4 > SHARD_BYTES:
            self._flush()
        self._samples.append(sample)
        self._size += len(sample) + 4

    def _flush(self) -> None:
        n = len(self._samples)
        begins = np.cumsum([0, *map(len, self._samples)]) + 4 + 4 * (n + 1) + len(self._config)
        raw = b"".join(
            [np.uint32(n).tobytes(), begins.astype("<u4").tobytes(), self._config, *self._samples]
        )
        packed = pa.Codec("zstd").compress(raw, asbytes=True)
        name = f"shard.{len(self.shards):05d}.mds"
        with atomic(self._folder / f"{name}.zstd") as temporary:
            temporary.write_bytes(packed)
        self.shards.append(
            self._described
            | {
                "raw_data": _about(name, raw),
                "samples": n,
                "zip_data": _about(f"{name}.zstd", packed),
            }
        )
        self._samples, self._size = [], self._empty

    def close(self) -> None:
        """Write the last shard and the index."""
        if self._samples:
            self._flush()
        write_json(self._folder / "index.json", {"shards": self.shards, "version": 2})


def _about(name: str, data: bytes) -> dict:
    return {
        "basename": name,
        "bytes": len(data),
        "hashes": {"xxh3_64": xxhash.xxh3_64_hexdigest(data)},
    }


def _sets(manifest: dict, configs: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Folders of the export, each with the files that go into it, in order."""
    found: dict[str, list[str]] = {}
    for file in manifest["files"]:
        parts = file["path"].split("/")
        if parts[0] == "data" and (not configs or parts[1] in configs):
            split = parts[-1].partition("-")[0]
            found.setdefault("/".join([*parts[1:-1], split]), []).append(file["path"])
    yield from found.items()


def write_mds(
    root: Path,
    out: Path,
    configs: Sequence[str] = (),
    progress: Callable[[int, int], Any] = lambda done, total: None,
) -> dict:
    """Write configurations (all, if none is named) of the published directory `root` as MDS.

    Returns samples by configuration and split, as the manifest in `out` has them. Raises ValueError
    for a configuration that is not there, and when `out` holds something else.
    """
    manifest = read_manifest(root)
    known = sorted({f["path"].split("/")[1] for f in manifest["files"] if "/" in f["path"]})
    for name in configs:
        if name not in known:
            raise ValueError(f"{root}: no configuration {name!r}, expected {', '.join(known)}")
    check_output(out, folder=True)
    source = {"checksum": manifest["checksum"], "configs": sorted(configs) or known}
    if out.is_dir() and any(out.iterdir()) and read_json(out / _SOURCE) != source:
        raise ValueError(
            f"{out}: holds something else than an export of {root}; choose an empty folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / _SOURCE, source)
    sets = dict(_sets(manifest, configs))
    rows = {file["path"]: file["rows"] for file in manifest["files"]}
    done, total = 0, sum(rows[path] for paths in sets.values() for path in paths)
    splits: dict[str, dict[str, int]] = {}
    for name, paths in sets.items():
        if not (out / name / "index.json").exists():
            schema = pq.read_schema(root / paths[0])
            shards = _Shards(out / name, schema)
            for path in paths:
                with pq.ParquetFile(root / path) as file:
                    for batch in file.iter_batches(512):
                        for row in batch.to_pylist():
                            shards.add(row)
                        progress(done, total)
            shards.close()
        count = sum(rows[path] for path in paths)
        done += count
        progress(done, total)
        config, _, split = name.rpartition("/")
        splits.setdefault(config, {})[split] = count
    made = sorted(p for p in out.rglob("*") if p.is_file() and p != out / NAME)
    files = [entry(out, path, None) for path in made]
    write_manifest(out, "mds", manifest["name"], files, splits)
    return splits
