"""Training sequences as rows, in the order that training sees them.

A set of a plan (`phase-0`, …, `validation-DOMAIN`) lies on disk in the order it was packed; a
phase is read through its keyed permutation, so any stretch of positions can be written on its own,
by any process. A row has the tokens of a sequence, without padding, and the documents that fill it:
their ids, where in the document the piece begins, and its length, both in tokens.

Tokens, plan and ids are mapped: memory is that of a batch of rows, and a byte for each document of
shards with several sources (`packing/mapped.py`). Cost: about 2 µs a row, before compression.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packing.mapped import TokenShards
from packing.positions import Sequences, read_plan

SCHEMA = pa.schema(
    [
        ("sequence_index", pa.int64()),
        ("set", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("document_ids", pa.list_(pa.string())),
        ("starts", pa.list_(pa.int64())),
        ("lengths", pa.list_(pa.int32())),
    ]
)
BATCH_TOKENS = 4 << 20
_ID = 32  # hex digits


def write_ids(stems: list[Path], out: Path) -> None:
    """Write the ids of all documents end to end, 32 bytes each, so that they can be mapped.

    Raises ValueError for an id that is not 32 bytes.
    """
    with out.open("wb") as file:
        for stem in stems:
            path = stem.with_name(stem.name + ".documents.parquet")
            for batch in pq.ParquetFile(path).iter_batches(columns=["id"]):
                ids = np.array(batch.column(0).to_pylist(), "S")
                if len(ids) and (ids.dtype.itemsize != _ID or np.strings.str_len(ids).min() != _ID):
                    raise ValueError(f"{path}: an id that is not {_ID} characters long")
                file.write(ids.tobytes())


class PackedRows:
    """Rows of a plan's sets, from positions in the set.

    plan: the directory with plan.json; shards: that of the token shards; ids: what `write_ids` made
    of the same shards. Raises ValueError or OSError, naming the file, where one is damaged.
    """

    def __init__(self, plan: Path, shards: Path, ids: Path) -> None:
        """Read plan.json and map the shards."""
        content = read_plan(plan)
        self._set = lru_cache(maxsize=None)(lambda name: Sequences.open(plan, [name]))
        self._shards = TokenShards(
            (shards / name for name in content["shards"]), content["sources"]
        )
        counts = [shard.documents for shard in self._shards.shards]
        self._before = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        empty = self._before[-1] == 0  # an empty file can't be mapped
        self._ids = np.empty(0, f"S{_ID}") if empty else np.memmap(ids, f"S{_ID}", mode="r")

    def rows(self, name: str, start: int, stop: int, first: int) -> Iterator[pa.Table]:
        """Rows (`SCHEMA`) of positions start … stop - 1 of a set, some thousands at a time.

        first: the `sequence_index` of the set's position 0.
        """
        sequences = self._set(name)
        step = max(BATCH_TOKENS // sequences.sets[0].length, 1)
        for begin in range(start, stop, step):
            end = min(begin + step, stop)
            found = sequences.pieces(begin, end)
            tokens = self._shards.tokens(found, begin, sequences.sets[0].length)
            offsets = np.concatenate([[0], found.ends])
            ends = np.concatenate([[0], np.cumsum(found.length, dtype=np.int64)])[offsets]
            ids = self._ids[self._before[found.shard] + found.document]
            per_piece = pa.array(offsets, pa.int32())
            columns = [
                pa.array(np.arange(begin, end) + first),
                pa.array([name] * (end - begin), pa.string()),
                pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(tokens)),
                pa.ListArray.from_arrays(per_piece, pa.array(ids.astype(f"U{_ID}"), pa.string())),
                pa.ListArray.from_arrays(per_piece, pa.array(found.start, pa.int64())),
                pa.ListArray.from_arrays(per_piece, pa.array(found.length, pa.int32())),
            ]
            yield pa.table(columns, schema=SCHEMA)
