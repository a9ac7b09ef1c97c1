"""Word counts: all that the trainer needs to know of a corpus.

Counting is the map: each shard of text becomes a table (`word`: large_binary, `group`: string,
`count`: int64), a word's UTF-8 bytes and how often they occur in one group of documents (a domain
and a language), sorted by word and group. Tables add up by that key, in a streaming merge, so
neither counting nor merging needs more memory than it is given. Counts outlive the run: another
vocabulary size, other weights for the groups or another way of training starts from them and never
reads the text again.

The counting itself is native (`tok/native/counter.cpp`): hash tables, one a thread.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tok import _native
from tok.texts import Texts, available_threads, text_buffers

COUNTS_SCHEMA = pa.schema(
    [("word", pa.large_binary()), ("group", pa.string()), ("count", pa.int64())]
)
MOST = 1 << 53  # that a word can be counted: float64, in which counts are weighed, has no more
_ROW_GROUP = 1 << 18
_ABOUT = b"gristmill.counts"


class WordCounter:
    """Counts the words of texts by group, in bounded memory.

    scheme: see `tok.schemes`. threads: default all. memory: bytes that the hash tables may take
    before they are written to a sorted file in `spill_directory` (default: a temporary one; None
    for `memory` never spills). Raises ValueError when the scheme is unknown.
    """

    def __init__(
        self,
        scheme: str,
        *,
        threads: int | None = None,
        memory: int | None = None,
        spill_directory: Path | None = None,
    ):
        self._native = _native.Counter(scheme, threads or available_threads())
        self._groups: dict[str, int] = {}
        self._memory = memory
        self._directory = spill_directory
        self._own: tempfile.TemporaryDirectory | None = None
        self.spilled: list[Path] = []

    @property
    def held(self) -> int:
        """Bytes that the hash tables take now."""
        return self._native.memory()

    def add(self, texts: Texts, groups: str | Sequence[str] = "") -> None:
        """Count texts; groups: one name for all of them, or one for each.

        Raises ValueError when there are not as many groups as texts.
        """
        if isinstance(groups, str):
            name, at = groups, 0
            codes = np.zeros(0, np.uint32)
            if name or self._groups:
                codes = np.full(len(texts), self._code(name), np.uint32)
            else:
                self._code(name)
        else:
            if len(groups) != len(texts):
                raise ValueError(f"{len(texts)} texts but {len(groups)} groups: expected as many")
            at, codes = 0, np.array([self._code(group) for group in groups], np.uint32)
        for data, offsets in text_buffers(texts):
            n = len(offsets) - 1
            self._native.add(data, offsets, codes[at : at + n] if len(codes) else codes)
            at += n
        if self._memory is not None and self.held > self._memory:
            self.spill()

    def spill(self) -> Path:
        """Write what is counted so far to a sorted file and begin anew; returns the file."""
        if self._directory is None:
            self._own = tempfile.TemporaryDirectory(prefix="gristmill-counts-")
            self._directory = Path(self._own.name)
        path = self._directory / f"run-{len(self.spilled):05d}.parquet"
        write_counts([self._take(ordered=True)], path)
        self.spilled.append(path)
        return path

    def table(self, *, ordered: bool = True) -> pa.Table:
        """All counts as a table of `COUNTS_SCHEMA`; the counter is empty afterwards.

        ordered=False leaves the rows in no particular order, which training doesn't mind.
        """
        if not self.spilled:
            return self._take(ordered)
        return pa.Table.from_batches(self.batches(), COUNTS_SCHEMA)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All counts in order, in batches, merged from the spilled files as they are read."""
        if not self.spilled:
            yield from self._take(ordered=True).to_batches()
            return
        if self.held:
            self.spill()
        yield from merge_batches([read_batches(path) for path in self.spilled])
        self.spilled = []

    def _code(self, group: str) -> int:
        return self._groups.setdefault(group, len(self._groups))

    def _take(self, ordered: bool) -> pa.Table:
        names = sorted(self._groups) or [""]
        data, offsets, codes, counts = self._native.take(ordered)
        words = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(counts), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        )
        # The native order among groups is by code, in order of appearance; ours is by name.
        rank = np.array([names.index(group) for group in self._groups] or [0], np.int32)
        groups = pa.DictionaryArray.from_arrays(rank[codes], pa.array(names, pa.string()))
        table = pa.table([words, groups.cast(pa.string()), pa.array(counts)], schema=COUNTS_SCHEMA)
        if ordered and list(self._groups) != names:
            changed = np.flatnonzero(np.diff(rank[codes]) < 0)
            if len(changed):
                table = table.sort_by([("word", "ascending"), ("group", "ascending")])
        return table


