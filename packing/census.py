"""The census: what documents there are, counted and laid out so that a plan can go through them.

The tables of documents are read once, a row group at a time and several at once, whatever their
number. What a plan needs of a document is 24 bytes (`RECORD`): the key of its id, its place (shard
and row), its tokens and its pile. They go into one scratch file, each row group's in the order of
the keys' first bits, so that any range of keys, a *window*, is a short stretch of each row group.
A window is a random sample of all documents; its documents come in the order of their keys, which
is the same however they were spread over files. Beside them stay the counts by pile, a few numbers
for each row group, and the atomic spans of long documents, in files of their own. So memory does
not grow with the corpus: 24 bytes of disk a document, and two or three windows at a time.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packing import _native
from packing.columns import list_sizes, numbers
from packing.cutting import Spans
from packing.validation import held_out_keys

RECORD = np.dtype([("key", "<u8"), ("place", "<u8"), ("tokens", "<u4"), ("pile", "<u4")])
WINDOW = 1 << 18  # documents, about: no array so large that every use of one is new to the system
_MOST_WINDOWS = 1 << 12
_NAMES = ["domain", "source", "language"]
_COLUMNS = ["id", *_NAMES, "parents", "tokens", "atomic"]

Name = tuple[str, str, str]  # of a pile: domain, source, language


@dataclass(frozen=True)
class Group:
    """A row group: where it is, and where its records go in the scratch file."""

    path: Path
    shard: int
    number: int
    first: int  # row of the shard
    rows: int
    base: int  # record of the scratch file
    segment: int  # the first of its segments, of WINDOW rows each


@dataclass(frozen=True)
class Segment:
    """Rows of a row group whose records lie together in the scratch file, by window."""

    group: Group
    first: int  # row of the shard
    base: int


@dataclass(frozen=True)
class Rows:
    """The documents of a segment, as arrays [documents]; piles are numbered within it.

    keys: uint64; held_out: bool; tokens: uint32; piles: int32.

    spans: of the documents with more than the tokens asked for.
    """

    keys: np.ndarray
    held_out: np.ndarray
    tokens: np.ndarray
    piles: np.ndarray
    names: list[Name]
    spans: Spans
    longest_span: int


def groups_of(stems: Sequence[Path]) -> list[Group]:
    """The row groups of the tables of documents beside token shards.

    Raises ValueError for a file that is no such table.
    """
    groups = []
    base = segment = 0
    for shard, stem in enumerate(stems):
        path = stem.with_name(stem.name + ".documents.parquet")
        try:
            metadata = pq.read_metadata(path)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(_unreadable(path, error)) from error
        lacking = [c for c in _COLUMNS if c not in metadata.schema.to_arrow_schema().names]
        if lacking:
            raise ValueError(
                f"{path}: no column {', '.join(lacking)}; expected a table of documents as "
                "`gristmill encode` writes it"
            )
        first = 0
        for number in range(metadata.num_row_groups):
            rows = metadata.row_group(number).num_rows
            groups.append(Group(path, shard, number, first, rows, base, segment))
            first, base, segment = first + rows, base + rows, segment - (-rows // WINDOW)
    return groups


def _unreadable(path: Path, error: Exception) -> str:
    what = " ".join(str(error).split())
    return f"{path}: cannot be read as a table of documents: {what}; run `gristmill encode` again"


def read_rows(
    group: Group,
    seed: int,
    fraction: float,
    spans_above: int,
    *,
    ids: bool = True,
    together: bool = False,
) -> Iterator[Rows]:
    """Read a row group, segment by segment.

    spans_above: keep atomic spans of documents with more tokens than that. together: read its
    columns on several threads.

    ids: without them there are no keys, none is held out, and no spans are looked for.
    """
    wanted = _COLUMNS if ids else [*_NAMES, "tokens"]
    try:
        with pq.ParquetFile(group.path, read_dictionary=_NAMES) as file:
            table = file.read_row_group(group.number, columns=wanted, use_threads=together)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(_unreadable(group.path, error)) from error
    table = table.unify_dictionaries().combine_chunks()
    for first in range(0, len(table), WINDOW):
        part = table.slice(first, WINDOW)
        yield _rows(group, first, part, seed, fraction, spans_above)


def _rows(
    group: Group, first: int, table: pa.Table, seed: int, fraction: float, spans_above: int
) -> Rows:
    columns = {name: _one(table[name]) for name in table.column_names}
    for name in ("id", "domain", "source", "tokens"):
        if name in columns and columns[name].null_count:
            raise ValueError(f"{group.path}: {columns[name].null_count} rows without {name}")
    tokens = numbers(columns["tokens"])
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < 2**31:
        bad = int(np.flatnonzero((tokens < 0) | (tokens >= 2**31))[0])
        raise ValueError(
            f"{group.path}: row {group.first + first + bad} has {tokens[bad]} tokens, expected 0 "
            "to 2147483647"
        )
    tokens = tokens.astype(np.uint32)
    codes, names = _combine([columns[name] for name in _NAMES])
    if "id" not in columns:
        none, nothing = np.empty(0, np.int64), np.zeros(len(tokens), bool)
        return Rows(nothing, nothing, tokens, codes, names, Spans(none, none, none), 0)
    keys, out = held_out_keys(columns["id"], columns["parents"], seed, fraction)
    spans, longest = _spans(columns["atomic"], tokens, spans_above)
    return Rows(keys, out, tokens, codes, names, spans, longest)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.array([], column.type)


def _combine(columns: list[pa.Array]) -> tuple[np.ndarray, list[Name]]:
    """Number the combinations of dictionary-coded columns that occur; codes and names."""
    codes = np.zeros(len(columns[0]), np.int32)
    combined: list[tuple[str, ...]] = [()]
    for column in columns:
        values = [*column.dictionary.to_pylist(), ""]  # the last: null
        index = numbers(column.indices, missing=len(values) - 1)
        wide = np.int64 if len(combined) * len(values) > 2**31 else np.int32
        codes = codes.astype(wide) * wide(len(values)) + index
        occurs = np.zeros(len(combined) * len(values), bool)
        occurs[codes] = True
        codes = (np.cumsum(occurs, dtype=np.int32) - np.int32(1))[codes]
        combined = [
            (*combined[at // len(values)], values[at % len(values)])
            for at in np.flatnonzero(occurs).tolist()
        ]
    return codes, combined


def _spans(atomic: pa.Array, tokens: np.ndarray, above: int) -> tuple[Spans, int]:
    """The atomic spans of documents with more than `above` tokens, and the longest of all."""
    none = np.empty(0, np.int64)
    if atomic.null_count == len(atomic):
        return Spans(none, none, none), 0
    flat = atomic.flatten()
    counts = list_sizes(atomic)
    document = np.repeat(np.arange(len(counts)), counts)
    start, length = (numbers(flat.field(k)) for k in (0, 1))
    longest = int(length.max()) if len(length) else 0
    of = np.flatnonzero(tokens[document] > above)
    of = of[np.lexsort((start[of], document[of]))]
    return Spans(document[of], start[of], length[of]), longest


@dataclass
class Count:
    """Documents and tokens of a pile: for training, and held out."""

    documents: int = 0
    tokens: int = 0
    held_out: int = 0


@dataclass
class Census:
    """All documents for training; see the file's first lines. Made by `take_census`.

    names: the piles' names by the numbers that the records have. starts: int64 [segments,
    windows + 1], where each window begins in a segment of the scratch file.
    """

    groups: list[Group]
    scratch: Path
    segments: list[Segment] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    starts: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.int64))
    spanned: set[int] = field(default_factory=set)  # segments that have a file of spans
    longest_span: int = 0
    _all_spans: np.ndarray = field(default_factory=lambda: np.empty((3, 0), np.uint64))
    _numbers: dict[Name, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _file: int = -1

    @property
    def windows(self) -> int:
        return self.starts.shape[1] - 1

    def add(self, number: int, rows: Rows) -> None:
        """Count a segment's rows and write the records of those for training."""
        told = _native.tally(rows.held_out, rows.tokens, rows.piles, len(rows.names))
        documents, tokens, out = told.reshape(3, -1).tolist()
        with self._lock:
            for name in rows.names:
                if name not in self._numbers:
                    self._numbers[name] = len(self.names)
                    self.names.append(name)
                    self.counts.append(Count())
            numbers = np.array([self._numbers[name] for name in rows.names], np.uint32)
            for at, d, t, o in zip(numbers, documents, tokens, out, strict=True):
                count = self.counts[at]
                count.documents += d
                count.tokens += t
                count.held_out += o
            self.longest_span = max(self.longest_span, rows.longest_span)
        if self._file < 0:
            return
        segment = self.segments[number]
        first = segment.group.shard << 32 | segment.first  # the first row's place
        records, self.starts[number] = _native.lay_out(
            rows.keys, rows.held_out, rows.tokens, rows.piles, numbers, first, self.windows
        )
        _write_at(self._file, memoryview(records), segment.base * RECORD.itemsize)
        spans = rows.spans
        if len(spans.document):
            with self._lock:
                self.spanned.add(number)
            stacked = [_places(segment, spans.document), spans.start, spans.length]
            np.save(self._span_file(number), np.array(stacked, np.uint64))

    def _span_file(self, number: int) -> Path:
        return self.scratch / f"spans-{number}.npy"

    def _read(self, segment: int, start: int, records: np.ndarray) -> None:
        """Fill an array with records of a segment."""
        view = memoryview(records).cast("B")
        at = (self.segments[segment].base + start) * RECORD.itemsize
        done = 0
        while done < len(view):
            got = os.preadv(self._file, [view[done:]], at + done)
            if not got:
                raise OSError(f"{self.scratch}: ended early; is the disk full?")
            done += got

    def segment(self, number: int) -> np.ndarray:
        """All records of a segment (as bytes), in no order that matters."""
        records = np.empty(int(self.starts[number, -1]), RECORD)
        self._read(number, 0, records)
        return records.view(np.uint8)

    def window(self, number: int) -> np.ndarray:
        """The records of a window (as bytes), in the order of their keys."""
        starts, stops = self.starts[:, number], self.starts[:, number + 1]
        ends = np.cumsum(stops - starts)
        records = np.empty(int(ends[-1]) if len(ends) else 0, RECORD)
        for k in np.flatnonzero(stops > starts).tolist():
            start, size = int(starts[k]), int(stops[k] - starts[k])
            self._read(k, start, records[int(ends[k]) - size : int(ends[k])])
        return _native.in_order(records.view(np.uint8))

    def _join_spans(self) -> None:
        """One table of all spans, in the order of places: uint64 rows place, start, length."""
        files = [self._span_file(number) for number in sorted(self.spanned)]
        parts = [np.load(path, mmap_mode="r") for path in files]
        total = sum(part.shape[1] for part in parts)
        if not total:
            return
        path = self.scratch / "spans.npy"
        table = np.lib.format.open_memmap(path, "w+", np.uint64, (3, total))
        np.concatenate(parts, axis=1, out=table)
        table.flush()
        self._all_spans = np.load(path, mmap_mode="r")
        for file in files:
            file.unlink()

    def spans(self, places: np.ndarray) -> Spans:
        """The kept atomic spans of documents at `places` (uint64 [documents]), by their index."""
        if not self._all_spans.size or not len(places):
            none = np.empty(0, np.int64)
            return Spans(none, none, none)
        first = np.searchsorted(self._all_spans[0], places)
        counts = np.searchsorted(self._all_spans[0], places, side="right") - first
        at = np.repeat(first - (np.cumsum(counts) - counts), counts)
        at += np.arange(len(at))
        start, length = (self._all_spans[k][at].astype(np.int64) for k in (1, 2))
        return Spans(np.repeat(np.arange(len(places)), counts), start, length)

    def close(self) -> None:
        """Delete what was written."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        for path in self.scratch.glob("*"):
            path.unlink()
        if self.scratch.is_dir():
            self.scratch.rmdir()


def _places(segment: Segment, rows: np.ndarray) -> np.ndarray:
    """The places of rows (int64, counted within the segment): the shard above 32 bits of row."""
    return (rows + segment.first).astype(np.uint64) | np.uint64(segment.group.shard << 32)


def _write_at(file: int, view: memoryview, at: int) -> None:
    while len(view):
        done = os.pwrite(file, view, at)
        view, at = view[done:], at + done


def take_census(
    stems: Sequence[Path],
    scratch: Path,
    seed: int,
    fraction: float,
    pool: Executor,
    workers: int,
    *,
    spans_above: int,
    each: Callable[[np.ndarray, Rows], None] = lambda places, rows: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Census:
    """Read all documents and lay those for training out in the folder `scratch`, which is made.

    workers: threads of the pool. spans_above: atomic spans are kept of documents with more tokens.
    each: is called, from any
    thread, with the rows of every segment and their places. progress: with the documents read and
    all of them. Raises ValueError for a table that cannot be read.
    """
    census = _empty(stems, scratch)
    total = sum(group.rows for group in census.groups)
    windows = 1
    while windows < _MOST_WINDOWS and windows * WINDOW < total:
        windows *= 2
    census.starts = np.zeros((len(census.segments), windows + 1), np.int64)
    census.close()  # what a killed process left
    scratch.mkdir(parents=True)
    census._file = os.open(scratch / "records", os.O_RDWR | os.O_CREAT)

    few = len(census.groups) < workers

    def one(number: int) -> int:
        group = census.groups[number]
        found = read_rows(group, seed, fraction, spans_above, together=few)
        for k, rows in enumerate(found, group.segment):
            each(_places(census.segments[k], np.arange(len(rows.keys))), rows)
            census.add(k, rows)
        return group.rows

    try:
        done = 0
        for n in ahead(pool, one, range(len(census.groups))):
            done += n
            progress(done, total)
        census._join_spans()
    except BaseException:
        census.close()
        raise
    return census


def _empty(stems: Sequence[Path], scratch: Path) -> Census:
    """A census that has read nothing yet but how many rows there are."""
    groups = groups_of(stems)
    segments = [
        Segment(group, group.first + at, group.base + at)
        for group in groups
        for at in range(0, group.rows, WINDOW)
    ]
    return Census(groups, scratch, segments)


EXACT_COUNT = 4_000_000  # documents up to which ids are read for a mere count


def count(stems: Sequence[Path], seed: int, fraction: float, workers: int) -> tuple[Census, bool]:
    """Only count: a census without records, nothing written; and whether it is exact.

    Of more than EXACT_COUNT documents the ids are not read, which takes a tenth of the time; the
    part held out is then taken to be `fraction` of each pile. Raises ValueError as `take_census`.
    """
    census = _empty(stems, Path())
    exact = sum(group.rows for group in census.groups) <= EXACT_COUNT

    def one(number: int) -> None:
        group = census.groups[number]
        for k, rows in enumerate(read_rows(group, seed, fraction, 2**31, ids=exact), group.segment):
            census.add(k, rows)

    with ThreadPoolExecutor(workers) as pool:
        for _ in ahead(pool, one, range(len(census.groups))):
            pass
    if not exact:
        for counted in census.counts:
            counted.tokens = round(counted.tokens * (1 - fraction))
            counted.documents = round(counted.documents * (1 - fraction))
    return census, exact


def ahead(pool: Executor, work: Callable, items: Iterable, lead: int = 3) -> Iterator:
    """`work(item)` for each item, in order, a few of them begun before they are asked for."""
    waiting: list[Future] = []
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= lead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for future in waiting:
            future.cancel()
