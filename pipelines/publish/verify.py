"""Check what is on disk against its manifest: a published directory, a stage, or a whole run.

Every file is read once, several at a time, and its xxh3 compared (1 to 10 GB/s; with `sha256`, that
too, about 0.5 GB/s a core). Of a published directory nothing may be missing and nothing may be
there that the manifest does not name: a stray shard would be read with the others. Rows are counted
in the files themselves and added up by split; Croissant's checksums must be the manifest's. A stage
keeps other things in its folder, so there only a stray shard beside the stage's own is reported.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import xxhash

from packing.shards import read_index
from pipelines.files import checksum, read_json
from pipelines.publish.manifest import NAME, ManifestError, read_manifest

SHARDS = (".parquet", ".bin", ".idx", ".arrow", ".safetensors")


@dataclass(frozen=True)
class Problem:
    """What is wrong, and with which file."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass
class Found:
    """What a verification looked at: the folders with a manifest, and what is wrong, by file."""

    files: int = 0
    bytes: int = 0
    parts: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def verify(
    path: Path,
    *,
    threads: int = 4,
    deep: bool = False,
    progress: Callable[[int, int], Any] = lambda done, total: None,
) -> Found:
    """Check a published directory, a stage's folder or a run's.

    deep: recompute SHA-256 as well. progress: is told bytes done and in all. Raises ValueError when
    there is no manifest to check by.
    """
    found = Found()
    expected: dict[Path, list[dict]] = {}
    for root in _roots(path):
        published = _is_published(root)
        try:
            entries = _published(root, found) if published else _stage(root, found)
        except ManifestError as error:
            found.problems.append(Problem(root / NAME, str(error).removeprefix(f"{root / NAME}: ")))
            continue
        found.parts.append(str(root))
        for entry in entries:
            expected.setdefault(root / entry["path"], []).append(entry)
    total = sum(entries[0]["bytes"] for entries in expected.values())
    done = 0

    def told(n: int) -> None:
        nonlocal done
        done += n
        progress(min(done, total), total)

    with ThreadPoolExecutor(threads) as pool:
        jobs = pool.map(lambda item: list(_check(*item, deep, told)), expected.items())
        for (file, _), problems in zip(expected.items(), jobs, strict=True):
            found.files += 1
            found.bytes += file.stat().st_size if file.is_file() else 0
            found.problems += problems
    found.problems.sort(key=lambda problem: str(problem.path))
    return found


def _is_published(root: Path) -> bool:
    try:
        content = read_json(root / NAME)
    except ValueError:
        # Damaged: a stage writes splits.json too, which a published directory has not.
        return not (root / "splits.json").exists()
    return not (isinstance(content, dict) and "stage" in content)


def _roots(path: Path) -> list[Path]:
    """The folders with a manifest that belong to a path: itself, or a run's stages."""
    if not path.is_dir():
        raise ValueError(
            f"{path}: no such folder; expected a published directory, a stage or a run"
        )
    candidates = [path] if (path / NAME).exists() else sorted(p for p in path.iterdir())
    roots = [root for root in candidates if (root / NAME).is_file()]
    if not roots:
        raise ValueError(
            f"{path}: no {NAME} in it nor one folder below; expected a published directory, a "
            "finished stage or a run"
        )
    inside = [root / "dataset" for root in roots if (root / "dataset" / NAME).is_file()]
    return [*roots, *inside]


def _published(root: Path, found: Found) -> list[dict]:
    """The entries of a published directory; reports what the manifest itself gives away."""
    manifest = read_manifest(root)
    named = {file["path"] for file in manifest["files"]} | {NAME}
    for file in sorted(root.rglob("*")):
        inside = file.relative_to(root)
        # The Hub's and other tools' own folders lie beside the data: .gitattributes, .cache, .git.
        if inside.parts[0].startswith(".") or file.is_dir():
            continue
        # MosaicML's reader unpacks shards where they lie.
        unpacked = manifest["format"] == "mds" and f"{inside.as_posix()}.zstd" in named
        if inside.as_posix() not in named and not unpacked:
            found.problems.append(Problem(file, "not in the manifest; remove it"))
    found.problems += _described(root, manifest)
    return manifest["files"]


