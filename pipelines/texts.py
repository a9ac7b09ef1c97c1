"""Text to evaluate on: Parquet, lines of JSON or plain files, in batches of bounded size.

Unlike curation's readers, which make documents and step over what is bad, this one keeps the
columns it is asked for and stops at the first thing that is wrong: a measure of half the text is
worse than none. A batch has `text` (large_string), `key` (string: the column `line`, or `id` where
there is none, by which versions of one text in several languages find each other), and the asked
columns (string), null where the file has none.

In a folder, tables (.parquet, .jsonl, .jsonl.gz, .jsonl.zst) are read if there are any, else every
file whose bytes are UTF-8 is one document, its language the one of its suffix (.py: python,
.deu: deu). Names that begin with a dot are left out.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.formats import DAMAGE, code_language, one_line

_JSONL = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".json.gz", ".json.zst")
_BATCH_ROWS = 4096
_BATCH_BYTES = 8 << 20

Batches = Iterator[pa.RecordBatch]


def find_files(paths: list[Path]) -> list[Path]:
    """The files to read, sorted within each folder; raises ValueError when there are none."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [
                p
                for p in path.rglob("*")
                if p.is_file() and not any(n.startswith(".") for n in p.relative_to(path).parts)
            ]
            chosen = [p for p in inside if kind_of(p) != "text"] or inside
            if not chosen:
                raise ValueError(f"{path}: no files in this folder; expected text in it")
            files += sorted(chosen, key=os.fsencode)
        elif path.exists():
            files.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder; expected Parquet, .jsonl or text")
    return files


def read_texts(
    paths: list[Path],
    columns: tuple[str, ...] = (),
    *,
    lines: tuple[int, int] | None = None,
    limit: int | None = None,
    skipped: Callable[[Path], None] = lambda path: None,
    started: Callable[[Path], None] = lambda path: None,
) -> Batches:
    """Yield batches of `text`, `key` and columns.

    lines: keep only documents whose `line` is from the first to the last of these. limit: at most
    so many documents of each language. skipped(path) is told of files in folders of plain text
    that are no UTF-8, started(path) of each file before it is read. Raises ValueError naming the
    file, and the row or line, for anything else that is wrong.
    """
    seen: dict[str | None, int] = {}
    for path in find_files(paths):
        kind = kind_of(path)
        started(path)
        if kind == "parquet":
            batches = parquet_batches(path, columns)
        elif kind == "jsonl":
            batches = _jsonl(path, columns)
        else:
            batches = plain_batches(path, columns, None if path in paths else skipped)
        for batch in batches:
            if lines is not None:
                batch = _between(batch, lines, path)
            if limit is not None:
                batch = _limited(batch, limit, seen)
            yield from _small(batch)


