"""The loader as a PyTorch dataset: any number of ranks, of worker processes, any micro-batch.

    dataset = PackedDataset(Loader.open(plan, shards), batch_size=8, consumed=consumed)
    for batch in DataLoader(dataset, batch_size=None, num_workers=2): ...

The run is dealt out in groups of world_size × batch_size sequences, never across the end of a
phase: rank r takes the r-th part of each group. Worker w of N makes groups w, w + N, …; a
`DataLoader` asks its workers in turn, so the batches arrive in the order of the plan however many
they are. After k micro-batches on every rank, the sequences that were consumed are the first
`consumed_after(k)` of the run, no other and none twice: that number is all there is to save.
Started again from it, with other ranks, workers or batch sizes, the next sequences are the same.

Every micro-batch has `batch_size` rows, so that shapes never change and no rank waits for one that
has nothing left. Where a phase ends with less than a group, what is left is spread evenly over the
ranks and the rest are rows of padding: labels -100, `document_ids` -1, `sequence_index` -1.

`torchdata`'s StatefulDataLoader can save and load its own state too: it holds the position of each
worker, so it fits the same ranks, workers and batch size only, and says so when they differ.
"""

from collections.abc import Iterator

import torch
from torch.utils.data import IterableDataset, get_worker_info

from packing.loader import IGNORE, Loader

_PADDING = {
    "labels": IGNORE,
    "document_ids": -1,
    "sample_ids": -1,
    "source_ids": -1,
    "sequence_index": -1,
}


def mtp_labels(batch: dict[str, torch.Tensor], depth: int, apart: bool = False) -> torch.Tensor:
    """The targets of multi-token prediction: int64 [b, depth, L] (DeepSeek-V3, section 2.2).

    Place t of depth k (1 … depth, at index k - 1) has the token at t + 1 + k, which is the label k
    places on; -100 where there is none or it does not count. apart: as the loader's, a target lies
    in the document of place t.
    """
    labels, documents = batch["labels"], batch["document_ids"]
    rows, length = labels.shape
    targets = labels.new_full((rows, depth, length), IGNORE)
    for k in range(1, min(depth, length - 1) + 1):
        ahead = labels[:, k:]
        if apart:
            ahead = ahead.where(documents[:, k:] == documents[:, :-k], IGNORE)
        targets[:, k - 1, : length - k] = ahead
    return targets


