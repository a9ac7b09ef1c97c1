"""Readers: from files of any of six formats, here or elsewhere, to batches of documents.

Work is cut before it is done. `plan_splits` looks at names, sizes and footers only (and counts the
lines of a large .jsonl, so that a line knows its number wherever it is cut) and gives a list of
JSON objects; `read_split` reads one of them, anywhere, and gives batches of `SCHEMA`. The list is
a function of the inputs alone, in the order of their paths, and so is every document's `id`:
neither the size of the splits nor the number of workers changes it.

    parquet    groups of row groups of one file
    jsonl      byte ranges; a line belongs to the range it begins in. Compressed (.gz, .zst): files
    text, html groups of whole files; the suffix tables are in `formats.py`
    datasets   the Arrow files of a `datasets` directory (`save_to_disk`), one each
    warc       byte ranges that begin at records (.warc.gz, .warc); other archives: files

A compressed .jsonl is one split, whatever its size. To cut it, its lines would have to be counted
at planning, by decompressing it all in one process (235 MB of text a second for gzip and 590 for
zstd, measured on one shared core), and gzip could still not be entered in the middle. Instead a
task that died goes on: `read_parts` gives with each batch its place, and reads on from a place.
Going on costs the decompression of what is passed over, not its parsing, extraction or filtering.
A corpus of few huge files is better cut into files of some 100 MB once, so that more than one
worker reads it.

A bad file, line or row is told to `on_problem` and skipped; only a source that is wrong as a whole
raises. `listing.py` finds the files, `formats.py`, `tables.py` and `warc.py` read them to rows,
`rows.py` makes documents of the rows, `remote.py` reads at addresses. Everything is held a batch at
a time, whatever the size of the file.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from curation import formats, listing, rows, tables, warc
from curation.remote import File, RemoteError, RemoteFile, version_of
from curation.source import FORMATS, Problem, Source, SourceError

__all__ = [
    "Problem",
    "Source",
    "SourceError",
    "plan_splits",
    "read_parts",
    "read_split",
    "versions",
]

Place = list[int]  # number of the file in its split, number of the last row read in it


def plan_splits(source: Source, split_bytes: int = 32 << 20) -> list[dict]:
    """Cut a source into splits of about `split_bytes` (as stored; Parquet: as decoded).

    Gives JSON-able dictionaries, in the order of the paths; documents keep the order of files and
    lines. A file that cannot be used is a split of its own, with the reason under `problem`; a
    remote file whose footer cannot be had now is one split, and is tried again when it is read.
    Raises SourceError if the path does not exist, the format is unknown, nothing fits it, or no
    Parquet file has the text column.
    """
    if source.format is not None and source.format not in FORMATS:
        raise SourceError(
            f"{source.path}: unknown format {source.format!r}; expected one of {', '.join(FORMATS)}"
        )
    if split_bytes < 1:
        raise SourceError(f"{source.path}: split_bytes must be positive, found {split_bytes}")
    alone, files = listing.find_files(source)
    if not files:
        raise SourceError(
            f"{source.path}: no {source.format or 'known'} files found; "
            f"give `format` ({', '.join(FORMATS)}) or use a known suffix"
        )
    splits: list[dict] = []
    group: list[str] = []  # small files, to go into one split
    group_bytes = 0

    def close_group(form: str) -> None:
        nonlocal group, group_bytes
        if group:
            splits.append({"format": form, "files": group})
        group, group_bytes = [], 0

    grouped = "text"
    for found in files:
        if found.format in ("text", "html"):
            if found.format != grouped or group_bytes + found.size > split_bytes:
                close_group(grouped)
            grouped = found.format
            group.append(found.name)
            group_bytes += found.size
            continue
        close_group(grouped)
        if found.problem:
            parts = [{"problem": found.problem}]
        else:
            parts = _plan_file(source.file(found.name, alone), found, split_bytes, source)
        splits += [{"format": found.format, "files": [found.name], **part} for part in parts]
    close_group(grouped)
    no_text = [split.get("no_text", False) for split in splits]
    if no_text and all(no_text):
        raise SourceError(f"{source.path}: {splits[0]['problem']}")
    about = {"source": asdict(source)} | ({"alone": True} if alone else {})
    return [about | {k: v for k, v in split.items() if k != "no_text"} for split in splits]


def versions(source: Source) -> dict[str, str]:
    """Tell the files of a remote source and their versions: size and what the store says changed.

    For the key of a run, where local files are named by their checksums. The listing tells both,
    but that of a web folder, whose files are asked for one by one. Raises SourceError.
    """
    alone, files = listing.find_files(source)
    told = {}
    for found in files:
        size, version = found.size, found.version
        file = source.file(found.name, alone)
        if not version and isinstance(file, RemoteFile):
            try:
                size, version = file.info().get("size"), version_of(file.info())
            except OSError:
                version = "not told"  # the reader will say why
        told[found.name] = f"{size} {version}".strip()
    return told


def read_split(
    split: dict, on_problem: Callable[[Problem], None], batch_bytes: int = 4 << 20
) -> Iterator[pa.RecordBatch]:
    """Read one split of `plan_splits`; yield batches of `SCHEMA` of about `batch_bytes` of text.

    Everything that is wrong with a file, line or row goes to `on_problem`, and the rest is read.
    """
    for _, batch in read_parts(split, on_problem, batch_bytes):
        yield batch


def read_parts(
    split: dict,
    on_problem: Callable[[Problem], None],
    batch_bytes: int = 4 << 20,
    after: Place | None = None,
) -> Iterator[tuple[Place, pa.RecordBatch]]:
    """Read a split as `read_split` does, with the place (JSON) that each batch ends at.

    With `after`, a place that this gave before for this split, go on behind it: what comes is what
    came behind that batch, problems too. What `on_problem` raises ends the reading.
    """
    try:
        yield from _parts(split, on_problem, batch_bytes, after)
    except _Stopped as stopped:
        raise stopped.error from None


class _Stopped(BaseException):
    """Carries what `on_problem` raised past the handlers of damage, which it is not."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _parts(
    split: dict, on_problem: Callable[[Problem], None], batch_bytes: int, after: Place | None
) -> Iterator[tuple[Place, pa.RecordBatch]]:
    source = Source(**split["source"])
    alone = split.get("alone", False)
    documents: list[tuple] = []
    held = 0
    place = [0, -1]
    for index, name in enumerate(split["files"]):
        done = after[1] if after and index == after[0] else -1
        if after and (index < after[0] or (index == after[0] and _whole_file(split))):
            continue

        def report(where: str, what: str, name: str = name) -> None:
            try:
                on_problem(Problem(name, where, what))
            except Exception as error:
                raise _Stopped(error) from None

        file = source.file(name, alone)
        problem = split.get("problem")
        if not problem and isinstance(file, Path):
            problem = listing.inspect(file, file.parent if alone else Path(source.path))[1]
        if problem:
            report("", problem)
            continue
        html_field = "html" if split["format"] == "html" else source.html_field
        unit = {"jsonl": "line", "warc": "record"}.get(split["format"], "row")
        for number, row in _rows(split, file, report, source, batch_bytes, done):
            where = "" if _whole_file(split) else f"{unit} {number}"
            uri = formats.utf8(name if _whole_file(split) else f"{name}#{number}")
            document = rows.document(row, uri, name, where, source, report, html_field)
            if document is None:
                continue
            documents.append(document)
            held += len(document[1]) + 64
            place = [index, number]
            if held >= batch_bytes:
                yield place, rows.batch_of(documents)
                documents, held = [], 0
    if documents:  # all is read, also what was wrong behind the last of them
        yield [len(split["files"]), -1], rows.batch_of(documents)


