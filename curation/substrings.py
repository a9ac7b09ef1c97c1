"""Exact substring deduplication: a passage that the corpus has said before is cut out.

Any run of at least `tokens` (50) tokens that occurs more than once is taken out of all documents
but the first, and out of that one but for the first time (Lee et al. 2022, "Deduplicating Training
Data Makes Language Models Better", section 4.1; they found the runs with a suffix array). It
catches what MinHash cannot: the licence, the cookie notice, the poem quoted in texts that otherwise
differ.

A token is a word (letters, marks, digits, `_`), a letter of a script without spaces between words,
or a run of one other visible character, so that a ruler of dashes is one token. White space,
controls and unassigned characters are none: text that was only wrapped anew is the same. Case and
punctuation count. No tokenizer is needed, and to be fair to all languages a letter of Han, Kana and
the like and a syllable or mark of Tibetan count as half a token, a letter of Thai, Lao, Khmer and
Myanmar as a quarter: the same news in NTREX's 128 languages then has 0.7 to 1.7 times as many
tokens as in English, and most of them 0.8 to 1.3 times.

How: a *window* is the shortest run from a token on that counts 50. A repeated run is a row of
repeated windows, so what is to be cut is every window that came before, joined. Windows are
compared by 122 bits of hash of all their tokens, which come from the text itself; among 10^12
windows the chance that two different ones are ever taken for equal is about 10^-13.

* `sign`: a document's *samples* (see native/substrings.hpp; 0.1 bytes a byte of text) and its text,
  which is the shortest list of its tokens there is: Parquet with zstd makes 0.3 to 0.4 bytes of a
  byte. Signatures should be written so.
* `merge`: samples that occur once in the corpus are sorted out by an external sort; only documents
  with one that occurs twice are read, and only the windows there that have it are sorted,
  externally again. Memory is what is given, however large the corpus or its row groups.
* `apply`: cuts, and tidies the joins.

Two neighbours of a cut that now stand side by side may make a run that is elsewhere as well. Such a
run is not cut (nobody wrote it twice); only a second round would find it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation import _native

CUTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
    ]
)
_SETTING = b"substrings.tokens"  # in the metadata of the signatures' schema
_GROUP = 1 << 17  # cuts in a row group
_MARK, _WORD, _SPACE, _CONTROL, _UNSPACED = (1 << bit for bit in (1, 3, 4, 7, 9))


@dataclass(frozen=True)
class SubstringDedup:
    """Cut repeated passages; reject, as `substrings:nothing_left`, what is then too short.

    `tokens`: the length from which on a passage counts. `min_left`: characters that a document
    which was cut has to have; set it above the length of a passage, and a rejected document may
    take the only copy of one with it. `keep_first`: leave the first occurrence alone; without it,
    that is cut as well. Documents of `skip_domains` are neither cut nor compared with (code repeats
    itself by trade, and does not run with a hole in it), nor are those with `messages`, which must
    agree with their text.
    """

    name: ClassVar[str] = "substrings"

    tokens: int = 50
    min_left: int = 50
    keep_first: bool = True
    skip_domains: tuple[str, ...] = ("code",)

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= 10_000:
            raise ValueError(f"{self.name}: tokens is {self.tokens}, expected 1 to 10,000")
        if isinstance(self.skip_domains, str):
            raise ValueError(f"{self.name}: skip_domains is a string, expected a list of domains")

    def sign(self, batch: pa.RecordBatch) -> pa.Table:
        """One row a document: `samples`, and `text`, null where there are none."""
        texts = batch.column("text")
        skipped = pc.is_in(batch.column("domain"), pa.array(self.skip_domains, pa.string()))
        skipped = pc.or_(skipped, pc.is_valid(batch.column("messages")))
        skip = skipped.to_numpy(zero_copy_only=False).astype(np.uint8)
        samples, ends = _native.sample_substrings(texts, skip, self.tokens)
        offsets = np.concatenate([np.zeros(1, np.int64), ends])
        kept = pc.if_else(pa.array(np.diff(offsets) > 0), texts, pa.scalar(None, texts.type))
        return pa.table(
            {"samples": pa.LargeListArray.from_arrays(pa.array(offsets), samples), "text": kept}
        ).replace_schema_metadata({_SETTING: str(self.tokens)})

    def merge(self, signed: Sequence[Path], out: Path, memory: int) -> None:
        """Write `out / "decisions.parquet"`: `CUTS`, byte offsets of the text, sorted.

        Cuts of one document neither touch nor overlap. Raises ValueError if the signatures were
        made for another number of tokens.
        """
        merge = _native.SubstringMerge(str(out), memory, self.tokens, self.keep_first)
        row = 0
        for path in signed:
            with _open(path) as file:
                self._check(path, file.schema_arrow)
                for batch in _batches(file, range(file.num_row_groups), "samples", memory):
                    lists = batch.column("samples")
                    merge.add_samples(row, lists.values.to_numpy(), lists.offsets.to_numpy())
                    row += batch.num_rows
        merge.match()
        row = 0
        for path in signed:
            with _open(path) as file:
                for group in range(file.num_row_groups):
                    end = row + file.metadata.row_group(group).num_rows
                    if 0 <= merge.next_row() < end:
                        first = row
                        for batch in _batches(file, [group], "text", memory):
                            merge.add_texts(first, batch.column("text"))
                            first += batch.num_rows
                    row = end
        merge.decide()
        temporary = out / ".decisions.parquet.tmp"
        try:
            with pq.ParquetWriter(temporary, CUTS, compression="zstd") as writer:
                while len((cuts := merge.take(_GROUP))[0]):
                    writer.write_table(pa.table(list(cuts), schema=CUTS))
            temporary.replace(out / "decisions.parquet")
        finally:
            temporary.unlink(missing_ok=True)

    def _check(self, path: Path, schema: pa.Schema) -> None:
        found = (schema.metadata or {}).get(_SETTING, str(self.tokens).encode()).decode()
        if found != str(self.tokens):
            raise ValueError(
                f"{path} was signed for passages of {found} tokens, expected {self.tokens}: "
                "sign again"
            )

    def apply(self, batch: pa.RecordBatch, decisions: Path, first_row: int) -> pa.RecordBatch:
        """Every row, in order, cut, with `reject`; a rejected one keeps its text.

        `spans` move with the text; one that was cut away is dropped. Raises ValueError where the
        text is not the one that was signed.
        """
        texts, spans = batch.column("text"), batch.column("spans")
        reject: list[str | None] = [None] * batch.num_rows
        changed, new_texts, new_spans = [], [], {}
        for row, cuts in _read_cuts(decisions, first_row, batch.num_rows):
            text = texts[row].as_py().encode()
            try:
                kept = keep(text, cuts)
            except (IndexError, UnicodeDecodeError):
                raise ValueError(
                    f"document {batch.column('id')[row]} is not the one that was signed as row "
                    f"{first_row + row}: the corpus changed, sign it again"
                ) from None
            new = "".join(piece.before + piece.text for piece in kept)
            if len(new.strip()) < self.min_left:
                reject[row] = f"{self.name}:nothing_left"
                continue
            changed.append(row)
            new_texts.append(new)
            if spans[row].is_valid:
                new_spans[row] = move_spans(spans[row].as_py(), kept)
        if changed:
            mask = np.zeros(batch.num_rows, bool)
            mask[changed] = True
            replaced = pc.replace_with_mask(texts, pa.array(mask), pa.array(new_texts, texts.type))
            batch = batch.set_column(
                batch.schema.get_field_index("text"), batch.schema.field("text"), replaced
            )
        if new_spans:
            moved = [new_spans.get(row, old) for row, old in enumerate(spans.to_pylist())]
            batch = batch.set_column(
                batch.schema.get_field_index("spans"),
                batch.schema.field("spans"),
                pa.array(moved, spans.type),
            )
        return batch.append_column(pa.field("reject", pa.string()), pa.array(reject, pa.string()))


def _open(path: Path) -> pq.ParquetFile:
    """Open for reading page by page; by default a whole column of a row group is held."""
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)


def _batches(
    file: pq.ParquetFile, groups: Sequence[int], column: str, memory: int
) -> Iterator[pa.RecordBatch]:
    """Read one column, so many rows at a time that they take about an eighth of the memory."""
    for group in groups:
        about = file.metadata.row_group(group)
        size = sum(
            about.column(i).total_uncompressed_size
            for i in range(about.num_columns)
            if about.column(i).path_in_schema.split(".")[0] == column
        )
        rows = memory // 8 * about.num_rows // max(size, 1)
        yield from file.iter_batches(
            min(max(rows, 1), 1 << 16), row_groups=[group], columns=[column]
        )


def _read_cuts(path: Path, first: int, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Give (place in the batch, int64 [cuts, 2] of byte offsets) for its documents with cuts."""
    with _open(path) as file:
        groups = []
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).column(0).statistics
            if rows is None or (rows.max >= first and rows.min < first + count):
                groups.append(group)
        table = file.read_row_groups(groups)
    rows = table["row"].to_numpy()
    here = slice(*np.searchsorted(rows, [first, first + count]))
    cuts = np.stack([table["start"].to_numpy()[here], table["end"].to_numpy()[here]], axis=1)
    if len(cuts):
        places, starts = np.unique(rows[here] - first, return_index=True)
        yield from zip(places.tolist(), np.split(cuts, starts[1:]), strict=True)