class PackedDataset(IterableDataset):
    """Micro-batches of a loader's run for one rank, or their sequences one by one."""

    def __init__(
        self,
        loader: Loader,
        batch_size: int,
        *,
        consumed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        mtp_depth: int = 0,
        singles: bool = False,
    ):
        """batch_size: sequences in a micro-batch of one rank. consumed: sequences of the run, by
        all ranks, before the first. rank, world_size: torch.distributed's where it is initialised,
        else 0 of 1. mtp_depth: adds `mtp_labels` [b, mtp_depth, L]. singles: gives sequences one by
        one (tensors without their first dimension), for a `DataLoader` that collates batches of
        the same `batch_size`; else give the `DataLoader` batch_size=None.

        Raises ValueError naming the argument.
        """
        spread = torch.distributed.is_available() and torch.distributed.is_initialized()
        if world_size is None:
            world_size = torch.distributed.get_world_size() if spread else 1
        if rank is None:
            rank = torch.distributed.get_rank() if spread else 0
        rules = {
            "batch_size": (batch_size, batch_size >= 1, "at least 1"),
            "world_size": (world_size, world_size >= 1, "at least 1"),
            "rank": (rank, 0 <= rank < world_size, f"0 to {world_size - 1}"),
            "consumed": (consumed, 0 <= consumed <= len(loader), f"0 to {len(loader):,}"),
            "mtp_depth": (mtp_depth, mtp_depth >= 0, "at least 0"),
        }
        for name, (found, holds, expected) in rules.items():
            if not holds:
                raise ValueError(f"{name}: {found} must be {expected}")
        self.loader = loader
        self.batch_size = batch_size
        self.consumed = consumed
        self.rank = rank
        self.world_size = world_size
        self.mtp_depth = mtp_depth
        self.singles = singles

    def __len__(self) -> int:
        """How many micro-batches each rank gets, or sequences where they come one by one."""
        groups, at = 0, self.consumed
        while at < len(self.loader):
            end = self.loader.phase_end(at)
            groups += -(-(end - at) // self._unit)
            at = end
        return groups * (self.batch_size if self.singles else 1)

    @property
    def _unit(self) -> int:
        return self.batch_size * self.world_size

    def consumed_after(self, batches: int) -> int:
        """Sequences of the run consumed when every rank has taken this many micro-batches."""
        return self.skip(self.consumed, batches)

    def skip(self, position: int, groups: int) -> int:
        """The position where a group begins, so many groups after one that begins at `position`."""
        while groups > 0 and position < len(self.loader):
            end = self.loader.phase_end(position)
            here = min(groups, -(-(end - position) // self._unit))
            position = min(position + here * self._unit, end)
            groups -= here
        return position

    def micro_batch(self, first: int) -> dict[str, torch.Tensor]:
        """This rank's part of the group that begins at position `first`."""
        count = min(self._unit, self.loader.phase_end(first) - first)
        each, more = divmod(count, self.world_size)
        mine = each + (self.rank < more)
        start = first + self.rank * each + min(self.rank, more) if mine else first
        batch = self.loader.batch(start, max(mine, 1))
        if mine < self.batch_size:
            fill = _PADDING | {"input_ids": self.loader.pad}
            batch = {
                name: torch.cat(
                    [
                        part[:mine],
                        part.new_full((self.batch_size - mine, *part.shape[1:]), fill[name]),
                    ]
                )
                for name, part in batch.items()
            }
        if self.mtp_depth:
            batch["mtp_labels"] = mtp_labels(batch, self.mtp_depth, self.loader.apart)
        return batch

    def __iter__(self) -> "_Place":
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        return _Place(self, number, workers)


class _Place(Iterator):
    """Where one worker of one rank is; StatefulDataLoader asks it for its state."""

    def __init__(self, dataset: PackedDataset, worker: int, workers: int):
        self._dataset, self._workers = dataset, workers
        self._group = dataset.skip(dataset.consumed, worker)
        self._given = 0  # sequences of the group, where they are given one by one
        self._batch: dict[str, torch.Tensor] | None = None

    def __next__(self) -> dict[str, torch.Tensor]:
        dataset = self._dataset
        if self._group >= len(dataset.loader):
            raise StopIteration
        if not dataset.singles:
            batch = dataset.micro_batch(self._group)
            self._group = dataset.skip(self._group, self._workers)
            return batch
        if self._batch is None:
            self._batch = dataset.micro_batch(self._group)
        single = {name: part[self._given] for name, part in self._batch.items()}
        self._given += 1
        if self._given == dataset.batch_size:
            self._given, self._batch = 0, None
            self._group = dataset.skip(self._group, self._workers)
        return single

    def _layout(self) -> dict[str, int]:
        dataset = self._dataset
        return {
            "sequences": len(dataset.loader),
            "batch_size": dataset.batch_size,
            "world_size": dataset.world_size,
            "rank": dataset.rank,
            "workers": self._workers,
        }

    def state_dict(self) -> dict:
        return {"group": self._group, "given": self._given, "layout": self._layout()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state; raises ValueError if it was saved with other ranks or sizes."""
        if state["layout"] != self._layout():
            raise ValueError(
                f"a state saved with {state['layout']} does not fit {self._layout()}: start with "
                "consumed=… (`PackedDataset.consumed_after`), which fits all of them"
            )
        self._group, self._given, self._batch = state["group"], state["given"], None
