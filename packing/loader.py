"""The loader: from a plan and token shards to batches, from any place in the run.

Its whole state is the number of sequences consumed, phases counted through. Position N of a phase
is row P[N] of its plan, P being the keyed permutation of (seed, phase); the tokens come straight
from the mapped shards. Nothing here depends on workers, ranks or batch size.

A batch is a dictionary of tensors: `input_ids`, `labels` int64 [b, L]; `document_ids` int32 [b, L],
the number of the piece within its row, -1 in padding; `source_ids` int32 [b, L], the place in the
plan's list of sources, -1 in padding; `sequence_index` int64 [b], the position in the run. The
label of place t is the token at t + 1; where there is none, -100. Documents in a row see each
other: the label of an end-of-document token is the first token of the next document.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from packing.draws import Permutation
from packing.plan import ROWS_IN_BATCH, ROWS_IN_FILE
from packing.shards import Shard

IGNORE = -100


class Rows:
    """The sequences of one set of a plan, mapped from its Arrow files."""

    def __init__(self, directory: Path, entry: dict):
        """entry: one of plan.json's `phases` or `validation` values."""
        self.count: int = entry["sequences"]
        self.length: int = entry["length"]
        self._files = [
            pa.ipc.open_file(pa.memory_map(str(directory / name))) for name in entry["files"]
        ]

    def pieces(self, row: int) -> list[dict]:
        """What fills a row: dictionaries of shard, document, start, length, in order."""
        file, row = divmod(row, ROWS_IN_FILE)
        batch, row = divmod(row, ROWS_IN_BATCH)
        return self._files[file].get_batch(batch).column(0)[row].as_py()


@dataclass(frozen=True)
class Loader:
    """Batches of sequences, in the order of the plan: one set after another, as one run."""

    sets: list[tuple[Rows, Permutation | None]]
    ends: list[int]  # running total of the sets' sequences
    shards: list[Shard]
    sources_of_documents: list[np.ndarray]  # by shard: int32 [documents]
    sources: list[str]
    pad: int

    @classmethod
    def open(cls, plan: Path, shards: Path, names: Sequence[str], pad: int) -> "Loader":
        """Open sets of a plan: `phase-0`, … shuffled, `validation-DOMAIN` as it lies.

        plan: directory with plan.json; shards: directory of the token shards it names; pad: the id
        that fills what is left of a row. Raises ValueError when the plan has no such set, or when
        their sequences differ in length.
        """
        content = json.loads((plan / "plan.json").read_text("utf-8"))
        entries = {phase["name"]: phase for phase in content["phases"]}
        entries |= {entry["name"]: entry for entry in content["validation"].values()}
        for name in names:
            if name not in entries:
                known = ", ".join(entries)
                raise ValueError(f"{plan / 'plan.json'}: no set {name!r}; there are {known}")
        if len({entries[name]["length"] for name in names}) > 1:
            raise ValueError(f"{plan / 'plan.json'}: {', '.join(names)} differ in length")
        number = {source: i for i, source in enumerate(content["sources"])}
        sources = []
        for shard in content["shards"]:
            table = pq.read_table(shards / f"{shard}.documents.parquet", columns=["source"])
            sources.append(np.array([number[s] for s in table["source"].to_pylist()], np.int32))
        sets = []
        for name in names:
            count = entries[name]["sequences"]
            shuffled = name.startswith("phase-")
            order = Permutation(count, content["seed"], name) if shuffled else None
            sets.append((Rows(plan, entries[name]), order))
        return cls(
            sets=sets,
            ends=list(accumulate(rows.count for rows, _ in sets)),
            shards=[Shard.open(shards / shard) for shard in content["shards"]],
            sources_of_documents=sources,
            sources=content["sources"],
            pad=pad,
        )

    def __len__(self) -> int:
        """The number of sequences."""
        return self.ends[-1]

    def pieces(self, position: int) -> list[dict]:
        """What stands at a position of the run: dictionaries of shard, document, start, length."""
        k = bisect_right(self.ends, position)
        rows, order = self.sets[k]
        position -= self.ends[k] - rows.count
        return rows.pieces(order[position] if order else position)

    def phase_end(self, position: int) -> int:
        """The position behind the last of the set that holds this one."""
        return self.ends[bisect_right(self.ends, position)]

    def length(self, position: int) -> int:
        """Tokens of the sequence at a position."""
        return self.sets[bisect_right(self.ends, position)][0].length

    def batch(self, first: int, size: int) -> dict[str, torch.Tensor]:
        """The batch of positions first … first + size - 1, cut off at its set's end."""
        positions = range(first, min(first + size, self.phase_end(first)))
        shape = (len(positions), self.length(first))
        ids = np.full(shape, self.pad, np.int64)
        documents = np.full(shape, -1, np.int32)
        sources = np.full(shape, -1, np.int32)
        labels = np.full(shape, IGNORE, np.int64)
        for b, position in enumerate(positions):
            t = 0
            for k, piece in enumerate(self.pieces(position)):
                shard, n, start = self.shards[piece["shard"]], piece["length"], piece["start"]
                tokens = shard.document(piece["document"])[start : start + n]
                ids[b, t : t + n] = tokens
                documents[b, t : t + n] = k
                sources[b, t : t + n] = self.sources_of_documents[piece["shard"]][piece["document"]]
                t += n
            labels[b, : max(t - 1, 0)] = ids[b, 1:t]
        arrays = {
            "input_ids": ids,
            "labels": labels,
            "document_ids": documents,
            "source_ids": sources,
            "sequence_index": np.array(positions, np.int64),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def batches(self, batch_size: int, consumed: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """Batches from the sequence numbered `consumed` on; the last may be smaller."""
        while consumed < len(self):
            batch = self.batch(consumed, batch_size)
            yield batch
            consumed += len(batch["sequence_index"])
