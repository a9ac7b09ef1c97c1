"""Words: what deduplication and the repetition rules take for one, in every script.

A word is a run of letters, combining marks, digits and underscores, in lower case. Chinese,
Japanese, Thai, Lao, Khmer, Myanmar and the like are written without spaces, so there each letter
is a word of its own (its vowel and tone marks left out): an n-gram of five words is one of five
letters. Tibetan needs no such care, its syllables have a mark between them, and Korean has spaces.
Punctuation, symbols and white space are dropped.

Each word becomes xxh3-64 of its UTF-8, and from there on all is NumPy. The hash of an n-gram is
the sum of its words' hashes, each times a power of one odd constant, modulo 2^64, mixed once more
so that n-grams that share words have nothing else in common.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import groupby

import numpy as np
from xxhash import xxh3_64_intdigest

# Blocks of scripts that are written without spaces between words.
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x3007),  # Han iteration mark, closing mark, zero
    (0x3041, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9F),  # halfwidth Katakana
    (0x20000, 0x3FFFF),  # Han
)


@cache
def _word() -> re.Pattern:
    # Python's \w has no combining marks, without which Indic words fall to pieces. The lookahead
    # keeps the common case, a space after a word, away from the long class of marks.
    points = [
        point
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point))[0] == "M"
        and not any(first <= point <= last for first, last in UNSPACED)
    ]
    runs = [[p for _, p in run] for _, run in groupby(enumerate(points), lambda x: x[1] - x[0])]
    marks = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
    unspaced = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED)
    spaced = f"[^\\W{unspaced}]"
    return re.compile(
        f"{spaced}+(?:(?=[^\x00-\x7f])[{marks}]{spaced}*)*"  # a word
        "|[^\\W\x00-\x7f]"  # a letter of an unspaced script: nothing else is left
    )


_ASCII_WORD = re.compile(r"\w+")  # equal on ASCII, and faster

_POWER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing


def words(text: str) -> list[str]:
    """Split a text into its words, in lower case."""
    return (_ASCII_WORD if text.isascii() else _word()).findall(text.lower())


def hash_words(texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hash the words of some documents, joined.

    Gives (hashes uint64 [words], characters of each int64 [words], owner int64 [words]: the place
    of the word's document in `texts`).
    """
    found: list[str] = []
    ends = []
    for text in texts:
        found += words(text)
        ends.append(len(found))
    hashes = np.fromiter(map(xxh3_64_intdigest, found), np.uint64, len(found))
    lengths = np.fromiter(map(len, found), np.int64, len(found))
    counts = np.diff(np.array([0, *ends], np.int64))
    return hashes, lengths, np.repeat(np.arange(len(counts)), counts)


def hash_ngrams(hashes: np.ndarray, n: int) -> np.ndarray:
    """Hash the n-grams that begin at each word: uint64 [words - n + 1], empty if n is larger."""
    size = max(len(hashes) - n + 1, 0)
    total = np.zeros(size, np.uint64)
    for i in range(n):
        total *= _POWER
        total += hashes[i : i + size]
    # The finaliser of splitmix64.
    total ^= total >> np.uint64(30)
    total *= np.uint64(0xBF58476D1CE4E5B9)
    total ^= total >> np.uint64(27)
    total *= np.uint64(0x94D049BB133111EB)
    total ^= total >> np.uint64(31)
    return total
