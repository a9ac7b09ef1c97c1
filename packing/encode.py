"""Encode documents into a token shard: text in, tokens and a table of documents out.

Text is encoded once; mixing, packing and the sequence length come after it and never touch the text
again. This is the door at which fill-in-the-middle happens (`packing.fim`).
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from packing.draws import draw_many
from packing.fim import Fim, Rewritten, rewrite, wants_hole
from packing.shards import DOCUMENTS_SCHEMA, write_shard
from tok import Encoder


def encode_documents(
    batches: Iterable[pa.RecordBatch],
    encoder: Encoder,
    *,
    fim: Fim,
    bos: bool,
    seed: int,
    split_joined: float = 0.0,
    told: Callable[[Rewritten], None] | None = None,
) -> tuple[np.ndarray, pa.Table]:
    """Encode record batches of documents.

    Each document is its tokens and one eos, after a begin token if `bos`. split_joined: share of
    the tokens that join punctuation with line breaks which is split into the two, drawn by the
    document's id (DeepSeek-V3 §4.1, against the token-boundary bias). told: is called for every
    document that was rewritten. Returns the tokens of all
    documents (int32) and the table of them (`DOCUMENTS_SCHEMA`).
    """
    begin = [encoder.special["bos"]] if bos else []
    end = np.array([encoder.special["eos"]], np.int32)
    pieces: list[np.ndarray] = []
    tables = []
    sizes_of_tokens = _token_lengths(encoder)
    for batch in batches:
        texts = batch.column("text").to_pylist()
        ids = batch.column("id").to_pylist()
        domains = batch.column("domain").to_pylist()
        languages = batch.column("language").to_pylist()
        spans = batch.column("spans")
        keys = draw_many(seed, "split-joined", ids)
        flat, offsets = encoder.encode_batch(
            batch.column("text"), threads=1, split_joined=(split_joined, keys)
        )
        lengths, atomic = [], []
        for i, text in enumerate(texts):
            plain = flat[offsets[i] : offsets[i + 1]]
            span = None
            rate = fim.rate_of(domains[i], languages[i])
            if text and wants_hole(seed, ids[i], rate):

                def encode(part: str, key: np.ndarray = keys[i : i + 1]) -> list[int]:
                    split = (split_joined, key)
                    return encoder.encode_batch([part], threads=1, split_joined=split)[0].tolist()

                done = rewrite(
                    text, plain, ids[i], encode, encoder.special, sizes_of_tokens, seed, fim,
                    spans[i].as_py() or (),
                )  # fmt: skip
                tokens = np.array(begin + done.tokens, np.int32)
                span = [{"start": done.start + len(begin), "length": done.length}]
                if told is not None:
                    told(done)
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


def _token_lengths(encoder: Encoder) -> np.ndarray:
    """Bytes of each token: int64 [vocabulary], 0 for ids that are none."""
    lengths = np.zeros(encoder.vocab_size, np.int64)
    for i in range(encoder.vocab_size):
        with suppress(ValueError):
            lengths[i] = len(encoder.token_bytes(i))
    return lengths


def encode_shard(
    batches: Iterable[pa.RecordBatch],
    stem: Path,
    encoder: Encoder,
    *,
    fim: Fim,
    bos: bool = False,
    seed: int = 0,
    split_joined: float = 0.0,
    told: Callable[[Rewritten], None] | None = None,
) -> pa.Table:
    """Encode documents into `stem.bin`, `.idx` and `.documents.parquet`; returns the table."""
    tokens, documents = encode_documents(
        batches, encoder, fim=fim, bos=bos, seed=seed, split_joined=split_joined, told=told
    )
    write_shard(stem, tokens, documents)
    return documents
