"""Texts as callers have them, and as the native core takes them: one buffer and offsets."""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

Texts = pa.Array | pa.ChunkedArray | Sequence[str] | Sequence[bytes]


_TEXT_TYPES = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def text_arrays(texts: Texts) -> list[pa.Array]:
    """Texts as Arrow arrays of variable length, without copying any that are.

    Raises TypeError for what is neither an Arrow array of strings or binaries nor a sequence of
    str or of bytes, and UnicodeEncodeError for a str with lone surrogates.
    """
    if isinstance(texts, str | bytes):
        raise TypeError(f"texts is one {type(texts).__name__}; expected a sequence of texts")
    if not isinstance(texts, pa.Array | pa.ChunkedArray):
        rows = list(texts)
        if all(isinstance(row, bytes) for row in rows):
            texts = pa.array(rows, pa.large_binary())
        elif all(isinstance(row, str) or row is None for row in rows):
            texts = pa.array(rows, pa.large_string())
        else:
            found = sorted({type(row).__name__ for row in rows})
            raise TypeError(f"texts are {', '.join(found)}; expected all str or all bytes")
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    kind = texts.type
    if pa.types.is_null(kind) or kind in (pa.string_view(), pa.binary_view()):
        texts = texts.cast(pa.large_binary())
    elif kind not in _TEXT_TYPES:
        raise TypeError(f"texts are of Arrow type {kind}; expected strings or binaries")
    return texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]


def text_buffers(texts: Texts) -> list[tuple[np.ndarray, np.ndarray]]:
    """The texts' bytes (uint8) and offsets (int64 [texts + 1]), a pair for each Arrow chunk.

    Nothing is copied but 32-bit offsets; a null is an empty text. Raises what `text_arrays` does.
    """
    pairs = []
    for array in text_arrays(texts):
        if array.null_count:
            array = array.fill_null(b"" if "binary" in str(array.type) else "")
        wide = array.type in (pa.large_string(), pa.large_binary())
        _, offsets, data = array.buffers()
        if len(array) == 0:
            pairs.append((np.empty(0, np.uint8), np.zeros(1, np.int64)))
            continue
        ends = np.frombuffer(offsets, np.int64 if wide else np.int32)
        ends = ends[array.offset : array.offset + len(array) + 1].astype(np.int64, copy=False)
        pairs.append((np.frombuffer(data or b"", np.uint8), ends))
    return pairs


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
