"""Sequences: pieces packed and written, a window of them at a time.

A set of sequences is a list of Arrow files, `NAME-00000.arrow`, …, with a row per sequence:
`pieces`, a list of (shard, document, start, length), in the order in which they stand. All files
but the last have ROWS_IN_FILE rows and all record batches but the last ROWS_IN_BATCH, so a row is
found by division.

Windows of a million documents or two are packed by themselves, several at once. With so many pieces
the packing is as good as one of all of them, and memory does not depend on how many there are.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from packing import _native
from packing.best_fit import PACKERS
from packing.census import Census, ahead
from packing.columns import column
from packing.cutting import cut_many
from packing.stretches import Parts, join

PIECE = pa.struct(
    [
        ("shard", pa.int32()),
        ("document", pa.int64()),
        ("start", pa.int64()),
        ("length", pa.int32()),
    ]
)
PLAN_SCHEMA = pa.schema([pa.field("pieces", pa.list_(PIECE), nullable=False)])
ROWS_IN_BATCH = 4096
ROWS_IN_FILE = 1 << 20
PIECES_IN_WINDOW = 1 << 20
STRATEGIES = ("best_fit", "concat", "none")


@dataclass(frozen=True)
class Rows:
    """Sequences: the number of pieces of each (int64 [rows]), and all pieces, row after row.

    shard, length: int32; document, start: int64 [pieces], as in PIECE.
    """

    counts: np.ndarray
    shard: np.ndarray
    document: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def split(self, rows: int) -> tuple["Rows", "Rows"]:
        """The first rows, and the others."""
        n = int(self.counts[:rows].sum())
        columns = (self.shard, self.document, self.start, self.length)
        first = Rows(self.counts[:rows], *(values[:n] for values in columns))
        return first, Rows(self.counts[rows:], *(values[n:] for values in columns))

    def join(self, other: "Rows") -> "Rows":
        """These rows and then others."""
        names = [entry.name for entry in fields(Rows)]
        return Rows(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in names))


def in_rows(place: np.ndarray, start: np.ndarray, length: np.ndarray, bins: np.ndarray) -> Rows:
    """Pieces in the order of their sequences' numbers, and in their own within one.

    place: uint64 (shard above 32 bits of document); the others: below 2^31.
    """
    small = (values.astype(np.int32, copy=False) for values in (start, length, bins))
    return Rows(*_native.in_rows(place, *small))


NO_ROWS = in_rows(np.empty(0, np.uint64), *[np.empty(0, np.int32)] * 3)


def pack(parts: Parts, census: Census, length: int, strategy: str) -> Rows:
    """Cut documents where they don't fit a sequence, and pack the pieces; drops no token."""
    if not len(parts.place):
        return NO_ROWS
    if strategy == "concat":
        document, start, size, bins = _concat(parts, census.spans, length)
        place = parts.place[document]
    else:
        place, start, size = parts.place, parts.start, parts.tokens
        is_long = size > length
        if is_long.any():
            long, short = np.flatnonzero(is_long), np.flatnonzero(~is_long)
            begin = start[long].astype(np.int64)
            document, at, n = cut_many(begin, begin + size[long], length, census.spans(place[long]))
            place = np.concatenate([place[short], place[long][document]])
            start = np.concatenate([start[short], at.astype(np.int32)])
            size = np.concatenate([size[short], n.astype(np.int32)])
        bins, _ = PACKERS[strategy](size, length)
    return in_rows(place, start, size, bins)


