"""File formats: from the bytes of one file to rows, one dictionary at a time, in bounded memory.

A reader here yields `(number, row)` and tells everything that is wrong to `report(where, what)`;
it never raises for what is inside a file, because one bad line in a terabyte must cost one line.
Lines are found in chunks of the decompressed stream, so that neither a file without line breaks
nor a compressed bomb is ever held whole: a line under way is dropped as soon as it passes the
limit. Arrow and Parquet strings are taken as bytes and decoded row by row, so that one row of
invalid UTF-8 costs that row, and offsets are validated before they are followed.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from curation.document import SCHEMA

Report = Callable[[str, str], None]
Rows = Iterator[tuple[int, dict]]

# What Arrow raises for a damaged file; ValueError covers names of columns that are not UTF-8.
DAMAGE = (OSError, ValueError, pa.ArrowException)

# Files whose text is read as prose, in every domain; the name is the language in the domain `code`.
PROSE_SUFFIXES = {
    ".txt": "text", ".text": "text", ".md": "markdown", ".markdown": "markdown",
    ".rst": "restructuredtext", ".tex": "tex", ".adoc": "asciidoc", ".org": "org",
}  # fmt: skip

# Files that are read in the domain `code` only, with their programming language.
CODE_SUFFIXES = {
    suffix: language
    for language, suffixes in {
        "ada": ".adb .ads", "assembly": ".asm .s .S", "c": ".c .h", "clojure": ".clj .cljs",
        "cmake": ".cmake", "coq": ".v", "cpp": ".cpp .cc .cxx .hpp .hh .hxx .ipp", "csharp": ".cs",
        "css": ".css .scss .less", "cuda": ".cu .cuh", "cython": ".pyx .pxd", "dart": ".dart",
        "elixir": ".ex .exs", "elm": ".elm", "erlang": ".erl .hrl", "fortran": ".f .f90 .f95 .f03",
        "fsharp": ".fs .fsi", "go": ".go", "graphql": ".graphql", "groovy": ".groovy .gradle",
        "haskell": ".hs", "html": ".html .htm", "java": ".java", "javascript": ".js .jsx .mjs .cjs",
        "json": ".json", "julia": ".jl", "kotlin": ".kt .kts", "lean": ".lean", "lisp": ".lisp .el",
        "lua": ".lua", "matlab": ".m", "nim": ".nim", "nix": ".nix", "ocaml": ".ml .mli",
        "pascal": ".pas", "perl": ".pl .pm", "php": ".php", "powershell": ".ps1",
        "protobuf": ".proto", "python": ".py .pyi", "r": ".r .R", "racket": ".rkt",
        "ruby": ".rb", "rust": ".rs", "scala": ".scala .sc", "scheme": ".scm",
        "shell": ".sh .bash .zsh", "solidity": ".sol", "sql": ".sql", "svelte": ".svelte",
        "swift": ".swift", "systemverilog": ".sv .svh", "tcl": ".tcl", "thrift": ".thrift",
        "toml": ".toml", "typescript": ".ts .tsx .mts .cts", "vhdl": ".vhd .vhdl", "vue": ".vue",
        "xml": ".xml", "yaml": ".yaml .yml", "zig": ".zig",
    }.items()
    for suffix in suffixes.split()
}  # fmt: skip
CODE_NAMES = {"Makefile": "makefile", "Dockerfile": "dockerfile", "CMakeLists.txt": "cmake"}


def code_language(path: str) -> str | None:
    """Name the language of a file of a project by its name or suffix; None for unknown ones."""
    name = Path(path).name
    suffix = Path(path).suffix
    return CODE_NAMES.get(name) or CODE_SUFFIXES.get(suffix) or PROSE_SUFFIXES.get(suffix)


def format_of(name: str, domain: str, given: str | None, named: bool = False) -> str | None:
    """Tell a file's format by its suffix, None for files to leave alone.

    `given` is the format that the source names, `named` whether it names this very file. Files of
    code are documents in the domain `code` only.
    """
    stem = PurePosixPath(name.lower())
    compressed = stem.suffix in (".gz", ".zst")
    inner = PurePosixPath(stem.stem).suffix if compressed else stem.suffix
    if inner in (".jsonl", ".ndjson"):
        return "jsonl"
    # .json.gz is what C4 and Dolma call their lines; a bare .json may be anything.
    if inner == ".json" and (compressed or given == "jsonl"):
        return "jsonl"
    if compressed:
        return None
    if inner == ".parquet":
        return "parquet"
    if inner == ".arrow" and named:
        return "datasets"
    prose = inner in PROSE_SUFFIXES
    return "text" if prose or (domain == "code" and code_language(name)) else None


def plain_chunks(path: Path, start: int = 0) -> Iterator[bytes]:
    """Read a file from byte `start`, 1 MiB at a time."""
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(1 << 20):
            yield chunk


def gzip_chunks(path: Path) -> Iterator[bytes]:
    """Decompress gzip, also several members joined, giving all that comes before any damage.

    Raises EOFError for a truncated stream and zlib.error for a corrupt one. Both sides go in
    16 KiB pieces: the piece in which the damage lies is what is lost.
    """
    member = zlib.decompressobj(wbits=31)
    fresh = True
    with path.open("rb") as file:
        while data := file.read(1 << 14):
            while data:
                if fresh and not (data := data.lstrip(b"\0")):
                    break  # padding between members, as tape blocks leave it
                fresh = False
                yield member.decompress(data, 1 << 14)
                data = member.unconsumed_tail
                if member.eof:
                    data, member, fresh = member.unused_data, zlib.decompressobj(wbits=31), True
        while not fresh and (rest := member.decompress(b"", 1 << 14)):
            yield rest
    if not fresh and not member.eof:
        raise EOFError("the stream ends before its end marker (truncated)")


def zstd_chunks(path: Path) -> Iterator[bytes]:
    """Decompress zstd, also several frames joined. Raises OSError for damage.

    4 KiB at a time, because Arrow gives nothing of a read in which the damage lies.
    """
    with pa.input_stream(path, compression="zstd") as stream:
        while chunk := stream.read(1 << 12):
            yield chunk


def lines(chunks: Iterable[bytes], limit: int, end: float = float("inf")) -> Iterator[bytes | None]:
    """Split a stream at line feeds; yield each line that begins before byte `end`.

    A line of more than `limit` bytes is yielded as None, as soon as that is known, and skipped.
    Held at once: `limit` and a chunk.
    """
    begin = size = 0  # where the line under way begins, and its bytes so far
    held: list[bytes] = []
    over = False
    for chunk in chunks:
        *whole, tail = chunk.split(b"\n")
        for part in whole:
            size += len(part)
            if size <= limit:
                yield b"".join((*held, part)) if held else part
            elif not over:
                yield None
            begin += size + 1
            if begin >= end:
                return
            size, over = 0, False
            held.clear()
        size += len(tail)
        if size <= limit:
            if tail:
                held.append(tail)
            continue
        held.clear()
        if not over:
            over = True
            yield None
        if begin + size >= end:
            return
    if held:
        yield b"".join(held)


def _null(_: str) -> None:
    """NaN and the infinities, which Python's json accepts and JSON does not have."""


