"""Token shards: Megatron-Core's indexed dataset, with a table of the documents beside it.

`NAME.bin` holds the tokens of all documents end to end, int32. `NAME.idx` holds their lengths and
byte offsets, in the layout that Megatron-Core's `IndexedDataset` reads:

    "MMIDIDX\\0\\0" | u64 version 1 | u8 type 4 (int32) | u64 sequences n | u64 documents + 1
    | int32 lengths [n] | int64 byte offsets [n] | int64 first sequence of each document [n + 1]

A document is one sequence here. `NAME.documents.parquet` has a row per document, in the same order.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
_INT32 = 4

_SPAN = pa.struct([("start", pa.int64()), ("length", pa.int64())])
DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("parents", pa.list_(pa.string())),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("atomic", pa.list_(_SPAN)),
        pa.field("loss_spans", pa.list_(_SPAN)),
    ]
)


def write_index(path: Path, lengths: np.ndarray) -> None:
    """Write `.idx` for documents of these lengths (tokens, int [documents])."""
    lengths = np.asarray(lengths, "<i4")
    offsets = np.zeros(len(lengths), "<i8")
    np.cumsum(lengths[:-1], out=offsets[1:])
    with path.open("wb") as file:
        file.write(HEADER.pack(MAGIC, 1, _INT32, len(lengths), len(lengths) + 1))
        file.write(lengths.tobytes())
        file.write((offsets * 4).tobytes())
        file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())


def check_index(path: Path, data: bytes | np.ndarray) -> int:
    """The number of documents of `.idx`, whose bytes are `data`; their numbers follow `HEADER`.

    Raises ValueError, naming the file, when it is no such index or is damaged.
    """
    if len(data) < HEADER.size:
        raise ValueError(f"{path}: {len(data)} bytes, too short for an index of token shards")
    magic, version, dtype, n, documents = HEADER.unpack_from(data)
    expected = HEADER.size + 4 * n + 8 * n + 8 * documents
    if (magic, version, dtype) != (MAGIC, 1, _INT32) or len(data) != expected:
        raise ValueError(
            f"{path}: {len(data)} bytes, not a Megatron-Core index of int32 tokens, or damaged; "
            "encode again (`gristmill encode`)"
        )
    return n


def read_index(path: Path) -> np.ndarray:
    """Read the lengths (int32 [documents]) of `.idx`; raises what `check_index` does."""
    data = path.read_bytes()
    return np.frombuffer(data, "<i4", check_index(path, data), HEADER.size)


@dataclass(frozen=True)
class Shard:
    """An open shard: `tokens` int32 [tokens], mapped; `offsets` int64 [documents + 1]."""

    tokens: np.ndarray
    offsets: np.ndarray

    @classmethod
    def open(cls, stem: Path) -> "Shard":
        """Open `stem.bin` and `stem.idx`; raises ValueError when they don't belong together."""
        lengths = read_index(stem.with_name(stem.name + ".idx"))
        path = stem.with_name(stem.name + ".bin")
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        if path.stat().st_size != offsets[-1] * 4:
            raise ValueError(
                f"{path}: {path.stat().st_size} bytes, expected {offsets[-1] * 4} by its index"
            )
        empty = offsets[-1] == 0  # an empty file can't be mapped
        tokens = np.empty(0, "<i4") if empty else np.memmap(path, "<i4", mode="r")
        return cls(tokens, offsets)

    def document(self, i: int) -> np.ndarray:
        """The tokens of document i: int32 [tokens]."""
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]


def write_shard(stem: Path, tokens: np.ndarray, documents: pa.Table) -> None:
    """Write the three files of a shard.

    tokens: int32 [sum of documents["tokens"]]; documents: rows of `DOCUMENTS_SCHEMA`.
    """
    lengths = documents["tokens"].to_numpy()
    if lengths.sum() != len(tokens):
        raise ValueError(f"{stem}: {len(tokens)} tokens for documents of {lengths.sum()}")
    np.asarray(tokens, "<i4").tofile(stem.with_name(stem.name + ".bin"))
    write_index(stem.with_name(stem.name + ".idx"), lengths)
    pq.write_table(
        documents.cast(DOCUMENTS_SCHEMA),
        stem.with_name(stem.name + ".documents.parquet"),
        compression="zstd",
    )
