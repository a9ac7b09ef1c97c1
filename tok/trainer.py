"""From word counts to merges.

The merges are learned by the native core (`tok/native/trainer.cpp`, `corpus.cpp`): the most
frequent pair first, ties to the smaller symbols, which is the order of `tokenizers`' `BpeTrainer`,
merge for merge. Everything else that training can do is said in terms of that one loop:

* going on from a vocabulary (`start`): its merges are made first, then new ones are learned;
* protected tokens: a vocabulary to start from that spells them;
* superwords: going on from the merges of one scheme with counts of another, whose words reach
  across spaces;
* parity: the same merges, chosen for the language that is worst off.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from tokenizers import pre_tokenizers

from tok import _native
from tok.texts import available_threads, text_buffers

# The 256 characters that stand for the 256 bytes in a byte-level vocabulary, in id order.
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def _byte_of_character() -> dict[str, int]:
    """GPT-2's mapping: printable Latin-1 stands for itself, the other bytes follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}


BYTE_OF_CHARACTER = _byte_of_character()


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and the merges that make them.

    tokens: by symbol, 0..255 the single bytes in byte-level order, then in the order they were
    made. merges: int64 [merges, 4], by rank: left and right symbol, the symbol they make (two
    merges can make the same one), and the count of the pair when it was chosen.
    """

    tokens: tuple[bytes, ...]
    merges: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, word: bytes) -> list[int]:
        """Symbols of a word, by making the merges in order: slow, for a word at a time."""
        return [self.tokens.index(part) for part in merge(word, self.ranks())]

    def ranks(self) -> dict[tuple[bytes, bytes], int]:
        """The rank of each merge by the bytes of its parts."""
        pairs = self.merges[:, :2].tolist()
        return {(self.tokens[left], self.tokens[right]): r for r, (left, right) in enumerate(pairs)}


BYTES = Vocabulary(
    tuple(bytes([BYTE_OF_CHARACTER[character]]) for character in ALPHABET),
    np.empty((0, 4), np.int64),
)


def merge(word: bytes, ranks: Mapping[tuple[bytes, bytes], int]) -> list[bytes]:
    """Merge bytes by the book: the pair of lowest rank first, the leftmost of equals. Quadratic."""
    parts = [word[i : i + 1] for i in range(len(word))]
    while len(parts) > 1:
        found = [ranks.get(pair, math.inf) for pair in pairwise(parts)]
        best = min(found)
        if best == math.inf:
            break
        i = found.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def protect(words: Iterable[bytes], start: Vocabulary = BYTES) -> Vocabulary:
    """A vocabulary in which each of the words is one token, for training to go on from.

    Merges are added to `start`, from the left, until each word is a single token; as they come
    first, these tokens are also made wherever the bytes stand within longer words. Raises
    ValueError for an empty word.
    """
    tokens = list(start.tokens)
    symbol_of = {token: i for i, token in enumerate(tokens)}
    rows = start.merges.tolist()
    ranks = start.ranks()
    for word in words:
        if not word:
            raise ValueError("a protected token is empty: expected at least one byte")
        while len(parts := merge(word, ranks)) > 1:
            left, right = parts[:2]
            if left + right not in symbol_of:
                symbol_of[left + right] = len(tokens)
                tokens.append(left + right)
            ranks[left, right] = len(rows)
            rows.append([symbol_of[left], symbol_of[right], symbol_of[left + right], 0])
    return Vocabulary(tuple(tokens), np.array(rows, np.int64).reshape(-1, 4))


def learn_merges(
    counts: pa.Table,
    max_tokens: int,
    *,
    start: Vocabulary = BYTES,
    min_count: int = 1,
    max_token_bytes: int = 128,
    forbidden: Collection[bytes] = (),
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Vocabulary:
    """Learn merges from a table (`word`: large_binary, `count`: int64), see `tok.counts.weigh`.

    max_tokens: of the vocabulary, the 256 bytes among them; fewer come out when no pair is left
    that occurs `min_count` times. max_token_bytes bounds new tokens. forbidden: tokens that must
    not be made. The result does not depend on `threads` (default: all) nor on the order of rows.
    `progress(tokens)` is called every 256 merges.
    """
    learned = _native.learn_merges(
        _words(counts),
        list(start.tokens),
        start.merges,
        max_tokens,
        min_count,
        max_token_bytes,
        list(forbidden),
        threads or available_threads(),
        progress,
    )
    return _extended(start, *learned)


def learn_merges_parity(
    counts: Mapping[str, pa.Table],
    dev: Mapping[str, pa.Table],
    max_tokens: int,
    *,
    units: Mapping[str, float] | None = None,
    window: int = 0,
    alpha: float = 2.0,
    start: Vocabulary = BYTES,
    min_count: int = 1,
    max_token_bytes: int = 128,
    forbidden: Collection[bytes] = (),
    progress: Callable[[int], None] | None = None,
) -> Vocabulary:
    """Learn merges that even out how well languages are compressed (arXiv 2508.04796).

    counts: words to choose pairs from, by language; dev: words of development texts, for the same
    languages or some of them (the others are merged along, never chosen for). units: what each
    development text amounts to; the language with the fewest units a token is helped next. Default
    1: parallel texts, which should take equally many tokens. window, alpha: a language is not
    chosen for when it has been in more than alpha * window / languages of the last `window`
    merges; 0 sets no limit. Start from the merges of `learn_merges` for the hybrid variant.
    Memory: that of all pairs of all languages, some 60 bytes a byte of distinct words.

    Raises ValueError when a development language has no counts.
    """
    missing = sorted(set(dev) - set(counts))
    if missing:
        raise ValueError(f"no word counts for the development language {missing[0]!r}")
    names = sorted(dev)
    empty = pa.table([pa.array([], pa.large_binary()), pa.array([], pa.int64())], ["word", "count"])
    languages = [
        (_words(counts[name]), _words(dev.get(name, empty)), float((units or {}).get(name, 1.0)))
        for name in names
    ]
    learned = _native.learn_merges_parity(
        languages,
        window,
        alpha,
        list(start.tokens),
        start.merges,
        max_tokens,
        min_count,
        max_token_bytes,
        list(forbidden),
        progress,
    )
    return _extended(start, *learned)


def _extended(start: Vocabulary, merges: np.ndarray, tokens: list[bytes]) -> Vocabulary:
    return Vocabulary((*start.tokens, *tokens), np.concatenate([start.merges, merges]))


def _words(counts: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    words = counts["word"].combine_chunks()
    if isinstance(words, pa.ChunkedArray):
        words = pa.concat_arrays(words.chunks or [pa.array([], pa.large_binary())])
    (data, offsets), *_ = text_buffers(words)
    return data, offsets, counts["count"].to_numpy().astype(np.int64, copy=False)
