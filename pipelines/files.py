"""Files: written whole or not at all, and known by their checksums."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

TEMPORARY = ".partial"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; renamed to `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, advice: str) -> Iterator[None]:
    """Say of what fails within that `path` cannot be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(f"{path}: cannot be written: {why}; {advice}") from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON, indented, keys in the order given, atomically."""
    with atomic(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        # A file name that is no UTF-8 has surrogates in it.
        temporary.write_text(text, "utf-8", "surrogatepass")


def read_json(path: Path) -> Any:
    """Read JSON; None when the file is not there. Raises ValueError when it is damaged."""
    try:
        return json.loads(path.read_text("utf-8", "surrogatepass"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: damaged, expected JSON ({error})") from None


def checksum(path: Path) -> str:
    """xxh3-64 of a file's bytes, 16 hex digits."""
    h = xxhash.xxh3_64()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            h.update(chunk)
    return h.hexdigest()


def fingerprint(content: Any) -> str:
    """xxh3-128 of JSON content, keys sorted: 32 hex digits."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode(errors="surrogatepass"))


def remove_temporaries(directory: Path) -> None:
    """Delete what a killed run left half-written."""
    for path in directory.rglob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)
