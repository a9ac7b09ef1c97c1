"""Fill-in-the-middle: teach the model to write what is missing between a prefix and a suffix.

At document level, before packing (DeepSeek-V3, section 4.1): with probability `rate` a document's
text is cut at two places into prefix, middle and suffix, and written as

    PSM   <fim_begin> prefix <fim_hole> suffix <fim_end> middle <eos>
    SPM   <fim_begin> <fim_hole> suffix <fim_end> prefix middle <eos>

(SPM as in Bavarian et al. 2022, section 3.1: what is to be written goes on where the prefix ends.)
The parts are cut in text and encoded apart, as an editor would send them. A document longer than
`span_tokens` has only a window of itself rewritten: what stands before and after it stays plain.
Inside such a document the middle still ends with <eos>, since that is what tells the model to
stop; the document's own <eos> comes at its end as always. The rewritten span is atomic: packing
never cuts inside it, so no middle is ever parted from its prefix.

Where the hole is, by shares of the recipe:

    characters   two uniform cuts, as DeepSeek-Coder and V3 have it
    lines        one to eight whole lines
    syntax       a node of the syntax tree, from the document's spans: of a kind drawn (a function's
                 body, a block, …) the one whose size is nearest to one drawn of n, 2n, 4n, … bytes,
                 so that large holes are made as often as small ones, though few nodes are large
    project      a node, or lines, of a file that is not the first of a project's document; the
                 files before it, which it needs, are the prefix

What a document can't have (no spans, one line) is replaced by the one above it. No cut goes through
a grapheme. Everything is a function of the seed and the document's id alone, and `undo` gives the
text back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import regex

from packing.draws import draw, draw_fraction

SPECIALS_IN_SPAN = 4  # fim_begin, fim_hole, fim_end and eos
FORMATS = ("psm", "spm")
STRATEGIES = ("characters", "lines", "syntax", "project")
NODE_BYTES = (8, 2048)
MOST_LINES = 8


@dataclass(frozen=True)
class Fim:
    """How often (0 to 1, by `domain` or `domain/language`), in which format, and where.

    formats, holes: shares, which need not add up to one. span_tokens: the longest rewritten span.
    node_bytes: the least and the largest size that is looked for in a syntax tree.
    Raises ValueError for an unknown name, shares without any, or sizes that are none.
    """

    rate: Mapping[str, float] = field(default_factory=lambda: {"code": 0.1})
    formats: Mapping[str, float] = field(default_factory=lambda: {"psm": 1.0})
    holes: Mapping[str, float] = field(default_factory=lambda: {"characters": 1.0})
    span_tokens: int = 4096
    node_bytes: Sequence[int] = NODE_BYTES

    def __post_init__(self) -> None:
        least, most = self.node_bytes
        if not 0 < least <= most or int(least) != least:
            raise ValueError(f"fim.node_bytes: {least}, {most}: expected the least size, then more")
        for name, shares, known in (
            ("formats", self.formats, FORMATS),
            ("holes", self.holes, STRATEGIES),
        ):
            for one, share in shares.items():
                if one not in known or share < 0:
                    raise ValueError(
                        f"fim.{name}: {one}: {share}: expected shares of {', '.join(known)}"
                    )
            if not sum(shares.values()) > 0:
                raise ValueError(f"fim.{name}: the shares add up to nothing")

    def rate_of(self, domain: str, language: str | None) -> float:
        """The rate for a document: of its domain and language, or else of its domain."""
        return self.rate.get(f"{domain}/{language}", self.rate.get(domain, 0.0))


@dataclass(frozen=True)
class Hole:
    """Where a document is cut, in characters: window [start, end), middle [first, last)."""

    start: int
    first: int
    last: int
    end: int


@dataclass(frozen=True)
class Rewritten:
    """A rewritten document: its tokens with the closing eos, and the atomic span in them.

    changed: how many of the window's tokens are none of the unbroken text, of `inside`.
    """

    tokens: list[int]
    start: int
    length: int
    format: str
    strategy: str
    changed: int
    inside: int


def wants_hole(seed: int, document_id: str, rate: float) -> bool:
    """Whether this document is rewritten, at this rate (0 to 1)."""
    return draw_fraction(seed, "fim", document_id) < rate


def pick(shares: Mapping[str, float], *name: str | int, seed: int) -> str:
    """Draw one of the shares for a thing."""
    point = draw_fraction(seed, *name) * sum(shares.values())
    for one, share in sorted(shares.items()):
        point -= share
        if point < 0:
            return one
    return max(shares, key=lambda one: (shares[one], one))


def choose_hole(
    seed: int,
    document_id: str,
    text: str,
    window: int,
    strategy: str = "characters",
    spans: Sequence[Mapping] = (),
    node_bytes: Sequence[int] = NODE_BYTES,
) -> tuple[Hole, str]:
    """Cut a text in a window of at most `window` characters; any part may be empty.

    spans: of the document, {start, end, kind, path} in bytes. node_bytes: sizes looked for, least
    and largest. Returns the hole and the strategy that made it.
    """
    window = min(window, len(text))
    choices = STRATEGIES[: STRATEGIES.index(strategy) + 1]
    for one in reversed(choices[1:]):
        found = _middle(seed, document_id, text, one, spans, node_bytes)
        if found is not None:
            first, last, stop = found
            hole = _around(seed, document_id, text, first, last, window, stop)
            return hole, one
    start = draw(seed, "fim-window", document_id) % (len(text) - window + 1)
    cuts = sorted(draw(seed, "fim-cut", document_id, k) % (window + 1) for k in (0, 1))
    places = (start, start + cuts[0], start + cuts[1], start + window)
    return Hole(*(whole_grapheme(text, at) for at in places)), "characters"


def _middle(
    seed: int,
    document_id: str,
    text: str,
    strategy: str,
    spans: Sequence[Mapping],
    node_bytes: Sequence[int],
) -> tuple[int, int, int | None] | None:
    """(first, last, where the suffix must stop) in characters; None if the text has no such."""
    if strategy == "lines":
        return _lines(seed, document_id, text, 0, len(text))
    data = text.encode()
    # A table from elsewhere may have spans of another text.
    spans = [span for span in spans if 0 <= span["start"] < span["end"] <= len(data)]
    nodes = [span for span in spans if span["kind"] != "file"]
    stop = None
    if strategy == "project":
        files = [span for span in spans if span["kind"] == "file"][1:]
        if not files:
            return None
        chosen = files[draw(seed, "fim-file", document_id) % len(files)]
        begin, stop = (_characters(data, chosen[key]) for key in ("start", "end"))
        nodes = [n for n in nodes if chosen["start"] <= n["start"] and n["end"] <= chosen["end"]]
        if not nodes or draw(seed, "fim-node", document_id) % 2:
            lines = _lines(seed, document_id, text, begin, stop)
            return lines and (*lines[:2], stop)
    if not nodes:
        return None
    kinds = sorted({node["kind"] for node in nodes})
    kind = kinds[draw(seed, "fim-kind", document_id) % len(kinds)]
    nodes = [node for node in nodes if node["kind"] == kind]
    least, most = node_bytes
    size = least << draw(seed, "fim-size", document_id) % (most // least).bit_length()
    unlike = [_unlike(node["end"] - node["start"], size) for node in nodes]
    nodes = [node for node, own in zip(nodes, unlike, strict=True) if own == min(unlike)]
    node = nodes[draw(seed, "fim-span", document_id) % len(nodes)]
    return _characters(data, node["start"]), _characters(data, node["end"]), stop


def _unlike(a: int, b: int) -> float:
    return max(a, b) / min(a, b)


def _characters(data: bytes, at: int) -> int:
    return len(data[:at].decode(errors="replace"))


def _lines(
    seed: int, document_id: str, text: str, begin: int, end: int
) -> tuple[int, int, None] | None:
    """Some whole lines of a part of a text; None if it has one line only."""
    starts = [begin]
    while (at := text.find("\n", starts[-1], end)) >= 0 and at + 1 < end:
        starts.append(at + 1)
    if len(starts) < 2:
        return None
    line = draw(seed, "fim-line", document_id) % len(starts)
    count = 1 + draw(seed, "fim-lines", document_id) % MOST_LINES
    last = starts[line + count] if line + count < len(starts) else end
    return starts[line], last, None


def _around(
    seed: int, document_id: str, text: str, first: int, last: int, window: int, stop: int | None
) -> Hole:
    """Put a window round a middle, at a place drawn for the document; at the stop if there is one.

    A middle larger than the window keeps its beginning.
    """
    last = min(last, first + window)
    room = window - (last - first)
    if stop is None:
        least, most = max(0, room - (len(text) - last)), min(first, room)
        before = least + draw(seed, "fim-window", document_id) % (most - least + 1)
        end = last + room - before
    else:
        end = last + min(room // 4, stop - last)
        before = min(first, window - (end - first))
    places = (first - before, first, last, end)
    return Hole(*(whole_grapheme(text, at) for at in places))


# Between two of these a grapheme always ends (Unicode annex 29).
_SURE = regex.compile(r"[\x20-\x7e\u4e00-\u9fff\u3041-\u3096\u30a1-\u30fa\u0400-\u0481]")


def whole_grapheme(text: str, at: int) -> int:
    """Move a place back to the beginning of the grapheme it is in (Unicode annex 29)."""
    if not 0 < at < len(text):
        return at
    begin = at
    while begin > 0 and not (_SURE.match(text, begin) and _SURE.match(text, begin - 1)):
        begin -= 1
    for found in regex.finditer(r"\X", text, pos=begin):
        if found.end() > at:
            return found.start()
    return at


def rewrite(
    text: str,
    plain: np.ndarray,
    document_id: str,
    encode: Callable[[str], list[int]],
    special: Mapping[str, int],
    lengths: np.ndarray,
    seed: int,
    fim: Fim,
    spans: Sequence[Mapping] = (),
) -> Rewritten:
    """Rewrite a document, or a window of it when it is longer than `fim.span_tokens`.

    plain: the tokens of the whole text, int32 [tokens]. special: ids by role. lengths: bytes of
    each token, int64 [vocabulary]. spans: of the document, in bytes. The atomic span has at most
    `fim.span_tokens` tokens. Raises ValueError when span_tokens leaves no room for text.
    """
    room = fim.span_tokens - SPECIALS_IN_SPAN
    if room < 1:
        raise ValueError(
            f"fim.span_tokens is {fim.span_tokens}: expected more than {SPECIALS_IN_SPAN}"
        )
    form = pick(fim.formats, "fim-format", document_id, seed=seed)
    wanted = pick(fim.holes, "fim-strategy", document_id, seed=seed)
    window = len(text)
    if len(plain) > room:
        window = max(window * room // len(plain), 1)
    while True:
        hole, strategy = choose_hole(seed, document_id, text, window, wanted, spans, fim.node_bytes)
        prefix, middle, suffix = (
            encode(text[a:b])
            for a, b in ((hole.start, hole.first), (hole.first, hole.last), (hole.last, hole.end))
        )
        length = len(prefix) + len(middle) + len(suffix)
        if length <= room:
            break
        # Denser text than the document's average, or cuts that cost tokens: take a smaller window.
        # One character can be several tokens, so a window may come down to nothing.
        window = min(window * room // length, window - 1)
    begin, gap, end, eos = (special[r] for r in ("fim_begin", "fim_hole", "fim_end", "eos"))
    if form == "psm":
        span = [begin, *prefix, gap, *suffix, end, *middle, eos]
    else:
        span = [begin, gap, *suffix, end, *prefix, *middle, eos]
    before, after = encode(text[: hole.start]), encode(text[hole.end :])
    changed = _changed(plain, [before, prefix, middle, suffix], lengths)
    return Rewritten(
        [*before, *span, *after, *([eos] if after else [])],
        len(before), len(span), form, strategy, changed, length,
    )  # fmt: skip


def _changed(plain: np.ndarray, parts: list[list[int]], lengths: np.ndarray) -> int:
    """How many tokens of the parts behind the first are not where the unbroken text has one."""
    ends = np.cumsum(lengths[plain])
    whole = set(zip((ends - lengths[plain]).tolist(), ends.tolist(), strict=True))
    at = int(lengths[parts[0]].sum()) if parts[0] else 0
    changed = 0
    for token in (token for part in parts[1:] for token in part):
        changed += (at, at + int(lengths[token])) not in whole
        at += int(lengths[token])
    return changed


def undo(
    tokens: Sequence[int],
    start: int,
    length: int,
    decode: Callable[[Sequence[int]], bytes],
    special: Mapping[str, int],
) -> bytes:
    """Give back the text of a rewritten document, which its atomic span (start, length) tells of.

    Both formats, a begin token before it or not. Raises ValueError if the span is none of ours.
    """
    tokens = list(tokens)
    begin, gap, end, eos = (special[r] for r in ("fim_begin", "fim_hole", "fim_end", "eos"))
    inside = tokens[start : start + length]
    if not (inside[:1] == [begin] and inside[-1:] == [eos] and gap in inside and end in inside):
        raise ValueError(f"tokens {start} to {start + length} are no fill-in-the-middle span")
    hole, stop = inside.index(gap), inside.index(end)
    before = tokens[:start]
    if before and before[0] == special.get("bos"):
        before = before[1:]
    after = tokens[start + length :]
    if after[-1:] == [eos]:
        after = after[:-1]
    # SPM has its prefix before the middle and nothing where PSM has its own.
    parts = [before, inside[1:hole], inside[stop + 1 : -1], inside[hole + 1 : stop], after]
    return b"".join(decode(part) for part in parts)
