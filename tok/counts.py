"""Word counts: all that the trainer needs to know of a corpus.

Counting is the map: each shard of text becomes a table (`word`: large_binary, `group`: string,
`count`: int64), a word's UTF-8 bytes and how often they occur in one group of documents (a domain
and a language). Merging adds the tables up by key. Counts outlive the run: another vocabulary size,
or other weights for the groups, starts from them and never reads the text again.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tok.schemes import word_splitter

COUNTS_SCHEMA = pa.schema(
    [("word", pa.large_binary()), ("group", pa.string()), ("count", pa.int64())]
)


def count_words(texts: Iterable[str], groups: Iterable[str], scheme: str) -> pa.Table:
    """Count the words of texts by group.

    texts, groups: equally long, a document's text and the group it counts for. Returns a table of
    `COUNTS_SCHEMA`, sorted by word and group. Raises ValueError when the scheme is unknown.
    """
    split = word_splitter(scheme).pre_tokenize_str
    counters: dict[str, Counter] = defaultdict(Counter)
    for text, group in zip(texts, groups, strict=True):
        counters[group].update([word for word, _ in split(text)])
    tables = [
        pa.table(
            [
                pa.array([word.encode() for word in counter], pa.large_binary()),
                pa.array([group] * len(counter), pa.string()),
                pa.array(list(counter.values()), pa.int64()),
            ],
            schema=COUNTS_SCHEMA,
        )
        for group, counter in counters.items()
    ]
    return merge_counts(tables)


def merge_counts(tables: Iterable[pa.Table]) -> pa.Table:
    """Add tables of counts up by (word, group); sorted by that key: order does not matter."""
    together = pa.concat_tables([COUNTS_SCHEMA.empty_table(), *tables])
    merged = together.group_by(["word", "group"], use_threads=False).aggregate([("count", "sum")])
    return (
        merged.rename_columns({"count_sum": "count"})
        .select(COUNTS_SCHEMA.names)
        .cast(COUNTS_SCHEMA)
        .sort_by([("word", "ascending"), ("group", "ascending")])
    )


def weigh(counts: pa.Table, weights: Mapping[str, float] | None = None) -> pa.Table:
    """Sum counts over groups: a table (`word`, `count`), sorted by word.

    weights multiply a group's counts (1 where a group is not named); products are rounded to the
    nearest integer, and words that round to 0 are dropped.
    """
    if weights:
        factors = pa.array(
            [float(weights.get(group, 1.0)) for group in counts["group"].to_pylist()], pa.float64()
        )
        product = pc.round(pc.multiply(counts["count"].cast(pa.float64()), factors))
        counts = counts.set_column(2, "count", product.cast(pa.int64()))
    total = counts.group_by("word", use_threads=False).aggregate([("count", "sum")])
    total = total.rename_columns({"count_sum": "count"}).filter(pc.field("count") > 0)
    return total.select(["word", "count"]).sort_by("word")


def read_counts(paths: Iterable[Path]) -> pa.Table:
    """Read and add up tables of counts written as Parquet."""
    return merge_counts(pq.read_table(path, schema=COUNTS_SCHEMA) for path in paths)
