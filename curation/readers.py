"""Readers: from files of any of four formats to batches of documents.

Work is cut before it is done. `plan_splits` looks at names, sizes and footers only (and counts the
lines of a large .jsonl, so that a line knows its number wherever it is cut) and gives a list of
JSON objects; `read_split` reads one of them, anywhere, and gives batches of `SCHEMA`. The list is
a function of the inputs alone, in the order of their paths, and so is every document's `id`:
neither the size of the splits nor the number of workers changes it.

    parquet    groups of row groups of one file
    jsonl      byte ranges; a line belongs to the range it begins in. Compressed (.gz, .zst): files
    text       groups of whole files; the suffix tables are in `formats.py`
    datasets   the Arrow files of a `datasets` directory (`save_to_disk`), one each

A bad file, line or row is told to `on_problem` and skipped; only a source that is wrong as a whole
raises. Names that begin with a dot are not looked at, and a symbolic link that leads out of the
source's folder is not followed. A file written by curation itself (a valid `id`, `text`, `source`
and `domain` in each row) keeps them; any other row becomes a new document of `Source.name`.
"""

import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation import formats
from curation.document import SCHEMA, document_id
from curation.languages import canonical

FORMATS = ("parquet", "jsonl", "text", "datasets")


@dataclass(frozen=True)
class Source:
    """Where documents come from: a file or folder, and what to call what is in it.

    `language` and `license` fill rows that have none. `format` None: by suffix and folder content.
    """

    path: str
    name: str
    domain: str
    format: str | None = None
    language: str | None = None
    license: str | None = None
    text_field: str = "text"
    max_document_bytes: int = 32 << 20


class SourceError(ValueError):
    """A source that cannot be read at all; the message begins with its path."""


@dataclass(frozen=True)
class Problem:
    """One bad file, line or row: where it is and what is wrong. `str()` of it is one line."""

    file: str
    where: str
    what: str

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.file, self.where, self.what) if part)
        # A file name may hold line breaks or bytes that are not UTF-8.
        return " ".join(text.encode(errors="replace").decode().splitlines())


def plan_splits(source: Source, split_bytes: int = 32 << 20) -> list[dict]:
    """Cut a source into splits of about `split_bytes` (as stored; Parquet: as decoded).

    Gives JSON-able dictionaries, in the order of the paths; documents keep the order of files and
    lines. A file that cannot be used is a split of its own, with the reason under `problem`.
    Raises SourceError if the path does not exist, the format is unknown, nothing fits it, or no
    Parquet file has the text column.
    """
    root = Path(source.path)
    if source.format is not None and source.format not in FORMATS:
        raise SourceError(
            f"{source.path}: unknown format {source.format!r}; expected one of {', '.join(FORMATS)}"
        )
    if split_bytes < 1:
        raise SourceError(f"{source.path}: split_bytes must be positive, found {split_bytes}")
    if not root.exists():
        raise SourceError(f"{source.path}: no such file or folder")
    files = _files(root, source)
    if not files:
        raise SourceError(
            f"{source.path}: no {source.format or 'known'} files found; "
            f"give `format` ({', '.join(FORMATS)}) or use a known suffix"
        )
    splits: list[dict] = []
    group: list[str] = []  # small text files, to go into one split
    group_bytes = 0

    def close_group() -> None:
        nonlocal group, group_bytes
        if group:
            splits.append({"format": "text", "files": group})
        group, group_bytes = [], 0

    base = root.parent if root.is_file() else root
    for name, form in files:
        path = base / name
        size, problem = _inspect(path, base)
        if form == "text":
            if group_bytes + size > split_bytes:
                close_group()
            group.append(name)
            group_bytes += size
        else:
            close_group()
            parts = [{"problem": problem}] if problem else [{}]
            if form == "parquet" and not problem:
                parts = _plan_parquet(path, split_bytes, source)
            elif form == "jsonl" and size > split_bytes and not _is_compressed(path):
                parts = _plan_jsonl(path, size, split_bytes)
            splits += [{"format": form, "files": [name], **part} for part in parts]
    close_group()
    no_text = [split.get("no_text", False) for split in splits]
    if no_text and all(no_text):
        raise SourceError(f"{source.path}: {splits[0]['problem']}")
    about = asdict(source)
    return [{"source": about, **{k: v for k, v in s.items() if k != "no_text"}} for s in splits]