@dataclass(frozen=True)
class Piece:
    """A part of a text that stays: where it was (bytes), what comes before it, what it says."""

    start: int
    end: int
    before: str
    text: str


def keep(text: bytes, cuts: np.ndarray) -> list[Piece]:
    """Cut a text; white space on both sides of a cut makes one space, line break or empty line.

    What was indented stays so. Nothing is put where there was no white space, unless two tokens
    would become one. Raises IndexError or UnicodeDecodeError if the cuts are not of this text.
    """
    if cuts[-1][1] > len(text):
        raise IndexError("a cut ends after the text")
    starts, ends = [0, *cuts[:, 1].tolist()], [*cuts[:, 0].tolist(), len(text)]
    kept: list[Piece] = []
    gap = ""  # white space at the end of what was kept last
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        piece = text[start:end].decode()
        left = piece.lstrip() if number else piece
        margin = piece[: len(piece) - len(left)]
        body = left.rstrip() if end < len(text) else left
        if not body:
            gap += margin if number else ""
            continue
        before = _join(kept[-1].text, gap, margin, body) if kept else ""
        at = start + len(margin.encode())
        kept.append(Piece(at, at + len(body.encode()), before, body))
        gap = left[len(body) :]
    if kept and kept[-1].end < len(text) and "\n" in gap:  # the end was cut, up to a line's end
        last = kept.pop()
        kept.append(Piece(last.start, last.end, last.before, last.text + "\n"))
    return kept


