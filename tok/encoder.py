"""Encode documents into flat arrays of token ids, and back.

Text is data here: a document that spells `<｜end▁of▁sentence｜>` gets the ordinary tokens of those
characters, never the special one. Special tokens are put in by name (`Encoder.special`) by the code
that means them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from tok.special_tokens import SPECIAL_TOKENS
from tok.trainer import BYTE_OF_CHARACTER


class Encoder:
    """A tokenizer ready to encode corpora.

    special: role ("bos", "eos", "pad", "fim_begin", …) → id. vocab_size: number of ids.
    """

    def __init__(self, tokenizer: Tokenizer):
        """Take over a tokenizer; raises ValueError when one of our special tokens is missing."""
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = True
        self.vocab_size = tokenizer.get_vocab_size(with_added_tokens=True)
        self.special: dict[str, int] = {}
        for role, token in SPECIAL_TOKENS.items():
            token_id = tokenizer.token_to_id(token)
            if token_id is None:
                raise ValueError(f"the tokenizer has no token {token!r} for the role {role!r}")
            self.special[role] = token_id

    @classmethod
    def load(cls, directory: Path) -> "Encoder":
        """Read `tokenizer.json` from a directory; raises ValueError naming the file."""
        path = Path(directory) / "tokenizer.json"
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file; expected a tokenizer made by the stage `tokenizer`"
            )
        return cls(Tokenizer.from_file(str(path)))

    def encode_batch(self, texts: Sequence[str] | pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Encode texts as ordinary text, adding nothing.

        Returns ids (int32 [tokens]) and offsets (int64 [texts + 1]): text i is
        ids[offsets[i]:offsets[i + 1]].
        """
        if isinstance(texts, pa.Array | pa.ChunkedArray):
            texts = texts.to_pylist()
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        offsets = np.zeros(len(encodings) + 1, np.int64)
        pieces = []
        for i, encoding in enumerate(encodings):
            pieces.append(np.array(encoding.ids, np.int32))
            offsets[i + 1] = offsets[i] + len(pieces[-1])
        return (np.concatenate(pieces) if pieces else np.empty(0, np.int32)), offsets

    def encode(self, text: str) -> list[int]:
        """Encode one text as ordinary text, adding nothing."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes that the tokens stand for; special tokens give their spelling."""
        special = {i: SPECIAL_TOKENS[role].encode() for role, i in self.special.items()}
        pieces = []
        for i in ids:
            token = self._tokenizer.id_to_token(int(i))
            if token is None:
                raise ValueError(f"id {i} is outside the vocabulary of {self.vocab_size}")
            if int(i) in special:
                pieces.append(special[int(i)])
            else:
                pieces.append(bytes(BYTE_OF_CHARACTER[c] for c in token))
        return b"".join(pieces)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the tokens; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")
