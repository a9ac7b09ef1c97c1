"""Any byte-level tokenizer.json through `tokenizers`, until `tok.Encoder` reads them natively."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from tok.encoder import Encoder
from tok.trainer import BYTE_OF_CHARACTER


class ForeignEncoder(Encoder):
    """The part of `Encoder` that measuring needs, without our special tokens."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = True
        self.vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.special = {}
        self._added = {
            i: t.content.encode() for i, t in tokenizer.get_added_tokens_decoder().items()
        }

    @classmethod
    def load(cls, path: Path) -> "ForeignEncoder":
        path = Path(path)
        path = path / "tokenizer.json" if path.is_dir() else path
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file; expected a tokenizer.json or a directory of one"
            )
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # `tokenizers` raises bare Exception
            raise ValueError(f"{path}: not a tokenizer.json: {error}") from None

    def encode_batch(self, texts, **options) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(texts, pa.Array | pa.ChunkedArray):
            texts = texts.to_pylist()
        texts = [text if isinstance(text, str) else text.decode() for text in texts]
        return super().encode_batch(texts)

    def token_bytes(self, id: int) -> bytes:
        if id in self._added:
            return self._added[id]
        return bytes(BYTE_OF_CHARACTER[c] for c in self._tokenizer.id_to_token(id))
