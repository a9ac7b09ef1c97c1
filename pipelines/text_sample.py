"""A sample of text, and how much text there is, without reading all of it.

The corpus is seen as pieces one after another, known without reading them: row groups of Parquet,
stretches of a megabyte of lines of JSON, whole files of any other kind. From points at even
distances, the first one drawn by a seed, pieces are read until there is enough of each, and of a
large piece each document is kept with the same chance: every large file, and every language in a
sorted one, gets its share. What is said of all the text is scaled up, kind by kind, from what was
read.
"""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
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
    split_lines,
)

_STRETCH = 1 << 20
_POINTS = 64
_READ = 8 << 20  # bytes of a piece that are read at most, if it is larger than that
_COMPRESSED = 3  # how many times shorter compressed JSON is, before any has been read


@dataclass(frozen=True)
class Piece:
    """A part of the input. start: the row group, or the byte where a stretch begins; size: bytes of
    text, as far as they are known without reading."""

    kind: str
    path: Path
    size: int
    start: int = 0


@dataclass(frozen=True)
class Sample:
    """table: documents (`text` and the columns) in random order; size: its bytes of text. files,
    documents, bytes: of all the text; seconds: that reading all of it takes. largest: bytes of the
    largest plain file, which is one document.
    """

    table: pa.Table
    size: int
    files: int
    documents: int
    bytes: int
    seconds: float
    largest: int


def sample_texts(
    paths: list[Path], columns: tuple[str, ...], size: int, *, seed: int = 0
) -> Sample:
    """Read about `size` bytes of text, or all of it if there is no more.

    Raises ValueError for what reading all of it would, as far as it is met.
    """
    files = find_files(paths)
    pieces = [piece for path in files for piece in _pieces(path)]
    ends = list(accumulate(piece.size for piece in pieces))
    rng = np.random.default_rng(seed)
    whole = not ends or ends[-1] <= size
    if whole:
        hits = Counter(range(len(pieces)))
    else:
        first, step = rng.random(), ends[-1] / _POINTS
        places = [(first + point) * step for point in range(_POINTS)]
        hits = Counter(min(bisect_right(ends, place), len(pieces) - 1) for place in places)
    # Of each kind: size of all and of what was read, its bytes of text, documents, seconds.
    held, seen, wanted = [], {}, 0
    for i, piece in enumerate(pieces):
        if i in hits:
            wanted = max(hits[i] * size // _POINTS, 1)
        of_kind = seen.setdefault(piece.kind, np.zeros(5))
        of_kind[0] += piece.size
        if wanted <= 0 and not whole:
            continue
        share = 1.0 if whole else min(wanted / max(min(piece.size, _READ), 1), 1.0)
        wanted = 0 if share < 1 else wanted - piece.size
        clock, part, got = time.monotonic(), 1.0, 0
        for batch, part in _batches(piece, columns, paths):  # noqa: B007 (used behind the loop)
            got += pc.sum(pc.binary_length(batch["text"])).as_py() or 0
            of_kind[3] += batch.num_rows
            if piece.kind == "text":  # one document: a part of its characters
                few = pc.utf8_slice_codeunits(batch["text"], 0, max(int(share * piece.size), 1))
                held.append(batch.set_column(0, "text", few))
            else:
                held.append(batch.filter(pa.array(rng.random(batch.num_rows) < share)))
            if got > _READ and not whole:
                break
        else:
            part = 1.0
        of_kind[1:3] += piece.size * part, got
        of_kind[4] += time.monotonic() - clock
    scaled = sum((kind[2:] * kind[0] / max(kind[1], 1) for kind in seen.values()), np.zeros(3))
    schema = pa.schema(
        [("text", pa.large_string()), ("key", pa.string()), *((c, pa.string()) for c in columns)]
    )
    table = pa.Table.from_batches(held, schema)
    return Sample(
        table=table.take(pa.array(rng.permutation(len(table)))).combine_chunks(),
        size=pc.sum(pc.binary_length(table["text"])).as_py() or 0,
        files=len(files), documents=round(scaled[1]), bytes=round(scaled[0]),
        seconds=float(scaled[2]),
        largest=max((p.size for p in pieces if p.kind == "text"), default=0),
    )  # fmt: skip


def _pieces(path: Path) -> Iterator[Piece]:
    kind, size = kind_of(path), path.stat().st_size
    if kind == "parquet":
        try:
            metadata = pq.read_metadata(path)
        except DAMAGE as error:
            raise ValueError(f"{path}: cannot be opened as Parquet: {one_line(error)}") from None
        for i in range(metadata.num_row_groups):
            group = metadata.row_group(i)
            columns = [group.column(c) for c in range(group.num_columns)]
            texts = [c.total_uncompressed_size for c in columns if c.path_in_schema == "text"]
            yield Piece(kind, path, sum(texts) or group.total_byte_size, i)
    elif kind == "text" or path.suffix.lower() in (".gz", ".zst"):
        compressed = kind != "text"
        kind = path.suffix.lower() if compressed else kind
        yield Piece(kind, path, size * (_COMPRESSED if compressed else 1))
    else:
        for start in range(0, size, _STRETCH):
            yield Piece(kind, path, min(_STRETCH, size - start), start)


def _batches(
    piece: Piece, columns: tuple[str, ...], given: list[Path]
) -> Iterator[tuple[pa.RecordBatch, float]]:
    """Batches of a piece, and which part of it is behind after each."""
    path = piece.path
    if piece.kind == "parquet":
        total = pq.read_metadata(path).row_group(piece.start).num_rows
        rows = 0
        for batch in parquet_batches(path, columns, [piece.start]):
            rows += batch.num_rows
            yield batch, min(rows / max(total, 1), 1.0)
    elif piece.kind == "text":
        ignored = None if path in given else lambda path: None
        for batch in plain_batches(path, columns, ignored):
            yield batch, 1.0
    elif piece.kind == "jsonl":
        where = f"{path} from byte {piece.start:,}" if piece.start else str(path)
        for batch in jsonl_batches(_lines(path, piece.start, piece.size), where, columns):
            yield batch, 1.0
    else:
        try:
            codec = "zstd" if piece.kind == ".zst" else "gzip"
            with pa.OSFile(str(path)) as raw, pa.CompressedInputStream(raw, codec) as stream:
                for batch in jsonl_batches(split_lines(stream), str(path), columns):
                    yield batch, raw.tell() * _COMPRESSED / piece.size
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path}: cannot be read: {one_line(error)}") from None


def _lines(path: Path, start: int, size: int) -> Iterator[bytes]:
    """The lines that begin within a stretch of a file."""
    with path.open("rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()
        while file.tell() < start + size and (line := file.readline()):
            yield line
