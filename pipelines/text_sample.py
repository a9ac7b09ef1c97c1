"""A sample of text, and how much text there is, without reading all of it.

The files are seen as pieces of about a megabyte or more, known without reading them: row groups of
Parquet, whose sizes are in the footers; stretches of lines of JSON; whole files where lines of JSON
are compressed; plain files, many small ones packed into a piece. Points at even distances over all
of that, the first one drawn by a seed, choose pieces in proportion to their size: every large file,
and every language in a sorted one, gets its share. A chosen piece is read whole, unless it is
larger than a point's share of what may be read, and gives each document with the same chance.
"""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.formats import DAMAGE, one_line
from pipelines.texts import (
    find_files,
    jsonl_batches,
    kind_of,
    parquet_batches,
    plain_batches,
    plain_document,
    split_lines,
)

_PIECE = 1 << 20
_POINTS = 64
_READ = 512 << 20  # bytes of text that are read at most
_FOOTERS = 400  # Parquet files that are opened at most
_COMPRESSED = 4  # how many times shorter compressed JSON is, before any has been read


@dataclass(frozen=True)
class Piece:
    """A part of the input; size: its bytes of text, as far as they are known without reading.

    start: the row group, or the byte where a stretch of one file begins. documents: if known.
    """

    kind: str
    paths: tuple[Path, ...]
    size: int
    start: int = 0
    documents: int | None = None


@dataclass
class Sample:
    """documents: a table of `text` and the columns, in random order. What is said of all the text
    (documents, bytes, seconds that reading takes) is scaled up from what was read of each kind.
    """

    table: pa.Table
    files: int
    documents: int
    bytes: int
    read_seconds: float
    whole: bool  # the sample is all there is
    cut: bool  # some piece was too large to be read to its end
    largest_file: int  # bytes of the largest plain file, which is one document
    skipped: list[Path]  # no UTF-8

    @property
    def size(self) -> int:
        """Bytes of text in the sample."""
        return pc.sum(pc.binary_length(self.table["text"])).as_py() or 0


@dataclass
class _Found:
    """What reading pieces of one kind has shown."""

    size: int = 0  # of the pieces gone through, as they were believed to be
    bytes: int = 0
    documents: int = 0
    seconds: float = 0.0


@dataclass
class _Taken:
    held: list[pa.RecordBatch] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    cut: bool = False


def sample_texts(
    paths: list[Path], columns: tuple[str, ...], size: int, *, seed: int = 0
) -> Sample:
    """Read about `size` bytes of text, or all of it if there is no more.

    Raises ValueError for what reading all of it would, as far as it is met.
    """
    files = find_files(paths)
    rng = np.random.default_rng(seed)
    pieces, scale = _pieces(files, rng)
    total = sum(piece.size for piece in pieces)
    whole = total <= size and scale == 1
    hits = Counter(range(len(pieces))) if whole else _points(pieces, total, rng)
    taken, found = _Taken(), {}
    for i, n in hits.items():
        piece = pieces[i]
        most = _READ // _POINTS * n
        share = 1.0 if whole else min(1.0, n * size / sum(hits.values()) / min(piece.size, most))
        seen = found.setdefault(piece.kind, _Found())
        _read(piece, columns, paths, None if whole else most, share, rng, taken, seen)
    schema = pa.schema(
        [("text", pa.large_string()), ("key", pa.string()), *((c, pa.string()) for c in columns)]
    )
    table = pa.Table.from_batches(taken.held, schema)
    table = table.take(pa.array(rng.permutation(len(table)))).combine_chunks()
    documents = size_of_all = seconds = 0.0
    for kind, seen in found.items():
        mine = [piece for piece in pieces if piece.kind == kind]
        part = scale * sum(piece.size for piece in mine) / max(seen.size, 1)
        size_of_all += part * seen.bytes
        seconds += part * seen.seconds
        if all(piece.documents is not None for piece in mine):
            documents += scale * sum(piece.documents for piece in mine)
        else:
            documents += part * seen.documents
    return Sample(
        table=table, files=len(files), documents=round(documents), bytes=round(size_of_all),
        read_seconds=seconds, whole=whole, cut=taken.cut,
        largest_file=max((p.stat().st_size for p in files if kind_of(p) == "text"), default=0),
        skipped=taken.skipped,
    )  # fmt: skip


def _points(pieces: list[Piece], total: int, rng: np.random.Generator) -> Counter:
    """Which pieces the points fall into, and how many into each."""
    ends = list(accumulate(piece.size for piece in pieces))
    step = total / _POINTS
    places = (np.arange(_POINTS) + rng.random()) * step
    return Counter(min(bisect_right(ends, place), len(pieces) - 1) for place in places)