def read_split(
    split: dict, on_problem: Callable[[Problem], None], batch_bytes: int = 4 << 20
) -> Iterator[pa.RecordBatch]:
    """Read one split of `plan_splits`; yield batches of `SCHEMA` of about `batch_bytes` of text.

    Everything that is wrong with a file, line or row goes to `on_problem`, and the rest is read.
    """
    source = Source(**split["source"])
    root = Path(source.path)
    base = root.parent if root.is_file() else root
    documents: list[tuple] = []
    held = 0
    for name in split["files"]:

        def report(where: str, what: str, name: str = name) -> None:
            on_problem(Problem(name, where, what))

        problem = split.get("problem") or _inspect(base / name, base)[1]
        if problem:
            report("", problem)
            continue
        unit = "line" if split["format"] == "jsonl" else "row"
        for number, row in _rows(split, base / name, report, source, batch_bytes):
            where = "" if split["format"] == "text" else f"{unit} {number}"
            uri = _utf8(name if split["format"] == "text" else f"{name}#{number}")
            document = _document(row, uri, name, where, source, report)
            if document is None:
                continue
            documents.append(document)
            held += len(document[1]) + 64
            if held >= batch_bytes:
                yield _batch(documents)
                documents, held = [], 0
    if documents:
        yield _batch(documents)


def _files(root: Path, source: Source) -> list[tuple[str, str]]:
    """List (path relative to the source, format), sorted by the path's bytes."""
    if root.is_file():
        form = source.format or formats.format_of(
            root.name, source.domain, source.format, named=True
        )
        return [(root.name, form)] if form else []
    marked = [(root / mark).is_file() for mark in ("dataset_dict.json", "state.json")]
    if source.format == "datasets" or (source.format is None and any(marked)):
        return _dataset_files(root)
    wanted: list[tuple[str, str]] = []
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            form = formats.format_of(name, source.domain, source.format)
            if form and source.format in (None, form) and not name.startswith("."):
                wanted.append(((here / name).relative_to(root).as_posix(), form))
        # A linked folder is inside the source, and read where it is, or outside, and reported.
        for name in subfolders:
            if (here / name).is_symlink() and not _inside(here / name, root):
                form = source.format or "text"
                wanted.append(((here / name).relative_to(root).as_posix(), form))
    wanted.sort(key=lambda item: os.fsencode(item[0]))
    tables = [(name, form) for name, form in wanted if form != "text"]
    if source.format is not None or not tables or len(tables) == len(wanted):
        return wanted
    if source.domain == "code":  # a project with tables among its files, as fixtures are
        return [(name, form) for name, form in wanted if form == "text"]
    # Beside tables, a README is about the data and is not data.
    return [(name, form) for name, form in wanted if form != "text" or not _is_about(name)]


def _is_about(name: str) -> bool:
    """Whether a text file describes the files beside it, going by its name."""
    stem = name.rpartition("/")[2].partition(".")[0].lower()
    return stem in ("readme", "license", "licence", "notice", "changelog", "citation")


def _dataset_files(root: Path) -> list[tuple[str, str]]:
    """List the Arrow files of a saved dataset, or of each split of a saved DatasetDict."""
    folders = [root]
    if (root / "dataset_dict.json").is_file():
        folders = sorted((p.parent for p in root.glob("*/state.json")), key=os.fsencode)
    files = []
    for folder in folders:
        # state.json tells the data from the cache files that map() leaves beside them.
        try:
            state = json.loads((folder / "state.json").read_bytes())
            names = [Path(entry["filename"]).name for entry in state["_data_files"]]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SourceError(
                f"{folder / 'state.json'}: not a dataset's state ({error}); "
                "expected a folder written by save_to_disk"
            ) from None
        files += [((folder / name).relative_to(root).as_posix(), "datasets") for name in names]
    return files


def _inside(path: Path, base: Path) -> bool:
    return path.resolve().is_relative_to(base.resolve())


def _inspect(path: Path, base: Path) -> tuple[int, str | None]:
    """Give (size, None), or (0, why the file cannot be used)."""
    if path.is_symlink() and not _inside(path, base):
        return 0, "a symbolic link that leaves the source's folder; not followed"
    try:
        status = path.stat()
    except OSError as error:
        return 0, f"cannot be opened: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return 0, "not a regular file"
    return status.st_size, None if status.st_size else "empty file"


def _is_compressed(path: Path) -> bool:
    return path.suffix.lower() in (".gz", ".zst")


def _plan_jsonl(path: Path, size: int, split_bytes: int) -> list[dict]:
    """Cut at multiples of `split_bytes`; `line` is the number of the first line that begins there.

    A line begins after a line feed, so the feeds before byte start - 1 are those already passed.
    """
    parts = [{"start": 0, "end": min(size, split_bytes), "line": 1}]
    feeds = position = 0
    try:
        for chunk in formats.plain_chunks(path):
            seen = 0
            while (start := parts[-1]["end"]) < size and start - 1 <= position + len(chunk):
                feeds += chunk.count(b"\n", seen, start - 1 - position)
                seen = start - 1 - position
                part = {"start": start, "end": min(size, start + split_bytes), "line": feeds + 2}
                parts.append(part)
            feeds += chunk.count(b"\n", seen)
            position += len(chunk)
    except OSError as error:
        return [{"problem": f"cannot be read: {error.strerror}"}]
    return parts


