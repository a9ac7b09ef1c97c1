"""Deduplication of whole documents as a round, on `curation.dedup`'s signatures.

The merge holds all signatures in memory, about 250 bytes a document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.dedup import MinHash, drop_duplicates, find_duplicates, signatures
from pipelines.files import atomic


@dataclass(frozen=True)
class MinHashRound:
    """Reject exact and near duplicates of earlier documents; the fields are those of `MinHash`."""

    name: ClassVar[str] = "documents"

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    seed: int = 0
    exact_only: bool = False

    def __post_init__(self) -> None:
        self._config()

    def _config(self) -> MinHash:
        return MinHash(self.ngram, self.bands, self.rows, self.seed, self.exact_only)

    def sign(self, batch: pa.RecordBatch) -> pa.Table:
        return signatures(batch, self._config())

    def merge(self, signed: Sequence[Path], out: Path, memory: int) -> None:
        table = find_duplicates((pq.read_table(path) for path in signed), self._config())
        with atomic(out / "decisions.parquet") as path:
            pq.write_table(table, path, compression="zstd")

    def apply(self, batch: pa.RecordBatch, decisions: Path, first_row: int) -> pa.RecordBatch:
        here = [("row", ">=", first_row), ("row", "<", first_row + batch.num_rows)]
        result = drop_duplicates(batch, pq.read_table(decisions, filters=here), first_row)
        reject = pc.replace_substring(result.column("reject"), "dedup:", f"{self.name}:")
        return result.set_column(result.num_columns - 1, "reject", reject)
