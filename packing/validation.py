"""Held-out documents: which they are, and the pieces of them that a model is measured on.

A document is held out by a draw on its id (of its first parent's id, if it was made from others),
so that no re-mix ever lets one into training. Of each domain as many are used as fill its
sequences, in drawn order, and of each of them one drawn piece: a few long documents would otherwise
be the whole of a small set. Only those are kept while reading (`Chosen`), however many there are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import pyarrow as pa

from packing.columns import column, list_sizes, numbers
from packing.cutting import Spans, cut_many
from packing.draws import draws, id_keys


def held_out_keys(
    ids: pa.Array, parents: pa.Array, seed: int, fraction: float
) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the documents' ids (uint64), and which are held out (bool): [documents] each."""
    keys = id_keys(ids)
    names = keys
    if parents.null_count < len(parents):
        counts = list_sizes(parents)
        made = np.flatnonzero(counts > 0)
        if len(made):
            first = parents.values.take(column(numbers(parents.offsets)[made]))
            names = keys.copy()
            names[made] = id_keys(first)
    drawn = draws(names, seed, "validation")  # as `fractions(drawn) < fraction`, in half the time
    return keys, (drawn >> np.uint64(11)) < np.uint64(math.ceil(fraction * (1 << 53)))


def held_out(
    ids: pa.Array | Sequence[str],
    parents: pa.Array | Sequence[list[str] | None],
    seed: int,
    fraction: float,
) -> np.ndarray:
    """Which documents are for validation: bool [documents].

    ids: strings; parents: lists of them, or nulls. Raises ValueError for an id that is null.
    """
    ids = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.string())
    if not isinstance(parents, pa.Array):
        parents = pa.array(parents, pa.list_(pa.string()))
    if ids.null_count:
        raise ValueError(f"{ids.null_count} of {len(ids)} documents have no id")
    return held_out_keys(ids, parents, seed, fraction)[1]


Pieces = tuple[np.ndarray, np.ndarray, np.ndarray]  # place uint64, start, length int64: [pieces]


@dataclass
class Chosen:
    """The pieces chosen so far, by domain; `add` may be called from several threads.

    sequences: how many of `length` tokens they are to fill. Which are chosen depends on the
    documents alone, not on the order in which they come.
    """

    length: int
    sequences: int
    seed: int
    domains: dict[str, np.ndarray] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    _TYPE = np.dtype([("draw", "u8"), ("place", "u8"), ("start", "i8"), ("length", "i8")])

    def add(
        self,
        keys: np.ndarray,
        places: np.ndarray,
        tokens: np.ndarray,
        domains: np.ndarray,
        names: Sequence[str],
        spans: Spans,
    ) -> None:
        """Consider held-out documents: arrays [documents]; `domains` are places in `names`."""
        keys, places = keys.astype(np.uint64), places.astype(np.uint64)
        zero = np.zeros(len(tokens), np.int64)
        document, start, size = cut_many(zero, tokens.astype(np.int64), self.length, spans)
        counts = np.bincount(document, minlength=len(tokens))
        some = np.flatnonzero(counts)
        first = np.cumsum(counts) - counts
        drawn = draws(keys, self.seed, "validation-piece")[some] % counts[some].astype(np.uint64)
        piece = first[some] + drawn.astype(np.int64)
        found = np.empty(len(some), self._TYPE)
        found["draw"] = draws(keys, self.seed, "validation-order")[some]
        found["place"], found["start"], found["length"] = places[some], start[piece], size[piece]
        domains = domains[some]
        with self._lock:
            for k, name in enumerate(names):
                if not (mine := found[domains == k]).size:
                    continue
                old = self.domains.get(name, np.empty(0, self._TYPE))
                both = np.concatenate([old, mine])
                both = both[np.lexsort((both["place"], both["draw"]))]
                before = np.cumsum(both["length"]) - both["length"]
                self.domains[name] = both[before < self.sequences * self.length]

    def pieces(self, domain: str) -> Pieces:
        """The pieces of a domain, in drawn order."""
        chosen = self.domains.get(domain, np.empty(0, self._TYPE))
        return chosen["place"], chosen["start"], chosen["length"]
