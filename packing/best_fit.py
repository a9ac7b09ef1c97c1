"""Best-fit packing: fill sequences of L tokens with whole documents.

After "Fewer Truncations Improve Language Modeling" (Ding et al., 2024): no document that fits a
sequence is ever cut. What `packing.cutting` leaves are pieces, and they are packed by best-fit
decreasing: the longest first, each into the sequence with the least room that still holds it.

Pieces of equal length are interchangeable, so the packing is decided on the histogram of lengths
alone. Sequences that are filled alike are one class: all pieces of a length go into the classes of
each room, smallest room first, and a sequence of room c takes floor(c / length) in a row, since
after the first it is still the fullest that fits. A class that gets pieces becomes another one, its
child; no sequence is looked at by itself. That is the same packing as one piece at a time, at a
cost that depends on the number of lengths that occur (less than a microsecond for each) and not on
how many pieces there are. Dealing the pieces out afterwards takes a few nanoseconds for each
(`native/best_fit.hpp`).

Two more strategies are for comparison: `concat` (`packing.sequences`) cuts where a sequence is
full, `none` gives every piece a sequence of its own.
"""

from collections.abc import Callable

import numpy as np

from packing import _native


def best_fit(lengths: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """Pack pieces into sequences of `length` tokens by best-fit decreasing.

    lengths: int [pieces], each from 1 to `length`. Returns the sequence of each piece (int32
    [pieces]) and the number of sequences. Pieces of one length are dealt out in their own order.
    Raises ValueError for a length out of range.
    """
    lengths = np.asarray(lengths)
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= length:
        raise ValueError(f"pieces must be 1 to {length} tokens long")
    return _native.best_fit(lengths.astype(np.int32, copy=False), length)


def none(lengths: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """A sequence for each piece: as `best_fit`."""
    return np.arange(len(lengths)), len(lengths)


PACKERS: dict[str, Callable[[np.ndarray, int], tuple[np.ndarray, int]]] = {
    "best_fit": best_fit,
    "none": none,
}
