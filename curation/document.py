"""The document: one row of Arrow, the only thing that passes between curation steps.

A document is a text with its origin. Every step takes record batches of `SCHEMA` and gives record
batches of `SCHEMA` back, so that steps can be put together in any order and every file that
curation writes can be read by every step. `id` is made once, when a document is first read, from
where it came from and what it said then; masking or trimming the text later leaves it alone, so a
row of a training batch can always be traced to the line of the file it began as.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import xxhash

SPAN = pa.struct(
    [("start", pa.int64()), ("end", pa.int64()), ("kind", pa.string()), ("path", pa.string())]
)
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("license", pa.string()),
        pa.field("metadata", pa.string()),
        pa.field("parents", pa.list_(pa.string())),
        pa.field("spans", pa.list_(SPAN)),
        pa.field("messages", pa.list_(MESSAGE)),
    ]
)


def document_id(source: str, uri: str, text: str) -> str:
    """Name a document: xxh3-128, in 32 hex digits, of source, uri and text, each with its length.

    The lengths keep ("ab", "c") and ("a", "bc") apart.
    """
    h = xxhash.xxh3_128()
    for part in (source, uri, text):
        data = part.encode()
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.hexdigest()


def derived_id(parents: Iterable[str], part: int) -> str:
    """Name a document made from others: xxh3-128 of their ids, in order, and its part number."""
    h = xxhash.xxh3_128()
    for parent in parents:
        h.update(bytes.fromhex(parent))
    h.update(part.to_bytes(8, "little"))
    return h.hexdigest()


def make_batch(rows: Iterable[Mapping]) -> pa.RecordBatch:
    """Build a record batch of `SCHEMA` from dictionaries, giving each an `id` if it has none.

    A row needs `text`, `source` and `domain`; everything else may be missing (null).
    """
    filled = [
        dict(row)
        if row.get("id")
        else {**row, "id": document_id(row["source"], row.get("uri") or "", row["text"])}
        for row in rows
    ]
    return pa.RecordBatch.from_pylist(filled, schema=SCHEMA)


def read_metadata(metadata: str | None, document: str) -> dict[str, Any]:
    """Read the metadata of a document; null is an empty object.

    Raises ValueError naming the document for what is not a JSON object.
    """
    try:
        value = json.loads(metadata) if metadata else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(
            f"document {document}: metadata: expected a JSON object, found {metadata[:80]!r}"
        )
    return value


def with_metadata(metadata: str | None, **values: Any) -> str:
    """Add values to a document's metadata, or replace them: JSON in, JSON out."""
    known = json.loads(metadata) if metadata else {}
    return json.dumps(known | values, ensure_ascii=False, sort_keys=True)
