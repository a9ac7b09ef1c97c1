"""Fill-in-the-middle: teach the model to write what is missing between a prefix and a suffix.

At document level, before packing (DeepSeek-V3, section 4.1): with probability `rate` a document's
text is cut at two places into prefix, middle and suffix, and written as PSM:

    <fim_begin> prefix <fim_hole> suffix <fim_end> middle <eos>

The three parts are cut in text and encoded apart, as an editor would send them. A document longer
than `span_tokens` has only a window of itself rewritten: what stands before and after it stays
plain. Inside such a document the middle still ends with <eos>, since that is what tells the model
to stop; the document's own <eos> comes at its end as always. The rewritten span is atomic: packing
never cuts inside it, so no middle is ever parted from its prefix.

Whether and where is a function of the seed and the document's id alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from packing.draws import draw, draw_fraction

SPECIALS_IN_SPAN = 4  # fim_begin, fim_hole, fim_end and eos


@dataclass(frozen=True)
class Hole:
    """Where a document is cut, in characters: window [start, end), middle [first, last)."""

    start: int
    first: int
    last: int
    end: int


def wants_hole(seed: int, document_id: str, rate: float) -> bool:
    """Whether this document is rewritten, at this rate (0 to 1)."""
    return draw_fraction(seed, "fim", document_id) < rate


def choose_hole(seed: int, document_id: str, characters: int, window: int) -> Hole:
    """Cut a text of `characters` in a window of at most `window` of them.

    The window's place is uniform, and so are the two cuts inside it; any part may be empty.
    """
    window = min(window, characters)
    start = draw(seed, "fim-window", document_id) % (characters - window + 1)
    cuts = sorted(draw(seed, "fim-cut", document_id, k) % (window + 1) for k in (0, 1))
    return Hole(start, start + cuts[0], start + cuts[1], start + window)


def rewrite(
    text: str,
    plain: np.ndarray,
    document_id: str,
    encode: Callable[[str], list[int]],
    special: dict[str, int],
    seed: int,
    span_tokens: int,
) -> tuple[list[int], tuple[int, int]]:
    """Rewrite a document as PSM, or a window of it when it is longer than `span_tokens`.

    plain: the tokens of the whole text, int32 [tokens], of which only the number matters here.
    special: ids by role. Returns the tokens, the closing eos included, and the atomic span (start,
    length) in tokens; its length is at most `span_tokens`. Raises ValueError when span_tokens
    leaves no room for text.
    """
    room = span_tokens - SPECIALS_IN_SPAN
    if room < 1:
        raise ValueError(f"fim.span_tokens is {span_tokens}: expected more than {SPECIALS_IN_SPAN}")
    window = len(text)
    if len(plain) > room:
        window = max(window * room // len(plain), 1)
    while True:
        hole = choose_hole(seed, document_id, len(text), window)
        prefix = encode(text[hole.start : hole.first])
        middle = encode(text[hole.first : hole.last])
        suffix = encode(text[hole.last : hole.end])
        length = len(prefix) + len(middle) + len(suffix)
        if length <= room:
            break
        # Denser text than the document's average, or cuts that cost tokens: take a smaller window.
        # One character can be several tokens, so a window may come down to nothing.
        window = min(window * room // length, window - 1)
    span = [
        special["fim_begin"],
        *prefix,
        special["fim_hole"],
        *suffix,
        special["fim_end"],
        *middle,
        special["eos"],
    ]
    before = encode(text[: hole.start])
    after = encode(text[hole.end :])
    tokens = [*before, *span, *after, *([special["eos"]] if after else [])]
    return tokens, (len(before), len(span))