def _whole_file(split: dict) -> bool:
    """Whether each file of a split is one document."""
    return split["format"] in ("text", "html")


def _plan_file(file: File, found: listing.Found, split_bytes: int, source: Source) -> list[dict]:
    """Cut one file; a part is what a split says beyond its format and file."""
    try:
        if found.format == "parquet":
            return _plan_parquet(file, split_bytes, source)
        packed = file.suffix.lower() in (".gz", ".zst")
        if found.format == "jsonl" and found.size > split_bytes and not packed:
            return _plan_jsonl(file, found.size, split_bytes)
        if found.format == "warc":
            return warc.plan_warc(file, split_bytes)
    except RemoteError:
        return [{}]
    except OSError as error:
        return [{"problem": f"cannot be read: {error.strerror or formats.one_line(error)}"}]
    return [{}]


def _plan_jsonl(path: File, size: int, split_bytes: int) -> list[dict]:
    """Cut at multiples of `split_bytes`; `line` is the number of the first line that begins there.

    A line begins after a line feed, so the feeds before byte start - 1 are those already passed.
    """
    parts = [{"start": 0, "end": min(size, split_bytes), "line": 1}]
    feeds = position = 0
    for chunk in formats.plain_chunks(path):
        seen = 0
        while (start := parts[-1]["end"]) < size and start - 1 <= position + len(chunk):
            feeds += chunk.count(b"\n", seen, start - 1 - position)
            seen = start - 1 - position
            part = {"start": start, "end": min(size, start + split_bytes), "line": feeds + 2}
            parts.append(part)
        feeds += chunk.count(b"\n", seen)
        position += len(chunk)
    return parts


def _plan_parquet(path: File, split_bytes: int, source: Source) -> list[dict]:
    try:
        with tables.open_parquet(path) as file:
            problem = tables.text_problem(file.schema_arrow, source.column)
            metadata = file.metadata
    except RemoteError:
        raise
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
    split: dict,
    file: File,
    report: formats.Report,
    source: Source,
    batch_bytes: int,
    after: int,
) -> formats.Rows:
    limit, raw = source.max_document_bytes, source.html_field is not None
    if split["format"] == "parquet":
        groups, first = split.get("row_groups"), split.get("first_row", 0)
        return tables.parquet_rows(
            file, report, source.column, groups, first, batch_bytes, after, raw
        )
    if split["format"] == "jsonl":
        place = {key: split[key] for key in ("start", "end", "line") if key in split}
        return formats.jsonl_rows(file, report, limit, **place, after=after)
    if split["format"] == "datasets":
        return tables.arrow_rows(file, report, source.column, after, raw)
    if split["format"] == "warc":
        place = {key: split[key] for key in ("start", "end") if key in split}
        return warc.warc_rows(file, report, limit, **place, after=after)
    if split["format"] == "html":
        return formats.html_rows(file, report, limit)
    return formats.text_rows(file, report, limit)
