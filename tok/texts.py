"""Texts as callers have them, and as the native core takes them: one buffer and offsets."""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

Texts = pa.Array | pa.ChunkedArray | Sequence[str] | Sequence[bytes]


def text_buffers(texts: Texts) -> list[tuple[np.ndarray, np.ndarray]]:
    """The texts' bytes (uint8) and offsets (int64 [texts + 1]), a pair for each Arrow chunk.

    Arrow arrays of (large_)string or (large_)binary are not copied; a null is an empty text.
    Raises TypeError for anything else that is no sequence of str or bytes, and UnicodeEncodeError
    for a str with lone surrogates.
    """
    if isinstance(texts, pa.ChunkedArray):
        return [pair for chunk in texts.chunks for pair in text_buffers(chunk)]
    if not isinstance(texts, pa.Array):
        if isinstance(texts, str | bytes):
            raise TypeError("expected a sequence of texts, found one text")
        return text_buffers(
            pa.array([t.encode() if isinstance(t, str) else t for t in texts], pa.large_binary())
        )
    kind = texts.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        width = np.int32
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        width = np.int64
    else:
        raise TypeError(f"expected an Arrow array of strings or binary, found {kind}")
    if texts.null_count:
        texts = texts.fill_null(b"" if "binary" in str(kind) else "")
    _, offsets, data = texts.buffers()
    if len(texts) == 0:
        return [(np.empty(0, np.uint8), np.zeros(1, np.int64))]
    ends = np.frombuffer(offsets, width)[texts.offset : texts.offset + len(texts) + 1]
    return [(np.frombuffer(data or b"", np.uint8), ends.astype(np.int64, copy=False))]


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
