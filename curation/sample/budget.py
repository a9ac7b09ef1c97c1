"""Sharing a number of bytes among sources of which some have less than their share.

Each source is a lazy stream of documents with a weight. They are served in turn: a source may take
its weight's part of what is still left, and what it does not use goes to those after it. So the
sources that run dry belong first and the one that can always give more belongs last. Reading stops
as soon as a share is full, which is what makes a small sample quick to build.
"""

from collections.abc import Iterable, Iterator, Sequence


def fill(sources: Sequence[tuple[float, Iterable[dict]]], budget: int) -> Iterator[dict]:
    """Yield documents (rows with `text`) of `sources`, (weight, documents), up to `budget` bytes.

    A document is the smallest unit: each source stops before the document that would exceed its
    share, so the total never exceeds `budget`.
    """
    left = budget
    weights = sum(weight for weight, _ in sources)
    for weight, documents in sources:
        share = int(left * min(1.0, weight / weights))
        weights -= weight
        for row in documents:
            size = len(row["text"].encode())
            if size > share:
                break
            share -= size
            left -= size
            yield row
