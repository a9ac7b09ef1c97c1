"""The sequences of a plan in the order of the run, found at any position without walking there.

A run goes through sets of a plan one after another: its phases, each shuffled by its keyed
permutation, or a validation set as it lies. A position counts the sequences of all sets; a *place*
is the same as (set, sequences consumed in it), which is what a loader saves.

What fills a sequence stands in the plan's Arrow files, which are mapped and never read whole. Of a
record batch only the five byte offsets of its columns are kept (40 bytes for 4,096 sequences), so
that a row is five short copies from the map (`packing/native/plan_rows.hpp`), whatever the size of
the plan. Positions are put through the permutation `BLOCK` at a time, since vectors make it 50
times cheaper. No torch here: `packing.trace` wants this file and a short start.
"""

import errno
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa

from packing._native import PlanRows
from packing.draws import Permutation
from packing.plan import PLAN_SCHEMA, ROWS_IN_BATCH, ROWS_IN_FILE

BLOCK = 4096
_AGAIN = "make the plan again (`gristmill plan`)"
# Where the buffers of a batch's columns stand in the depth-first list of all its buffers, between
# those that mark nulls: list offsets, shard, document, start, length.
_BUFFERS = (1, 4, 6, 8, 10)


def map_file(path: Path) -> pa.Buffer:
    """Map a file for reading: its bytes, without an open descriptor (there may be thousands)."""
    try:
        with pa.memory_map(str(path)) as file:
            return file.read_buffer()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; the plan names it") from None
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise OSError(f"{path}: cannot be mapped: {error}") from None
        raise OSError(
            f"{path}: one file too many to be mapped: a shard needs two maps, and the system lends "
            "as many as `sysctl vm.max_map_count` says; raise that, or encode into fewer shards"
        ) from None


def read_plan(plan: Path) -> dict:
    """Read `plan.json` of a plan's folder; raises ValueError naming the key that is missing."""
    path = plan / "plan.json"
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file, so no plan: {_AGAIN}") from None
    except ValueError as error:
        raise ValueError(f"{path}: damaged: {error}; {_AGAIN}") from None
    kinds = {"seed": int, "shards": list, "sources": list, "phases": list, "validation": dict}
    entry = {"name": str, "length": int, "sequences": int, "files": list}
    wanted = [("", content, kinds)]
    if isinstance(content, dict):
        phases, validation = content.get("phases"), content.get("validation")
        if isinstance(phases, list):
            wanted += [(f"phases.{k}.", phase, entry) for k, phase in enumerate(phases)]
        if isinstance(validation, dict):
            wanted += [(f"validation.{k}.", held, entry) for k, held in validation.items()]
    for prefix, found, keys in wanted:
        for key, kind in keys.items():
            if not isinstance(found, dict) or not isinstance(found.get(key), kind):
                raise ValueError(
                    f"{path}: {prefix}{key}: missing or not of type {kind.__name__}: {_AGAIN}"
                )
    return content


@dataclass(frozen=True)
class Pieces:
    """What fills some sequences, piece by piece, in order.

    ends: int64 [sequences], the running number of pieces; shard, document, start, length: [pieces].
    """

    ends: np.ndarray
    shard: np.ndarray
    document: np.ndarray
    start: np.ndarray
    length: np.ndarray