_decode_json = json.JSONDecoder(parse_constant=_null).decode


def jsonl_rows(
    path: Path, report: Report, limit: int, start: int = 0, end: int | None = None, line: int = 1
) -> Rows:
    """Yield (line number from 1, object) for the lines of a .jsonl file, plain, gzip or zstd.

    Of a plain file, the lines that begin in the bytes [start, end); the first of them has the
    number `line`. Of a compressed one, all.
    """
    suffix = path.suffix.lower()
    number = line - 1
    try:
        if suffix in (".gz", ".zst"):
            chunks = gzip_chunks(path) if suffix == ".gz" else zstd_chunks(path)
            found = lines(chunks, limit)
        else:
            # From the byte before: what comes before its line feed began in an earlier range.
            back = min(start, 1)
            stop = float("inf") if end is None else end - start + back
            found = lines(plain_chunks(path, start - back), limit, stop)
            if back:
                next(found, None)
        for data in found:
            number += 1
            row = _parse(data, number, report, limit)
            if row is not None:
                yield number, row
        if suffix in (".gz", ".zst") and number == 0:
            report("", "empty file")
    except (OSError, EOFError, zlib.error) as error:
        report(f"after line {number}", f"{error}; the lines before it are kept")


def _parse(data: bytes | None, number: int, report: Report, limit: int) -> dict | None:
    where = f"line {number}"
    if data is None:
        return report(where, f"longer than max_document_bytes ({limit}); skipped")
    if number == 1:
        data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        return None
    try:
        row = _decode_json(data.decode())
    except UnicodeDecodeError as error:
        return report(where, f"invalid UTF-8 at byte {error.start} of the line; skipped")
    except (ValueError, RecursionError) as error:
        return report(where, f"malformed JSON ({error}); skipped")
    if not isinstance(row, dict):
        return report(where, f"expected a JSON object, found {type(row).__name__}; skipped")
    return row


def text_rows(path: Path, report: Report, limit: int) -> Rows:
    """Yield (0, {"text": ...}) for a text file; a byte order mark is taken off."""
    try:
        size = path.stat().st_size
        if size > limit:
            report("", f"{size} bytes, more than max_document_bytes ({limit}); skipped")
            return
        data = path.read_bytes()
    except OSError as error:
        report("", f"cannot be read: {error.strerror}")
        return
    try:
        yield 0, {"text": data.decode("utf-8-sig")}
    except UnicodeDecodeError as error:
        report(f"byte {error.start}", "invalid UTF-8; skipped")


