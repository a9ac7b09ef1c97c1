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
document into the next, and `document_ids` tell an attention mask where they part.

Where the time goes. A batch of 32,768 tokens in documents of about 100 tokens takes some 0.5 ms on
one core: a third is finding each piece (its row in the plan, its offset in the index, its source:
about 0.5 µs of Python a piece), a third copying the pieces, one slice of the map each, and a third
writing the four arrays, 24 bytes a token, where a running sum over the changes at the pieces' ends
is twice as fast as `np.repeat`. Long documents have fewer pieces and cost less, tiny ones more; see
`tests/benchmarks/bench_packing_loader.py`. Fancy indexing of the map by token, at eight bytes of
index for four of data, lost to the slices above 40 tokens a piece.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from packing.mapped import MappedShard
from packing.sequences import Pieces, Sequences, read_plan

IGNORE = -100


class Loader:
    """Batches of sequences, in the order of the plan: one set after another, as one run."""

    def __init__(
        self,
        sequences: Sequences,
        shards: list[MappedShard],
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
        longest = max((rows.length for rows in sequences.sets), default=0)
        self._padding = np.full(longest, pad, np.int32)
        self._parts: list[tuple | None] = [None] * len(shards)

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
            [MappedShard(shards / name, sources) for name in content["shards"]],
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
        length = self.length(first)
        found = self.sequences.pieces(first, last)
        counts = np.diff(found.ends, prepend=0)
        filled = np.diff(
            np.append(0, np.cumsum(found.length, dtype=np.int64))[found.ends], prepend=0
        )
        self._check(found, filled, first, length)
        slices, sources = self._look_up(found)

        # One entry for each piece, and one of padding behind each row that is not full.
        short = np.flatnonzero(filled < length)
        pads = found.ends[short] + np.arange(len(short))
        entries = np.ones(len(slices) + len(pads), bool)
        entries[pads] = False
        places = np.flatnonzero(entries)
        sizes = np.empty(len(entries), np.int64)
        sizes[places] = found.length
        sizes[pads] = length - filled[short]
        for at, n in zip(pads.tolist(), sizes[pads].tolist(), strict=True):
            slices.insert(at, self._padding[:n])
        starts = np.cumsum(sizes) - sizes
        of_pieces = np.full((2, len(entries)), -1, np.int32)  # number in the row, source
        of_pieces[0, places] = np.arange(len(places)) - np.repeat(found.ends - counts, counts)
        of_pieces[1, places] = sources

        shape = (last - first, length)
        ids, labels = np.empty(shape, np.int64), np.empty(shape, np.int64)
        np.concatenate(slices, out=ids.reshape(-1))
        labels.reshape(-1)[:-1] = ids.reshape(-1)[1:]
        labels[:, -1] = IGNORE
        for row, n in zip(short.tolist(), filled[short].tolist(), strict=True):
            labels[row, max(n - 1, 0) :] = IGNORE
        documents = _spread(of_pieces[0], starts, shape)
        if self.apart:
            labels[:, :-1][documents[:, :-1] != documents[:, 1:]] = IGNORE
        self._keep_spans(labels, found, starts[places])
        arrays = {
            "input_ids": ids,
            "labels": labels,
            "document_ids": documents,
            "source_ids": _spread(of_pieces[1], starts, shape),
            "sequence_index": np.arange(first, last),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def batches(self, batch_size: int, consumed: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """Batches from the sequence numbered `consumed` on; the last of a phase may be smaller."""
        while consumed < len(self):
            batch = self.batch(consumed, batch_size)
            consumed += len(batch["sequence_index"])
            yield batch

    def _check(self, found: Pieces, filled: np.ndarray, first: int, length: int) -> None:
        """Refuse what no plan of these shards has; `_look_up` does so for each piece's document."""
        if (filled > length).any():
            row = int(filled.argmax())
            raise ValueError(
                f"sequence {first + row:,} has {filled[row]:,} tokens, expected {length:,} at most: "
                "the plan is damaged, make it again (`gristmill plan`)"
            )
        bad = (found.start < 0) | (found.length < 1) | (found.document < 0) | (found.shard < 0)
        if (bad | (found.shard >= len(self.shards))).any():
            raise ValueError(
                f"sequence {first:,} or one after it has a piece that is in none of the plan's "
                f"{len(self.shards)} shards: the plan is damaged, make it again (`gristmill plan`)"
            )

    def _open_parts(self, number: int) -> tuple:
        """What `_look_up` wants of a shard: single numbers come faster out of memoryviews."""
        shard = self.shards[number]
        parts = shard.tokens, shard.offsets, shard.lengths, memoryview(shard.sources)
        self._parts[number] = parts
        return parts

    def _look_up(self, found: Pieces) -> tuple[list[np.ndarray], list[int]]:
        """The tokens and the source of each piece."""
        slices, sources = [], []
        for number, document, start, n in zip(
            found.shard.tolist(),
            found.document.tolist(),
            found.start.tolist(),
            found.length.tolist(),
            strict=True,
        ):
            tokens, offsets, lengths, codes = self._parts[number] or self._open_parts(number)
            if document >= len(lengths) or start + n > lengths[document]:
                raise ValueError(self.shards[number].misfit(document, start, n))
            at = (offsets[document] >> 2) + start
            slices.append(tokens[at : at + n])
            sources.append(codes[document if len(codes) > 1 else 0])
        return slices, sources

    def _keep_spans(self, labels: np.ndarray, found: Pieces, starts: np.ndarray) -> None:
        """Leave the labels out that no span of their document counts.

        starts: int64 [pieces], where each begins in the batch laid end to end.
        """
        limited = [s for s in np.unique(found.shard).tolist() if self.shards[s].loss_spans]
        if not limited:
            return
        change = np.zeros(labels.size + 1, np.int32)
        free = ~np.isin(found.shard, limited)
        for s in limited:
            spans = self.shards[s].loss_spans
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


def _spread(values: np.ndarray, starts: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Each value from its start to the next one's: int32 of a shape."""
    flat = np.zeros(shape[0] * shape[1], np.int32)
    flat[starts] = np.diff(values, prepend=np.int32(0))
    return np.cumsum(flat, dtype=np.int32, out=flat).reshape(shape)
