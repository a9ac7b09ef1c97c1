"""Quality: three filters that look at the shape of a text and know no language.

`LengthFilter` counts characters. `RepetitionFilter` finds text that says the same again and again:
lines, paragraphs and n-grams of words, with the measures and thresholds of Gopher (Rae et al. 2021,
table A1). `SymbolFilter` finds text that is not made of words: symbols, bullets, ellipses, control
characters; for code also its line lengths and its share of letters (DeepSeek-Coder, section 2.1).

Words are those of `words.py`: in scripts without spaces each letter is one, and there an n-gram is
2n letters, because a written word has about two. Code repeats itself by trade and formulas are
made of symbols, so the domains `code` and `math` have thresholds of their own; a recipe may set any
field of any of them, and None turns a rule off. The first rule that a document breaks, in the order
of the fields, is its reason.
"""

import re
import unicodedata
from dataclasses import dataclass, field, fields
from functools import cache
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.words import UNSPACED, hash_ngrams, hash_words


@dataclass(frozen=True)
class LengthFilter:
    """Reject texts of fewer than `min_chars` or more than `max_chars` characters."""

    name: ClassVar[str] = "length"

    min_chars: int = 50
    max_chars: int = 2_000_000

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        lengths = pc.utf8_length(batch.column("text")).to_numpy()
        shares = {"too_short": lengths < self.min_chars, "too_long": lengths > self.max_chars}
        return _reject(batch, self.name, shares)


@dataclass(frozen=True)
class Repetition:
    """The largest shares that pass, from 0 to 1.

    A line, paragraph or n-gram is duplicate if it came before in the document; `…_characters` is
    the share of characters in such. `top_…` is the share of the most frequent n-gram's characters
    times its count, if that is at least three: in a short text anything may be said twice. N-grams
    count the characters of their words only, and each character once.
    """

    duplicate_lines: float | None = 0.30
    duplicate_line_characters: float | None = 0.20
    duplicate_paragraphs: float | None = 0.30
    duplicate_paragraph_characters: float | None = 0.20
    top_2gram: float | None = 0.20
    top_3gram: float | None = 0.18
    top_4gram: float | None = 0.16
    duplicate_5grams: float | None = 0.15
    duplicate_6grams: float | None = 0.14
    duplicate_7grams: float | None = 0.13
    duplicate_8grams: float | None = 0.12
    duplicate_9grams: float | None = 0.11
    duplicate_10grams: float | None = 0.10


@dataclass(frozen=True)
class FormalRepetition(Repetition):
    """For code and mathematics: brackets, `return` and table rows repeat, whole pages do not."""

    duplicate_lines: float | None = 0.70
    duplicate_line_characters: float | None = 0.60
    duplicate_paragraphs: float | None = 0.60
    duplicate_paragraph_characters: float | None = 0.60
    top_2gram: float | None = 0.40
    top_3gram: float | None = 0.40
    top_4gram: float | None = 0.40
    duplicate_5grams: float | None = 0.80
    duplicate_6grams: float | None = 0.75
    duplicate_7grams: float | None = 0.70
    duplicate_8grams: float | None = 0.70
    duplicate_9grams: float | None = 0.70
    duplicate_10grams: float | None = 0.70


@dataclass(frozen=True)
class RepetitionFilter:
    """Reject texts that repeat themselves, as `repetition:` and the field that was exceeded.

    `formal` is for the domains `code` and `math`, `prose` for all others.
    """

    name: ClassVar[str] = "repetition"

    prose: Repetition = field(default_factory=Repetition)
    formal: FormalRepetition = field(default_factory=FormalRepetition)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = batch.column("text").to_pylist()
        measures = np.array([_line_shares(text) for text in texts], float).reshape(-1, 4)
        names = [limit.name for limit in fields(Repetition)]
        shares = dict(zip(names[:4], measures.T, strict=True)) | _ngram_shares(texts)
        limits = {"code": self.formal, "math": self.formal}
        above = {name: shares[name] > _limit(batch, self.prose, limits, name) for name in names}
        return _reject(batch, self.name, above)


@dataclass(frozen=True)
class Symbols:
    """The largest (`max_`) and least (`min_`) values that pass; shares are from 0 to 1.

    Controls: control characters other than white space, U+FFFD, and private use, per character.
    Hashes and ellipses (`...` or `…`): per word. Symbols: punctuation and symbols per letter.
    Bullet and ellipsis lines: lines that begin with a bullet or end with an ellipsis, of all that
    are not blank. Alphabetic words: of the runs between spaces, those with a letter. Letters: per
    character that is not white space. Lines: characters, on average and in the longest.
    """

    max_controls: float | None = 0.001
    max_hashes: float | None = 0.1
    max_ellipses: float | None = 0.1
    max_symbols: float | None = 0.5
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.3
    min_alphabetic_words: float | None = 0.8
    min_letters: float | None = None
    max_mean_line: float | None = None
    max_longest_line: float | None = None