def _concat(parts: Parts, spans_of, length: int):
    """All documents end to end, cut where a sequence is full or before an atomic span."""
    sizes = parts.tokens
    ends = np.cumsum(sizes, dtype=np.int64)
    begins = ends - sizes
    spans = spans_of(parts.place)
    at = begins[spans.document] + spans.start - parts.start[spans.document]
    inside = (spans.start >= parts.start[spans.document]) & (at < ends[spans.document])
    at, span = at[inside], spans.length[inside]
    rows = np.array([0])
    if len(at):
        # As one document; the first cut that hurts a span moves all later ones.
        rows = [0]
        while ends[-1] - rows[-1] > length:
            cut = rows[-1] + length
            k = int(np.searchsorted(at, cut)) - 1
            hurt = k >= 0 and rows[-1] < at[k] < cut < at[k] + span[k]
            rows.append(int(at[k]) if hurt else cut)
        rows = np.array(rows)
    else:
        rows = np.arange(0, int(ends[-1]), length)
    cuts = np.union1d(begins, rows)
    document = np.searchsorted(begins, cuts, side="right") - 1
    stops = np.append(cuts[1:], ends[-1])
    start = cuts - begins[document] + parts.start[document]
    return document, start, stops - cuts, np.searchsorted(rows, cuts, side="right") - 1


def pack_all(
    parts: Iterable[Parts], census: Census, length: int, strategy: str, pool: Executor
) -> Iterator[Rows]:
    """Pack documents as they come, in windows of PIECES_IN_WINDOW."""

    def windows() -> Iterator[Parts]:
        waiting: list[Parts] = []
        n = 0
        for part in parts:
            waiting.append(part)
            n += len(part.tokens) + int(np.sum(part.tokens[part.tokens > length] // length))
            if n >= PIECES_IN_WINDOW:
                yield join(waiting)
                waiting, n = [], 0
        if waiting:
            yield join(waiting)

    return ahead(pool, lambda window: pack(window, census, length, strategy), windows(), 2)


@dataclass
class Writer:
    """Writes rows into the files of a set; each has its final name only when it is whole."""

    out: Path
    name: str
    files: list[str] = field(default_factory=list)
    rows: int = 0
    tokens: int = 0
    _left: Rows = NO_ROWS
    _sink: pa.OSFile | None = None
    _writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, rows: Rows) -> None:
        """Add rows behind those before."""
        if len(self._left.counts):
            few, rows = rows.split(ROWS_IN_BATCH - len(self._left.counts))
            self._left = self._left.join(few)
            if len(self._left.counts) < ROWS_IN_BATCH:
                return
            self._write(self._left)
        first, self._left = rows.split(len(rows.counts) // ROWS_IN_BATCH * ROWS_IN_BATCH)
        self._write(first)

    def close(self) -> list[str]:
        """Write what is left; returns the names of the files, at least one."""
        self._write(self._left)
        self._left = NO_ROWS
        if self._writer is None and not self.files:
            self._open()
        self._finish()
        return self.files

    def _open(self) -> None:
        self._sink = pa.OSFile(str(self._temporary(len(self.files))), "wb")
        self._writer = pa.ipc.new_file(self._sink, PLAN_SCHEMA)

    def _temporary(self, number: int) -> Path:
        return self.out / f".{self.name}-{number:05d}.arrow.partial"

    def _finish(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._sink.close()
        name = f"{self.name}-{len(self.files):05d}.arrow"
        self._temporary(len(self.files)).replace(self.out / name)
        self.files.append(name)
        self._writer = self._sink = None

    def _write(self, rows: Rows) -> None:
        offsets = np.concatenate([[0], np.cumsum(rows.counts)])
        for first in range(0, len(rows.counts), ROWS_IN_BATCH):
            last = min(first + ROWS_IN_BATCH, len(rows.counts))
            a, b = int(offsets[first]), int(offsets[last])
            columns = (rows.shard, rows.document, rows.start, rows.length)
            pieces = pa.StructArray.from_arrays(
                [column(values[a:b]) for values in columns], fields=list(PIECE)
            )
            lists = pa.ListArray.from_arrays(
                column((offsets[first : last + 1] - a).astype(np.int32)), pieces
            )
            if self._writer is None:
                self._open()
            self._writer.write_batch(pa.record_batch([lists], schema=PLAN_SCHEMA))
            self.rows += last - first
            self.tokens += int(rows.length[a:b].sum())
            if self.rows % ROWS_IN_FILE == 0:
                self._finish()
