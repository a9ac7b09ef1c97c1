"""Training sequences as rows, in the order that training sees them.

A set of a plan (`phase-0`, …, `validation-DOMAIN`) lies on disk in the order it was packed; a
phase is read through its keyed permutation, so any stretch of positions can be written on its own,
by any process. A row has the tokens of a sequence, without padding, and the documents that fill it:
their ids, where in the document the piece begins, and its length, both in tokens.

Everything is mapped, nothing is loaded: memory is that of a batch of rows, whatever the number of
sequences, documents or shards. Cost: about 2 µs a piece and 20 µs a row, before compression.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packing.draws import Permutation
from packing.plan import ROWS_IN_FILE
from packing.shards import Shard

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


class Sequences:
    """The sequences of a plan's sets, from positions to rows.

    plan: the directory with plan.json; shards: that of the token shards; ids: what `write_ids` made
    of the same shards.
    """

    def __init__(self, plan: Path, shards: Path, ids: Path) -> None:
        """Read plan.json and how many documents each shard has."""
        content = json.loads((plan / "plan.json").read_text("utf-8"))
        entries = [*content["phases"], *content["validation"].values()]
        self._plan, self._seed = plan, content["seed"]
        self._sets = {entry["name"]: entry for entry in entries}
        stems = [shards / name for name in content["shards"]]
        counts = [
            pq.read_metadata(stem.with_name(stem.name + ".documents.parquet")).num_rows
            for stem in stems
        ]
        self._before = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        empty = self._before[-1] == 0  # an empty file can't be mapped
        self._ids = np.empty(0, f"S{_ID}") if empty else np.memmap(ids, f"S{_ID}", mode="r")
        # Maps are few for the kernel; a training set may have more shards than that.
        self._shard = lru_cache(2048)(lambda number: Shard.open(stems[number]))
        self._batches = lru_cache(64)(self._open)

    def _open(self, path: str) -> tuple[pa.ipc.RecordBatchFileReader, np.ndarray]:
        """A file of a set, and the row at which each of its batches ends."""
        file = pa.ipc.open_file(pa.memory_map(path))
        sizes = [file.get_batch(k).num_rows for k in range(file.num_record_batches)]
        return file, np.cumsum(sizes, dtype=np.int64)

    def pieces(self, name: str, start: int, stop: int) -> pa.ListArray:
        """What fills positions start … stop - 1 of a set: lists of `packing.plan.PIECE`."""
        entry = self._sets[name]
        rows = np.arange(start, stop)
        if name.startswith("phase-"):
            order = Permutation(entry["sequences"], self._seed, name)
            rows = np.array([order[position] for position in range(start, stop)], np.int64)
        sorting = np.argsort(rows, kind="stable")
        found = []
        for file in np.unique(rows // ROWS_IN_FILE):
            reader, ends = self._batches(str(self._plan / entry["files"][file]))
            local = rows[sorting][rows[sorting] // ROWS_IN_FILE == file] - file * ROWS_IN_FILE
            batches = np.searchsorted(ends, local, "right")
            for k in np.unique(batches):
                batch = reader.get_batch(int(k))
                inside = local[batches == k] - (ends[k] - batch.num_rows)
                found.append(batch.column(0).take(pa.array(inside)))
        place = np.empty(len(rows), np.int64)
        place[sorting] = np.arange(len(rows))
        return pa.concat_arrays(found).take(pa.array(place))

    def rows(self, name: str, start: int, stop: int, first: int) -> Iterator[pa.Table]:
        """Rows (`SCHEMA`) of positions start … stop - 1 of a set, some thousands at a time.

        first: the `sequence_index` of the set's position 0.
        """
        step = max(BATCH_TOKENS // self._sets[name]["length"], 1)
        for begin in range(start, stop, step):
            end = min(begin + step, stop)
            lists = self.pieces(name, begin, end)
            flat = lists.flatten()
            shard, document, at, length = (
                flat.field(field).to_numpy() for field in ("shard", "document", "start", "length")
            )
            offsets = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())])
            tokens = [
                self._shard(s).document(d)[a : a + n]
                for s, d, a, n in zip(
                    shard.tolist(), document.tolist(), at.tolist(), length.tolist(), strict=True
                )
            ]
            ends = np.concatenate([[0], np.cumsum(length, dtype=np.int64)])[offsets]
            ids = self._ids[self._before[shard] + document]
            per_piece = pa.array(offsets, pa.int32())
            columns = [
                pa.array(np.arange(begin, end) + first),
                pa.array([name] * (end - begin), pa.string()),
                pa.ListArray.from_arrays(
                    pa.array(ends, pa.int32()),
                    pa.array(np.concatenate([np.empty(0, np.int32), *tokens]), pa.int32()),
                ),
                pa.ListArray.from_arrays(per_piece, pa.array(ids.astype(f"U{_ID}"), pa.string())),
                pa.ListArray.from_arrays(per_piece, pa.array(at, pa.int64())),
                pa.ListArray.from_arrays(per_piece, pa.array(length, pa.int32())),
            ]
            yield pa.table(columns, schema=SCHEMA)