def _join(left: str, gap: str, margin: str, right: str) -> str:
    """Give what comes between two pieces whose white space was `gap` and `margin`."""
    if breaks := min(2, max(gap.count("\n"), margin.count("\n"))):
        return "\n" * breaks + margin[margin.rfind("\n") + 1 :] * ("\n" in margin)
    return " " if gap or margin or _would_join(left, right[0]) else ""


@cache
def _flags() -> np.ndarray:
    return _native.characters()[0]


def _would_join(left: str, char: str) -> bool:
    """Tell whether `char` would go on with the token at the end of `left`."""
    flags, after = _flags(), int(_flags()[ord(char)])
    base = next((c for c in reversed(left) if not flags[ord(c)] & _MARK), left[-1])
    before = int(flags[ord(left[-1])])
    if not before or before & (_SPACE | _CONTROL):
        return False
    if after & _MARK or base == char:
        return not (after & _UNSPACED and after & _WORD)
    before = int(flags[ord(base)])
    if not before or before & (_SPACE | _CONTROL | _MARK):
        before = _WORD  # marks that stand alone are a word
    return all(f & _WORD and not f & _UNSPACED for f in (before, after))


def move_spans(spans: list[dict], kept: Sequence[Piece]) -> list[dict]:
    """Move spans (byte offsets) to where their text is now; those that were cut away are dropped.

    A span that a cut lies in shrinks; one that begins or ends in a cut begins or ends at its edge.
    """
    places, at = [], 0
    for piece in kept:
        at += len(piece.before.encode())
        places.append((piece.start, piece.end, at))
        at += len(piece.text.encode())
    moved = []
    for span in spans:
        inside = [p for p in places if p[0] < span["end"] and p[1] > span["start"]]
        if inside:
            (first, _, new_first), (last, last_end, new_last) = inside[0], inside[-1]
            start = new_first + max(span["start"] - first, 0)
            end = new_last + min(span["end"], last_end) - last
            moved.append({**span, "start": start, "end": end})
    return moved
