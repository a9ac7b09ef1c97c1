"""Look into a vocabulary: what each token is, whether text can ever become it, how often it did.

`describe` gives one row a token, `summarise` what to read first. It works on any tokenizer.json of
byte-level BPE, ours or not.

**Can a token be reached?** When an encoder puts out token t for some bytes inside a text, no merge
crossed their borders, so the merges among them were the ones that these bytes get alone. Therefore
t is reachable through the merges if and only if its own bytes, merged without any pretokenizer,
give t; `merge` decides that exactly. What remains is the pretokenizer, which may always cut t:

* "utf8": no valid text has these bytes in a row (bytes C0, C1, F5 to FF; loose continuations).
* "merges": its bytes become other tokens, whatever stands around them.
* "pretokenizer": the merges would make it, but it comes out neither alone nor between any two of
  `CONTEXTS`: the pretokenizer (or a normalizer) always cut or changed it there. A search, not a
  proof; a token whose training count is above 0 is reachable in any case.

A token that is no valid UTF-8 by itself (a piece of a character) is judged by the first two alone,
because it cannot be given to an encoder of text without the rest of the character.

Cost at 128K tokens: a few seconds, most of them in reading the JSON.
"""

import codecs
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from tok.trainer import BYTE_OF_CHARACTER, merge

CONTEXTS = ("", "a", "Z", " ", "0", "!", "\n", "'", "/", "é", "中", "ไ", "क")
# First words of the names of letters and marks that belong to no script or to many.
_SHARED = frozenset(
    ["", "ANGSTROM", "BLACK-LETTER", "CARON", "COMBINING", "DOUBLE-STRUCK", "ENCLOSING", "FEMININE",
     "INFORMATION", "KATAKANA-HIRAGANA", "KELVIN", "MASCULINE", "MATHEMATICAL", "MICRO", "MODIFIER",
     "OHM", "PLANCK", "SCRIPT", "SUBSCRIPT", "SUPERSCRIPT", "TURNED", "VARIATION", "VERTICAL"]
)  # fmt: skip
Merges = dict[tuple[bytes, bytes], int]

TOKENS_SCHEMA = pa.schema(
    [
        ("id", pa.int32()),
        ("bytes", pa.binary()),
        ("text", pa.string()),  # null: no valid UTF-8
        ("script", pa.string()),
        ("special", pa.bool_()),
        ("unreachable", pa.string()),  # null: reachable; else the reason
        ("count", pa.int64()),  # null: no counts were given
    ]
)


@dataclass(frozen=True)
class Inventory:
    """A tokenizer's tokens by id; a `tok.trainer.Vocabulary` has them by the order of merging.

    tokens: id → bytes. special: ids of added tokens, which text doesn't become by merging.
    merges: (left bytes, right bytes) → rank, the lowest first.
    """

    tokens: dict[int, bytes]
    special: frozenset[int]
    merges: Merges


def read_vocabulary(path: Path) -> Inventory:
    """Read a tokenizer.json, or the one in a directory.

    Raises ValueError when there is none, or when it is not byte-level BPE.
    """
    path = Path(path)
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_bytes())
        model, added = content["model"], content.get("added_tokens") or []
        if (kind := model.get("type", "BPE")) != "BPE":
            raise ValueError(f"its model is {kind}")
        special = {int(token["id"]): token["content"].encode() for token in added}
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        vocab = {int(i): token for token, i in model["vocab"].items()}
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror}; expected a tokenizer.json or a directory with one"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: no tokenizer.json of byte-level BPE, whose vocabulary can be described "
            f"({type(error).__name__}: {error}); `--text` shows what any tokenizer makes of a text"
        ) from None
    try:
        tokens = {i: _bytes_of(token) for i, token in vocab.items() if i not in special}
        merges = {(_bytes_of(a), _bytes_of(b)): rank for rank, (a, b) in enumerate(pairs)}
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: not byte-level: {error} stands for no byte in the byte-level alphabet; "
            "tokenizers of other kinds (SentencePiece, WordPiece) are not supported"
        ) from None
    return Inventory(dict(sorted((tokens | special).items())), frozenset(special), merges)


