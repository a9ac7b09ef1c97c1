"""Encode documents into a token shard: text in, tokens and a table of documents out.

Text is encoded once; mixing, packing and the sequence length come after it and never touch the text
again. This is the door at which fill-in-the-middle happens (`packing.fim`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from packing.fim import rewrite, wants_hole
from packing.shards import DOCUMENTS_SCHEMA, write_shard
from tok import Encoder


@dataclass(frozen=True)
class Fim:
    """How often, by domain (0 to 1), and the longest rewritten span in tokens."""

    rate: dict[str, float] = field(default_factory=lambda: {"code": 0.1})
    span_tokens: int = 4096


def encode_documents(
    batches: Iterable[pa.RecordBatch], encoder: Encoder, *, fim: Fim, bos: bool, seed: int
) -> tuple[np.ndarray, pa.Table]:
    """Encode record batches of documents.

    Each document is its tokens and one eos, after a begin token if `bos`. Returns the tokens of all
    documents (int32) and the table of them (`DOCUMENTS_SCHEMA`).
    """
    begin = [encoder.special["bos"]] if bos else []
    end = np.array([encoder.special["eos"]], np.int32)
    pieces: list[np.ndarray] = []
    tables = []
    for batch in batches:
        texts = batch.column("text").to_pylist()
        ids = batch.column("id").to_pylist()
        domains = batch.column("domain").to_pylist()
        flat, offsets = encoder.encode_batch(texts)
        lengths, atomic = [], []
        for i, text in enumerate(texts):
            plain = flat[offsets[i] : offsets[i + 1]]
            span = None
            if text and wants_hole(seed, ids[i], fim.rate.get(domains[i], 0.0)):
                tokens, (start, length) = rewrite(
                    text, plain, ids[i], encoder.encode, encoder.special, seed, fim.span_tokens
                )
                tokens = np.array(begin + tokens, np.int32)
                span = [{"start": start + len(begin), "length": length}]
            else:
                tokens = np.concatenate([np.array(begin, np.int32), plain, end])
            pieces.append(tokens)
            lengths.append(len(tokens))
            atomic.append(span)
        sizes = pc.binary_length(batch.column("text").cast(pa.large_binary()))
        columns = {
            "id": batch.column("id"),
            "source": batch.column("source"),
            "domain": batch.column("domain"),
            "language": batch.column("language"),
            "parents": batch.column("parents"),
            "bytes": sizes,
            "tokens": pa.array(lengths, pa.int64()),
            "atomic": pa.array(atomic, DOCUMENTS_SCHEMA.field("atomic").type),
            "loss_spans": pa.nulls(len(texts), DOCUMENTS_SCHEMA.field("loss_spans").type),
        }
        tables.append(pa.table(columns).cast(DOCUMENTS_SCHEMA))
    tokens = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
    return tokens, pa.concat_tables([DOCUMENTS_SCHEMA.empty_table(), *tables])


def encode_shard(
    batches: Iterable[pa.RecordBatch],
    stem: Path,
    encoder: Encoder,
    *,
    fim: Fim,
    bos: bool = False,
    seed: int = 0,
) -> pa.Table:
    """Encode documents into `stem.bin`, `.idx` and `.documents.parquet`; returns the table."""
    tokens, documents = encode_documents(batches, encoder, fim=fim, bos=bos, seed=seed)
    write_shard(stem, tokens, documents)
    return documents