def count_words(
    texts: Texts,
    groups: str | Sequence[str] = "",
    scheme: str = "multilingual",
    *,
    threads: int | None = None,
    ordered: bool = True,
) -> pa.Table:
    """Count the words of texts by group: a table of `COUNTS_SCHEMA`, see `WordCounter`."""
    counter = WordCounter(scheme, threads=threads)
    counter.add(texts, groups)
    return counter.table(ordered=ordered)


def read_batches(
    path: Path, columns: Sequence[str] = COUNTS_SCHEMA.names
) -> Iterator[pa.RecordBatch]:
    """Read a file of counts, or some of its columns, a row group at a time.

    Raises ValueError when the file has no counts in it.
    """
    schema = pa.schema([COUNTS_SCHEMA.field(name) for name in columns])
    wanted = f"a table of word counts ({', '.join(columns)}), as `gristmill tok count` writes"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected {wanted}")
    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                raise ValueError(f"no column {missing[0]!r}")
            for batch in file.iter_batches(_ROW_GROUP, columns=list(columns)):
                batch = batch.cast(schema)
                if empty := [c.name for c, a in zip(schema, batch, strict=True) if a.null_count]:
                    raise ValueError(f"nulls in the column {empty[0]!r}")
                found = pc.min_max(batch["count"])
                if len(batch) and not 0 <= found["min"].as_py() <= found["max"].as_py() <= MOST:
                    raise ValueError("counts below 0 or above 2^53")
                yield batch
    except (ValueError, OSError, pa.ArrowException) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path}: {why}; expected {wanted}") from None


