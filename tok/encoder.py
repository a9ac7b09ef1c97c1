"""Encode documents into flat arrays of token ids, and back.

Text is data here: a document that spells `<｜end▁of▁sentence｜>` gets the ordinary tokens of those
characters, never the special one, unless the caller names it in `special_tokens`. Special tokens
are put in by name (`Encoder.special`) by the code that means them.

The work is done by the native core (`tok/native/encoder.cpp`) straight on Arrow's buffers, for
every tokenizer it understands (`tok.load`); for any other, `tokenizers` does it behind the same
face.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from tok import _native
from tok.load import Definition, parse_definition, read_definition
from tok.special_tokens import SPECIAL_TOKENS
from tok.texts import Texts, available_threads, text_arrays, text_buffers
from tok.trainer import BYTE_OF_CHARACTER

# A text is cut for the threads when it is twice as long as this.
PIECE_BYTES = 1 << 20


class Roles(dict[str, int]):
    """role → id. Asking for a role that the tokenizer lacks raises ValueError naming the token."""

    def __missing__(self, role: str) -> int:
        if role not in SPECIAL_TOKENS:
            raise ValueError(f"no role {role!r}: expected one of {list(SPECIAL_TOKENS)}")
        raise ValueError(
            f"the tokenizer has no token {SPECIAL_TOKENS[role]!r} for the role {role!r}"
        )


class Encoder:
    """A tokenizer ready to encode corpora.

    scheme: name of the pretokenizer, or None when `tokenizers` does the work (`why` says why).
    vocab_size: one more than the highest id. special: role ("bos", "eos", "pad", "fim_begin", …) →
    id.
    """

    def __init__(self, tokenizer: Tokenizer | Definition):
        """Take over a tokenizer; raises ValueError when its vocabulary is damaged."""
        if isinstance(tokenizer, Tokenizer):
            tokenizer = parse_definition(tokenizer.to_str())
        self._definition = tokenizer
        self.scheme = tokenizer.scheme
        self.why = tokenizer.why
        self._native = None
        if self.scheme is not None:
            try:
                self._native = _native.Encoder(
                    self.scheme,
                    *tokenizer.entries,
                    tokenizer.merges,
                    tokenizer.whole_words,
                    [(t.content.encode(), t.id, t.special, t.normalized) for t in tokenizer.added],
                )
            except _native.Unsuitable as error:
                self.scheme, self.why = None, str(error)
        self._added = {token.id: token for token in tokenizer.added}
        self._id_of_special = {t.content: t.id for t in tokenizer.added if t.special}
        self._id_of_added = {t.content: t.id for t in tokenizer.added}
        self._delegates: dict[frozenset[str], Tokenizer] = {}
        ids = [*tokenizer.vocab.values(), *self._added]
        self.vocab_size = max(ids, default=-1) + 1
        known = self._id_of_added | tokenizer.vocab
        self.special = Roles(
            {role: known[token] for role, token in SPECIAL_TOKENS.items() if token in known}
        )
        self._splits_set = False

    @classmethod
    def load(cls, path: Path | str) -> "Encoder":
        """Read a tokenizer.json, or the one in a directory; raises ValueError naming the file."""
        definition = read_definition(Path(path))
        try:
            encoder = cls(definition)
            if encoder.scheme is None:
                encoder._delegate(frozenset())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return encoder

    def encode_batch(
        self,
        texts: Texts,
        *,
        special_tokens: Iterable[str] = (),
        threads: int | None = None,
        split_joined: tuple[float, np.ndarray] | None = None,
        piece_bytes: int = PIECE_BYTES,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encode texts, adding nothing.

        texts: an Arrow array of strings or binaries (read where it lies), or a sequence of str or
        bytes; a null is an empty text. special_tokens: spellings of special tokens to recognise in
        the text. threads: by default all cores this process may use; they change nothing but the
        time. split_joined: (share, keys), for training: that share of the tokens that join visible
        characters with the line breaks (and indentation) behind them is replaced by the ids of the
        two parts, drawn by a hash of the text's key (keys: uint64 [texts]) and the token's index in
        its text.
        piece_bytes: texts of twice this size are cut for the threads.

        Returns ids (int32 [tokens]) and offsets (int64 [texts + 1]): text i is
        ids[offsets[i]:offsets[i + 1]]. Raises ValueError for a text that is not UTF-8, for an
        unknown special token, or for a share outside 0 to 1; TypeError when texts are no texts.
        """
        names = self._named(special_tokens)
        share, keys = split_joined if split_joined is not None else (0.0, ())
        keys = np.ascontiguousarray(keys, np.uint64)
        if self._native is None:
            return self._encode_elsewhere(texts, names, share)
        if share and not self._splits_set:
            self._native.set_joined(self._joined())
            self._splits_set = True
        arrays = text_arrays(texts)
        return self._native.encode(
            [_buffers(array) for array in arrays],
            [self._id_of_special[name] for name in names],
            available_threads() if threads is None else threads,
            piece_bytes,
            float(share),
            keys,
        )

    def encode(self, text: str | bytes, *, special_tokens: Iterable[str] = ()) -> list[int]:
        """Encode one text, adding nothing; see `encode_batch`."""
        return self.encode_batch([text], special_tokens=special_tokens)[0].tolist()

    def encode_words(self, words: Texts) -> tuple[np.ndarray, np.ndarray]:
        """Encode each word by merges alone, whatever the pretokenizer would make of it.

        Returns ids (int32) and offsets (int64 [words + 1]) as `encode_batch` does. Raises
        ValueError when the tokenizer is left to `tokenizers`.
        """
        if self._native is None:
            raise ValueError(f"this tokenizer is left to `tokenizers`: {self.why}")
        pairs = [
            self._native.encode_words(data[offsets[0] : offsets[-1]], offsets - offsets[0])
            for data, offsets in text_buffers(words) or text_buffers([])
        ]
        lengths = np.concatenate([np.diff(offsets) for _, offsets in pairs])
        return np.concatenate([ids for ids, _ in pairs]), np.concatenate([[0], np.cumsum(lengths)])

    def token_bytes(self, id: int) -> bytes:
        """The bytes of a token; of an added one its spelling. Raises ValueError for other ids."""
        found = self._bytes_of_id.get(int(id))
        if found is None:
            raise ValueError(f"id {id} is not in the vocabulary of {self.vocab_size}")
        return found

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes that the tokens stand for; special tokens give their spelling."""
        return b"".join([self.token_bytes(i) for i in ids])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the tokens; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")

    @cached_property
    def _bytes_of_id(self) -> dict[int, bytes]:
        definition = self._definition
        if definition.byte_level:
            spell = _from_byte_level
        else:  # the usual marks of SentencePiece: a block for a space, <0x0A> for a byte
            spell = _from_sentencepiece
        table = {i: spell(token) for token, i in definition.vocab.items()}
        return table | {token.id: token.content.encode() for token in definition.added}

    def _named(self, special_tokens: Iterable[str]) -> list[str]:
        if isinstance(special_tokens, str):
            raise TypeError("special_tokens is a str; expected a collection of spellings")
        names = list(dict.fromkeys(special_tokens))
        for name in names:
            if name not in self._id_of_special:
                known = sorted(self._id_of_special)[:8]
                raise ValueError(
                    f"the tokenizer has no special token {name!r}; "
                    f"it has {len(self._id_of_special)}, such as {known}"
                )
        return names

    def _joined(self) -> list[tuple[int, list[int]]]:
        """Tokens of visible characters with white space behind them in which there is a line break
        (perhaps indentation, too), and the ids of the two.
        """
        ids, words = [], []
        for token, i in self._definition.vocab.items():
            if not ("Ċ" in token or "č" in token) or i in self._added:  # bytes 0x0A and 0x0D
                continue
            whole = self.token_bytes(i)
            head = whole.decode(errors="surrogateescape").rstrip().encode(errors="surrogateescape")
            tail = whole[len(head) :]
            if head and (b"\n" in tail or b"\r" in tail):
                ids.append(i)
                words += [head, tail]
        parts, bounds = self.encode_words(words)
        return [(i, parts[bounds[2 * k] : bounds[2 * k + 2]].tolist()) for k, i in enumerate(ids)]

    def _delegate(self, names: frozenset[str]) -> Tokenizer:
        """`tokenizers`' own, recognising just these special tokens.

        It can ignore special tokens or not, all of them together; so those that are wanted are made
        ordinary added tokens, which it always recognises.
        """
        if names not in self._delegates:
            source = self._definition.source
            if names:
                tree = json.loads(source)
                for token in tree["added_tokens"]:
                    token["special"] &= token["content"] not in names
                source = json.dumps(tree)
            try:
                tokenizer = Tokenizer.from_str(source)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a panic in the library is no Exception
                raise ValueError(f"`tokenizers` cannot read it: {error}") from None
            tokenizer.no_truncation()
            tokenizer.no_padding()
            tokenizer.encode_special_tokens = True
            self._delegates[names] = tokenizer
        return self._delegates[names]

    def _encode_elsewhere(
        self, texts: Texts, names: list[str], share: float
    ) -> tuple[np.ndarray, np.ndarray]:
        if share:
            raise ValueError(
                f"tokens can't be split here: this tokenizer is left to `tokenizers` ({self.why})"
            )
        tokenizer = self._delegate(frozenset(names))
        offsets, pieces = [0], [np.empty(0, np.int32)]
        for array in text_arrays(texts):
            # Through binary, so that text that is not UTF-8 is refused rather than read.
            rows = array.cast(pa.large_binary()).to_pylist()
            try:
                rows = [(row or b"").decode() for row in rows]
            except UnicodeDecodeError as error:
                raise ValueError(f"a text is not valid UTF-8: {error}") from None
            try:
                encodings = tokenizer.encode_batch_fast(rows, add_special_tokens=False)
            except Exception as error:  # such as a WordPiece model whose unknown token is missing
                raise ValueError(f"`tokenizers` cannot encode with it: {error}") from None
            for encoding in encodings:
                pieces.append(np.array(encoding.ids, np.int32))
                offsets.append(offsets[-1] + len(pieces[-1]))
        return np.concatenate(pieces), np.array(offsets, np.int64)


def _buffers(array: pa.Array) -> tuple[int, int, int, bool, int, int, int]:
    """Where an array's data lies, as the native core takes it."""
    valid, offsets, data = array.buffers()
    wide = array.type in (pa.large_string(), pa.large_binary())
    if not len(array):
        return 0, 0, 0, wide, 0, 0, 0
    end = array.offset + len(array)
    if offsets is None or offsets.size < (end + 1) * (8 if wide else 4):
        raise ValueError("the Arrow array's offsets are shorter than the array: it is damaged")
    if valid is not None and valid.size * 8 < end:
        raise ValueError("the Arrow array's validity is shorter than the array: it is damaged")
    return (
        data.address if data is not None else 0,
        data.size if data is not None else 0,
        offsets.address,
        wide,
        array.offset,
        len(array),
        valid.address if valid is not None else 0,
    )


def _from_byte_level(token: str) -> bytes:
    try:
        return bytes([BYTE_OF_CHARACTER[character] for character in token])
    except KeyError:
        return token.encode()


def _from_sentencepiece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes.fromhex(token[3:5])
        except ValueError:
            pass
    return token.replace("▁", " ").encode()
