"""Words: what deduplication and decontamination take for one, in every script.

A word is a run of letters, combining marks, digits and underscores that does not begin with a mark,
in lower case (a character for a character, by the table in `native/characters.hpp`, so that it is
the same under every version of Python). Chinese, Japanese, Thai, Lao, Khmer, Myanmar and the like
are written without spaces, so there each letter is a word of its own (its vowel and tone marks left
out): an n-gram of five words is one of five letters. Tibetan needs no such care, its syllables have
a mark between them, and Korean has spaces. Punctuation, symbols and white space are dropped.

`_native.hash_words` finds and hashes words in one pass over a column of texts, at some hundreds of
MB/s (`native/words.hpp`). What is here in Python, `words`, `hash_bytes` and `hash_ngrams`, says the
same in the plainest way and is what the tests hold it to. The hash of an n-gram is the sum of its
words' hashes, each times a power of one odd constant, modulo 2^64, mixed once more so that n-grams
that share words have nothing else in common.
"""

from collections.abc import Iterable
from functools import cache

import numpy as np
import pyarrow as pa

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


_MARK, _WORD, _UNSPACED = 1 << 1, 1 << 3, 1 << 9  # bits of characters.inc
_SIZE, _MIX, _ALL = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 2**64 - 1


@cache
def _characters() -> tuple[list[int], list[int]]:
    from curation import _native  # not above: the table is made by a script that reads UNSPACED

    flags, lower = _native.characters()
    return flags.tolist(), lower.tolist()


def words(text: str) -> list[str]:
    """Split a text into its words, in lower case. Slow: the twin of the native code."""
    flags, lower = _characters()
    found: list[str] = []
    inside = False
    for point in map(ord, text):
        kind = flags[point]
        if kind & _UNSPACED:
            inside = False
            if kind & _WORD:
                found.append(chr(lower[point]))
        elif kind & _WORD or (inside and kind & _MARK):
            if inside:
                found[-1] += chr(lower[point])
            else:
                found.append(chr(lower[point]))
            inside = True
        else:
            inside = False
    return found


def hash_bytes(data: bytes) -> int:
    """Hash bytes, 64 bits; eight at a time, the last ones filled up with zeros. Slow: the twin."""
    h = len(data) * _SIZE & _ALL
    for at in range(0, len(data), 8):
        product = (h ^ int.from_bytes(data[at : at + 8], "little")) * _MIX
        h = (product ^ product >> 64) & _ALL
    return h


def hash_words(texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hash the words of some documents, joined.

    Gives (hashes uint64 [words], characters of each int64 [words], owner int64 [words]: the place
    of the word's document in `texts`).
    """
    from curation import _native

    hashes, lengths, counts = _native.hash_words(pa.array(texts, pa.large_string()))
    return hashes, lengths, np.repeat(np.arange(len(counts)), counts)


def hash_ngrams(hashes: np.ndarray, n: int) -> np.ndarray:
    """Hash the n-grams that begin at each word: uint64 [words - n + 1], empty if n is larger."""
    size = max(len(hashes) - n + 1, 0)
    total = np.zeros(size, np.uint64)
    for i in range(n):
        total *= np.uint64(_SIZE)
        total += hashes[i : i + size]
    # The finaliser of splitmix64.
    total ^= total >> np.uint64(30)
    total *= np.uint64(0xBF58476D1CE4E5B9)
    total ^= total >> np.uint64(27)
    total *= np.uint64(0x94D049BB133111EB)
    total ^= total >> np.uint64(31)
    return total
