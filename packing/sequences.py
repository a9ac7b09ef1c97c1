"""The sequences of a plan in the order of the run, found at any position without walking there.

A run goes through sets of a plan one after another: its phases, each shuffled by its keyed
permutation, or a validation set as it lies. A position counts the sequences of all sets; a *place*
is the same as (set, sequences consumed in it), which is what a loader saves.

What fills a sequence stands in the plan's Arrow files, which are mapped and never read whole. Of a
record batch only the five byte offsets of its columns are kept (40 bytes for 4,096 sequences), so
that a row is five slices of the map: about 2 µs, whatever the size of the plan. Positions are
put through the permutation `BLOCK` at a time, since vectors make it 50 times cheaper. No torch
here: `packing.trace` wants this file and a short start.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa

from packing.draws import Permutation
from packing.plan import PLAN_SCHEMA, ROWS_IN_BATCH, ROWS_IN_FILE

BLOCK = 4096
_AGAIN = "make the plan again (`gristmill plan`)"
# Where the buffers of a batch's columns stand in the depth-first list of all its buffers, between
# those that mark nulls, with the bytes of an element: list offsets, shard, document, start, length.
_BUFFERS = ((1, 4), (4, 4), (6, 8), (8, 8), (10, 4))


def map_file(path: Path) -> pa.Buffer:
    """Map a file for reading: its bytes, without an open descriptor (there may be thousands)."""
    try:
        with pa.memory_map(str(path)) as file:
            return file.read_buffer()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; the plan names it") from None


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
        self._open = lru_cache(maxsize=None)(self._map)

    def _map(self, number: int) -> tuple:
        """A file: its reader, its bytes as int32, int64 and address, and its batches' offsets."""
        path = self._paths[number]
        buffer = map_file(path)
        try:
            reader = pa.ipc.open_file(buffer)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path}: damaged: {error}; {_AGAIN}") from None
        rows = min(self.count - number * ROWS_IN_FILE, ROWS_IN_FILE)
        batches = -(-rows // ROWS_IN_BATCH)
        if reader.schema != PLAN_SCHEMA or reader.num_record_batches < batches:
            raise ValueError(
                f"{path}: {reader.num_record_batches} batches, expected {batches} of {PLAN_SCHEMA} "
                f"by plan.json: {_AGAIN}"
            )
        whole = memoryview(buffer)[: buffer.size // 8 * 8]
        views = (np.frombuffer(whole, np.int32), np.frombuffer(whole, np.int64))
        return reader, *views, buffer.address, np.full((batches, 5), -1, np.int64)

    def _batch(self, number: int, batch: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """A record batch: the file as int32 and as int64, and where its columns begin in those."""
        reader, narrow, wide, base, offsets = self._open(number)
        found = offsets[batch].tolist()
        if found[0] < 0:
            table = reader.get_batch(batch)
            rows = min(self.count - number * ROWS_IN_FILE - batch * ROWS_IN_BATCH, ROWS_IN_BATCH)
            column = table.column(0)
            buffers = column.buffers()
            flat = all(buffers[i] is None for i in (0, 2, 3, 5, 7, 9))
            for k, (i, size) in enumerate(_BUFFERS):
                at = buffers[i].address - base if buffers[i] is not None else 0
                flat = flat and (0 <= at < narrow.nbytes or not len(column.values))
                found[k] = at // size
                flat = flat and at % size == 0
            if len(table) != rows or not flat:
                raise ValueError(
                    f"{self._paths[number]}: batch {batch} has {len(table)} rows, expected {rows} "
                    f"without nulls or compression: {_AGAIN}"
                )
            offsets[batch] = found
        return narrow, wide, found

    def pieces(self, rows: Sequence[int]) -> Pieces:
        """What fills rows of the set, in the order asked for."""
        ends, parts, total = [], [], 0
        for row in rows:
            number, row = divmod(row, ROWS_IN_FILE)
            batch, row = divmod(row, ROWS_IN_BATCH)
            narrow, wide, (at, shard, document, start, length) = self._batch(number, batch)
            first, last = narrow[at + row : at + row + 2].tolist()
            total += last - first
            ends.append(total)
            parts.append(
                (
                    narrow[shard + first : shard + last],
                    wide[document + first : document + last],
                    wide[start + first : start + last],
                    narrow[length + first : length + last],
                )
            )
            if not 0 <= first <= last or len(parts[-1][3]) != last - first:
                raise ValueError(f"{self._paths[number]}: damaged in batch {batch}: {_AGAIN}")
        columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Pieces(np.array(ends, np.int64), *columns)

    def find(self, shard: int, document: int) -> Iterator[int]:
        """The rows that hold a piece of a document, in order, once for each of its pieces.

        Looks at every piece of the set, vectors of them: about 2 ms for a million.
        """
        for first in range(0, self.count, ROWS_IN_BATCH):
            number, row = divmod(first, ROWS_IN_FILE)
            narrow, wide, (at, of_shard, of_document, *_) = self._batch(
                number, row // ROWS_IN_BATCH
            )
            rows = min(self.count - first, ROWS_IN_BATCH)
            ends = narrow[at : at + rows + 1]
            last = int(ends[-1])
            mine = wide[of_document : of_document + last] == document
            if mine.any():
                mine &= narrow[of_shard : of_shard + last] == shard
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

    def _make_block(self, k: int, block: int) -> list[int]:
        stop = min((block + 1) * BLOCK, self.sets[k].count)
        return self._orders[k].many(np.arange(block * BLOCK, stop)).tolist()

    def rows(self, first: int, last: int) -> tuple[Rows, Sequence[int]]:
        """The set that holds positions first … last - 1 (of one set), and their rows in it."""
        k = self._set_of(first)
        rows = self.sets[k]
        first, last = (x - self.ends[k] + rows.count for x in (first, last))
        if self._orders[k] is None:
            return rows, range(first, last)
        found: list[int] = []
        for block in range(first // BLOCK, -(-last // BLOCK)):
            start = block * BLOCK
            found += self._block(k, block)[max(first - start, 0) : last - start]
        return rows, found

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
