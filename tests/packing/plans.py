"""Small corpora of documents, and reading back what a plan made of them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from packing.shards import DOCUMENTS_SCHEMA


@dataclass
class Document:
    """A row of a table of documents; its id is a function of `name`."""

    name: int
    tokens: int
    domain: str = "web"
    source: str = "a"
    language: str | None = "eng_Latn"
    atomic: list[tuple[int, int]] = field(default_factory=list)
    parents: list[str] | None = None

    @property
    def id(self) -> str:
        return xxhash.xxh3_128_hexdigest(str(self.name).encode())


def write_tables(folder: Path, shards: list[list[Document]]) -> list[Path]:
    """The tables of documents of token shards, without the tokens, which no plan reads."""
    folder.mkdir(parents=True, exist_ok=True)
    stems = []
    for k, documents in enumerate(shards):
        rows = [
            {
                "id": d.id, "source": d.source, "domain": d.domain, "language": d.language,
                "parents": d.parents, "bytes": 4 * d.tokens, "tokens": d.tokens,
                "atomic": [{"start": s, "length": n} for s, n in d.atomic] or None,
                "loss_spans": None,
            }
            for d in documents
        ]  # fmt: skip
        stems.append(folder / f"shard-{k:05d}")
        table = pa.Table.from_pylist(rows, schema=DOCUMENTS_SCHEMA)
        pq.write_table(table, f"{stems[-1]}.documents.parquet", row_group_size=7)
    return stems


def sequences(plan: Path, entry: dict) -> list[list[dict]]:
    """The rows of a set of a plan, each a list of pieces."""
    rows = []
    for name in entry["files"]:
        with pa.ipc.open_file(str(plan / name)) as file:
            rows += file.read_all()["pieces"].to_pylist()
    assert len(rows) == entry["sequences"]
    return rows


def coverage(rows: list[list[dict]], shards: list[list[Document]]) -> dict[str, np.ndarray]:
    """How often each token of each document stands in rows, by the document's id."""
    seen = {d.id: np.zeros(d.tokens, int) for documents in shards for d in documents}
    for row in rows:
        for piece in row:
            document = shards[piece["shard"]][piece["document"]]
            seen[document.id][piece["start"] : piece["start"] + piece["length"]] += 1
    return seen