def present_columns(paths: list[Path], names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that some Parquet file has as a column; all of them for other files."""
    files = find_files(paths)
    if any(kind_of(path) != "parquet" for path in files):
        return names
    found = {name for path in files for name in _schema(path).names}
    return tuple(name for name in names if name in found)


def check_groups(paths: list[Path], names: tuple[str, ...]) -> None:
    """Raise ValueError where one of the columns of --group cannot tell kinds of text apart."""
    if taken := {"text", "key"}.intersection(names):
        raise ValueError(f"--group {min(taken)}: a column by this name cannot tell kinds apart")
    columns = present_columns(paths, names)
    if missing := [name for name in names if name not in columns]:
        raise ValueError(f"--group {missing[0]}: {paths[0]} has no such column")


def kind_of(path: Path) -> str:
    """ "parquet", "jsonl" or, for all other files, "text"."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        return "parquet"
    return "jsonl" if name.endswith(_JSONL) else "text"


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except DAMAGE as error:
        raise ValueError(f"{path}: cannot be opened as Parquet: {one_line(error)}") from None


def parquet_batches(
    path: Path, columns: tuple[str, ...], row_groups: list[int] | None = None
) -> Batches:
    """Batches of a Parquet file, or of some of its row groups."""
    schema = _schema(path)
    if "text" not in schema.names:
        has = ", ".join(schema.names)
        raise ValueError(f"{path}: no column 'text' (it has {has}); rename the one with the text")
    key = next((name for name in ("line", "id") if name in schema.names), None)
    for name in ("text", key, *columns):
        if schema.names.count(name) > 1:
            raise ValueError(f"{path}: has several columns {name!r}; expected one")
    wanted = dict.fromkeys(["text", *([key] if key else []), *columns])
    try:
        with pq.ParquetFile(path) as file:
            row = 0
            for batch in file.iter_batches(
                _BATCH_ROWS,
                row_groups=row_groups,
                columns=[name for name in wanted if name in schema.names],
            ):
                made = {
                    name: _strings(batch[source], path, source, row)
                    if source in batch.schema.names
                    else pa.nulls(batch.num_rows, pa.string())
                    for name, source in [
                        ("text", "text"),
                        ("key", key),
                        *((name, name) for name in columns),
                    ]
                }
                row += batch.num_rows
                yield _batch(made)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: damaged Parquet: {one_line(error)}") from None


def _strings(values: pa.Array, path: Path, name: str, row: int) -> pa.Array:
    """A column as strings of valid UTF-8."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    type_ = values.type
    nested = pa.types.is_nested(type_)
    if nested or (name == "text" and not (_is_string(type_) or pa.types.is_null(type_))):
        raise ValueError(f"{path}: the column {name!r} is of type {type_}, expected strings")
    try:
        values = values.cast(pa.large_string() if name == "text" else pa.string())
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path}: column {name!r} after row {row:,}: {one_line(error)}; expected UTF-8"
        ) from None
    return values


def _is_string(type_: pa.DataType) -> bool:
    return any(
        test(type_)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _jsonl(path: Path, columns: tuple[str, ...]) -> Batches:
    try:
        with pa.input_stream(str(path), compression="detect") as raw:
            yield from jsonl_batches(split_lines(raw), str(path), columns)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: cannot be read: {one_line(error)}") from None


def jsonl_batches(lines: Iterable[bytes], where: str, columns: tuple[str, ...]) -> Batches:
    """Batches of lines of JSON; where: the file, as errors name it."""
    rows: list[tuple] = []
    held = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line, f"{where}, line {number:,}")
        key = row.get("line", row.get("id"))
        rows.append((row["text"], key, *(row.get(name) for name in columns)))
        held += len(line)
        if held >= _BATCH_BYTES or len(rows) == _BATCH_ROWS:
            yield _of_rows(rows, columns)
            rows, held = [], 0
    if rows:
        yield _of_rows(rows, columns)


def split_lines(raw: pa.NativeFile) -> Iterator[bytes]:
    """Lines of a stream, which Arrow's own streams do not split once they are decompressed."""
    rest = b""
    while chunk := raw.read(1 << 20):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _row(line: bytes, where: str) -> dict:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: no JSON ({error}); expected an object a line") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(f"{where}: no string 'text' (found {found}); rename the text's field")
    return row


def _of_rows(rows: list[tuple], columns: tuple[str, ...]) -> pa.RecordBatch:
    values = list(zip(*rows, strict=True))
    made = {"text": pa.array([_valid(text) for text in values[0]])}
    for name, column in zip(("key", *columns), values[1:], strict=True):
        made[name] = pa.array([None if x is None else _valid(str(x)) for x in column], pa.string())
    return _batch(made)


def _valid(text: str) -> str:
    """JSON can spell lone surrogates, which UTF-8 cannot hold."""
    return text.encode(errors="replace").decode()


def plain_batches(
    path: Path, columns: tuple[str, ...], skipped: Callable[[Path], None] | None
) -> Batches:
    """The file as one document; skipped is told of one that is no UTF-8, which else is an error."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        if skipped is None:
            raise ValueError(f"{path}: no UTF-8 at byte {error.start:,}; convert it") from None
        skipped(path)
        return
    yield plain_document(path, text, columns)


def plain_document(path: Path, text: str, columns: tuple[str, ...]) -> pa.RecordBatch:
    """A text of a file, with the language that its suffix says."""
    language = code_language(path.name) or path.suffix.lower().removeprefix(".") or None
    made = {name: pa.array([language if name == "language" else None], pa.string())
            for name in columns}  # fmt: skip
    return _batch({"text": pa.array([text]), "key": pa.nulls(1, pa.string())} | made)


def _batch(columns: dict[str, pa.Array]) -> pa.RecordBatch:
    columns["text"] = columns["text"].cast(pa.large_string())
    batch = pa.RecordBatch.from_pydict(columns)
    return batch.filter(pc.is_valid(batch["text"])) if batch["text"].null_count else batch


def _between(batch: pa.RecordBatch, lines: tuple[int, int], path: Path) -> pa.RecordBatch:
    try:
        number = batch["key"].cast(pa.int64())
    except pa.ArrowInvalid:
        number = pa.nulls(batch.num_rows, pa.int64())
    if number.null_count:
        raise ValueError(f"{path}: --lines needs a column 'line' with a number in each row")
    first, last = lines
    return batch.filter(pc.and_(pc.greater_equal(number, first), pc.less_equal(number, last)))


def _limited(batch: pa.RecordBatch, limit: int, seen: dict) -> pa.RecordBatch:
    """Drop documents of languages of which `limit` have been seen."""
    if "language" not in batch.schema.names:
        values = [None] * batch.num_rows
    else:
        values = batch["language"].to_pylist()
    keep = np.zeros(batch.num_rows, bool)
    for i, value in enumerate(values):
        seen[value] = seen.get(value, 0) + 1
        keep[i] = seen[value] <= limit
    return batch.filter(pa.array(keep))


def _small(batch: pa.RecordBatch) -> Batches:
    """Cut a batch at about _BATCH_BYTES of text; a longer document is a batch of its own."""
    if not batch.num_rows:
        return
    ends = np.cumsum(pc.binary_length(batch["text"]).to_numpy(zero_copy_only=False))
    start = 0
    while start < batch.num_rows:
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + _BATCH_BYTES, "right")), start + 1)
        yield batch.slice(start, stop - start)
        start = stop
