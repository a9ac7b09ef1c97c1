"""Benchmarks: the texts of a folder of evaluation sets, entry by entry.

A benchmark is a file: `.jsonl` (also `.jsonl.gz`, `.jsonl.zst`), `.json` (a list of objects, or an
object with one such list) or `.parquet`; its name is its path in the folder without the suffix. An
entry is a row; its texts are its strings, those inside of objects too, and its lists of strings,
each joined by line breaks.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

FORMATS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet")
IDS = ("id", "task_id", "question_id", "unique_id", "idx", "index")


@dataclass(frozen=True)
class Entry:
    """A row of a benchmark: its name, its own identifier or else its number, field -> text."""

    benchmark: str
    id: str
    texts: dict[str, str]


def benchmark_files(folder: Path) -> list[Path]:
    """The benchmarks' files in a folder, sorted; hidden files, licences and Markdown left out.

    Raises ValueError if there is none, or one of another format.
    """
    files = []
    if not folder.is_dir():
        raise ValueError(f"benchmarks: no such folder: {folder}")
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or not path.is_file():
            continue
        if path.name.endswith(FORMATS):
            files.append(path)
        elif path.suffix.lower() != ".md" and not path.name.upper().startswith("LICEN"):
            raise ValueError(
                f"{path}: not a benchmark that can be read, expected one of {', '.join(FORMATS)}"
            )
    if not files:
        raise ValueError(f"benchmarks: {folder} has no file of {', '.join(FORMATS)}")
    return files


def fingerprint(folder: Path) -> str:
    """xxh3-128 of the names and the contents of a folder's benchmarks, 32 hex digits."""
    h = xxhash.xxh3_128()
    for path in benchmark_files(folder):
        name = path.relative_to(folder).as_posix().encode()
        h.update(len(name).to_bytes(8, "little") + name)
        h.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                h.update(block)
    return h.hexdigest()


def read_benchmark(path: Path, folder: Path, fields: tuple[str, ...] | None) -> Iterator[Entry]:
    """Read the entries of a file, with their texts or those of `fields` (`a.b` inside of objects).

    Raises ValueError naming the file, and the line if it has lines, for what cannot be read.
    """
    name = path.relative_to(folder).as_posix()
    name = next(name.removesuffix(suffix) for suffix in FORMATS if name.endswith(suffix))
    for number, row in enumerate(_rows(path)):
        texts = {
            field: text
            for field, text in _texts(row, "")
            if fields is None or field in fields or field.split(".")[0] in fields
        }
        own = next((row[key] for key in IDS if isinstance(row.get(key), str | int)), number)
        yield Entry(name, str(own), texts)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if path.name.endswith(".parquet"):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
            return
        if path.name.endswith(".json"):
            yield from _one_list(json.loads(path.read_bytes()), path)
            return
    except (pa.ArrowInvalid, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    with pa.input_stream(str(path), compression="detect") as stream:
        data = stream.read()
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}, line {number}: expected an object, found {type(row).__name__}"
            )
        yield row


def _one_list(value: Any, path: Path) -> list[dict[str, Any]]:
    found = [value] if isinstance(value, list) else []
    if isinstance(value, dict):
        found = [v for v in value.values() if isinstance(v, list)]
    lists = [rows for rows in found if rows and all(isinstance(row, dict) for row in rows)]
    if len(lists) != 1:
        raise ValueError(f"{path}: expected a list of objects, or an object with one such list")
    return lists[0]


def _texts(row: dict[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for key, value in row.items():
        if isinstance(value, str):
            yield before + key, value
        elif isinstance(value, dict):
            yield from _texts(value, f"{before}{key}.")
        elif isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            yield before + key, "\n".join(value)