def _described(root: Path, manifest: dict) -> Iterator[Problem]:
    """Whether the manifest adds up, and Croissant tells the same of the files."""
    for config, splits in manifest["splits"].items():
        if (root / "data" / config).is_dir():
            rows = sum(
                file["rows"] or 0
                for file in manifest["files"]
                if file["path"].startswith(f"data/{config}/")
            )
            if rows != sum(splits.values()):
                told = f"{sum(splits.values()):,} rows of {config}, its files have {rows:,}"
                yield Problem(root / NAME, told)
    described = root / "croissant.json"
    sums = {file["path"]: file["xxh3"] for file in manifest["files"]}
    if not described.is_file() or checksum(described) != sums.get(described.name):
        return  # which is said elsewhere
    try:
        objects = {
            entry["contentUrl"]: entry["sha256"]
            for entry in json.loads(described.read_bytes())["distribution"]
            if "sha256" in entry
        }
    except (ValueError, KeyError, TypeError, RecursionError):
        yield Problem(described, "damaged, expected Croissant metadata")
        return
    known = {
        file["path"]: file["sha256"]
        for file in manifest["files"]
        if file["path"].endswith(".parquet")
    }
    for path in sorted(objects.keys() | known.keys()):
        if objects.get(path) != known.get(path):
            yield Problem(described, f"another SHA-256 of {path} than the manifest's")


def _stage(root: Path, found: Found) -> list[dict]:
    """The outputs of a stage; reports shards beside them that are none."""
    try:
        entries = read_json(root / NAME)["outputs"]
        named = {root / entry["path"] for entry in entries}
    except (ValueError, KeyError, TypeError):
        raise ManifestError("damaged, expected a stage's manifest; run the stage again") from None
    places = {(path.parent, path.suffix) for path in named if path.suffix in SHARDS}
    for folder in sorted({parent for parent, _ in places if parent.is_dir()}):
        for file in sorted(folder.iterdir()):
            if (folder, file.suffix) in places and file not in named:
                found.problems.append(Problem(file, "no output of the stage; remove it"))
    return entries


def _check(
    path: Path, entries: list[dict], deep: bool, told: Callable[[int], None]
) -> Iterator[Problem]:
    """What is wrong with a file, by what one or two manifests say of it."""
    size = entries[0]["bytes"]
    if not path.is_file():
        yield Problem(path, "missing")
        told(size)
        return
    try:
        if (here := path.stat().st_size) != size:
            yield Problem(path, f"{here:,} bytes, expected {size:,}")
            told(size)
            return
        sums = _read(path, deep, told)
    except OSError as error:
        yield Problem(path, f"cannot be read: {error.strerror}")
        return
    for entry in entries:
        for name, value in sums.items():
            if entry.get(name) not in (None, value):
                yield Problem(path, f"damaged: {name} {value}, expected {entry[name]}")
                return
    if (rows := _count_rows(path)) is not None:
        for entry in entries:
            if entry["rows"] not in (None, rows):
                yield Problem(path, f"{rows:,} rows, expected {entry['rows']:,} by the manifest")


def _read(path: Path, deep: bool, told: Callable[[int], None]) -> dict[str, str]:
    fast, slow = xxhash.xxh3_64(), sha256()
    buffer = bytearray(2 << 20)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(buffer):
            fast.update(view[:n])
            if deep:
                slow.update(view[:n])
            told(n)
    return {"xxh3": fast.hexdigest()} | ({"sha256": slow.hexdigest()} if deep else {})


def _count_rows(path: Path) -> int | None:
    """Rows of a file, by its footer or index; None for files that have none."""
    try:
        if path.suffix == ".parquet":
            return pq.read_metadata(path).num_rows
        if path.suffix == ".idx":
            return len(read_index(path))
    except (ValueError, OSError):
        return -1  # its checksum was right, so it was written so
    return None
