"""Cutting documents into pieces that fit a sequence.

A document that fits is one piece. A longer one becomes full sequences from its start on, and one
rest. No cut falls inside an atomic span (a hole of fill-in-the-middle): the piece ends before it.
`cut` says it for one document; `cut_many` does the same for millions of them at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spans:
    """Atomic spans of some of the documents: int64 arrays [spans], sorted by document and start."""

    document: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def of(self, documents: np.ndarray) -> "Spans":
        """Those of some documents (int64, sorted), numbered by their places among them."""
        at = np.searchsorted(documents, self.document)
        found = np.flatnonzero(at < len(documents))
        found = found[documents[at[found]] == self.document[found]]
        return Spans(at[found], self.start[found], self.length[found])


def cut(tokens: int, length: int, atomic: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
    """Cut a document of `tokens` into pieces (start, length) of at most `length` tokens.

    atomic: spans (start, length), in order, inside which no cut may fall: a piece ends before such
    a span when it would otherwise end inside it. Raises ValueError when a span is longer than
    `length`.
    """
    pieces = []
    start = 0
    while tokens - start > length:
        end = start + length
        for span_start, span_length in atomic:
            if span_length > length:
                raise ValueError(too_long(span_length, length))
            if span_start < end < span_start + span_length and span_start > start:
                end = span_start
        pieces.append((start, end - start))
        start = end
    if tokens > start:
        pieces.append((start, tokens - start))
    return pieces


def too_long(span: int, length: int) -> str:
    """What to say of an atomic span that no sequence can hold."""
    return (
        f"an atomic span of {span} tokens does not fit a sequence of {length}: "
        f"plan at least {span} tokens, or encode with a smaller fim.span_tokens"
    )


def cut_many(
    starts: np.ndarray, stops: np.ndarray, length: int, spans: Spans | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut the tokens from `starts` to `stops` (int64 [documents]) of each document.

    spans: their atomic spans, counted from the documents' own starts and none over `length`.
    Returns the document, the start and the length of each piece: int64 [pieces], in the order of
    documents and within them; a document without tokens has none.
    """
    owner = np.arange(len(starts))
    if spans is not None and len(spans.document):
        owner, starts, stops = _runs(starts, stops, length, spans)
    sizes = stops - starts
    if len(sizes) and int(sizes.min()) > 0 and int(sizes.max()) <= length:
        return owner, starts, sizes
    counts = -(-sizes // length)
    run = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = starts[run] + number * length
    return owner[run], start, np.minimum(stops[run] - start, length)


def _runs(
    starts: np.ndarray, stops: np.ndarray, length: int, spans: Spans
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents in runs, within which cuts fall every `length` tokens and hurt no span.

    Span by span, of all documents at once: where the first cut behind a span's start falls inside
    it, a run ends at that start.
    """
    start = starts.copy()
    owners, begins, ends = [], [], []
    first = np.searchsorted(spans.document, spans.document)  # of the same document
    number = np.arange(len(first)) - first
    for k in range(int(number.max()) + 1):
        here = np.flatnonzero(number == k)
        document, at, size = spans.document[here], spans.start[here], spans.length[here]
        since = at - start[document]
        after = at + length - since % length
        breaks = (since > 0) & (after < at + size) & (after < stops[document])
        document, at = document[breaks], at[breaks]
        owners.append(document)
        begins.append(start[document])
        ends.append(at)
        start[document] = at
    owner = np.concatenate([*owners, np.arange(len(starts))])
    begin = np.concatenate([*begins, start])
    end = np.concatenate([*ends, stops])
    by = np.argsort(owner, kind="stable")
    return owner[by], begin[by], end[by]
