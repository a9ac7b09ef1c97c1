"""Token shards, mapped: what a loader looks up for each piece, without reading a shard into memory.

The tokens and the index are the files themselves. Two columns of the documents' table, which is
Parquet and can't be mapped, are read when a shard is first touched and kept small: the sources, a
byte a document (none where a shard has one source, as a shard of one split mostly has), and the
spans that count for the loss, nothing where no document has any.

`TokenShards` is all shards of a plan, and makes arrays of tokens from pieces of them, in
`packing/native/rows.hpp`, without the interpreter's lock.
"""

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packing._native import Shards
from packing.positions import Pieces, map_file
from packing.shards import HEADER, check_index

_OTHER = "was the plan made from these shards? Make it again (`gristmill plan`)"


@dataclass(frozen=True)
class LossSpans:
    """Spans of tokens that count for the loss, of all documents of a shard.

    counts_all: bool [documents], true where a document has no list of them: all its tokens count;
    ends: int64 [documents], the running number of spans; start, length: int64 [spans].
    """

    counts_all: np.ndarray
    ends: np.ndarray
    start: np.ndarray
    length: np.ndarray


class MappedShard:
    """A shard: `tokens` int32 [tokens]; the bytes (uint8) of its index, whose numbers stand at odd
    places: `lengths` int32 [documents] in tokens, `offsets` int64 [documents] in bytes.
    """

    def __init__(self, stem: Path, sources: list[str]):
        """sources: the plan's list, whose places are the source ids.

        Raises ValueError or OSError naming the file that is missing, cut short, or of another kind.
        """
        self.stem = stem
        self._sources = sources
        path = stem.with_name(stem.name + ".idx")
        index = map_file(path)
        n = check_index(path, index)
        numbers = np.frombuffer(index, np.uint8, offset=HEADER.size)
        self.documents: int = n
        self.lengths, self.offsets = numbers[: 4 * n], numbers[4 * n : 12 * n]
        size = self._number(self.offsets, n - 1, 8) + 4 * self._tokens_of(n - 1) if n else 0
        path = stem.with_name(stem.name + ".bin")
        if path.stat().st_size != size:
            raise ValueError(
                f"{path}: {path.stat().st_size} bytes, expected {size} by its index: cut short or "
                "of another run; encode again (`gristmill encode`)"
            )
        self.tokens = np.frombuffer(map_file(path), "<i4") if size else np.empty(0, "<i4")
        path = stem.with_name(stem.name + ".documents.parquet")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file beside {stem.name}.bin")

    @staticmethod
    def _number(numbers: np.ndarray, at: int, size: int) -> int:
        return int.from_bytes(numbers[at * size : (at + 1) * size], "little", signed=True)

    def _tokens_of(self, document: int) -> int:
        return self._number(self.lengths, document, 4)

    def _table(self) -> pq.ParquetFile:
        path = self.stem.with_name(self.stem.name + ".documents.parquet")
        try:
            table = pq.ParquetFile(path, read_dictionary=["source"], memory_map=True)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path}: damaged: {error}; encode again") from None
        if table.metadata.num_rows != self.documents:
            raise ValueError(
                f"{path}: {table.metadata.num_rows:,} documents, but {self.documents:,} in "
                f"{self.stem.name}.idx: files of different runs; encode again (`gristmill encode`)"
            )
        return table

    @cached_property
    def sources(self) -> np.ndarray:
        """The source id of each document: uint8 or wider, or a single one, int [1], for all."""
        number = {source: i for i, source in enumerate(self._sources)}
        codes = np.empty(self.documents, np.min_scalar_type(len(number)))
        at = 0
        with self._table() as table:
            for batch in table.iter_batches(1 << 16, columns=["source"]):
                column = batch.column(0)
                names = column.dictionary.to_pylist()
                unknown = [name for name in names if name not in number]
                if unknown:
                    raise ValueError(
                        f"{self.stem}.documents.parquet: source {unknown[0]!r} is none of the "
                        f"plan's ({', '.join(self._sources)}): {_OTHER}"
                    )
                translate = np.array([number[name] for name in names], codes.dtype)
                # Not `to_numpy`, which imports pandas where it is installed: 30 MB.
                places = column.indices.cast("int32")
                places = np.frombuffer(places.buffers()[1], np.int32, places.offset + len(batch))
                codes[at : at + len(batch)] = translate[places[-len(batch) :]]
                at += len(batch)
        same = len(codes) > 0 and (codes == codes[0]).all()
        return codes[:1].copy() if same else codes

    @cached_property
    def loss_spans(self) -> LossSpans | None:
        """The spans that count for the loss; None where all tokens of all documents do."""
        with self._table() as table:
            # Batch by batch first: mostly there are none, and then nothing should be held.
            parts = table.iter_batches(1 << 16, columns=["loss_spans"])
            if all(part.column(0).null_count == len(part) for part in parts):
                return None
            column = table.read(columns=["loss_spans"]).column(0).combine_chunks()
        spans = column.flatten()
        counts = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        return LossSpans(
            column.is_null().to_numpy(zero_copy_only=False),
            np.cumsum(counts, dtype=np.int64),
            spans.field("start").to_numpy(),
            spans.field("length").to_numpy(),
        )

    def misfit(self, document: int, start: int, length: int) -> str:
        """What is wrong with a piece that a plan says is here."""
        has = f"{self.documents:,} documents"
        if 0 <= document < self.documents:
            has = f"{self._tokens_of(document):,} tokens in it"
        return (
            f"{self.stem}: the plan wants tokens {start:,} … {start + length - 1:,} of document "
            f"{document:,}, and there are {has}: {_OTHER}"
        )