class Rows:
    """One set of a plan, as it was packed: its rows, mapped from its Arrow files."""

    def __init__(self, plan: Path, entry: dict):
        """entry: one of plan.json's `phases`, or of its `validation` values.

        Raises ValueError or OSError, naming the file, where files are missing or cut short.
        """
        self.name: str = entry["name"]
        self.count: int = entry["sequences"]
        self.length: int = entry["length"]
        self._paths = [plan / name for name in entry["files"]]
        needed = -(-self.count // ROWS_IN_FILE)
        if len(self._paths) < needed:
            raise ValueError(
                f"{plan / 'plan.json'}: {self.name}: {len(self._paths)} files for {self.count:,} "
                f"sequences, expected {needed}: {_AGAIN}"
            )
        for path in self._paths:
            with path.open("rb") as file:
                head = file.read(6)
                file.seek(max(path.stat().st_size - 6, 0))
                if head != b"ARROW1" or file.read(6) != b"ARROW1":
                    raise ValueError(f"{path}: cut short, or not an Arrow file: {_AGAIN}")
        self._native = PlanRows(len(self._paths), ROWS_IN_BATCH, ROWS_IN_FILE)
        self._readers: dict[int, tuple[pa.RecordBatchFileReader, pa.Buffer]] = {}

    def _rows_in(self, first: int, most: int) -> int:
        """How many of `most` rows from `first` on there are."""
        return max(min(self.count - first, most), 0)

    def _reader(self, number: int) -> tuple[pa.RecordBatchFileReader, pa.Buffer]:
        """A file, opened the first time that it is asked for."""
        if number not in self._readers:
            path = self._paths[number]
            buffer = map_file(path)
            try:
                reader = pa.ipc.open_file(buffer)
            except pa.ArrowInvalid as error:
                raise ValueError(f"{path}: damaged: {error}; {_AGAIN}") from None
            batches = -(-self._rows_in(number * ROWS_IN_FILE, ROWS_IN_FILE) // ROWS_IN_BATCH)
            if reader.schema != PLAN_SCHEMA or reader.num_record_batches < batches:
                raise ValueError(
                    f"{path}: {reader.num_record_batches} batches, expected {batches} of "
                    f"{PLAN_SCHEMA} by plan.json: {_AGAIN}"
                )
            self._native.open(number, np.frombuffer(buffer, np.uint8), batches)
            self._readers[number] = reader, buffer
        return self._readers[number]

    def _batch(self, number: int, batch: int) -> pa.ListArray:
        """The column of a record batch; raises ValueError if it is not as the planner writes it."""
        reader, file = self._reader(number)
        column = reader.get_batch(batch).column(0)
        rows = self._rows_in(number * ROWS_IN_FILE + batch * ROWS_IN_BATCH, ROWS_IN_BATCH)
        buffers = column.buffers()
        begins = [
            x.address - file.address if x and x.size else 0
            for x in map(buffers.__getitem__, _BUFFERS)
        ]
        nulls = any(buffers[i] for i in range(len(buffers)) if i not in _BUFFERS)
        if len(column) != rows or nulls or not all(0 <= x < file.size for x in begins):
            raise ValueError(
                f"{self._paths[number]}: batch {batch} has {len(column)} rows, expected {rows} "
                f"without nulls or compression: {_AGAIN}"
            )
        self._native.tell(number, batch, np.array(begins, np.int64))
        return column

    def pieces(self, rows: np.ndarray) -> Pieces:
        """What fills rows (int64) of the set, in the order asked for."""
        while len(found := self._native.gather(rows)) == 3:
            number, batch, damaged = found
            if damaged:
                raise ValueError(f"{self._paths[number]}: damaged in batch {batch}: {_AGAIN}")
            self._batch(number, batch)
        return Pieces(*found)

    def find(self, shard: int, document: int) -> Iterator[int]:
        """The rows that hold a piece of a document, in order, once for each of its pieces.

        Looks at every piece of the set, vectors of them: about 2 ms for a million.
        """
        for first in range(0, self.count, ROWS_IN_BATCH):
            number, row = divmod(first, ROWS_IN_FILE)
            column = self._batch(number, row // ROWS_IN_BATCH)
            # Out of the buffers, since pyarrow's `to_numpy` imports pandas where that is installed.
            ends, shards, documents = (column.buffers()[i] for i in _BUFFERS[:3])
            n = len(column.values)
            mine = np.frombuffer(documents, np.int64, n) == document if n else np.zeros(0, bool)
            if mine.any():
                mine &= np.frombuffer(shards, np.int32, n) == shard
                ends = np.frombuffer(ends, np.int32, len(column) + 1)
                for k in np.flatnonzero(mine):
                    yield first + int(np.searchsorted(ends, k, side="right")) - 1


class Sequences:
    """Sets of a plan as one run; `seed` shuffles the phases among them."""

    def __init__(self, sets: list[Rows], seed: int):
        self.sets = sets
        self.ends = list(accumulate(rows.count for rows in sets))
        self._orders = [
            Permutation(rows.count, seed, rows.name)
            if rows.count and rows.name.startswith("phase-")
            else None
            for rows in sets
        ]
        self._block = lru_cache(maxsize=16)(self._make_block)

    @classmethod
    def open(cls, plan: Path, names: Sequence[str] | None = None) -> "Sequences":
        """Open sets of a plan by name: `phase-0`, …, `validation-DOMAIN`; None is all phases.

        Raises ValueError when the plan is damaged or has no such set.
        """
        content = read_plan(plan)
        entries = {phase["name"]: phase for phase in content["phases"]}
        if names is None:
            names = list(entries)
        entries |= {entry["name"]: entry for entry in content["validation"].values()}
        for name in names:
            if name not in entries:
                known = ", ".join(entries)
                raise ValueError(f"{plan / 'plan.json'}: no set {name!r}; there are {known}")
        return cls([Rows(plan, entries[name]) for name in names], content["seed"])

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def _set_of(self, position: int) -> int:
        if not 0 <= position < len(self):
            names = ", ".join(rows.name for rows in self.sets)
            raise IndexError(
                f"sequence {position:,} is outside 0 … {len(self) - 1:,}, all that {names} have"
            )
        return bisect_right(self.ends, position)

    def place(self, position: int) -> tuple[str, int]:
        """The name of a position's set, and how many of its sequences come before."""
        k = self._set_of(position)
        return self.sets[k].name, position - self.ends[k] + self.sets[k].count

    def position(self, name: str, consumed: int) -> int:
        """The position of a place, the inverse of `place`; a set's end is the next one's start."""
        for rows, end in zip(self.sets, self.ends, strict=True):
            if rows.name == name:
                if not 0 <= consumed <= rows.count:
                    raise IndexError(f"{name}: {consumed:,} consumed of {rows.count:,} sequences")
                return end - rows.count + consumed
        known = ", ".join(rows.name for rows in self.sets)
        raise ValueError(f"no set {name!r} in this run; there are {known}")

    def phase_end(self, position: int) -> int:
        """The end (exclusive) of the set that holds a position."""
        return self.ends[self._set_of(position)]

    def length(self, position: int) -> int:
        """The tokens of the sequence at a position."""
        return self.sets[self._set_of(position)].length

    def _make_block(self, k: int, block: int) -> np.ndarray:
        stop = min((block + 1) * BLOCK, self.sets[k].count)
        return self._orders[k].many(np.arange(block * BLOCK, stop))

    def rows(self, first: int, last: int) -> tuple[Rows, np.ndarray]:
        """The set that holds positions first … last - 1 (of one set), and their rows in it."""
        k = self._set_of(first)
        rows = self.sets[k]
        first, last = (x - self.ends[k] + rows.count for x in (first, last))
        if self._orders[k] is None:
            return rows, np.arange(first, last)
        blocks = [self._block(k, b) for b in range(first // BLOCK, -(-last // BLOCK))]
        skipped = first // BLOCK * BLOCK
        return rows, np.concatenate(blocks)[first - skipped : last - skipped]

    def pieces(self, first: int, last: int) -> Pieces:
        """What fills the positions first … last - 1, which lie in one set."""
        rows, numbers = self.rows(first, last)
        return rows.pieces(numbers)

    def find(self, shard: int, document: int) -> list[int]:
        """The positions that hold a document, in order; see `Rows.find`."""
        found = []
        for k, rows in enumerate(self.sets):
            numbers = np.unique(np.fromiter(rows.find(shard, document), np.int64))
            if self._orders[k] is not None and len(numbers):
                numbers = np.sort(self._orders[k].index_many(numbers))
            found += (numbers + self.ends[k] - rows.count).tolist()
        return found
