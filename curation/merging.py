"""Merging: what the rounds that see a whole corpus share, in memory that does not grow with it.

A round signs each document (a row of a Parquet file), a merge reads the columns of all signatures
and decides, and the decisions, sorted by row, are looked up batch by batch. In a merge everything
large is a stream: columns are read a few thousand rows at a time, and what must be brought together
is sorted by the native `Sorter`, in runs on disk. What must be known of every document at once is a
small number in an array mapped onto a file, so that the system may take its memory back.

The files of a merge have no names: a killed merge leaves nothing behind.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation import _native

ROW_GROUP = 1 << 16  # rows of a written row group: what reading one document's decision costs


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; renamed to `path` when the block ends well.

    Removes what a killed writer of the same file left.
    """
    for left in path.parent.glob(f".{path.name}.*.partial"):
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def count_rows(signed: Sequence[Path]) -> int:
    """Count the documents of a corpus by the footers of its signatures."""
    return sum(pq.read_metadata(path).num_rows for path in signed)


def stream(
    signed: Sequence[Path], columns: list[str], step: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Read columns of all signatures, at most `step` rows at a time, each with its first row."""
    first = 0
    for path in signed:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(step, columns=columns):
                yield first, batch
                first += len(batch)
        pa.default_memory_pool().release_unused()


def step_for(memory: int) -> int:
    """How many rows to take at a time when a merge may use `memory` bytes."""
    return min(max(memory // 4096, 256), 1 << 16)


def new_array(folder: Path, size: int, dtype: str, numbered: bool = False) -> np.ndarray:
    """Make an array of zeros, or of 0, 1, 2, …, on a nameless file in `folder`."""
    with tempfile.TemporaryFile(dir=folder, prefix=".array-") as file:
        array = np.memmap(file, dtype, "w+", shape=max(size, 1))
    if numbered:
        for start in range(0, size, 1 << 20):
            end = min(start + (1 << 20), size)
            array[start:end] = np.arange(start, end, dtype=dtype)
    return array[:size]


def row_type(rows: int) -> str:
    """The least type that holds a row of a corpus, and the number of its rows."""
    return "u4" if rows < 1 << 32 else "u8"


def drain(sorter: "_native.Sorter", step: int) -> Iterator[np.ndarray]:
    """Give what a sorter holds, in order: uint64 [at most `step`, width] each."""
    while len(records := sorter.read(step)):
        yield records


def groups(
    sorter: "_native.Sorter", width: int, step: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Give sorted records with where those of one key, their first `width` numbers, begin.

    Yields (records uint64 [n, numbers], new bool [n]: is the first of its key, heads uint64 [n]:
    the last number of the first record of the key).
    """
    last, head = None, np.uint64(0)
    for records in drain(sorter, step):
        keys = records[:, :width]
        new = np.ones(len(records), bool)
        new[1:] = (keys[1:] != keys[:-1]).any(axis=1)
        new[0] = last is None or bool((keys[0] != last).any())
        # The place of the last one that is new; 0 too before there is any.
        begin = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
        heads = records[begin, -1]
        if not new[0]:
            heads[: int(np.argmax(new)) if new.any() else len(new)] = head
        last, head = keys[-1].copy(), heads[-1]
        yield records, new, heads


def digests(column: pa.Array) -> np.ndarray:
    """View a column of fixed_size_binary(16) as numbers: uint64 [n, 2]."""
    if not len(column):
        return np.empty((0, 2), np.uint64)
    data = np.frombuffer(column.buffers()[1], "<u8", 2 * len(column), 16 * column.offset)
    return data.reshape(-1, 2)


def binary_ids(column: pa.Array) -> pa.Array:
    """Pack document ids, 32 hex digits, into 16 bytes. Raises ValueError naming one that is not."""
    packed = []
    for name in column.to_pylist():
        try:
            packed.append(bytes.fromhex(name))
        except ValueError:
            packed.append(b"")
        if len(packed[-1]) != 16 or len(name) != 32:
            raise ValueError(f"document id {name!r}: expected 32 hex digits")
    return pa.array(packed, pa.binary(16))


def with_ids(
    chunks: Iterable[np.ndarray], shift: int, signed: Sequence[Path], step: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give each chunk of records with the ids of their rows: uint64 [n, 2].

    A record's row is its first number without its last `shift` bits, and records are sorted by it.
    """
    chunks = iter(chunks)
    records = next(chunks, None)
    for first, batch in stream(signed, ["id"], step):
        if records is None:
            return
        ids = None
        while records is not None:
            rows = records[:, 0] >> np.uint64(shift)
            here = int(np.searchsorted(rows, np.uint64(first + len(batch))))
            if here:
                ids = digests(batch.column(0)) if ids is None else ids
                yield records[:here], ids[rows[:here].astype(np.int64) - first]
            records = records[here:]
            if len(records):
                break
            records = next(chunks, None)


def hex_ids(ids: np.ndarray) -> list[str]:
    """Write ids as they are in documents."""
    data = np.ascontiguousarray(ids).tobytes().hex()
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def write_tables(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables as one Parquet file in row groups of `ROW_GROUP`, atomically."""
    # Ids are all different: a dictionary of them would be memory for nothing.
    settings = {"compression": "zstd", "use_dictionary": ["reason"]}
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, **settings) as file:
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(table)
            if sum(map(len, waiting)) >= ROW_GROUP:
                file.write_table(pa.concat_tables(waiting), row_group_size=ROW_GROUP)
                waiting = []
                pa.default_memory_pool().release_unused()
        if waiting:
            file.write_table(pa.concat_tables(waiting))


@lru_cache(maxsize=4)
def _row_groups(decisions: Path, version: object) -> tuple[pq.FileMetaData, np.ndarray, np.ndarray]:
    """Read a footer once for all batches: with the least and the greatest row of each group."""
    metadata = pq.read_metadata(decisions)
    column = metadata.schema.to_arrow_schema().get_field_index("row")
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    ranges = [group.column(column).statistics for group in groups if group.num_rows]
    least, most = ([getattr(r, name) for r in ranges] for name in ("min", "max"))
    return metadata, np.array(least, np.int64), np.array(most, np.int64)


def decisions_of(batch: pa.RecordBatch, decisions: Path, first_row: int) -> pa.Table:
    """Look up the decisions about a batch whose first row has the number `first_row`.

    Reads the row groups that have rows of the batch only. `row` becomes the place in the batch.
    Raises ValueError if a document is not the one that was decided about.
    """
    end = first_row + len(batch)
    status = decisions.stat()
    metadata, least, most = _row_groups(decisions, (status.st_mtime_ns, status.st_ino))
    groups = range(*map(int, (np.searchsorted(most, first_row), np.searchsorted(least, end))))
    with pq.ParquetFile(decisions, metadata=metadata) as file:
        table = file.read_row_groups(groups)
    numbers = table["row"].to_numpy()
    start, stop = np.searchsorted(numbers, [first_row, end])
    table = table.slice(start, stop - start)
    places = numbers[start:stop] - first_row
    found = batch.column("id").take(pa.array(places)).to_pylist()
    for place, name, here in zip(places.tolist(), table["id"].to_pylist(), found, strict=True):
        if name != here:
            raise ValueError(
                f"document {name} was signed as row {first_row + place}, found {here} there: the "
                f"corpus changed, sign it again"
            )
    return table.set_column(table.schema.get_field_index("row"), "row", pa.array(places))