class TokenShards:
    """The shards of a plan; the tables of each are read when a piece first asks for it.

    Any number of threads may ask at once.
    """

    def __init__(self, stems: Iterable[Path], sources: list[str]):
        """stems: in the order of the plan; sources: the plan's list. Raises as `MappedShard`."""
        self.shards = [MappedShard(stem, sources) for stem in stems]
        self._native = Shards(len(self.shards))
        self._opening = threading.Lock()

    def fill(
        self, found: Pieces, first: int, pad: int, apart: bool, arrays: Collection[np.ndarray]
    ) -> None:
        """Fill `input_ids`, `labels`, `document_ids` and `source_ids`, all [sequences, L].

        first: the position of the first sequence, for messages. Raises ValueError for a piece that
        is not in its shard.
        """
        columns = (found.ends, found.shard, found.document, found.start, found.length)
        self._until_all(found, first, lambda: self._native.fill(*columns, pad, apart, *arrays))

    def tokens(self, found: Pieces, first: int, length: int) -> np.ndarray:
        """The tokens of pieces end to end, int32 [sum of their lengths]; otherwise as `fill`.

        length: the most that a sequence may hold.
        """
        ends = np.concatenate([[0], np.cumsum(np.maximum(found.length, 0), dtype=np.int64)])
        held = np.diff(ends[found.ends], prepend=0)
        if len(held) and held.max() > length:
            row = int(held.argmax())
            raise ValueError(
                f"sequence {first + row:,} holds {held[row]:,} tokens, and there is room for "
                f"{length:,}: the plan is damaged, make it again (`gristmill plan`)"
            )
        tokens = np.empty(ends[-1], np.int32)
        columns = (found.shard, found.document, found.start, found.length)
        self._until_all(found, first, lambda: self._native.copy(*columns, tokens))
        return tokens

    def _until_all(self, found: Pieces, first: int, work: Callable[[], int]) -> None:
        """Work; if it stops, open all shards that the pieces lie in, and work anew.

        work: gives the number of the piece that it stopped on, or of all pieces.
        """
        if (k := work()) == len(found.shard):
            return
        for number in np.unique(found.shard).tolist():
            if 0 <= number < len(self.shards):
                self._open(number)
        if (k := work()) == len(found.shard):
            return
        number = int(found.shard[k])
        row = first + int(np.searchsorted(found.ends, k, side="right"))
        if not 0 <= number < len(self.shards):
            raise ValueError(
                f"sequence {row:,} has a piece of shard {number} of {len(self.shards)}: the plan "
                "is damaged, make it again (`gristmill plan`)"
            )
        piece = (int(column[k]) for column in (found.document, found.start, found.length))
        raise ValueError(f"sequence {row:,}: {self.shards[number].misfit(*piece)}")

    def _open(self, number: int) -> None:
        with self._opening:
            if not self._native.is_open(number):
                shard = self.shards[number]
                of = shard.tokens, shard.lengths, shard.offsets, shard.sources
                self._native.open(number, *of)
