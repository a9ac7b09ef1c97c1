"""Best-fit packing: fill sequences of L tokens with whole documents.

After "Fewer Truncations Improve Language Modeling" (Ding et al., 2024): no document that fits a
sequence is ever cut. A longer one is cut into full sequences and one rest; rests and short
documents are pieces, and pieces are packed by best-fit decreasing: the longest first, each into the
sequence with the least room that still holds it.

Pieces of equal length are interchangeable, so the packing works on the histogram of lengths: all
pieces of a length are placed at once, into the sequences of each room, smallest room first. A
sequence of room c takes floor(c / length) pieces in a row, since after the first it is still the
fullest that fits. That is the same packing as one piece at a time, at a cost that depends on the
number of distinct lengths and rooms: O(L²) array operations at worst, however many the pieces.
"""

from collections.abc import Sequence

import numpy as np


def cut(tokens: int, length: int, atomic: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
    """Cut a document of `tokens` into pieces (start, length) of at most `length` tokens.

    atomic: spans (start, length) inside which no cut may fall: a piece ends before such a span when
    it would otherwise end inside it. Raises ValueError when a span is longer than `length`.
    """
    pieces = []
    start = 0
    while tokens - start > length:
        end = start + length
        for span_start, span_length in atomic:
            if span_length > length:
                raise ValueError(
                    f"an atomic span of {span_length} tokens does not fit a sequence of {length}: "
                    f"plan at least {span_length} tokens, or encode with a smaller fim.span_tokens"
                )
            if span_start < end < span_start + span_length and span_start > start:
                end = span_start
        pieces.append((start, end - start))
        start = end
    if tokens > start:
        pieces.append((start, tokens - start))
    return pieces


def best_fit(lengths: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """Pack pieces into sequences of `length` tokens by best-fit decreasing.

    lengths: int [pieces], each from 1 to `length`. Returns the sequence of each piece (int64
    [pieces]) and the number of sequences; sequences are numbered in the order they were begun.
    Raises ValueError for a length out of range.
    """
    lengths = np.asarray(lengths, np.int64)
    bins = np.full(len(lengths), -1, np.int64)
    if not len(lengths):
        return bins, 0
    if lengths.min() < 1 or lengths.max() > length:
        raise ValueError(f"pieces must be 1 to {length} tokens long")
    order = np.argsort(-lengths, kind="stable")
    values, starts = np.unique(-lengths[order], return_index=True)
    ends = np.append(starts[1:], len(order))

    count = 0
    rooms: list[list[np.ndarray]] = [[] for _ in range(length)]  # sequences by the room they have
    sizes = np.zeros(length, np.int64)

    def put(sequences: np.ndarray, room: int) -> None:
        if room and len(sequences):
            rooms[room].append(sequences)
            sizes[room] += len(sequences)

    def fill(sequences: np.ndarray, room: int, size: int, pieces: np.ndarray) -> None:
        """Put `pieces`, of equal `size`, into sequences of `room`, each as full as it gets."""
        each = room // size
        whole, rest = divmod(len(pieces), each)
        bins[pieces[: whole * each]] = np.repeat(sequences[:whole], each)
        put(sequences[:whole], room - each * size)
        if rest:
            bins[pieces[whole * each :]] = sequences[whole]
            put(sequences[whole : whole + 1], room - rest * size)

    for value, start, end in zip(values, starts, ends, strict=True):
        size = int(-value)
        pieces = order[start:end]
        for room in np.flatnonzero(sizes[size:]) + size:
            sequences = np.concatenate(rooms[room]) if len(rooms[room]) > 1 else rooms[room][0]
            each = room // size
            needed = min(-(-len(pieces) // each), len(sequences))
            taken, kept = sequences[:needed], sequences[needed:]
            rooms[room] = [kept] if len(kept) else []
            sizes[room] = len(kept)
            placed = min(len(pieces), needed * each)
            fill(taken, int(room), size, pieces[:placed])
            pieces = pieces[placed:]
            if not len(pieces):
                break
        if len(pieces):
            fresh = -(-len(pieces) // (length // size))
            fill(np.arange(count, count + fresh), length, size, pieces)
            count += fresh
    return bins, count