@dataclass(frozen=True)
class MathSymbols(Symbols):
    """For mathematics: formulas are welcome; what is left of a table of numbers is not."""

    max_hashes: float | None = None
    max_symbols: float | None = 1.5
    min_alphabetic_words: float | None = 0.4


@dataclass(frozen=True)
class CodeSymbols(Symbols):
    """For code: lines and letters as DeepSeek-Coder judged them, and control characters."""

    max_hashes: float | None = None
    max_ellipses: float | None = None
    max_symbols: float | None = None
    max_bullet_lines: float | None = None
    max_ellipsis_lines: float | None = None
    min_alphabetic_words: float | None = None
    min_letters: float | None = 0.25
    max_mean_line: float | None = 100
    max_longest_line: float | None = 1000


@dataclass(frozen=True)
class SymbolFilter:
    """Reject texts not made of words, as `symbols:` and the measure that was out of bounds.

    `code` and `math` are for the domains of these names, `prose` for all others.
    """

    name: ClassVar[str] = "symbols"

    prose: Symbols = field(default_factory=Symbols)
    math: MathSymbols = field(default_factory=MathSymbols)
    code: CodeSymbols = field(default_factory=CodeSymbols)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        values = _symbol_measures(batch.column("text").to_pylist())
        broken = {}
        for limit in fields(Symbols):
            bound, measure = limit.name.split("_", 1)
            special = {"code": self.code, "math": self.math}
            threshold = _limit(batch, self.prose, special, limit.name)
            found = values[measure]
            broken[measure] = found < threshold if bound == "min" else found > threshold
        return _reject(batch, self.name, broken)


def _limit(
    batch: pa.RecordBatch, usual: object, special: dict[str, object], name: str
) -> np.ndarray:
    """Give each document the threshold `name` of its domain: float64 [documents], NaN for none."""
    limits = [
        getattr(special.get(domain, usual), name) for domain in batch.column("domain").to_pylist()
    ]
    return np.array(limits, float)


def _reject(batch: pa.RecordBatch, step: str, broken: dict[str, np.ndarray]) -> pa.RecordBatch:
    """Add `reject`: the first broken rule's name after the step's."""
    reasons: list[str | None] = [None] * batch.num_rows
    for rule, rows in broken.items():
        for row in np.flatnonzero(rows):
            reasons[row] = reasons[row] or f"{step}:{rule}"
    return batch.append_column(pa.field("reject", pa.string()), pa.array(reasons, pa.string()))


_PARAGRAPH = re.compile(r"\n\s*\n")


def _line_shares(text: str) -> tuple[float, float, float, float]:
    """Measure duplicate lines and paragraphs, and their characters, blank ones left out."""
    shares: list[float] = []
    for parts in (text.split("\n"), _PARAGRAPH.split(text)):
        found = [part for part in map(str.strip, parts) if part]
        distinct = set(found)
        characters = sum(map(len, found))
        shares += (
            (len(found) - len(distinct)) / max(len(found), 1),
            (characters - sum(map(len, distinct))) / max(characters, 1),
        )
    return tuple(shares)


def _ngram_shares(texts: list[str]) -> dict[str, np.ndarray]:
    """Measure the n-grams of some documents together: name -> float64 [documents].

    Documents of which most words are single letters, as in scripts without spaces, are looked at
    again with n-grams of twice the length.
    """
    hashes, lengths, owner = hash_words(texts)
    words = np.bincount(owner, minlength=len(texts))
    letters = np.bincount(owner, lengths == 1, len(texts)) > 0.7 * words
    parts = []
    for factor, chosen in ((1, ~letters[owner]), (2, letters[owner])):
        part = hashes[chosen], lengths[chosen], owner[chosen]
        parts.append(_ngram_shares_of(*part, len(texts), factor))
    return {name: parts[0][name] + parts[1][name] for name in parts[0]}


