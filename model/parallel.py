"""Data parallelism: ranks that each take a share of every batch and end it with the same weights.

The model knows nothing of this. A batch is cut into the same micro-batches whatever the number of
ranks; each rank takes a run of them, divides its sums by counts of the whole batch, and the sums of
all ranks are added up before anything is done with them. What is added is added in the order of
ranks, by our own code: gradients go out in slices (each rank receives its slice of everyone's, adds
them up and sends the sum to all), which moves as little as a ring does and leaves the order of the
sum to nobody. So ranks agree to the bit, and 2 ranks with a micro-batch each give the bits of one
rank with two.

Ranks are processes. torchrun starts them on any number of machines and says who is who in RANK,
WORLD_SIZE, MASTER_ADDR and MASTER_PORT; on one machine they can meet at a file instead. Messages
are JSON in bytes, never pickles. On the CPU they travel by gloo. `ALONE` is one process, without
any of it.
"""

import functools
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

BUCKET = 16 << 20  # numbers that are sent at a time: 64 MB in float32
PATIENCE = timedelta(hours=2)  # what a rank waits for the others: rank 0 evaluates and saves


class RankError(RuntimeError):
    """Ranks that can't go on together: one left, or they were given different work."""


@dataclass(frozen=True)
class Ranks:
    """This process among `count` that train together; `rank` 0 writes and reports."""

    rank: int = 0
    count: int = 1

    def share(self, pieces: int) -> range:
        """Which of so many pieces are this rank's, a run of them; the ranks' runs lie in order."""
        return range(pieces * self.rank // self.count, pieces * (self.rank + 1) // self.count)

    def add(self, values: list[float]) -> list[float]:
        """Sum of each value over ranks, in their order, in float64. All give as many."""
        if self.count == 1:
            return values
        mine = torch.tensor(values, dtype=torch.float64)
        everyone = [torch.empty_like(mine) for _ in range(self.count)]
        with _told():
            dist.all_gather(everyone, mine)
        total = everyone[0]
        for other in everyone[1:]:
            total += other
        return total.tolist()

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each parameter's gradient by the sum over ranks; none counts as zeros."""
        if self.count == 1:
            return
        for bucket in _buckets(parameters):
            size = sum(p.numel() for p in bucket)
            # On the CPU, wherever the gradients are: gloo exchanges no others.
            flat = torch.zeros(-(-size // self.count) * self.count, dtype=bucket[0].dtype)
            views = flat[:size].split([p.numel() for p in bucket])
            for parameter, view in zip(bucket, views, strict=True):
                if parameter.grad is not None:
                    view.copy_(parameter.grad.flatten())
            slices = torch.empty_like(flat)
            with _told():
                dist.all_to_all_single(slices, flat)
                rows = slices.view(self.count, -1)
                for other in rows[1:]:
                    rows[0] += other
                dist.all_gather_into_tensor(flat, rows[0])
            for parameter, view in zip(bucket, views, strict=True):
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
                parameter.grad.copy_(view.view_as(parameter))

    def tell(self, message: object = None) -> object:
        """Rank 0's message (JSON) on every rank; what the others give is not looked at."""
        if self.count == 1:
            return message
        content = json.dumps(message).encode() if self.rank == 0 else b""
        size = torch.tensor([len(content)])
        with _told():
            dist.broadcast(size, 0)
            data = torch.zeros(int(size), dtype=torch.uint8)
            if self.rank == 0:
                data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            dist.broadcast(data, 0)
        return json.loads(data.numpy().tobytes())

    def agree(self, settings: dict) -> None:
        """Raise RankError on every rank if one has other settings (JSON) than rank 0."""
        mine = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        if self.add([float(self.tell(mine) != mine)])[0]:
            raise RankError("ranks were given different settings or sequences, expected the same")


ALONE = Ranks()


def launched() -> bool:
    """Whether the environment says that this process is one of several ranks, as torchrun does."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def join(place: Path | None = None, rank: int = 0, count: int = 1) -> Iterator[Ranks]:
    """Meet the other ranks, and part from them at the end.

    They meet at the file `place`, once, as rank `rank` of `count` or, without one, where and as
    what the environment tells, any number of times; a process that was not launched as a rank is
    `ALONE`.
    """
    if place is None and not launched():
        yield ALONE
        return
    with _told():
        if place is None:
            store, rank, count = _environment()
            # What an earlier meeting left in the store would be taken for this one's.
            at = {"store": dist.PrefixStore(f"meeting {next(_MEETINGS)}", store)}
        else:
            at = {"init_method": place.as_uri()}
        dist.init_process_group("gloo", timeout=PATIENCE, rank=rank, world_size=count, **at)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


_MEETINGS = itertools.count()


@functools.cache
def _environment() -> tuple[dist.Store, int, int]:
    """The store that the ranks of the environment share, this one's rank, and how many there are.

    It is kept: rank 0 may be who serves it.
    """
    return next(dist.rendezvous("env://", timeout=PATIENCE))


@contextmanager
def _told() -> Iterator[None]:
    """Say in a line what gloo says in ten."""
    try:
        yield
    except RuntimeError as error:
        first = str(error).strip().split("\n")[0].split(". ")[0]
        raise RankError(
            f"another rank is gone or can't be reached ({first}); run the same command again to go "
            "on from the last checkpoint"
        ) from error


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in order, together up to `BUCKET` numbers at a time and of one dtype."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        size = sum(p.numel() for p in bucket) + parameter.numel()
        if bucket and (size > BUCKET or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
