"""The loader: from a plan and token shards to batches, from any place in the run.

Its whole state is the number of sequences consumed, phases counted through. Position N of a phase
is row P[N] of its plan, P being the keyed permutation of (seed, phase); the tokens come straight
from the mapped shards. Nothing here depends on workers, ranks or batch size.

A batch is a dictionary of tensors: `input_ids`, `labels` int64 [b, L]; `document_ids` int32 [b, L],
the number of the piece within its row, -1 in padding; `source_ids` int32 [b, L], the place in the
plan's list of sources, -1 in padding; `sequence_index` int64 [b], the position in the run. The
label of place t is the token at t + 1; where there is none, or where it lies outside its document's
`loss_spans`, -100. The target of multi-token depth k is the token at t + 1 + k, which is the label
k places on, so `labels` are all that a model needs (`mtp_labels` writes them out). Token t has
position t: positions run 0 … L - 1 through the row, whatever begins in it, so none are given.

Documents in a row see each other: the label of an end-of-document token is the first token of the
next document. For a supervised plan, open the loader with `apart`: then no label crosses from one
document into the next, and batches have `sample_ids` too, which are the `document_ids` and tell the
model to hide them from each other.

Where the time goes. A row's pieces are gathered in `packing/native/plan_rows.hpp`, about 0.1 µs a
row and 0.2 for its place in the permutation; `packing/native/rows.hpp` then writes 24 bytes a token
in one pass over each row, without the interpreter's lock. Together 90 to 440 million tokens a CPU
second, for documents of 30 to 4,000 tokens; what is left of Python is some 20 µs a batch, so that
batches of few tokens are slower. The same in NumPy (one slice of the map a piece, the other arrays
as running sums) took 1.3 µs a piece and 2 µs a row: 22 to 99 million, with the lock held. See
`tests/benchmarks/bench_packing_loader.py`.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from packing.mapped import TokenShards
from packing.positions import Pieces, Sequences, read_plan

IGNORE = -100


class Loader:
    """Batches of sequences, in the order of the plan: one set after another, as one run."""

    def __init__(
        self,
        sequences: Sequences,
        shards: TokenShards,
        sources: list[str],
        pad: int,
        apart: bool,
        again: Callable[[], "Loader"],
    ):
        """again: opens the same loader, in a process that has not this one's memory."""
        self.sequences = sequences
        self.shards = shards
        self.sources = sources
        self.pad = pad
        self.apart = apart
        self._again = again

    @classmethod
    def open(
        cls,
        plan: Path,
        shards: Path,
        names: Iterable[str] | None = None,
        pad: int = 0,
        *,
        apart: bool = False,
    ) -> "Loader":
        """Open sets of a plan: `phase-0`, … shuffled, `validation-DOMAIN` as it lies; None is all
        phases.

        plan: directory with plan.json; shards: directory of the token shards it names; pad: the id
        that fills what is left of a row; apart: whether labels stay inside their document. Raises
        ValueError or OSError, naming the file, when the plan has no such set, or when the plan or
        a shard is damaged or missing.
        """
        plan, shards = Path(plan), Path(shards)
        names = None if names is None else list(names)
        content = read_plan(plan)
        sources = content["sources"]
        return cls(
            Sequences.open(plan, names),
            TokenShards((shards / name for name in content["shards"]), sources),
            sources,
            pad,
            apart,
            partial(cls.open, plan, shards, names, pad, apart=apart),
        )

    def __reduce__(self) -> tuple:
        """A worker process that is not forked from this one opens the files itself."""
        return self._again, ()

    def __len__(self) -> int:
        """The number of sequences."""
        return len(self.sequences)

    def phase_end(self, position: int) -> int:
        """The end (exclusive) of the phase that holds a position."""
        return self.sequences.phase_end(position)

    def length(self, position: int) -> int:
        """The tokens of the sequence at a position, L of its phase."""
        return self.sequences.length(position)

    def place(self, position: int) -> tuple[str, int]:
        """(phase, sequences of it consumed) at a position."""
        return self.sequences.place(position)

    def position(self, phase: str, consumed: int) -> int:
        """The position after `consumed` sequences of a phase, the inverse of `place`."""
        return self.sequences.position(phase, consumed)

    def pieces(self, position: int) -> list[dict]:
        """What stands at a position of the run: dictionaries of shard, document, start, length."""
        found = self.sequences.pieces(position, position + 1)
        names = ("shard", "document", "start", "length")
        columns = (getattr(found, name).tolist() for name in names)
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def batch(self, first: int, size: int) -> dict[str, torch.Tensor]:
        """The batch of positions first … first + size - 1, cut off at the end of first's phase.

        Raises IndexError for a position outside the run, ValueError for a size below 1 and for a
        piece that is not in its shard.
        """
        if size < 1:
            raise ValueError(f"a batch of {size} sequences, expected at least 1")
        last = min(first + size, self.phase_end(first))
        found = self.sequences.pieces(first, last)
        shape = (last - first, self.length(first))
        arrays = {
            "input_ids": np.empty(shape, np.int64),
            "labels": np.empty(shape, np.int64),
            "document_ids": np.empty(shape, np.int32),
            "source_ids": np.empty(shape, np.int32),
        }
        self.shards.fill(found, first, self.pad, self.apart, arrays.values())
        self._keep_spans(arrays["labels"], found)
        arrays["sequence_index"] = np.arange(first, last)
        if self.apart:
            arrays["sample_ids"] = arrays["document_ids"]
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def batches(self, batch_size: int, consumed: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """Batches from the sequence numbered `consumed` on; the last of a phase may be smaller."""
        while consumed < len(self):
            batch = self.batch(consumed, batch_size)
            consumed += len(batch["sequence_index"])
            yield batch

    def _keep_spans(self, labels: np.ndarray, found: Pieces) -> None:
        """Leave the labels out that no span of their document counts."""
        shards = self.shards.shards
        limited = [s for s in np.unique(found.shard).tolist() if shards[s].loss_spans]
        if not limited:
            return
        # Where each piece begins in the batch, its rows end to end.
        row = np.repeat(np.arange(len(labels)), np.diff(found.ends, prepend=0))
        before = np.append(0, np.cumsum(found.length, dtype=np.int64))
        row_begins = before[np.append(0, found.ends[:-1])]
        starts = row * labels.shape[1] + before[:-1] - row_begins[row]
        change = np.zeros(labels.size + 1, np.int32)
        free = ~np.isin(found.shard, limited)
        for s in limited:
            spans = shards[s].loss_spans
            mine = np.flatnonzero(found.shard == s)
            free[mine] = spans.counts_all[found.document[mine]]
            mine = mine[~free[mine]]
            documents = found.document[mine]
            first = np.where(documents > 0, spans.ends[documents - 1], 0)
            counts = spans.ends[documents] - first
            each = np.repeat(np.arange(len(mine)), counts)
            k = np.arange(len(each)) - np.repeat(np.cumsum(counts) - counts - first, counts)
            piece = mine[each]
            begin = np.maximum(spans.start[k] - found.start[piece], 0)
            end = np.minimum(
                spans.start[k] + spans.length[k] - found.start[piece], found.length[piece]
            )
            here = begin < end
            np.add.at(change, starts[piece[here]] + begin[here], 1)
            np.add.at(change, starts[piece[here]] + end[here], -1)
        np.add.at(change, starts[free], 1)
        np.add.at(change, starts[free] + found.length[free], -1)
        counted = np.cumsum(change[:-1]) > 0
        labels.reshape(-1)[:-1][~counted[1:]] = IGNORE
