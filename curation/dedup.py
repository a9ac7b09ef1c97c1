"""Deduplication: exact by a hash of the text, near by MinHash, as a map, a merge and a map.

`signatures` sees a batch and needs nothing else; `find_duplicates` sees all the signatures, which
are a hundredth of the text, and decides; `drop_duplicates` goes over the batches again.

Two texts that differ in white space only are exact duplicates: the hash is taken with all of it
removed. Near duplicates are texts whose sets of word n-grams (`words.py`) have a large Jaccard
similarity s = |A ∩ B| / |A ∪ B|. A permutation of the 64-bit hashes puts the same element first in
both sets with probability s; `bands` groups of `rows` permutations each call two texts alike when
all of one group agree, which happens with probability 1 - (1 - s^rows)^bands (Broder 1997; Leskovec
et al., Mining of Massive Datasets, 3.4). With 14 × 8, as FineWeb has it, that is 0.77 at s = 0.75.

A permutation is x -> a·x + b modulo 2^64 with a odd. 64-bit arithmetic that wraps *is* arithmetic
modulo 2^64, so nothing is lost, and an odd a has an inverse, so no two hashes are made one; no
prime modulus is needed, because the n-gram hashes come in well mixed.

Alike is taken to be transitive: a cluster is a component of the graph of collisions, and its
survivor is the first document in corpus order. Neither depends on how the corpus is split.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from curation.words import hash_ngrams, hash_words, words

_CHUNK = 1 << 15  # n-grams that are permuted together: what fits the second-level cache


@dataclass(frozen=True)
class MinHash:
    """How to compare. `exact_only` leaves the bands out: they are null in every signature."""

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    seed: int = 0
    exact_only: bool = False

    def __post_init__(self) -> None:
        if min(self.ngram, self.bands, self.rows) < 1:
            raise ValueError(f"{self}: ngram, bands and rows must be at least 1")


DUPLICATES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("kept", pa.string(), nullable=False),
        pa.field("reject", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
    ]
)


def signatures(batch: pa.RecordBatch, config: MinHash) -> pa.Table:
    """Sign the documents of a batch, in order.

    Columns: `id`; `exact`, fixed_size_binary(16), xxh3-128 of the text without white space;
    `bands`, fixed_size_list<uint64>[bands], the xxh3-64 of each band's minima, null for a document
    of fewer than `ngram` words.
    """
    texts = batch.column("text").to_pylist()
    exact = [xxh3_128_digest("".join(text.split())) for text in texts]
    bands = np.zeros((len(texts), config.bands), np.uint64)
    signed = np.zeros(len(texts), bool)
    if not config.exact_only:
        hashes, _, owner = hash_words(texts)
        grams = hash_ngrams(hashes, config.ngram)
        inside = owner[: len(grams)] == owner[config.ngram - 1 :]  # not across two documents
        grams, owner = grams[inside], owner[: len(grams)][inside]
        rows, starts = np.unique(owner, return_index=True)
        signed[rows] = True
        minima = _minima(grams, starts, config).astype("<u8")
        for row, values in zip(rows, minima, strict=True):
            data, width = values.tobytes(), 8 * config.rows
            bands[row] = [
                xxh3_64_intdigest(data[i : i + width]) for i in range(0, len(data), width)
            ]
    return pa.table(
        {
            "id": batch.column("id"),
            "exact": pa.array(exact, pa.binary(16)),
            "bands": pa.FixedSizeListArray.from_arrays(
                pa.array(bands.ravel()), config.bands, mask=pa.array(~signed)
            ),
        }
    )


def _minima(grams: np.ndarray, starts: np.ndarray, config: MinHash) -> np.ndarray:
    """Give the least value of each permutation over each document: uint64 [documents, bands·rows].

    `grams` are the documents' n-gram hashes, joined; document k's begin at `starts[k]`. Whole
    documents are taken together until a chunk is full; a longer one is a chunk of its own.
    """
    size = config.bands * config.rows
    factors = [np.uint64(xxh3_64_intdigest(f"a{i}", config.seed) | 1) for i in range(size)]
    offsets = [np.uint64(xxh3_64_intdigest(f"b{i}", config.seed)) for i in range(size)]
    minima = np.empty((len(starts), size), np.uint64)
    ends = np.append(starts[1:], len(grams))
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + _CHUNK, "right")))
        part = grams[starts[first] : ends[last - 1]]
        places = starts[first:last] - starts[first]
        moved = np.empty_like(part)
        for i in range(size):
            np.multiply(part, factors[i], out=moved)
            np.add(moved, offsets[i], out=moved)
            minima[first:last, i] = np.minimum.reduceat(moved, places)
        first = last
    return minima


def find_duplicates(tables: Iterable[pa.Table], config: MinHash) -> pa.Table:
    """Decide which documents go: `DUPLICATES`, one row for each, in corpus order.

    `tables` are signatures in corpus order. `kept` is the id of the survivor, the first document
    of the cluster; `reject` is `dedup:exact` if an earlier document has the same text, else
    `dedup:near`; `row` is the document's place in the corpus. Memory: about 250 bytes a document.
    Raises ValueError if the signatures have another number of bands.
    """
    tables = list(tables)
    for table in tables:
        found = table.schema.field("bands").type.list_size
        if found != config.bands:
            raise ValueError(f"signatures have {found} bands, expected {config.bands}: sign again")
    if not tables:
        return DUPLICATES.empty_table()
    corpus = pa.concat_tables(tables).combine_chunks()
    leader = _exact_leaders(corpus.column("exact"))
    survivor = leader.copy()
    if not config.exact_only:
        survivor = _near_leaders(corpus.column("bands"), leader, config)[leader]
    dropped = np.flatnonzero(survivor != np.arange(len(survivor)))
    ids = corpus.column("id")
    reasons = np.where(leader[dropped] != dropped, "dedup:exact", "dedup:near")
    columns = [ids.take(dropped), ids.take(survivor[dropped]), pa.array(reasons, pa.string())]
    return pa.table([*columns, pa.array(dropped)], schema=DUPLICATES)


def _exact_leaders(exact: pa.ChunkedArray) -> np.ndarray:
    """Give each document the row of the first one of the same text: int64 [documents]."""
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint64, 2 * len(chunk), 16 * chunk.offset)
        for chunk in exact.chunks
        if len(chunk)
    ]
    keys = np.concatenate([np.empty(0, np.uint64), *parts]).reshape(-1, 2)
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: equal keys stay in corpus order
    return _first_of_runs(order, (keys[order[1:]] != keys[order[:-1]]).any(axis=1))


def _first_of_runs(order: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    """Give each row the first row of its run in `order`; `breaks` [n - 1] is where runs end."""
    heads = np.flatnonzero(np.append(True, breaks)) if len(order) else order
    runs = np.diff(np.append(heads, len(order)))
    first = np.empty_like(order)
    first[order] = np.repeat(order[heads], runs)
    return first


def _near_leaders(column: pa.ChunkedArray, leader: np.ndarray, config: MinHash) -> np.ndarray:
    """Give each document the first row of its cluster of band collisions: int64 [documents].

    Only the first of each exact text takes part; union-find hangs the later root on the earlier,
    so that a root is the first of its cluster in whatever order the collisions come.
    """
    rows = np.flatnonzero(column.is_valid().to_numpy())
    values = [chunk.flatten().to_numpy() for chunk in column.chunks]
    bands = np.concatenate(values).reshape(-1, config.bands) if values else np.empty((0, 0))
    alone = leader[rows] == rows
    rows, bands = rows[alone], bands[alone]
    parent = list(range(len(rows)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for band in range(config.bands):
        keys = bands[:, band]
        order = np.argsort(keys, kind="stable")
        first = _first_of_runs(order, keys[order[1:]] != keys[order[:-1]])
        later = np.flatnonzero(first != np.arange(len(first)))
        for a, b in zip(first[later].tolist(), later.tolist(), strict=True):
            a, b = sorted((root(a), root(b)))
            parent[b] = a
    survivor = np.arange(len(leader))
    survivor[rows] = rows[np.array([root(node) for node in range(len(rows))], np.int64)]
    return survivor


def drop_duplicates(
    batch: pa.RecordBatch, duplicates: pa.Table, first_row: int | None = None
) -> pa.RecordBatch:
    """Filter: every row, in order, with `reject` from `duplicates`.

    With `first_row`, the place of the batch's first row in the corpus that was signed, rows are
    found by their place, which costs two binary searches. Without it they are found by id, and
    then a document that is there twice under one id (the same source, uri and text) stays twice:
    an id cannot tell its first copy from the others. Raises ValueError if ids and places disagree.
    """
    if first_row is None:
        known = duplicates.filter(pc.not_equal(duplicates["id"], duplicates["kept"]))
        found = pc.index_in(batch.column("id"), value_set=known["id"].combine_chunks())
        reject = known["reject"].combine_chunks().take(found)
    else:
        places = duplicates["row"].to_numpy()
        here = slice(*np.searchsorted(places, [first_row, first_row + batch.num_rows]))
        reasons: list[str | None] = [None] * batch.num_rows
        part = duplicates.slice(here.start, here.stop - here.start)
        for row, name, reason in zip(
            (places[here] - first_row).tolist(),
            part["id"].to_pylist(),
            part["reject"].to_pylist(),
            strict=True,
        ):
            if batch.column("id")[row].as_py() != name:
                raise ValueError(
                    f"document {name} was signed as row {first_row + row}, found "
                    f"{batch.column('id')[row].as_py()} there: the corpus changed, sign it again"
                )
            reasons[row] = reason
        reject = pa.array(reasons, pa.string())
    return batch.append_column(pa.field("reject", pa.string()), reject)


def jaccard(a: str, b: str, ngram: int) -> float:
    """Compare two texts by the definition; 0 if neither has an n-gram. Slow: the tests' oracle."""
    sets = []
    for text in (a, b):
        found = words(text)
        sets.append({tuple(found[i : i + ngram]) for i in range(len(found) - ngram + 1)})
    union = sets[0] | sets[1]
    return len(sets[0] & sets[1]) / len(union) if union else 0.0