def merge_batches(sources: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Add up sorted streams of counts by (word, group), as one sorted stream.

    Holds about two batches of each source. Up to the least of the sources' last words everything
    is known: it is summed and passed on, and only sources that end there are read further.
    """
    heads: list[pa.Table | None] = [COUNTS_SCHEMA.empty_table() for _ in sources]
    while True:
        for i, source in enumerate(sources):
            if heads[i] is not None and len(heads[i]) == 0:
                batch = next(source, None)
                heads[i] = None if batch is None else pa.Table.from_batches([batch])
        live = [i for i, head in enumerate(heads) if head is not None]
        if not live:
            return
        if any(len(heads[i]) == 0 for i in live):
            continue
        limit = min(heads[i]["word"][-1].as_py() for i in live)
        ready = []
        for i in live:
            # The last word may go on, in other groups, in the source's next batch: leave it there,
            # unless nothing else is left of this head.
            n = _first_at_or_after(heads[i]["word"], limit)
            ready.append(heads[i].slice(0, n))
            heads[i] = heads[i].slice(n)
        if not any(len(part) for part in ready):
            # All heads begin with the limit: take that word whole, reading on where it goes on.
            for i in live:
                taken, heads[i] = _take_word(heads[i], limit, sources[i])
                ready.append(taken)
        yield from merge_counts(ready).to_batches(max_chunksize=_ROW_GROUP)


def _first_at_or_after(words: pa.ChunkedArray, word: bytes, *, after: bool = False) -> int:
    """The first row whose word is not less than `word` (or is greater than it)."""
    low, high = 0, len(words)
    while low < high:
        middle = (low + high) // 2
        found = words[middle].as_py()
        if found < word or (after and found == word):
            low = middle + 1
        else:
            high = middle
    return low


def _take_word(
    head: pa.Table, word: bytes, source: Iterator[pa.RecordBatch]
) -> tuple[pa.Table, pa.Table | None]:
    parts = []
    rest: pa.Table | None = head
    while rest is not None:
        n = _first_at_or_after(rest["word"], word, after=True)
        parts.append(rest.slice(0, n))
        rest = rest.slice(n)
        if len(rest):
            break
        batch = next(source, None)
        rest = None if batch is None else pa.Table.from_batches([batch])
    return pa.concat_tables(parts), rest


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
    """Sum counts over groups: a table (`word`, `count`), sorted by word where there are several.

    weights multiply a group's counts (1 where a group is not named); a word's sum is rounded to
    the nearest integer, and words that come to 0 are dropped. Quick on sorted counts, and on counts
    of one group, which are left in their order. Raises ValueError when counts become too large.
    """
    groups = _one_array(pc.dictionary_encode(counts["group"].cast(pa.string())))
    names = groups.dictionary.to_pylist()
    words = _one_array(counts["word"])
    several = len(names) > 1
    if several and not _ascends(words):
        order = pc.sort_indices(words)
        counts, groups, words = counts.take(order), groups.take(order), words.take(order)
    values = counts["count"].to_numpy()
    if weights:
        factors = np.array([weights.get(name, 1.0) for name in names])
        values = values * factors[groups.indices.to_numpy()]
    if several:
        new = pc.not_equal(words.slice(0, len(words) - 1), words.slice(1))
        starts = np.concatenate([[0], np.flatnonzero(new.to_numpy(zero_copy_only=False)) + 1])
        values = np.add.reduceat(values, starts)
        words = words.take(pa.array(starts))
    if not values.sum(dtype=float) < 1 << 62:
        raise ValueError("the weighted counts come to over 2^62; give smaller weights")
    values = np.rint(values).astype(np.int64, copy=False)
    if not (values > 0).all():
        words, values = words.filter(pa.array(values > 0)), values[values > 0]
    return pa.table([words, pa.array(values, pa.int64())], ["word", "count"])


def _ascends(words: pa.Array) -> bool:
    return pc.all(pc.less_equal(words.slice(0, max(len(words) - 1, 0)), words.slice(1))).as_py()


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)


def temper(counts: pa.Table, temperature: float) -> dict[str, float]:
    """Weights that flatten the groups' shares: a group's bytes n become n ** (1 / temperature).

    temperature 1 leaves the shares as they are, larger values move them towards equal ones (as
    multilingual models sample languages). The weights keep the largest group's counts as they
    are. Raises ValueError when temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, found {temperature}")
    sizes = group_bytes(counts)
    largest = max(sizes.values(), default=1)
    return {
        group: (largest / size) ** (1 - 1 / temperature) if size else 1.0
        for group, size in sizes.items()
    }


def group_bytes(counts: pa.Table) -> dict[str, int]:
    """Bytes of text that each group's counts stand for."""
    size = pc.multiply(pc.binary_length(counts["word"]), counts["count"])
    sums = pa.table([counts["group"], size], ["group", "bytes"]).group_by("group")
    table = sums.aggregate([("bytes", "sum")])
    return dict(
        sorted(zip(table["group"].to_pylist(), table["bytes_sum"].to_pylist(), strict=True))
    )


def write_counts(
    parts: Iterable[pa.Table | pa.RecordBatch], path: Path, about: dict | None = None
) -> int:
    """Write sorted counts as Parquet; returns the number of rows.

    How they come in parts changes no byte. about: JSON-able, what was counted, and how; it goes
    into the file's metadata.
    """
    schema = COUNTS_SCHEMA.with_metadata({_ABOUT: json.dumps(about or {}, sort_keys=True)})
    rows, held, n_held = 0, [], 0

    def write(least: int) -> None:
        nonlocal held, n_held, rows
        if n_held < least:
            return
        table = pa.concat_tables(held).combine_chunks()
        whole = n_held if least == 1 else n_held - n_held % _ROW_GROUP
        for start in range(0, whole, _ROW_GROUP):
            part = table.slice(start, min(_ROW_GROUP, whole - start)).combine_chunks()
            writer.write_table(part.replace_schema_metadata(schema.metadata))
        rows += whole
        held, n_held = [table.slice(whole)], n_held - whole

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in parts:
            held.append(part if isinstance(part, pa.Table) else pa.Table.from_batches([part]))
            n_held += len(part)
            write(_ROW_GROUP)
        write(1)
    return rows


def about_counts(path: Path) -> dict:
    """What `write_counts` was told of a file of counts; {} for a file that says nothing.

    Raises ValueError when the file is not Parquet, or says what `write_counts` would not.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected Parquet with word counts")
    try:
        about = json.loads((pq.read_schema(path).metadata or {}).get(_ABOUT, b"{}"))
        if not isinstance(about, dict) or not isinstance(about.get("scheme", ""), str):
            raise ValueError("its metadata is damaged")
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path}: expected Parquet with word counts ({why})") from None
    return about


def read_counts(paths: Iterable[Path]) -> pa.Table:
    """Read and add up tables of counts written as Parquet, each sorted."""
    sources = [read_batches(path) for path in paths]
    if len(sources) == 1:
        return pa.Table.from_batches(sources[0], COUNTS_SCHEMA)
    return pa.Table.from_batches(merge_batches(sources), COUNTS_SCHEMA)