def _pieces(files: list[Path], rng: np.random.Generator) -> tuple[list[Piece], float]:
    """The pieces, and how many times more there is: over 1 where not all tables were opened."""
    sizes = {path: path.stat().st_size for path in files}
    tables = [path for path in files if kind_of(path) == "parquet"]
    scale = 1.0
    if len(tables) > _FOOTERS:
        few = [tables[i] for i in sorted(rng.permutation(len(tables))[:_FOOTERS])]
        scale = sum(map(sizes.get, tables)) / max(sum(map(sizes.get, few)), 1)
        tables = few
    pieces = [piece for path in tables for piece in _row_groups(path)]
    pack: list[Path] = []
    packed = 0
    for path in files:
        kind, size = kind_of(path), sizes[path]
        if kind == "jsonl":
            if path.suffix.lower() in (".gz", ".zst"):
                pieces.append(Piece("compressed", (path,), size * _COMPRESSED))
            else:
                pieces += _stretches("jsonl", path, size)
        elif kind == "text" and size > 2 * _PIECE:
            pieces += _stretches("stretch", path, size)
        elif kind == "text":
            pack.append(path)
            packed += size
            if packed >= _PIECE:
                pieces.append(Piece("text", tuple(pack), packed, documents=len(pack)))
                pack, packed = [], 0
    if pack:
        pieces.append(Piece("text", tuple(pack), packed, documents=len(pack)))
    return pieces, scale


def _row_groups(path: Path) -> list[Piece]:
    try:
        metadata = pq.read_metadata(path)
    except DAMAGE as error:
        raise ValueError(f"{path}: cannot be opened as Parquet: {one_line(error)}") from None
    names = metadata.schema.to_arrow_schema().names
    if "text" not in names:
        raise ValueError(
            f"{path}: no column 'text' (it has {', '.join(names)}); rename the one with the text"
        )
    pieces = []
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        columns = [group.column(c) for c in range(group.num_columns)]
        size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema == "text")
        pieces.append(Piece("parquet", (path,), size, i, group.num_rows))
    return pieces


def _stretches(kind: str, path: Path, size: int) -> list[Piece]:
    return [
        Piece(
            kind, (path,), min(_PIECE, size - start), start,
            documents=None if kind == "jsonl" else int(start == 0),
        )
        for start in range(0, size, _PIECE)
    ]  # fmt: skip


def _read(
    piece: Piece, columns: tuple[str, ...], given: list[Path], most: int | None, share: float,
    rng: np.random.Generator, taken: _Taken, seen: _Found,
) -> None:  # fmt: skip
    """Read a piece, or about its first `most` bytes; share: each document's chance to be kept."""
    gone, got = 0.0, 0
    clock = time.monotonic()
    for batch, gone in _batches(piece, columns, given, taken.skipped.append):
        seen.seconds += time.monotonic() - clock
        got += pc.sum(pc.binary_length(batch["text"])).as_py() or 0
        seen.documents += batch.num_rows
        keep = rng.random(batch.num_rows) < share
        taken.held.append(batch.filter(pa.array(keep)))
        if most is not None and got > most and gone < 1:
            taken.cut = True
            break
        clock = time.monotonic()
    else:
        gone = 1.0
    seen.size += gone * piece.size
    seen.bytes += got


def _batches(
    piece: Piece, columns: tuple[str, ...], given: list[Path], skipped: Callable[[Path], None]
) -> Iterator[tuple[pa.RecordBatch, float]]:
    """Batches of a piece, and which part of it is behind after each."""
    path = piece.paths[0]
    if piece.kind == "parquet":
        rows = 0
        for batch in parquet_batches(path, columns, [piece.start]):
            rows += batch.num_rows
            yield batch, rows / max(piece.documents, 1)
    elif piece.kind == "text":
        size = 0
        for one in piece.paths:
            size += one.stat().st_size
            for batch in plain_batches(one, columns, None if one in given else skipped):
                yield batch, size / max(piece.size, 1)
    elif piece.kind == "stretch":
        with path.open("rb") as file:
            file.seek(piece.start)
            data = file.read(piece.size)
        # A character may be cut at either end.
        text = data.decode(errors="ignore")
        if len(data) - len(text.encode()) > 6:
            if path in given:
                raise ValueError(f"{path}: no UTF-8 from byte {piece.start:,}; convert it")
            skipped(path)
        else:
            yield plain_document(path, text, columns), 1.0
    elif piece.kind == "jsonl":
        lines = _stretch_of_lines(path, piece.start, piece.size)
        where = f"{path} from byte {piece.start:,}" if piece.start else str(path)
        for batch in jsonl_batches(lines, where, columns):
            yield batch, 0.5
    else:
        try:
            with pa.OSFile(str(path)) as raw, _decompressed(raw, path) as stream:
                for batch in jsonl_batches(split_lines(stream), str(path), columns):
                    yield batch, raw.tell() * _COMPRESSED / piece.size
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path}: cannot be read: {one_line(error)}") from None


def _decompressed(raw: pa.NativeFile, path: Path) -> pa.NativeFile:
    return pa.CompressedInputStream(raw, "zstd" if path.suffix.lower() == ".zst" else "gzip")


def _stretch_of_lines(path: Path, start: int, size: int) -> Iterator[bytes]:
    """The lines that begin within a stretch of a file."""
    with path.open("rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()
        while file.tell() < start + size and (line := file.readline()):
            yield line
