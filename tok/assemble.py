"""From merges to a tokenizer as `tokenizers` knows it.

Ids follow DeepSeek-V3's layout: begin, end and padding, the 256 bytes in byte-level order, the
merges in the order they were made, then the other special tokens, then reserved ones.
"""

import json
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
from tokenizers import AddedToken, Tokenizer, decoders, models, processors

from tok.schemes import pretokenizer
from tok.special_tokens import LEADING, TRAILING, placeholder
from tok.trainer import ALPHABET, BYTE_OF_CHARACTER, Vocabulary, learn_merges, protect

_CHARACTER_OF_BYTE = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}


def spell(token: bytes) -> str:
    """A token's bytes in the byte-level alphabet, as vocabularies write them."""
    return "".join(map(_CHARACTER_OF_BYTE.__getitem__, token))


def assemble(
    vocabulary: Vocabulary, scheme: str, *, bos: bool = False, reserved: int = 0
) -> Tokenizer:
    """Make a tokenizer of a vocabulary.

    bos: whether it puts the begin token before every text. reserved: special tokens without a
    meaning yet, at the end. Raises ValueError when the scheme is unknown.
    """
    tokens = [spell(token) for token in vocabulary.tokens]
    vocab = {token: i for i, token in enumerate([*LEADING.values(), *tokens])}
    pairs = [(tokens[left], tokens[right]) for left, right in vocabulary.merges[:, :2].tolist()]
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
    special = [*LEADING.values(), *TRAILING.values(), *map(placeholder, range(reserved))]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return tokenizer


def max_tokens(vocab_size: int) -> int:
    """Bytes and merges in a vocabulary of `vocab_size`, begin, end and padding being part of it.

    Raises ValueError when the bytes do not fit.
    """
    left = vocab_size - len(LEADING)
    if left < len(ALPHABET):
        least = len(LEADING) + len(ALPHABET)
        raise ValueError(f"vocab_size {vocab_size} is too small: expected at least {least}")
    if vocab_size >= 1 << 31:
        raise ValueError(f"vocab_size {vocab_size} is too large: ids have 31 bits")
    return left


def train_tokenizer(
    counts: pa.Table,
    vocab_size: int,
    scheme: str,
    *,
    bos: bool = False,
    reserved: int = 0,
    min_count: int = 1,
    max_token_bytes: int = 128,
    protected: Iterable[bytes] = (),
    forbidden: Iterable[bytes] = (),
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tokenizer:
    """Train a byte-level BPE tokenizer on word counts (`word`, `count`), see `tok.counts.weigh`.

    vocab_size: begin, end and padding tokens, 256 bytes and merges together; the other special
    tokens come on top of it. Raises ValueError when vocab_size leaves no room for merges or the
    scheme is unknown.
    """
    pretokenizer(scheme)  # an unknown one is told before the work, not after it
    vocabulary = learn_merges(
        counts,
        max_tokens(vocab_size),
        start=protect(protected),
        min_count=min_count,
        max_token_bytes=max_token_bytes,
        forbidden=list(forbidden),
        threads=threads,
        progress=progress,
    )
    return assemble(vocabulary, scheme, bos=bos, reserved=reserved)


def extend_tokenizer(
    tokenizer: Tokenizer,
    counts: pa.Table,
    new_tokens: int,
    *,
    min_count: int = 1,
    max_token_bytes: int = 128,
    forbidden: Iterable[bytes] = (),
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tokenizer:
    """Add tokens to a byte-level BPE tokenizer by going on with its merges.

    counts: words of new text, cut by the tokenizer's own pretokenizer. Every id keeps its token;
    the new ones follow the last id, special tokens included, so rows of an embedding stay valid.
    Raises ValueError when the model is no byte-level BPE with merges that go with its vocabulary.
    """
    content = json.loads(tokenizer.to_str())
    start = vocabulary_of(content)
    vocabulary = learn_merges(
        counts,
        len(start) + new_tokens,
        start=start,
        min_count=min_count,
        max_token_bytes=max_token_bytes,
        forbidden=list(forbidden),
        threads=threads,
        progress=progress,
    )
    model = content["model"]
    # An added token unknown to the model would move to the end of the vocabulary when it is read.
    for added in content["added_tokens"]:
        model["vocab"].setdefault(added["content"], added["id"])
    following = max(model["vocab"].values()) + 1
    for token in vocabulary.tokens[len(start) :]:
        model["vocab"][spell(token)] = following
        following += 1
    model["merges"] += [
        [spell(vocabulary.tokens[left]), spell(vocabulary.tokens[right])]
        for left, right in vocabulary.merges[len(start.merges) :, :2].tolist()
    ]
    return Tokenizer.from_str(json.dumps(content, ensure_ascii=False))


def vocabulary_of(content: dict) -> Vocabulary:
    """The vocabulary of a `tokenizer.json`'s content.

    Tokens that no merge makes are left out. Raises ValueError when it is no byte-level BPE.
    """
    model = content.get("model", {})
    if model.get("type") != "BPE":
        raise ValueError(f"expected a BPE model, found {model.get('type')!r}")
    ids = model["vocab"]
    missing = [character for character in ALPHABET if character not in ids]
    if missing:
        raise ValueError(
            f"expected a byte-level vocabulary: no token for byte {BYTE_OF_CHARACTER[missing[0]]}"
        )
    tokens = list(ALPHABET)
    symbol_of = {token: i for i, token in enumerate(tokens)}
    rows = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        joined = left + right
        if left not in symbol_of or right not in symbol_of or joined not in ids:
            raise ValueError(f"the merge of {left!r} and {right!r} does not go with the vocabulary")
        if joined not in symbol_of:
            symbol_of[joined] = len(tokens)
            tokens.append(joined)
        rows.append([symbol_of[left], symbol_of[right], symbol_of[joined], 0])
    spelled = tuple(bytes(BYTE_OF_CHARACTER[c] for c in token) for token in tokens)
    return Vocabulary(spelled, np.array(rows, np.int64).reshape(-1, 4))
