"""The loader: from a plan and token shards to batches, from any place in the run.

Its whole state is the number of sequences consumed. Position N of a phase is row P[N] of its plan,
P being the keyed permutation of (seed, phase); the tokens come straight from the mapped shards.
Nothing here depends on workers, ranks or batch size.

A batch is a dictionary of tensors: `input_ids`, `labels` int64 [b, L]; `document_ids` int32 [b, L],
the number of the piece within its row, -1 in padding; `source_ids` int32 [b, L], the place in the
plan's list of sources, -1 in padding; `sequence_index` int64 [b], the position in the run. The
label of place t is the token at t + 1; where there is none, -100. Documents in a row see each
other: the label of an end-of-document token is the first token of the next document.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
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
    """Batches of one set of sequences, in the order of the plan."""

    rows: Rows
    shards: list[Shard]
    sources_of_documents: list[np.ndarray]  # by shard: int32 [documents]
    order: Permutation | None
    pad: int

    @classmethod
    def open(cls, plan: Path, shards: Path, name: str, pad: int) -> "Loader":
        """Open a set: `phase-0`, … in their shuffled order, `validation-DOMAIN` as it lies.

        plan: directory with plan.json; shards: directory of the token shards it names; pad: the id
        that fills what is left of a row. Raises ValueError when the plan has no such set.
        """
        content = json.loads((plan / "plan.json").read_text("utf-8"))
        sets = {phase["name"]: phase for phase in content["phases"]}
        sets |= {entry["name"]: entry for entry in content["validation"].values()}
        if name not in sets:
            raise ValueError(f"{plan / 'plan.json'}: no set {name!r}; there are {', '.join(sets)}")
        number = {source: i for i, source in enumerate(content["sources"])}
        sources = []
        for shard in content["shards"]:
            table = pq.read_table(shards / f"{shard}.documents.parquet", columns=["source"])
            sources.append(np.array([number[s] for s in table["source"].to_pylist()], np.int32))
        entry = sets[name]
        shuffled = name.startswith("phase-")
        return cls(
            rows=Rows(plan, entry),
            shards=[Shard.open(shards / shard) for shard in content["shards"]],
            sources_of_documents=sources,
            order=Permutation(entry["sequences"], content["seed"], name) if shuffled else None,
            pad=pad,
        )

    def __len__(self) -> int:
        """The number of sequences."""
        return self.rows.count

    def pieces(self, position: int) -> list[dict]:
        """What stands at a position of the run: dictionaries of shard, document, start, length."""
        return self.rows.pieces(self.order[position] if self.order else position)

    def batch(self, first: int, size: int) -> dict[str, torch.Tensor]:
        """The batch of positions first … first + size - 1, cut off at the end."""
        positions = range(first, min(first + size, len(self)))
        shape = (len(positions), self.rows.length)
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
        for first in range(consumed, len(self), batch_size):
            yield self.batch(first, batch_size)