def _ngram_shares_of(
    hashes: np.ndarray, lengths: np.ndarray, owner: np.ndarray, documents: int, factor: int
) -> dict[str, np.ndarray]:
    """Measure the n-grams of n·factor words; documents without words get 0.

    An n-gram can only repeat where its first n - 1 words do, so each length looks at what the one
    before has left, which is little: the first sort is nearly all of the cost.
    """
    ends = np.append(0, np.cumsum(lengths))  # characters of the words before each
    total = np.maximum(np.bincount(owner, lengths, documents), 1)
    shares: dict[str, np.ndarray] = {}
    places = np.arange(len(hashes))
    for size in range(2, 11):
        n = size * factor
        grams = hash_ngrams(hashes, n)
        places = places[places < len(grams)]
        places = places[owner[places] == owner[places + n - 1]]
        keys = grams[places] ^ (owner[places].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        order = np.argsort(keys, kind="stable")
        heads = np.flatnonzero(np.append(True, np.diff(keys[order]) != 0)) if len(order) else order
        counts = np.diff(np.append(heads, len(order)))
        if size <= 4:
            often = counts > 2
            first, many = places[order[heads[often]]], counts[often]
            length = ends[first + n] - ends[first]
            # The most frequent, not the greatest product, is what Gopher measures.
            rank = np.lexsort((length, many, owner[first]))
            top = np.zeros(documents)
            top[owner[first[rank]]] = (many * length)[rank]  # the last of a document wins
            shares[f"top_{size}gram"] = np.minimum(top / total, 1)
        if size >= 5:
            again = np.ones(len(order), bool)
            again[heads] = False
            cover = np.zeros(len(hashes) + 1, np.int64)
            later = places[order[again]]
            np.add.at(cover, later, 1)
            np.add.at(cover, later + n, -1)
            covered = np.cumsum(cover)[:-1] > 0
            inside = np.bincount(owner[covered], lengths[covered], documents)
            shares[f"duplicate_{size}grams"] = inside / total
        places = np.sort(places[order[np.repeat(counts > 1, counts)]])
    return shares


_SPACE, _LETTER, _UNSPACED, _SYMBOL, _CONTROL, _BULLET = (1 << i for i in range(6))


@cache
def _kinds() -> np.ndarray:
    """uint8 [0x110000]: what each code point is, as bits."""
    table = np.zeros(0x110000, np.uint8)
    for point in range(0x110000):
        char = chr(point)
        category = unicodedata.category(char)
        if char.isspace():
            table[point] = _SPACE
        elif category[0] in "LM":
            table[point] = _LETTER
        elif category[0] in "PS":
            table[point] = _SYMBOL
        elif category in ("Cc", "Co"):
            table[point] = _CONTROL
    table[0xFFFD] = _CONTROL
    for first, last in UNSPACED:
        block = table[first : last + 1]
        block[block == _LETTER] |= _UNSPACED
    for char in "-*•●○■□▪▫◆◇‣⁃∙·–—":
        table[ord(char)] |= _BULLET
    return table


def _symbol_measures(texts: list[str]) -> dict[str, np.ndarray]:
    """Measure the characters and lines of some documents together: name -> float64 [documents].

    Each document ends in a line feed of ours, so that none is empty and no run goes over its end.
    """
    if not texts:
        return {limit.name.split("_", 1)[1]: np.zeros(0) for limit in fields(Symbols)}
    joined = "\n".join([*texts, ""])
    points = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
    sizes = np.array([len(text) + 1 for text in texts])
    starts = np.append(0, np.cumsum(sizes)[:-1])
    kinds = _kinds()[points]

    def count(flags: np.ndarray) -> np.ndarray:
        return np.add.reduceat(flags, starts, dtype=np.int64)

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return part / np.maximum(whole, 1)

    space = (kinds & _SPACE) != 0
    letter = (kinds & _LETTER) != 0
    letters = count(letter)

    # Runs between spaces; a letter of an unspaced script is a run of its own.
    unspaced = (kinds & _UNSPACED) != 0
    begins = ~space
    begins[1:] &= space[:-1] | unspaced[1:] | unspaced[:-1]
    heads = np.flatnonzero(begins)
    words = count(begins)
    alphabetic = np.zeros(len(points), bool)
    if len(heads):
        alphabetic[heads] = np.logical_or.reduceat(letter, heads)

    dot = points == ord(".")
    ellipsis = points == ord("…")  # or the third dot of a run
    third = dot[2:] & dot[1:-1] & dot[:-2]
    ellipsis[2:] |= third
    ellipses = ellipsis.copy()
    ellipses[3:] &= ~(third[1:] & third[:-1])  # a run of more dots is one

    # Lines that are not blank, by their first and last visible characters.
    visible = np.flatnonzero(~space)
    ends = np.flatnonzero(points == ord("\n"))
    begin = np.append(0, ends[:-1] + 1)
    first, past = np.searchsorted(visible, begin), np.searchsorted(visible, ends)
    filled = past > first
    begin, ends, first, past = begin[filled], ends[filled], visible[first[filled]], past[filled]
    last = visible[past - 1]
    document = np.searchsorted(starts, begin, "right") - 1
    lines = np.bincount(document, minlength=len(texts))
    bullets = np.bincount(document, (kinds[first] & _BULLET) != 0, len(texts))
    trailing = np.bincount(document, ellipsis[last], len(texts))
    widths = ends - begin
    longest = np.zeros(len(texts))
    np.maximum.at(longest, document, widths)

    return {
        "controls": share(count((kinds & _CONTROL) != 0), sizes),
        "hashes": share(count(points == ord("#")), words),
        "ellipses": share(count(ellipses), words),
        "symbols": share(count((kinds & _SYMBOL) != 0), letters),
        "bullet_lines": share(bullets, lines),
        "ellipsis_lines": share(trailing, lines),
        "alphabetic_words": share(count(alphabetic), words),
        "letters": share(letters, count(~space)),
        "mean_line": share(np.bincount(document, widths, len(texts)), lines),
        "longest_line": longest,
    }