def describe(encoder, vocabulary: Inventory, counts: np.ndarray | None = None) -> pa.Table:
    """One row a token, a table of `TOKENS_SCHEMA`, by id.

    encoder: the `tok.Encoder` of the same tokenizer. counts: int64 [encoder.vocab_size], from
    `count_in_words`.
    """
    texts = {i: _decoded(data) for i, data in vocabulary.tokens.items()}
    reasons = unreachable(encoder, vocabulary)
    rows = []
    for i, data in vocabulary.tokens.items():
        special = i in vocabulary.special
        script = "special" if special else script_of(texts[i])
        count = None if counts is None else int(counts[i])
        rows.append((i, data, texts[i], script, special, reasons.get(i), count))
    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, TOKENS_SCHEMA, strict=True)],
        schema=TOKENS_SCHEMA,
    )


def unreachable(encoder, vocabulary: Inventory) -> dict[int, str]:
    """Tokens that no text becomes: id → "utf8", "merges" or "pretokenizer"; see the top."""
    ordinary = {i: b for i, b in vocabulary.tokens.items() if i not in vocabulary.special}
    texts = {i: text for i, b in ordinary.items() if (text := _decoded(b)) is not None}
    reached = _reached(encoder, texts.items())
    reasons: dict[int, str] = {}
    cut: dict[int, str] = {}
    for i, data in ordinary.items():
        if i in reached:
            continue
        if not can_be_in_utf8(data):
            reasons[i] = "utf8"
        elif merge(data, vocabulary.merges) != [data]:
            reasons[i] = "merges"
        elif i in texts:
            cut[i] = texts[i]
    for before in CONTEXTS:
        for after in CONTEXTS:
            reached = _reached(encoder, ((i, before + text + after) for i, text in cut.items()))
            cut = {i: text for i, text in cut.items() if i not in reached}
    return dict(sorted((reasons | dict.fromkeys(cut, "pretokenizer")).items()))


def can_be_in_utf8(data: bytes) -> bool:
    """Whether some valid UTF-8 has these bytes in a row, cutting characters at the ends or not."""
    for start in range(min(3, len(data)) + 1):
        if start and not 0x80 <= data[start - 1] < 0xC0:
            return False
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(data[start:], final=False)
        except UnicodeDecodeError:
            continue
        # The decoder waits for the third byte before it refuses a surrogate.
        left = decoder.getstate()[0]
        if not (left[:1] == b"\xed" and left[1:2] >= b"\xa0"):
            return True
    return False


def count_in_words(encoder, batches: Iterable[pa.RecordBatch]) -> np.ndarray:
    """How often each token occurs in counted words: int64 [encoder.vocab_size].

    batches: `word` (large_binary) and `count` (int64), as `tok.counts` writes them. Each distinct
    word is encoded once and weighed, which is exact where the words were cut by the tokenizer's
    own scheme. Raises ValueError when a word is no UTF-8.
    """
    total = np.zeros(encoder.vocab_size, np.int64)
    for batch in batches:
        try:
            words = batch["word"].cast(pa.large_binary()).cast(pa.large_string())
        except pa.ArrowInvalid:
            raise ValueError(
                "the counts hold a word that is no UTF-8; expected counted text"
            ) from None
        ids, offsets = encoder.encode_batch(words)
        weights = batch["count"].to_numpy(zero_copy_only=False).astype(np.int64)
        np.add.at(total, ids, np.repeat(weights, np.diff(offsets)))
    return total


