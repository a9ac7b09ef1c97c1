"""Deduplication of paragraphs: what a corpus says twice, word for word, it says once.

Licences, cookie notices and menus stand on pages that are otherwise different, where no comparison
of whole documents finds them. Each paragraph of a text (between blank lines; or each line) of
`min_chars` characters or more, with its white space normalised, is hashed; the merge sorts all
hashes and has those removed that came before, in the corpus or in the same document (as Lee et al.
2022 and C4 do with suffixes and sentences). What is left of the text stays as it is, byte for byte.

Cost: 28 bytes of disk for each paragraph and one external sort; memory, what the merge is given.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from xxhash import xxh3_128_digest

from curation import _native
from curation.merging import (
    binary_ids,
    decisions_of,
    digests,
    drain,
    groups,
    hex_ids,
    step_for,
    stream,
    with_ids,
    write_tables,
)

DECISIONS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("remove", pa.list_(pa.int64()), nullable=False),
    ]
)
_SEPARATORS = {"paragraph": re.compile(r"\n\s*\n"), "line": re.compile(r"\n")}


@dataclass(frozen=True)
class ParagraphDedup:
    """Remove every paragraph that the corpus has before; reject documents with too little left.

    `unit` is what is compared: `paragraph`, between blank lines, or `line`. Shorter ones than
    `min_chars` characters stay. A document that lost some and has fewer than `min_left` characters
    left, white space at its ends aside, is rejected as `paragraphs:nothing_left`, with its text as
    it was.
    """

    name: ClassVar[str] = "paragraphs"

    unit: Literal["paragraph", "line"] = "paragraph"
    min_chars: int = 100
    min_left: int = 50

    def __post_init__(self) -> None:
        if self.unit not in _SEPARATORS:
            raise ValueError(f"{self}: unknown unit {self.unit!r}, expected paragraph or line")
        if self.min_chars < 1 or self.min_left < 0:
            raise ValueError(f"{self}: min_chars must be at least 1, min_left at least 0")

    def sign(self, batch: pa.RecordBatch) -> pa.Table:
        """Sign the documents of a batch, in order.

        Columns: `id`, 16 bytes; `paragraphs`, a list of the xxh3-128 of each paragraph that is long
        enough, in the order of the text.
        """
        data, ends, counts = _native.paragraphs(
            batch.column("text"), self.unit == "line", self.min_chars
        )
        view, ends = memoryview(data), [0, *ends.tolist()]
        hashed = [xxh3_128_digest(view[start:end]) for start, end in pairwise(ends)]
        places = pa.array(np.append(0, np.cumsum(counts)), pa.int32())
        columns = {
            "id": binary_ids(batch.column("id")),
            "paragraphs": pa.ListArray.from_arrays(places, pa.array(hashed, pa.binary(16))),
        }
        return pa.table(columns)

    def merge(self, signed: Sequence[Path], out: Path, memory: int) -> None:
        """Write `out/decisions.parquet`: `DECISIONS`, for each document that loses some, by row.

        `remove` counts the document's paragraphs that are long enough, from 0.
        """
        out.mkdir(parents=True, exist_ok=True)
        step = step_for(memory)
        keys = _native.sorter(str(out), 4, memory // 2)
        for first, batch in stream(signed, ["paragraphs"], max(step // 64, 16)):
            column = batch.column(0)
            ends = column.offsets.to_numpy()
            lengths = np.diff(ends)
            rows = np.repeat(np.arange(first, first + len(column)), lengths)
            places = np.arange(ends[0], ends[-1]) - np.repeat(ends[:-1], lengths)
            keys.add(np.column_stack([digests(column.flatten()), rows, places]).astype(np.uint64))
        again = _native.sorter(str(out), 2, memory // 4)
        for records, new, _ in groups(keys, 2, step):
            again.add(np.ascontiguousarray(records[~new, 2:]))
        write_tables(out / "decisions.parquet", DECISIONS, _tables(again, signed, step))

    def apply(self, batch: pa.RecordBatch, decisions: Path, first_row: int) -> pa.RecordBatch:
        """Transform and filter: every row, in order, without its repeated paragraphs.

        Adds `reject`. `spans` are moved; those of which nothing is left are dropped. Raises
        ValueError if a document is not the one that was signed at its row.
        """
        found = decisions_of(batch, decisions, first_row)
        places, removes = found["row"].to_pylist(), found["remove"].to_pylist()
        reasons: list[str | None] = [None] * len(batch)
        if places:
            texts, spans = batch.column("text").to_pylist(), batch.column("spans").to_pylist()
            for place, remove in zip(places, removes, strict=True):
                cuts = _cuts(texts[place], self, set(remove))
                left = _without(texts[place], cuts)
                if len(left.strip()) < self.min_left:
                    reasons[place] = "paragraphs:nothing_left"
                    continue
                if spans[place] is not None:
                    spans[place] = _moved(spans[place], texts[place], cuts)
                texts[place] = left
            for name, values in (("text", texts), ("spans", spans)):
                at = batch.schema.get_field_index(name)
                field = batch.schema.field(at)
                batch = batch.set_column(at, field, pa.array(values, field.type))
        return batch.append_column(pa.field("reject", pa.string()), pa.array(reasons, pa.string()))


def split(text: str, unit: str) -> list[tuple[int, int]]:
    """Find the paragraphs or lines of a text: where each begins and ends, in characters.

    With `normal` the twin of `_native.paragraphs`, which signs at some hundreds of MB/s.
    """
    pieces, start = [], 0
    for separator in _SEPARATORS[unit].finditer(text):
        pieces.append((start, separator.start()))
        start = separator.end()
    return [*pieces, (start, len(text))]


def normal(piece: str) -> str:
    """Make each run of white space in a paragraph one space, and leave out those at its ends."""
    return " ".join(piece.split())


def _cuts(text: str, config: ParagraphDedup, remove: set[int]) -> list[tuple[int, int]]:
    """Say which ranges of characters go: each piece with what separates it from the next.

    Where the last pieces go, the separator before them goes and what is after them stays.
    """
    pieces = split(text, config.unit)
    cuts: list[tuple[int, int]] = []
    place, kept = 0, 0  # the place among the long ones; the end of the last piece that stays
    for number, (start, end) in enumerate(pieces):
        goes = False
        if end - start >= config.min_chars and len(normal(text[start:end])) >= config.min_chars:
            goes = place in remove
            place += 1
        if goes:
            after = pieces[number + 1][0] if number + 1 < len(pieces) else end
            if cuts and cuts[-1][1] == start:
                start = cuts.pop()[0]
            cuts.append((start, after))
        else:
            kept = end
    if cuts and cuts[-1][1] == pieces[-1][1]:
        cuts[-1] = (min(kept, cuts[-1][0]), cuts[-1][1])
    return cuts


def _without(text: str, cuts: list[tuple[int, int]]) -> str:
    parts, start = [], 0
    for first, end in cuts:
        parts.append(text[start:first])
        start = end
    return "".join([*parts, text[start:]])


def _moved(spans: list[dict], text: str, cuts: list[tuple[int, int]]) -> list[dict]:
    """Move spans, in bytes, to where their text is after the cuts, in characters."""
    bytes_at = {0: 0}
    before = 0
    for place in sorted({place for cut in cuts for place in cut}):
        bytes_at[place] = bytes_at[before] + len(text[before:place].encode())
        before = place
    ranges = [(bytes_at[first], bytes_at[end]) for first, end in cuts]

    def moved(place: int) -> int:
        return place - sum(min(place, end) - first for first, end in ranges if first < place)

    found = [span | {"start": moved(span["start"]), "end": moved(span["end"])} for span in spans]
    return [
        new
        for new, old in zip(found, spans, strict=True)
        if new["start"] < new["end"] or old["start"] == old["end"]
    ]


def _tables(again: "_native.Sorter", signed: Sequence[Path], step: int) -> Iterator[pa.Table]:
    """Make the decisions out of records (row, place among its long paragraphs), sorted."""
    for records, ids in with_ids(_whole(drain(again, step)), 0, signed, step):
        heads = np.flatnonzero(np.append(True, records[1:, 0] != records[:-1, 0]))
        remove = pa.ListArray.from_arrays(
            pa.array(np.append(heads, len(records)), pa.int32()),
            pa.array(records[:, 1].astype(np.int64)),
        )
        rows = pa.array(records[heads, 0].astype(np.int64))
        yield pa.table([rows, pa.array(hex_ids(ids[heads])), remove], schema=DECISIONS)


def _whole(chunks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Cut chunks anew so that no document is in two of them."""
    waiting: list[np.ndarray] = []
    for records in chunks:
        new = np.flatnonzero(records[:, 0] != (waiting or [records])[-1][-1, 0])
        cut = int(np.searchsorted(records[:, 0], records[-1, 0]))
        if waiting and not len(new):
            waiting.append(records)
            continue
        if waiting or cut:
            yield np.concatenate([*waiting, records[:cut]])
        waiting = [records[cut:]]
    if waiting:
        yield np.concatenate(waiting)