def parquet_rows(
    path: Path,
    report: Report,
    text_field: str,
    row_groups: list[int],
    first_row: int,
    batch_bytes: int,
) -> Rows:
    """Yield (row number in the file from 0, row) for some row groups of a Parquet file.

    A row group that cannot be decoded is reported and left out, from the damage on.
    """
    try:
        file = pq.ParquetFile(path)
        columns = readable_columns(file.schema_arrow, text_field)
    except DAMAGE as error:
        report("", f"cannot be opened as Parquet: {one_line(error)}")
        return
    with file:
        for group in row_groups:
            group_rows = file.metadata.row_group(group).num_rows
            row_bytes = file.metadata.row_group(group).total_byte_size // max(group_rows, 1) + 1
            number = first_row
            try:
                for batch in file.iter_batches(
                    batch_size=min(max(batch_bytes // row_bytes, 1), 8192),
                    row_groups=[group],
                    columns=columns,
                    use_threads=False,
                ):
                    yield from table_rows(batch, number, report, text_field)
                    number += batch.num_rows
            except DAMAGE as error:
                report(f"row group {group}, from row {number}", f"corrupt: {one_line(error)}")
            first_row += group_rows


def arrow_rows(path: Path, report: Report, text_field: str) -> Rows:
    """Yield (row number in the file from 0, row) for an Arrow stream file, as `datasets` saves."""
    number = 0
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            names = readable_columns(stream.schema, text_field)
            if problem := text_problem(stream.schema, text_field):
                report("", problem)
                return
            for batch in stream:
                # A thousand rows a batch is what `datasets` writes; others may write everything.
                for start in range(0, batch.num_rows, 1024):
                    part = batch.slice(start, 1024).select(names)
                    yield from table_rows(part, number, report, text_field)
                    number += part.num_rows
    except DAMAGE as error:
        report(f"from row {number}", f"corrupt Arrow stream: {one_line(error)}")


def text_problem(schema: pa.Schema, text_field: str) -> str | None:
    """Say why no document can be read from a table of this schema; None if it can.

    A text is a string, plain or dictionary-encoded, or bytes, as older Parquet writers leave it.
    """
    if schema.names.count(text_field) != 1:
        return f"no column {text_field!r}; the columns are {', '.join(schema.names)}"
    dtype = schema.field(text_field).type
    if _is_string(dtype) or _is_bytes(dtype):
        return None
    return f"column {text_field!r} is {dtype}, expected a string"


def _is_string(dtype: pa.DataType) -> bool:
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    return dtype in (pa.string(), pa.large_string(), pa.string_view())


def _is_bytes(dtype: pa.DataType) -> bool:
    return dtype in (pa.binary(), pa.large_binary(), pa.binary_view())


def readable_columns(schema: pa.Schema, text_field: str) -> list[str]:
    """Name the columns worth decoding: the text, scalars, and the nested ones of a document."""
    names = [
        field.name
        for field in schema
        if field.name == text_field
        or _is_string(field.type)
        or (pa.types.is_primitive(field.type) and not pa.types.is_duration(field.type))
        or pa.types.is_decimal(field.type)
        or (pa.types.is_nested(field.type) and field.name in SCHEMA.names)
    ]
    return [name for name in names if schema.names.count(name) == 1]


def table_rows(batch: pa.RecordBatch, first: int, report: Report, text_field: str) -> Rows:
    """Yield (row number, row) of a record batch, strings decoded one by one."""
    names, columns = batch.schema.names, []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_temporal(field.type) or pa.types.is_decimal(field.type):
            column = column.cast(pa.string())
        if _is_string(column.type) or _is_bytes(column.type):
            if pa.types.is_dictionary(column.type):
                column.indices.validate(full=True)
                column = column.dictionary_decode()
            column = column.cast(pa.large_binary())
        column.validate(full=True)
        values = column.to_pylist()
        if column.type == pa.large_binary() and field.name != text_field:
            values = [v if v is None else v.decode("utf-8", "replace") for v in values]
        columns.append(values)
    for number, values in enumerate(zip(*columns, strict=True), first):
        row = dict(zip(names, values, strict=True))
        text = row.get(text_field)
        if isinstance(text, bytes):
            try:
                row[text_field] = text.decode()
            except UnicodeDecodeError as error:
                report(f"row {number}", f"invalid UTF-8 at byte {error.start}; skipped")
                continue
        yield number, row


def one_line(error: BaseException) -> str:
    """Give an error's message without its line breaks."""
    return " ".join(str(error).split())
