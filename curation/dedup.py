"""Deduplication of documents: exact, by address and near (MinHash), as one round.

`DocumentDedup.sign` sees a batch and needs nothing else; `merge` sees all the signatures, which are
a hundredth of the text, and decides (`clusters.py`); `apply` goes over the batches again.

Exact: two texts that differ in white space only are the same; the hash is taken with all of it
removed. By address: `uri` in its normal form (`urls.py`). Near: texts whose sets of word n-grams
(`words.py`) have a large Jaccard similarity s = |A ∩ B| / |A ∪ B|. A permutation of the 64-bit
hashes puts the same element first in both sets with probability s; `bands` groups of `rows`
permutations each call two texts alike when all of one group agree, which happens with probability
1 - (1 - s^rows)^bands (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4). With 14 × 8,
as FineWeb has it, that is 0.77 at s = 0.75.

A permutation is x -> a·x + b modulo 2^64 with a odd. 64-bit arithmetic that wraps *is* arithmetic
modulo 2^64, so nothing is lost, and an odd a has an inverse, so no two hashes are made one; no
prime modulus is needed, because the n-gram hashes come in well mixed. Signing is native
(`native/minhash.hpp`) and costs about as much as reading the text from compressed Parquet.

Alike is taken to be transitive: a cluster is a component of the graph of all matches. One document
of it is kept, by `keep`. With an `index`, the keys of everything that earlier corpora had, whole
clusters that touch it go. So a corpus that comes in parts, each with the index that the one before
has written, loses the same documents as one that comes at once (with `keep` as `first`).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from curation import _native, clusters
from curation.merging import binary_ids, decisions_of
from curation.urls import normalise_url


@dataclass(frozen=True)
class DocumentDedup:
    """Drop documents that are there already, all but one of each cluster.

    `exact`, `url` and `near` say what makes two documents alike; `ngram` (words), `bands`, `rows`
    and `seed` are MinHash's. `keep` says which of a cluster stays, ties by corpus order: the
    `first`; the `longest` in characters; `best_quality`, of the largest number under `quality_key`
    in its metadata; `preferred_source`, whose source comes first in `prefer`; or `none`.

    `index` is an index.parquet that the merge of an earlier corpus wrote with the same settings:
    what it has is dropped as `documents:earlier`. With it, or with `write_index`, the merge writes
    index.parquet for the next corpus: the keys of the old one and of all documents of this one.
    """

    name: ClassVar[str] = "documents"

    exact: bool = True
    url: bool = False
    near: bool = True
    ngram: int = 5
    bands: int = 14
    rows: int = 8
    seed: int = 0
    keep: Literal["first", "longest", "best_quality", "preferred_source", "none"] = "first"
    quality_key: str | None = None
    prefer: tuple[str, ...] = ()
    index: str | None = None
    write_index: bool = False

    def __post_init__(self) -> None:
        if min(self.ngram, self.bands, self.rows) < 1:
            raise ValueError(f"{self}: ngram, bands and rows must be at least 1")
        if not (self.exact or self.url or self.near):
            raise ValueError(f"{self}: one of exact, url and near must be true")
        if (self.keep == "best_quality") != (self.quality_key is not None):
            raise ValueError(f"{self}: keep: best_quality and quality_key need each other")
        if (self.keep == "preferred_source") != bool(self.prefer):
            raise ValueError(f"{self}: keep: preferred_source and prefer need each other")
        if self.keep not in ("first", "longest", "best_quality", "preferred_source", "none"):
            raise ValueError(f"{self}: unknown keep {self.keep!r}")

    def files(self) -> list[Path]:
        """The index of earlier corpora, if there is one."""
        return [Path(self.index)] if self.index is not None else []

    @property
    def kinds(self) -> dict[str, int]:
        """What is compared: the columns of a signature, each with how many numbers a key has."""
        kinds = {"exact": 2} if self.exact else {}
        if self.url:
            kinds["url"] = 2
        if self.near:
            kinds |= {f"band_{band:02d}": 1 for band in range(self.bands)}
        return kinds

    @property
    def settings(self) -> dict[str, int | bool]:
        """What keys depend on: those of other settings mean something else."""
        settings: dict[str, int | bool] = {"exact": self.exact, "url": self.url, "near": self.near}
        if self.near:
            settings |= {name: getattr(self, name) for name in ("ngram", "bands", "rows", "seed")}
        return settings

    @property
    def scored(self) -> bool:
        """Whether the survivor is chosen by a number."""
        return self.keep in ("longest", "best_quality", "preferred_source")

    def sign(self, batch: pa.RecordBatch) -> pa.Table:
        """Sign the documents of a batch, in order.

        Columns: `id`, 16 bytes; `exact`, xxh3-128 of the text without white space; `url`, xxh3-128
        of the normal form, null where `uri` is no http address; `band_00`, …, uint64, hashes of
        each band's minima, null for a document of fewer than `ngram` words; `score`, float64, what
        `keep` goes by. Those that the settings have no use for are left out.
        """
        text = batch.column("text")
        columns: dict[str, pa.Array] = {"id": binary_ids(batch.column("id"))}
        if self.exact:
            columns["exact"] = _exact(text)
        if self.url:
            urls = [normalise_url(uri) for uri in batch.column("uri").to_pylist()]
            hashed = [None if url is None else xxh3_128_digest(url.encode()) for url in urls]
            columns["url"] = pa.array(hashed, pa.binary(16))
        if self.near:
            permutations = _permutations(self.bands * self.rows, self.seed)
            values, signed = _native.minhash(text, self.ngram, self.rows, *permutations)
            for band in range(self.bands):
                column = np.ascontiguousarray(values[:, band])
                columns[f"band_{band:02d}"] = pa.array(column, mask=signed == 0)
        if self.scored:
            columns["score"] = pa.array(self._scores(batch), pa.float64())
        return pa.table(columns).replace_schema_metadata({"dedup": json.dumps(self.settings)})

    def _scores(self, batch: pa.RecordBatch) -> list[float] | pa.Array:
        if self.keep == "longest":
            return pc.utf8_length(batch.column("text")).cast(pa.float64())
        if self.keep == "best_quality":
            return [
                _number(data, self.quality_key) for data in batch.column("metadata").to_pylist()
            ]
        place = {source: -float(k) for k, source in reversed(list(enumerate(self.prefer)))}
        return [place.get(source, -math.inf) for source in batch.column("source").to_pylist()]

    def merge(self, signed: Sequence[Path], out: Path, memory: int) -> None:
        """Decide which documents go: `out/decisions.parquet`, and the index if it is wanted.

        See `clusters.decide`. Raises ValueError if signatures or index have other settings.
        """
        clusters.decide(self, signed, out, memory)

    def apply(self, batch: pa.RecordBatch, decisions: Path, first_row: int) -> pa.RecordBatch:
        """Filter: every row, in order, with `reject` from the decisions.

        Raises ValueError if a document is not the one that was signed at its row.
        """
        found = decisions_of(batch, decisions, first_row)
        reasons: list[str | None] = [None] * len(batch)
        for place, reason in zip(
            found["row"].to_pylist(), found["reason"].to_pylist(), strict=True
        ):
            reasons[place] = reason
        reject = pa.array(reasons, pa.string())
        return batch.append_column(pa.field("reject", pa.string()), reject)


@cache
def _permutations(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw factors, odd, and offsets: uint64 [count] each."""
    factors = [xxh3_64_intdigest(f"a{i}", seed) | 1 for i in range(count)]
    offsets = [xxh3_64_intdigest(f"b{i}", seed) for i in range(count)]
    return np.array(factors, np.uint64), np.array(offsets, np.uint64)


def _exact(text: pa.Array) -> pa.Array:
    data, ends = _native.without_space(text)
    view = memoryview(data)
    starts = [0, *ends[:-1].tolist()]
    hashed = [xxh3_128_digest(view[a:b]) for a, b in zip(starts, ends.tolist(), strict=False)]
    return pa.array(hashed, pa.binary(16))


def _number(metadata: str | None, key: str) -> float:
    """Read a number from metadata; the least one where there is none."""
    try:
        found = json.loads(metadata or "null")
    except ValueError:
        return -math.inf
    value = found.get(key) if isinstance(found, dict) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or math.isnan(value):
        return -math.inf
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)
