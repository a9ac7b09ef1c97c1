"""Sampling: some documents of many files, the same ones however they are cut into files.

A document's place in the lottery is a hash of its id with a seed, and a sample is the documents of
least hash. So samples of a larger corpus have most of a smaller one's documents, and which those
are depends on nothing but ids. Files are streamed; each document is 16 bytes in memory.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from curation.formats import DAMAGE, one_line

BATCH = 1000  # documents


class Documents:
    """Parquet files of documents as one sequence.

    `keys` (uint64) are the hashes of the ids, `bytes` (int64) the lengths of the texts in UTF-8,
    `digest` a hash of all ids in order.
    """

    def __init__(self, paths: Sequence[Path], seed: int) -> None:
        """Read ids and lengths. Raises ValueError for a file that lacks a column or is damaged."""
        self.paths = list(paths)
        for path in self.paths:
            self.check(path, ("id", "text"))
        total = sum(pq.read_metadata(path).num_rows for path in self.paths)
        self.keys = np.zeros(total, np.uint64)
        self.bytes = np.zeros(total, np.int64)
        digest = xxhash.xxh3_128()
        for row, batch in self.stream(["id", "text"]):
            for name in ("id", "text"):
                if batch[name].null_count:
                    raise ValueError(f"document {row:,} or later: null in {name}, expected none")
            ids, end = batch["id"].to_pylist(), row + len(batch)
            digest.update("\n".join([*ids, ""]).encode())
            self.keys[row:end] = [xxhash.xxh3_64_intdigest(name, seed) for name in ids]
            self.bytes[row:end] = pc.binary_length(batch["text"]).to_numpy()
        self.digest = digest.hexdigest()

    @staticmethod
    def check(path: Path, columns: Collection[str]) -> None:
        """Raise ValueError unless it is a Parquet file with these columns."""
        try:
            found = pq.read_schema(path).names
        except DAMAGE as error:
            raise ValueError(f"{path}: cannot be opened as Parquet: {one_line(error)}") from None
        if missing := [name for name in columns if name not in found]:
            raise ValueError(f"{path}: no documents, for want of {' and '.join(missing)}")

    def __len__(self) -> int:
        return len(self.keys)

    def stream(self, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Read batches, each with the number of its first document."""
        row = 0
        for path in self.paths:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=BATCH, columns=columns):
                    yield row, batch
                    row += len(batch)

    def texts(self, rows: np.ndarray) -> Iterator[str]:
        """Read the texts of some documents, bool [documents], in order."""
        for row, batch in self.stream(["text"]):
            mask = rows[row : row + len(batch)]
            if mask.any():
                yield from batch["text"].filter(pa.array(mask)).to_pylist()


def least_keys(keys: np.ndarray, count: int) -> np.uint64:
    """The greatest of the `count` least keys: documents up to it are the sample."""
    if len(keys) <= count:
        return np.uint64(2**64 - 1)
    return np.partition(keys, count - 1)[count - 1] if count else np.uint64(0)


def sample_texts(
    paths: Sequence[Path], count: int, seed: int, sources: Sequence[str] | None = None
) -> Iterator[str]:
    """Read the texts of `count` documents of some Parquet files, or of all if there are fewer.

    With `sources`, only of documents from these. Raises ValueError if there are none of one.
    """
    documents = Documents(paths, seed)
    rows = np.ones(len(documents), bool)
    if sources is not None:
        found: set[str] = set()
        for row, batch in documents.stream(["source"]):
            names = batch["source"]
            found.update(pc.unique(names).to_pylist())
            rows[row : row + len(batch)] = pc.is_in(names, pa.array(sources, names.type))
        if missing := sorted(set(sources) - found):
            raise ValueError(f"no documents of source {', '.join(missing)}; found {sorted(found)}")
    yield from documents.texts(rows & (documents.keys <= least_keys(documents.keys[rows], count)))