def near_duplicates(tokens: pa.Table, kind: str) -> list[list[int]]:
    """Groups (ids) of ordinary tokens that differ by "case", by a leading "space", or by "both".

    Nothing else tells the tokens of a group apart. The largest groups first.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    columns = (tokens[name].to_pylist() for name in ("id", "text", "special"))
    for i, text, special in zip(*columns, strict=True):
        if text is None or special:
            continue
        if kind != "case" and len(text) > 1:
            text = text.removeprefix(" ")
        groups[text if kind == "space" else text.casefold()].append(i)
    return sorted((ids for ids in groups.values() if len(ids) > 1), key=lambda g: (-len(g), g))


def summarise(tokens: pa.Table, most: int = 1000) -> dict:
    """What to know of a vocabulary, JSON-able; tokens: from `describe`.

    Lists of tokens hold at most `most` of them: {"id", "token" (see `spelled`), "count"}, and
    under-trained ones why they are unreachable, if so. Groups of duplicates: at most `most`.
    """
    rows = tokens.to_pylist()
    shown = {row["id"]: _shown(row) for row in rows}
    ordinary = [row for row in rows if not row["special"]]
    counted = bool(rows) and rows[0]["count"] is not None
    scripts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in ordinary:
        scripts[row["script"]][0] += 1
        scripts[row["script"]][1] += row["count"] or 0
    characters = Counter(len(row["text"]) for row in ordinary if row["text"] is not None)
    summary = {
        "tokens": len(rows),
        "special": [shown[row["id"]] for row in rows if row["special"]],
        "scripts": [
            {"script": name, "tokens": n, "share": n / len(ordinary)}
            | ({"count": count} if counted else {})
            for name, (n, count) in sorted(scripts.items(), key=lambda x: (-x[1][0], x[0]))
        ],
        "lengths_in_characters": dict(sorted(characters.items())),
        "lengths_in_bytes": dict(sorted(Counter(len(row["bytes"]) for row in ordinary).items())),
        "invalid_utf8": _listed([r for r in ordinary if r["text"] is None], shown, most),
        "unreachable": {
            reason: _listed([r for r in ordinary if r["unreachable"] == reason], shown, most)
            for reason in ("merges", "pretokenizer", "utf8")
        },
        "near_duplicates": {},
    }
    for kind in ("case", "space", "both"):
        groups = near_duplicates(tokens, kind)
        summary["near_duplicates"][kind] = {
            "groups": len(groups),
            "tokens": sum(len(ids) for ids in groups),
            "list": [[shown[i] for i in ids] for ids in groups[:most]],
        }
    if counted:
        ordinary.sort(key=lambda row: (row["count"], row["id"]))
        summary["count"] = sum(row["count"] for row in ordinary)
        summary["never_counted"] = sum(row["count"] == 0 for row in ordinary)
        summary["under_trained"] = [
            shown[row["id"]] | {"unreachable": row["unreachable"]} for row in ordinary[:most]
        ]
    return summary


def spelled(data: bytes) -> str:
    r"""Bytes as one line of visible text: bytes that are no UTF-8 as \xNN, controls escaped."""
    return "".join(_visible(c) for c in data.decode(errors="backslashreplace"))


def script_of(text: str | None) -> str:
    """The script of a token's letters and marks by their Unicode names, as "Latin" or "Han".

    "mixed" for several; without any "letters of no script" (marks that all share, signs such as
    the Kelvin), "digits", "punctuation and symbols" or "space"; "piece of a character" for None.
    """
    if text is None:
        return "piece of a character"
    scripts = {script for c in text if (script := _script(c))}
    if scripts:
        return scripts.pop() if len(scripts) == 1 else "mixed"
    kinds = {unicodedata.category(c)[0] for c in text}
    if "L" in kinds or "M" in kinds:
        return "letters of no script"
    if "N" in kinds:
        return "digits"
    return "space" if not text.strip() else "punctuation and symbols"


@cache
def _script(char: str) -> str | None:
    """The script that a letter's or mark's name begins with; None for shared marks and the rest."""
    if unicodedata.category(char)[0] not in "LM":
        return None
    words = unicodedata.name(char, "").split()
    if words and words[0] in ("FULLWIDTH", "HALFWIDTH", "SMALL"):
        words = words[1:]
    first = words[0] if words else ""
    if first in _SHARED:
        return None
    if first in ("CJK", "IDEOGRAPHIC", "KANGXI"):
        return "Han"
    if first in ("OLD", "NEW", "TAI", "OL", "PAU", "MEETEI", "SYLOTI", "KAYAH") and len(words) > 1:
        return f"{first} {words[1]}".title()
    return first.title()


def _reached(encoder, texts: Iterable[tuple[int, str]]) -> set[int]:
    """The ids, each given with a text, that occur in the encoding of their text."""
    pairs = list(texts)
    ids, offsets = encoder.encode_batch(pa.array([text for _, text in pairs], pa.large_string()))
    wanted = np.repeat(np.array([i for i, _ in pairs], np.int64), np.diff(offsets))
    return set(wanted[ids == wanted].tolist())


def _bytes_of(token: str) -> bytes:
    return bytes(BYTE_OF_CHARACTER[c] for c in token)


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _visible(char: str) -> str:
    if char == " ":
        return "␣"
    if unicodedata.category(char)[0] in "CZ":  # controls, bidirectional marks, other spaces
        named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
        point = ord(char)
        short = f"\\x{point:02x}" if point < 0x80 else f"\\u{point:04x}"
        return named.get(char) or (short if point < 0x10000 else f"\\U{point:08x}")
    return char


def _shown(row: dict) -> dict:
    shown = {"id": row["id"], "token": spelled(row["bytes"])}
    return shown if row["count"] is None else shown | {"count": row["count"]}


def _listed(rows: list[dict], shown: dict[int, dict], most: int) -> dict:
    return {"tokens": len(rows), "list": [shown[row["id"]] for row in rows[:most]]}
