"""The manifest of a published directory: what it holds, so that whoever has only it can check it.

`manifest.json` lists every other file with its bytes, rows (where it has any), SHA-256 and xxh3,
and the rows of each configuration and split. SHA-256 is what the Hub, Croissant and strangers'
tools know; xxh3 is what is checked in a hurry. The last key, `checksum`, is of all keys before it,
and the text is the one way of writing them, so that the manifest vouches for itself too. It is
written and uploaded last: a directory with a manifest is whole.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

from pipelines.files import atomic, fingerprint

NAME = "manifest.json"
FORMATS = ("parquet", "mds")


class ManifestError(ValueError):
    """A manifest that is missing, damaged or of another kind."""


def checksums(path: Path, told: Callable[[int], Any] = lambda n: None) -> dict[str, str]:
    """SHA-256 and xxh3-64 of a file, in one reading; `told` hears of the bytes as they are read."""
    sha, xxh = hashlib.sha256(), xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(4 << 20):
            sha.update(chunk)
            xxh.update(chunk)
            told(len(chunk))
    return {"sha256": sha.hexdigest(), "xxh3": xxh.hexdigest()}


def entry(root: Path, path: Path, rows: int | None) -> dict:
    """The line of a file in the manifest."""
    size = path.stat().st_size
    return {
        "path": path.relative_to(root).as_posix(),
        "bytes": size,
        "rows": rows,
        **checksums(path),
    }


def text_of(content: dict) -> str:
    """The one way of writing a manifest."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def write_manifest(
    root: Path, kind: str, name: str, files: list[dict], splits: dict[str, dict[str, int]]
) -> Path:
    """Write the manifest of a directory.

    kind: one of `FORMATS`; files: entries as `entry` makes them; splits: rows by configuration and
    split. Returns its path.
    """
    content = {
        "gristmill": 1,
        "format": kind,
        "name": name,
        "splits": splits,
        "files": sorted(files, key=lambda file: file["path"]),
    }
    content["checksum"] = fingerprint(content)
    path = root / NAME
    with atomic(path) as temporary:
        temporary.write_text(text_of(content), "utf-8")
    return path


def read_manifest(root: Path) -> dict:
    """Read and check the manifest of a published directory. Raises ManifestError."""
    path = root / NAME
    try:
        return parse_manifest(path.read_bytes(), str(path))
    except OSError as error:
        raise ManifestError(
            f"{path}: cannot be read: {error.strerror}; expected the manifest of a published "
            "directory, which `gristmill publish` writes last"
        ) from None


def parse_manifest(data: bytes, where: str) -> dict:
    """Read a manifest from its bytes; `where` is said in errors. Raises ManifestError."""
    damaged = f"{where}: damaged: its own checksum does not match; get it again"
    try:
        content = json.loads(data)
        if not isinstance(content, dict) or content.get("gristmill") != 1:
            raise ManifestError(f"{where}: not the manifest of a published directory")
        known = dict(content)
        found = known.pop("checksum", None)
        if fingerprint(known) != found or text_of(content).encode() != data:
            raise ManifestError(damaged)
    except (UnicodeError, RecursionError, json.JSONDecodeError):
        raise ManifestError(damaged) from None
    for file in content["files"]:
        parts = Path(file["path"]).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ManifestError(f"{where}: names a file outside of its folder: {file['path']}")
    return content
