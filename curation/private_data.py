"""Private data: addresses, numbers and keys in a text, replaced by ones that belong to nobody.

Looked for are e-mail addresses, IPv4 and IPv6 addresses, telephone numbers, keys (tokens of known
services, armoured private keys, passwords set in code), payment cards (Luhn's checksum) and bank
accounts (IBAN, modulo 97). What is found is replaced by an example that keeps the sentence whole,
and counted by kind in the document's metadata. Precision comes first: a version is no address, a
date or ISBN no telephone, and what is reserved for examples (example.com, 192.0.2.0/24, 555-0100)
stays, so masking twice changes nothing. Names, postal addresses and numbers without their usual
grouping are not looked for.

The search is one native pass (`native/private_data.hpp` says how), linear in the text whatever it
holds; the rules that it follows are written out as regular expressions in
`tests/curation/private_data_twin.py`. Only texts with something in them are built anew.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import _native
from curation.document import read_metadata

KINDS = ("email", "ipv4", "ipv6", "phone", "key", "card", "iban")  # the native kinds, in order


@dataclass(frozen=True)
class PrivateDataFilter:
    """Replace private data in `text` and `messages`; each kind by its text, or null to leave it.

    `metadata` gains `private_data`: kind -> how many were replaced. `spans` move with the text; a
    span that begins or ends inside of a replaced place takes in all of it. Public addresses of the
    Internet only, unless `public_ips_only` is false. With `max_found`, documents in which more was
    found are rejected, as `private_data:too_many`: lists of addresses rather than texts.

    Raises ValueError for a document whose metadata is not a JSON object.
    """

    name: ClassVar[str] = "private_data"

    email: str | None = "name@example.com"
    ipv4: str | None = "192.0.2.1"
    ipv6: str | None = "2001:db8::1"
    phone: str | None = "555-0100"
    key: str | None = "<KEY>"
    card: str | None = "0000 0000 0000 0000"
    iban: str | None = "XX00 0000 0000 0000"
    public_ips_only: bool = True
    max_found: int | None = None

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        counts = [Counter() for _ in range(batch.num_rows)]
        columns = {name: batch.column(name) for name in batch.schema.names}
        text, edits = self._mask(batch.column("text"))
        for row, places in edits.items():
            counts[row].update(KINDS[kind] for *_, kind in places)
        columns["text"] = text
        columns["messages"] = self._mask_messages(batch.column("messages"), counts)
        columns["spans"] = self._move_spans(batch.column("spans"), edits)
        columns["metadata"] = _add_counts(batch, counts)
        limit = self.max_found
        reasons = [
            f"{self.name}:too_many" if limit is not None and count.total() > limit else None
            for count in counts
        ]
        masked = pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)
        return masked.append_column(pa.field("reject", pa.string()), pa.array(reasons, pa.string()))

    def _mask(self, texts: pa.Array) -> tuple[pa.Array, dict[int, list[tuple[int, int, int]]]]:
        """Replace what is found: the new texts, and row -> (start, end, kind), bytes of the old."""
        kinds = sum(1 << i for i, kind in enumerate(KINDS) if getattr(self, kind) is not None)
        found = _native.find_private(texts, kinds, self.public_ips_only)
        edits: dict[int, list[tuple[int, int, int]]] = {}
        for row, *place in zip(*(values.tolist() for values in found), strict=True):
            edits.setdefault(row, []).append(tuple(place))
        if not edits:
            return texts, edits
        new = [self._replace(texts[row].as_py().encode(), places) for row, places in edits.items()]
        chosen = np.zeros(len(texts), bool)
        chosen[list(edits)] = True
        return pc.replace_with_mask(texts, pa.array(chosen), pa.array(new, texts.type)), edits

    def _replace(self, text: bytes, places: list[tuple[int, int, int]]) -> str:
        parts = []
        done = 0
        for start, end, kind in places:
            parts += text[done:start], getattr(self, KINDS[kind]).encode()
            done = end
        return b"".join([*parts, text[done:]]).decode()

    def _mask_messages(self, messages: pa.Array, counts: list[Counter]) -> pa.Array:
        if messages.null_count == len(messages):
            return messages
        rows = pc.list_parent_indices(messages).to_pylist()
        flat = pc.list_flatten(messages)
        content, edits = self._mask(pc.struct_field(flat, "content"))
        if not edits:
            return messages
        for at, places in edits.items():
            counts[rows[at]].update(KINDS[kind] for *_, kind in places)
        role = pc.struct_field(flat, "role")
        fields = list(messages.type.value_type)
        lengths = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False)
        offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
        return pa.ListArray.from_arrays(
            pa.array(offsets),
            pa.StructArray.from_arrays([role, content], fields=fields),
            type=messages.type,
            mask=pc.is_null(messages),
        )

    def _move_spans(self, spans: pa.Array, edits: dict[int, list]) -> pa.Array:
        moved = {row for row in edits if spans[row].is_valid}
        if not moved:
            return spans
        rows = spans.to_pylist()
        for row in moved:
            rows[row] = self._moved(rows[row], edits[row])
        return pa.array(rows, spans.type)

    def _moved(self, spans: list[dict[str, Any]], places: Sequence[tuple]) -> list[dict[str, Any]]:
        starts, ends, kinds = (np.array(column) for column in zip(*places, strict=True))
        sizes = np.array([len(getattr(self, KINDS[kind]).encode()) for kind in kinds])
        grown = np.append(0, np.cumsum(sizes - (ends - starts)))  # after each place

        def move(offset: int, is_end: bool) -> int:
            before = np.searchsorted(starts, offset, "left")  # places that begin before it
            if before and offset < ends[before - 1]:  # inside of one
                whole = starts[before - 1] + grown[before - 1]
                return int(whole + (sizes[before - 1] if is_end else 0))
            return int(offset + grown[before])

        return [
            {**span, "start": move(span["start"], False), "end": move(span["end"], True)}
            for span in spans
        ]


def _add_counts(batch: pa.RecordBatch, counts: list[Counter]) -> pa.Array:
    """The metadata with what was found in each document: kind -> number, in the order of KINDS."""
    column = batch.column("metadata")
    if not any(counts):
        return column
    rows = column.to_pylist()
    for row, count in enumerate(counts):
        if not count:
            continue
        metadata = read_metadata(rows[row], batch.column("id")[row].as_py())
        metadata["private_data"] = {kind: count[kind] for kind in KINDS if count[kind]}
        rows[row] = json.dumps(metadata, ensure_ascii=False)
    return pa.array(rows, column.type)
