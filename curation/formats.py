"""File formats: from the bytes of one file to rows, one dictionary at a time, in bounded memory.

A reader yields `(number, row)` and tells everything that is wrong to `report(where, what)`; it
never raises for what is inside a file, because one bad line in a terabyte must cost one line. Rows
up to number `after` are passed over as cheaply as the format allows, for a task that goes on.
Lines are found in chunks of the decompressed stream, so that neither a file without line breaks
nor a compressed bomb is ever held whole: a line under way is dropped as soon as it passes the
limit. Here are lines and whole files; tables are in `tables.py`, web archives in `warc.py`.
"""

import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import pyarrow as pa

from curation.remote import File, size_of

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
    if stem.suffix in (".warc", ".arc", ".wet") or re.search(
        r"\.(warc|arc|wet)\.(gz|zst|lz4)$", stem.name
    ):
        return "warc"
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
    if inner in (".html", ".htm", ".xhtml") and (given == "html" or (named and domain != "code")):
        return "html"
    prose = inner in PROSE_SUFFIXES
    return "text" if prose or (domain == "code" and code_language(name)) else None


def plain_chunks(path: File, start: int = 0) -> Iterator[bytes]:
    """Read a file from byte `start`, 1 MiB at a time."""
    with path.open("rb") as file:
        if start:
            file.seek(start)
        while chunk := file.read(1 << 20):
            yield chunk


def gzip_chunks(path: File) -> Iterator[bytes]:
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


def zstd_chunks(path: File) -> Iterator[bytes]:
    """Decompress zstd, also several frames joined. Raises OSError for damage.

    4 KiB at a time, because Arrow gives nothing of a read in which the damage lies.
    """
    source = path if isinstance(path, Path) else path.open("rb")
    with pa.input_stream(source, compression="zstd") as stream:
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
    path: File,
    report: Report,
    limit: int,
    start: int = 0,
    end: int | None = None,
    line: int = 1,
    after: int = 0,
) -> Rows:
    """Yield (line number from 1, object) for the lines of a .jsonl file, plain, gzip or zstd.

    Of a plain file, the lines that begin in the bytes [start, end); the first of them has the
    number `line`. Of a compressed one, all. Lines up to number `after` are not parsed.
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
            if number <= after:
                continue
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


def text_rows(path: File, report: Report, limit: int) -> Rows:
    """Yield (0, {"text": ...}) for a text file; a byte order mark is taken off."""
    data = _whole(path, report, limit)
    if data is None:
        return
    try:
        yield 0, {"text": data.decode("utf-8-sig")}
    except UnicodeDecodeError as error:
        report(f"byte {error.start}", "invalid UTF-8; skipped")


def html_rows(path: File, report: Report, limit: int) -> Rows:
    """Yield (0, {"html": bytes}) for a file of HTML."""
    data = _whole(path, report, limit)
    if data is not None:
        yield 0, {"html": data}


def _whole(path: File, report: Report, limit: int) -> bytes | None:
    try:
        size = size_of(path)
        if size > limit:
            return report("", f"{size} bytes, more than max_document_bytes ({limit}); skipped")
        return path.read_bytes()
    except OSError as error:
        return report("", f"cannot be read: {error.strerror or one_line(error)}")


def utf8(name: str) -> str:
    """Make a file name, which may hold any bytes, into text."""
    return os.fsencode(name).decode(errors="replace")


def one_line(error: BaseException) -> str:
    """Give an error's message without its line breaks."""
    return " ".join(str(error).split())
