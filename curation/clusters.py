"""Clusters: decide from the signatures of a whole corpus which documents are duplicates.

For each kind of key (exact text, address, each band) all keys are sorted, with the row of their
document, so that equal ones stand together; a stored index of earlier corpora is a sorted run among
others, whose records come first in their group. Documents of a group are joined by union-find.
Then every cluster has its survivor, and each other document its reason.

Cost: per kind one pass over a column of the signatures and one external sort. Memory: half of
`memory` to sort in, some tens of MB that Parquet takes, and, on mapped files, for each document 4
bytes (8 from 2^32 documents on) for its parent and as many for the first of its exact text, of its
address, and for its survivor unless `keep` is `first`; 8 more with a score, 1 with an index. The
result depends on the documents' order alone, not on how they were cut into files.

The index has the keys of all documents that were seen, not of the survivors only: a later document
may be like one that was dropped, and would have been in its cluster had they come together.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation import _native
from curation.merging import (
    ROW_GROUP,
    atomic,
    count_rows,
    digests,
    drain,
    groups,
    hex_ids,
    new_array,
    row_type,
    step_for,
    stream,
    with_ids,
    write_tables,
)

if TYPE_CHECKING:
    from curation.dedup import DocumentDedup

DECISIONS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("kept_row", pa.int64()),
        pa.field("kept", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
INDEX = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("low", pa.uint64()),
    ]
)
_REASONS = ("documents:exact", "documents:url", "documents:near", "documents:earlier")
_EXACT, _URL, _NEAR, _EARLIER = range(4)


def decide(config: "DocumentDedup", signed: Sequence[Path], out: Path, memory: int) -> None:
    """Write `out/decisions.parquet`: `DECISIONS`, a row for each document that goes, by row.

    `kept` and `kept_row` name the survivor of its cluster; they are null if none of this corpus is
    kept. `reason` is `documents:earlier` if the cluster touches the index; else `documents:exact`
    if an earlier document or the survivor has the same text, `documents:url` if one has the same
    address, else `documents:near`. If all copies go, any copy counts. Raises ValueError if the
    signatures or the index were made with other settings, OSError if the index cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    _check_signed(config, signed)
    if config.index:
        _check_index(config, Path(config.index), out)
    size = count_rows(signed)
    step = step_for(memory)
    parents = new_array(out, size, row_type(size), numbered=True)
    leaders = {
        kind: new_array(out, size, row_type(size), numbered=True)
        for kind in ("exact", "url")
        if kind in config.kinds
    }
    earlier = new_array(out, size, "u1") if config.index else None
    pieces = (
        piece
        for kind in config.kinds
        for piece in _join(config, kind, signed, out, memory, parents, leaders, earlier)
    )
    if config.index or config.write_index:
        _write_index(config, out / "index.parquet", pieces)
    else:
        for _ in pieces:
            pass
    survivors = _survivors(config, signed, out, step, parents, earlier)
    dropped = _native.sorter(str(out), 2, memory // 4)
    for records in _dropped(config, size, step, parents, leaders, earlier, survivors):
        dropped.add(records)
    named = _native.sorter(str(out), 4, memory // 4)
    for records, ids in with_ids(drain(dropped, step), 0, signed, step):
        named.add(np.column_stack([records[:, 1], records[:, 0], ids]))
    del dropped  # and the memory it holds
    write_tables(out / "decisions.parquet", DECISIONS, _tables(named, signed, step))


def _check_signed(config: "DocumentDedup", signed: Sequence[Path]) -> None:
    expected = {"id", *config.kinds} | ({"score"} if config.scored else set())
    for path in signed:
        schema = pq.read_schema(path)
        found = json.loads((schema.metadata or {}).get(b"dedup", b"null")) or config.settings
        if found != config.settings or set(schema.names) != expected:
            raise ValueError(
                f"{path}: signed with {_differences(found, config.settings) or 'another keep'}: "
                "sign again"
            )


def _check_index(config: "DocumentDedup", path: Path, out: Path) -> None:
    if path.resolve() == (out / "index.parquet").resolve():
        raise ValueError(
            f"{path}: the index of the earlier corpora would be overwritten by the new one, and a "
            "second run would find this corpus in it: keep them in different folders"
        )
    schema = pq.read_schema(path)
    found = json.loads((schema.metadata or {}).get(b"dedup", b"null"))
    if found is None or schema.names != INDEX.names:
        raise ValueError(f"{path}: not an index of duplicates, expected an earlier index.parquet")
    if found != config.settings:
        raise ValueError(
            f"{path}: index made with {_differences(found, config.settings)}: use the settings it "
            "was made with, or sign the earlier corpora again"
        )


def _differences(found: dict, expected: dict) -> str:
    names = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    return ", ".join(f"{n}: {found.get(n)}, expected {expected.get(n)}" for n in names)


def _join(
    config: "DocumentDedup",
    kind: str,
    signed: Sequence[Path],
    out: Path,
    memory: int,
    parents: np.ndarray,
    leaders: dict[str, np.ndarray],
    earlier: np.ndarray | None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Join the documents that have a key of one kind in common; yields the distinct keys.

    A record is a key and a row plus one; a row of 0 is the index.
    """
    width, step = config.kinds[kind], step_for(memory)
    sorter = _native.sorter(str(out), width + 1, memory // 2)
    if config.index:
        for keys in _index_keys(Path(config.index), kind, width, step):
            sorter.add(np.column_stack([keys, np.zeros(len(keys), np.uint64)]), sorted=True)
    for first, batch in stream(signed, [kind], step):
        column = batch.column(0)
        rows = np.arange(first + 1, first + 1 + len(column), dtype=np.uint64)
        if column.null_count:
            rows = rows[column.is_valid().to_numpy(zero_copy_only=False)]
            column = column.drop_null()
        keys = digests(column) if width == 2 else column.to_numpy()
        sorter.add(np.column_stack([keys, rows]))
    for records, new, heads in groups(sorter, width, step):
        rows = records[:, -1]
        if earlier is not None:
            earlier[rows[(heads == 0) & (rows > 0)].astype(np.int64) - 1] = 1
        later = (heads > 0) & (rows != heads)
        one = np.uint64(1)
        a, b = heads[later] - one, rows[later] - one
        _native.unite(parents, a, b)
        if kind in leaders:
            leaders[kind][b] = a
            if config.keep == "none":  # the first has a copy too
                leaders[kind][a] = b
        yield kind, records[new, :-1]


def _write_index(
    config: "DocumentDedup", path: Path, pieces: Iterator[tuple[str, np.ndarray]]
) -> None:
    """Write the index: keys sorted within their kind, no row group of two kinds."""
    schema = INDEX.with_metadata({"dedup": json.dumps(config.settings)})
    with (
        atomic(path) as temporary,
        # Hashes do not compress.
        pq.ParquetWriter(temporary, schema, compression="none", use_dictionary=["kind"]) as file,
    ):
        waiting: list[np.ndarray] = []
        before = None

        def flush() -> None:
            keys = np.concatenate(waiting)
            low = pa.array(keys[:, 1]) if keys.shape[1] == 2 else pa.nulls(len(keys), pa.uint64())
            kinds = pa.DictionaryArray.from_arrays(np.zeros(len(keys), np.int32), [before])
            columns = [kinds.cast(pa.string()), pa.array(keys[:, 0]), low]
            file.write_table(pa.table(columns, schema=schema))
            waiting.clear()

        for kind, keys in pieces:
            if waiting and (kind != before or sum(map(len, waiting)) >= ROW_GROUP):
                flush()
            before = kind
            if len(keys):
                waiting.append(keys)
        if waiting:
            flush()


def _index_keys(path: Path, kind: str, width: int, step: int) -> Iterator[np.ndarray]:
    with pq.ParquetFile(path) as file:
        mine = [
            number
            for number in range(file.num_row_groups)
            if file.metadata.row_group(number).column(0).statistics.min == kind
        ]
        if mine:
            for batch in file.iter_batches(step, mine, columns=["key", "low"][:width]):
                yield np.column_stack([column.to_numpy() for column in batch.columns])


def _survivors(
    config: "DocumentDedup",
    signed: Sequence[Path],
    out: Path,
    step: int,
    parents: np.ndarray,
    earlier: np.ndarray | None,
) -> np.ndarray | None:
    """Choose by root: None if it is the root itself; the number of documents says that all go."""
    size = len(parents)
    chosen = None
    if config.keep != "first":
        chosen = new_array(out, size, parents.dtype.str, numbered=True)
    best = new_array(out, size, "f8") if config.scored else None
    if best is not None:
        for start in range(0, size, step):
            best[start : start + step] = -np.inf
    batches = stream(signed, ["score"] if config.scored else ["id"], step)
    for first, batch in batches:
        rows = np.arange(first, first + len(batch))
        roots = _native.roots(parents, first, len(batch)).astype(np.int64)
        if earlier is not None:
            here = earlier[first : first + len(batch)] > 0
            earlier[roots[here]] = 1
        if config.keep == "none":
            chosen[roots[roots != rows]] = size
        if best is not None:
            scores = batch.column(0).to_numpy()
            order = np.lexsort((rows, -scores, roots))
            heads = np.ones(len(order), bool)
            heads[1:] = roots[order[1:]] != roots[order[:-1]]
            order = order[heads]
            order = order[scores[order] > best[roots[order]]]  # an earlier one wins a tie
            best[roots[order]] = scores[order]
            chosen[roots[order]] = rows[order]
    return chosen


def _dropped(
    config: "DocumentDedup",
    size: int,
    step: int,
    parents: np.ndarray,
    leaders: dict[str, np.ndarray],
    earlier: np.ndarray | None,
    survivors: np.ndarray | None,
) -> Iterator[np.ndarray]:
    """Give each document that goes: the survivor's row (its own if none is), row·4 + reason."""
    for first in range(0, size, step):
        count = min(step, size - first)
        rows = np.arange(first, first + count)
        kept = roots = _native.roots(parents, first, count).astype(np.int64)
        if survivors is not None:
            kept = survivors[roots].astype(np.int64)
        gone = np.zeros(count, bool) if earlier is None else earlier[roots] > 0
        out = gone | (kept != rows)
        rows, kept, gone = rows[out], kept[out], gone[out]
        none = gone | (kept == size)
        kept[none] = rows[none]
        reason = np.full(len(rows), _NEAR)
        for kind, code in (("url", _URL), ("exact", _EXACT)):
            if kind in leaders:
                mine = leaders[kind][rows]
                copy = (mine != rows) | ((kept != rows) & (mine == leaders[kind][kept]))
                reason[copy] = code
        reason[gone] = _EARLIER
        yield np.column_stack([kept, rows * 4 + reason]).astype(np.uint64)


def _tables(named: "_native.Sorter", signed: Sequence[Path], step: int) -> Iterator[pa.Table]:
    """Make the decisions out of records (row·4 + reason, kept row, kept id), sorted."""
    for records, ids in with_ids(drain(named, step), 2, signed, step):
        rows = (records[:, 0] >> np.uint64(2)).astype(np.int64)
        kept = records[:, 1].astype(np.int64)
        none = kept == rows
        yield pa.table(
            [
                pa.array(rows),
                pa.array(hex_ids(ids), pa.string()),
                pa.array(kept, mask=none),
                pa.array(np.array(hex_ids(records[:, 2:]), object), pa.string(), mask=none),
                pa.array([_REASONS[code] for code in (records[:, 0] & np.uint64(3)).tolist()]),
            ],
            schema=DECISIONS,
        )
