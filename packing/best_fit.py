"""Best-fit packing: fill sequences of L tokens with whole documents.

After "Fewer Truncations Improve Language Modeling" (Ding et al., 2024): no document that fits a
sequence is ever cut. What `packing.cutting` leaves are pieces, and they are packed by best-fit
decreasing: the longest first, each into the sequence with the least room that still holds it.

Pieces of equal length are interchangeable, so the packing is decided on the histogram of lengths
alone. Sequences that are filled alike are one class (`_Classes`): all pieces of a length go into
the classes of each room, smallest room first, and a sequence of room c takes floor(c / length) in a
row, since after the first it is still the fullest that fits. A class that gets pieces becomes
another one; no sequence is looked at by itself. That is the same packing as one piece at a time, at
a cost that depends on the number of lengths that occur (10 to 20 steps of Python for each) and not
on how many pieces there are. Dealing the pieces out afterwards is array work: 40 ns a piece.

Two more strategies are for comparison: `concat` (`packing.sequences`) cuts where a sequence is
full, `none` gives every piece a sequence of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class _Classes:
    """Sequences that are filled alike, as a tree: each class is its parent with one more entry.

    count: how many sequences are in a class now, and not in one made from it.
    """

    parent: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)  # the length of the pieces it was given
    each: list[int] = field(default_factory=list)  # and how many of them a sequence has
    count: list[int] = field(default_factory=list)

    def add(self, parent: int, size: int, each: int, count: int) -> int:
        self.parent.append(parent)
        self.size.append(size)
        self.each.append(each)
        self.count.append(count)
        return len(self.count) - 1


def _classes(counts: np.ndarray, length: int) -> _Classes:
    """Best-fit decreasing of `counts[n]` pieces of n tokens into sequences of `length`."""
    made = _Classes()
    rooms: list[list[int]] = [[] for _ in range(length + 1)]
    rooms[length].append(made.add(-1, 0, 0, int(counts.sum())))  # untouched: more than needed
    open_rooms = 1 << length  # bit n: there is a class with room for n
    for size in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[size])
        while left:
            above = open_rooms >> size
            room = size + (above & -above).bit_length() - 1
            old = rooms[room][-1]
            there = made.count[old]
            each = room // size
            whole = min(left // each, there)
            rest = left - whole * each if whole < there else 0
            for n, many in ((each, whole), (rest, 1)):
                if not n * many:
                    continue
                left -= n * many
                made.count[old] -= many
                new = made.add(old, size, n, many)
                if room > n * size:
                    rooms[room - n * size].append(new)
                    open_rooms |= 1 << (room - n * size)
            if not made.count[old]:
                rooms[room].pop()
                if not rooms[room]:
                    open_rooms &= ~(1 << room)
    made.count[0] = 0
    return made


def best_fit(lengths: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """Pack pieces into sequences of `length` tokens by best-fit decreasing.

    lengths: int [pieces], each from 1 to `length`. Returns the sequence of each piece (int32
    [pieces]) and the number of sequences. Pieces of one length are dealt out in their own order.
    Raises ValueError for a length out of range.
    """
    lengths = np.asarray(lengths)
    bins = np.empty(len(lengths), np.int32)
    if not len(lengths):
        return bins, 0
    if lengths.min() < 1 or lengths.max() > length:
        raise ValueError(f"pieces must be 1 to {length} tokens long")
    counts = np.bincount(lengths, minlength=length + 1)
    made = _classes(counts, length)
    parent, size = np.array(made.parent), np.array(made.size)
    each, count = np.array(made.each), np.array(made.count)
    node = np.flatnonzero(count)  # the classes that have sequences in the end, numbered in turn
    many = count[node]
    first = np.cumsum(many) - many
    entries = []
    while len(node):
        entries.append((size[node], each[node], first, many))
        up = parent[node]
        keep = up > 0
        node, first, many = up[keep], first[keep], many[keep]
    size, each, first, many = (np.concatenate(column) for column in zip(*entries, strict=True))
    by = np.argsort(size, kind="stable")
    each, first, amount = each[by], first[by], (many * each)[by]
    begin = np.cumsum(amount) - amount
    each, first, begin = (column.astype(np.int32) for column in (each, first, begin))
    slots = np.arange(len(lengths), dtype=np.int32) - np.repeat(begin, amount)
    slots //= np.repeat(each, amount)
    slots += np.repeat(first, amount)
    bins[by_number(lengths, length)] = slots
    return bins, int(count.sum())


def by_number(values: np.ndarray, most: int) -> np.ndarray:
    """A stable order of whole numbers from 0 to `most`: int64 [values], by 16 bits at a time.

    NumPy sorts 16-bit numbers by their digits, in a tenth of the time.
    """
    by = np.argsort(values.astype(np.uint16), kind="stable")
    for shift in range(16, int(most).bit_length(), 16):
        by = by[np.argsort((values >> shift).astype(np.uint16)[by], kind="stable")]
    return by


def none(lengths: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """A sequence for each piece: as `best_fit`."""
    return np.arange(len(lengths)), len(lengths)


PACKERS: dict[str, Callable[[np.ndarray, int], tuple[np.ndarray, int]]] = {
    "best_fit": best_fit,
    "none": none,
}
