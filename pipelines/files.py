"""Files: written whole or not at all, and known by their checksums."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

TEMPORARY = ".partial"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; renamed to `path` when the block ends well.

    A device or a pipe (/dev/stdout) is written to as it is: to put a file in its place would take
    it from everybody. A link stays a link.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    if path.is_symlink():
        path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_output(path: Path, inputs: Iterable[Path] = (), *, folder: bool = False) -> None:
    """See before the work whether `path` can be written: a file, or the folder of several.

    inputs: what is read, which must not be written over. Raises ValueError.
    """
    what = "folder" if folder else "file"
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{path}: a name that is no UTF-8; choose another for the {what}"
        ) from None
    try:
        if not folder and not path.name:
            raise ValueError(f"{path}: expected the name of a file to write")
        if path.exists() and path.is_dir() != folder:
            found = "a file" if folder else "a folder"
            raise ValueError(f"{path}: is {found}; expected the name of a {what} to write")
        for other in inputs:
            if path.exists() and other.exists() and path.samefile(other):
                raise ValueError(f"{path}: is read from, so it can't be written to; choose another")
        above = path
        while not above.exists():
            above = above.parent
        if above != path and not above.is_dir():
            raise ValueError(f"{path}: {above} is no folder; choose another place")
        if not os.access(above, os.W_OK):
            raise ValueError(f"{path}: {above} cannot be written to; choose another place")
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error.strerror}; choose another") from None


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
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}; expected JSON") from None
    except (ValueError, RecursionError) as error:
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
    """Delete what a killed run left half-written, files and folders alike."""
    for path in list(directory.rglob(f".*{TEMPORARY}")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