def _plan_parquet(path: Path, split_bytes: int, source: Source) -> list[dict]:
    try:
        with pq.ParquetFile(path) as file:
            problem = formats.text_problem(file.schema_arrow, source.text_field)
            metadata = file.metadata
    except formats.DAMAGE as error:
        return [{"problem": f"cannot be opened as Parquet: {formats.one_line(error)}"}]
    if problem:
        return [{"problem": problem, "no_text": True}]
    if not metadata.num_rows:
        return [{"problem": "empty file (no rows)"}]
    parts: list[dict] = []
    row = held = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if parts and held + group.total_byte_size <= split_bytes:
            parts[-1]["row_groups"].append(number)
        else:
            parts.append({"row_groups": [number], "first_row": row})
            held = 0
        held += group.total_byte_size
        row += group.num_rows
    return parts


def _rows(
    split: dict, path: Path, report: formats.Report, source: Source, batch_bytes: int
) -> formats.Rows:
    limit = source.max_document_bytes
    if split["format"] == "parquet":
        groups, first = split["row_groups"], split["first_row"]
        return formats.parquet_rows(path, report, source.text_field, groups, first, batch_bytes)
    if split["format"] == "jsonl":
        place = {key: split[key] for key in ("start", "end", "line") if key in split}
        return formats.jsonl_rows(path, report, limit, **place)
    if split["format"] == "datasets":
        return formats.arrow_rows(path, report, source.text_field)
    return formats.text_rows(path, report, limit)


_ID = re.compile("[0-9a-f]{32}")


def _document(
    row: dict, uri: str, file: str, where: str, source: Source, report: formats.Report
) -> tuple | None:
    """Make the values of one row of `SCHEMA`, in its order; None if there is something wrong."""
    text = row.get(source.text_field)
    if text is None:
        return report(where, f"no {source.text_field!r}; skipped")
    if not isinstance(text, str):
        what = f"{source.text_field!r} is of type {type(text).__name__}, expected a string"
        return report(where, f"{what}; skipped")
    try:
        size = len(text.encode())
        if size > source.max_document_bytes:
            limit = source.max_document_bytes
            return report(where, f"{size} bytes, more than max_document_bytes ({limit}); skipped")
        if source.text_field == "text" and _is_ours(row):
            return _ours(row, source)
        return _foreign(row, text, uri, file, source)
    except UnicodeEncodeError:
        return report(where, "a lone surrogate, which is not text; skipped")
    except (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError) as error:
        return report(where, f"{formats.one_line(error)}; skipped")


def _is_ours(row: dict) -> bool:
    required = (row.get("id"), row.get("source"), row.get("domain"))
    return all(isinstance(v, str) for v in required) and _ID.fullmatch(row["id"]) is not None


def _ours(row: dict, source: Source) -> tuple:
    """Pass a row of our own through; raises if a value does not fit its column."""
    if isinstance(row.get("metadata"), str) and not isinstance(json.loads(row["metadata"]), dict):
        raise ValueError("'metadata' is not a JSON object")
    fill = {"language": _language(source.language, row["domain"]), "license": source.license}
    values = []
    for field in SCHEMA:
        value = row.get(field.name)
        if value is None:
            value = fill.get(field.name)
        if value is not None and field.name != "text":
            pa.scalar(value, type=field.type)
        values.append(value)
    return tuple(values)


def _foreign(row: dict, text: str, uri: str, file: str, source: Source) -> tuple:
    for key in ("uri", "url"):
        if isinstance(row.get(key), str) and row[key]:
            uri = row[key]
            break
    language = row.get("language")
    if not isinstance(language, str) or not language:
        language = source.language
        if language is None and source.domain == "code":
            language = formats.code_language(file)
    language = _language(language, source.domain)
    granted = row.get("license")
    if not isinstance(granted, str) or not granted:
        granted = source.license
    used = {"id", "uri", "url", "language", "license", source.text_field}
    scalars = {key: _scalar(value) for key, value in row.items() if key not in used}
    rest = {key: value for key, value in scalars.items() if value is not None}
    metadata = json.dumps(rest, ensure_ascii=False, sort_keys=True) if rest else None
    for value in (language, granted, metadata):
        if value is not None:
            value.encode()  # raises for a lone surrogate
    name = document_id(source.name, uri, text)
    return (
        name, text, source.name, source.domain, language, uri, granted, metadata, None, None, None
    )  # fmt: skip


def _language(code: str | None, domain: str) -> str | None:
    """Translate the code of a natural language; programming languages keep their names."""
    return code if code is None or domain == "code" else canonical(code)


def _scalar(value: object) -> object:
    """Give the JSON form of a scalar for `metadata`, None for what has none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | bool | int) else None


def _utf8(name: str) -> str:
    """Make a file name, which may hold any bytes, into text."""
    return os.fsencode(name).decode(errors="replace")


def _batch(documents: list[tuple]) -> pa.RecordBatch:
    columns = zip(*documents, strict=True)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
