"""Provenance: which documents stand in a stretch of a run, and where in a run a document stands.

Both directions are look-ups in the plan, nothing is replayed. Forward: the pieces at some
positions, and the rows of the documents' tables that they name. Backward: the document's number by
its id (a column of ids is read, about 0.1 s for a million), then all pieces of the plan are
compared with it, vectors of them, and the permutation is walked back from each row found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from packing.positions import Rows, Sequences


@dataclass(frozen=True)
class Sighting:
    """A piece of a document in a sequence.

    position: the sequence in the run; offset: where the piece begins in the sequence, length: its
    tokens, start: where it begins in its document, all in tokens.
    """

    position: int
    offset: int
    length: int
    shard: int
    document: int
    start: int


def sightings(sequences: Sequences, first: int, last: int) -> list[Sighting]:
    """All that stands at positions first … last - 1, in order; they may lie in several phases."""
    found = []
    while first < last:
        end = min(last, sequences.phase_end(first))
        pieces = sequences.pieces(first, end)
        begin = 0
        columns = [x.tolist() for x in (pieces.length, pieces.shard, pieces.document, pieces.start)]
        for position, stop in zip(range(first, end), pieces.ends.tolist(), strict=True):
            offset = 0
            for length, shard, document, start in zip(
                *(c[begin:stop] for c in columns), strict=True
            ):
                found.append(Sighting(position, offset, length, shard, document, start))
                offset += length
            begin = stop
        first = end
    return found


def sightings_of(sequences: Sequences, shard: int, document: int) -> list[Sighting]:
    """Everywhere that a document stands in a run, in order."""
    found = []
    for position in sequences.find(shard, document):
        here = sightings(sequences, position, position + 1)
        found += [x for x in here if (x.shard, x.document) == (shard, document)]
    return found


def is_in(rows: Rows, shard: int, document: int) -> bool:
    """Whether a set of a plan holds a document."""
    return next(rows.find(shard, document), None) is not None


def take_rows(path: Path, rows: Sequence[int], columns: Iterable[str]) -> list[dict]:
    """Rows of a Parquet file by number; reads only the row groups and the columns they are in.

    Raises ValueError naming the file when it is damaged or has no such row.
    """
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            ends = np.cumsum(sizes, dtype=np.int64)
            wanted, inverse = np.unique(np.asarray(rows, np.int64), return_inverse=True)
            if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < ends[-1:].sum():
                raise ValueError(
                    f"{path}: {ends[-1:].sum():,} rows, and row {wanted[-1]:,} is wanted: it "
                    "is not of the run that the plan is of"
                )
            group_of = np.searchsorted(ends, wanted, side="right")
            groups = np.unique(group_of)
            table = file.read_row_groups(groups.tolist(), columns=list(columns))
            # Where each wanted row is among the groups that were read.
            read = np.cumsum([0, *(sizes[g] for g in groups)])
            place = wanted - (ends[group_of] - np.array(sizes, np.int64)[group_of])
            place += read[np.searchsorted(groups, group_of)]
            taken = table.take(_array(pa.int64(), place)).to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: damaged: {error}") from None
    return [taken[i] for i in inverse.tolist()]


def name_documents(
    stems: Sequence[Path], documents: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], dict]:
    """What the tables of documents say of (shard, document): id, source, domain, language, tokens.

    stems: the plan's shards, in its order.
    """
    by_shard: dict[int, list[int]] = {}
    for shard, document in sorted(set(documents)):
        by_shard.setdefault(shard, []).append(document)
    named = {}
    for shard, numbers in by_shard.items():
        path = stems[shard].with_name(stems[shard].name + ".documents.parquet")
        rows = take_rows(path, numbers, ("id", "source", "domain", "language", "tokens"))
        named |= {(shard, n): row for n, row in zip(numbers, rows, strict=True)}
    return named


def find_documents(stems: Sequence[Path], name: str) -> list[tuple[int, int]]:
    """The (shard, document) that has an id; where none has, those made from a document of this id.

    Row groups whose least and greatest id, or parent's id, leave it out are not read.
    """
    for column, flat in (("id", "id"), ("parents", "parents.list.element")):
        found = []
        for shard, stem in enumerate(stems):
            path = stem.with_name(stem.name + ".documents.parquet")
            with pq.ParquetFile(path, memory_map=True) as file:
                first = 0
                for number in range(file.num_row_groups):
                    group = file.metadata.row_group(number)
                    if _may_hold(group, flat, name):
                        values = file.read_row_group(number, columns=[column]).column(0)
                        found += [(shard, first + k) for k in _rows_with(values, name)]
                    first += group.num_rows
        if found:
            return found
    return []


def _may_hold(group: pq.RowGroupMetaData, path: str, name: str) -> bool:
    for i in range(group.num_columns):
        column = group.column(i)
        if column.path_in_schema == path:
            known = column.statistics
            if known is None or not known.has_min_max:
                return known is None or known.num_values > 0
            return known.min <= name <= known.max
    return False


def _rows_with(values: pa.ChunkedArray, name: str) -> list[int]:
    """The rows that are a string, or that are lists which hold it."""
    data = np.frombuffer(name.encode(), np.uint8)
    wanted = _array(pa.string(), np.array([0, len(data)], np.int32), data)
    if pa.types.is_list(values.type):
        parents = pc.list_parent_indices(values)
        hits = pc.is_in(pc.list_flatten(values), value_set=wanted)
        return sorted(set(parents.filter(hits).to_pylist()))
    return pc.indices_nonzero(pc.is_in(values, value_set=wanted)).to_pylist()


def _array(kind: pa.DataType, *buffers: np.ndarray) -> pa.Array:
    """An Arrow array out of its buffers: `pa.array` imports pandas where that is installed, which
    takes longer than all of a trace."""
    count = len(buffers[0]) - (len(buffers) - 1)  # lists and strings have one offset more
    return pa.Array.from_buffers(kind, count, [None, *map(pa.py_buffer, buffers)])
