"""From word counts to a tokenizer.

The merges are learned by the native core (`tok/native/trainer.cpp`): the most frequent pair first,
ties to the smaller ids, which is the order of `tokenizers`' `BpeTrainer`, merge for merge. What
comes out is a `tokenizers.Tokenizer`: DeepSeek-V3's layout of ids, specials first, then the 256
bytes in byte-level order, then the merges in the order they were made, then the other specials.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from tok import _native
from tok.schemes import pretokenizer
from tok.special_tokens import LEADING, TRAILING

# The 256 characters that stand for the 256 bytes in a byte-level vocabulary, in id order.
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def _byte_of_character() -> dict[str, int]:
    """GPT-2's mapping: printable Latin-1 stands for itself, the other bytes follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}


BYTE_OF_CHARACTER = _byte_of_character()


def learn_merges(
    counts: pa.Table,
    max_merges: int,
    *,
    min_count: int = 1,
    max_token_bytes: int = 128,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Learn merges from a table (`word`: large_binary, `count`: int64).

    Returns int64 [merges, 3]: the left and right symbol (0..255 are bytes in byte-level order,
    256 + i is the i-th merge) and how often the pair stood in the corpus when it was merged. Fewer
    than `max_merges` when no pair is left that occurs `min_count` times. `progress(done)` is called
    every 256 merges.
    """
    words = counts["word"].combine_chunks()
    if isinstance(words, pa.ChunkedArray):
        words = pa.concat_arrays(words.chunks)
    offsets = np.frombuffer(words.buffers()[1], np.int64)[
        words.offset : words.offset + len(words) + 1
    ]
    data = np.frombuffer(words.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    symbol_of_byte = np.empty(256, np.uint8)
    for symbol, character in enumerate(ALPHABET):
        symbol_of_byte[BYTE_OF_CHARACTER[character]] = symbol
    return _native.train(
        symbol_of_byte[data],
        offsets - offsets[0],
        counts["count"].to_numpy().astype(np.int64),
        max_merges,
        min_count,
        max_token_bytes,
        progress,
    )


def train_tokenizer(
    counts: pa.Table,
    vocab_size: int,
    scheme: str,
    *,
    bos: bool = False,
    min_count: int = 1,
    max_token_bytes: int = 128,
    progress: Callable[[int], None] | None = None,
) -> Tokenizer:
    """Train a byte-level BPE tokenizer.

    counts: table (`word`, `count`), see `tok.counts.weigh`. vocab_size: begin, end and padding
    tokens, 256 bytes and merges together; the other special tokens come on top of it. bos: whether
    the tokenizer puts the begin token before every text. Raises ValueError when vocab_size leaves
    no room for merges or the scheme is unknown.
    """
    max_merges = vocab_size - len(LEADING) - len(ALPHABET)
    if max_merges < 0:
        least = len(LEADING) + len(ALPHABET)
        raise ValueError(f"vocab_size {vocab_size} is too small: expected at least {least}")
    merges = learn_merges(
        counts,
        max_merges,
        min_count=min_count,
        max_token_bytes=max_token_bytes,
        progress=progress,
    )
    tokens = list(ALPHABET)
    for left, right, _ in merges.tolist():
        tokens.append(tokens[left] + tokens[right])
    vocab = {token: i for i, token in enumerate(LEADING.values())}
    for token in tokens:
        # Two merges can spell the same bytes; the second has no id of its own (as in `tokenizers`).
        vocab.setdefault(token, len(vocab))
    pairs = [(tokens[left], tokens[right]) for left, right, _ in merges.tolist()]

    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    tokenizer.pre_tokenizer = pretokenizer(scheme)
    tokenizer.decoder = decoders.ByteLevel()
    byte_level = processors.ByteLevel(trim_offsets=False)
    if bos:
        begin = LEADING["bos"]
        template = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, 0)]
        )
        tokenizer.post_processor = processors.Sequence([byte_level, template])
    else:
        tokenizer.post_processor = byte_level
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token in [*LEADING.values(), *TRAILING.values()]
        ]
    )
    return tokenizer
