"""Read any `tokenizer.json`, and decide whether the native core can do its work.

It can when the model is byte-level BPE and the pretokenizer is one of our schemes, written as we
write it or as a lone `ByteLevel` (which is GPT-2's). Everything else (normalizers, WordPiece,
Unigram, byte fallback, dropout, added tokens that strip or stand alone) is left to `tokenizers`:
`Definition.scheme` is None then. Files are checked field by field, so that a broken one is named
together with what is wrong in it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tok.schemes import SCHEMES
from tok.trainer import BYTE_OF_CHARACTER

MAX_FILE_BYTES = 1 << 30
_BYTES = {ord(character): byte for character, byte in BYTE_OF_CHARACTER.items()}
_ALPHABET = frozenset(BYTE_OF_CHARACTER)


@dataclass(frozen=True)
class Added:
    """A token that is cut out of the text before the model sees it."""

    content: str
    id: int
    special: bool
    normalized: bool


@dataclass(frozen=True)
class Definition:
    """What a `tokenizer.json` says.

    source: its text. scheme: None when `tokenizers` has to do the work, for the reason in `why`.
    vocab: token → id, as written in the file, added tokens left out. byte_level: tokens are written
    in the byte-level alphabet. For the native core: entries (bytes end to end, offsets int64
    [n + 1], ids int32 [n]) and merges (int32 [m, 3]: ids of left, right and joined token).
    """

    source: str
    vocab: dict[str, int]
    added: tuple[Added, ...]
    byte_level: bool
    scheme: str | None = None
    why: str = ""
    whole_words: bool = False
    entries: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    merges: np.ndarray | None = None


def read_definition(path: Path) -> Definition:
    """Read a tokenizer.json, or the one in a directory; raises ValueError naming the file."""
    path = Path(path)
    if path.is_dir():
        path = path / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a tokenizer.json or a directory with one")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: {size:,} bytes; expected at most {MAX_FILE_BYTES:,}")
    try:
        return parse_definition(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_definition(source: str) -> Definition:
    """Understand the text of a tokenizer.json; raises ValueError saying what is wrong with it."""
    try:
        tree = json.loads(source)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("not a tokenizer: nested too deeply") from None
    if not isinstance(tree, dict):
        raise ValueError(f"expected a JSON object, found {type(tree).__name__}")
    model = _get(tree, "model", dict)
    added = tuple(_added(i, token) for i, token in enumerate(_get(tree, "added_tokens", list, [])))
    pretokenizer = _get(tree, "pre_tokenizer", dict, None)
    steps = _steps(pretokenizer, "pre_tokenizer", "pretokenizers")
    byte_level = any(step.get("type") == "ByteLevel" for step in steps)
    if model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        if model.get("type", "BPE") in ("BPE", "WordPiece", "WordLevel"):
            _vocabulary(model)
        vocab = model.get("vocab")
        if isinstance(vocab, list):  # Unigram: [token, score] pairs
            rows = [row[0] if isinstance(row, list) and row else None for row in vocab]
            vocab = {token: i for i, token in enumerate(rows) if isinstance(token, str)}
        why = f"its model is {model.get('type')}, not BPE"
        return Definition(source, vocab or {}, added, byte_level, why=why)
    vocab = _vocabulary(model)
    pairs = _merges(model)
    why = _exotic(tree, model)
    scheme = scheme_of(steps)
    if scheme is None:
        why = why or "its pretokenizer is none of ours"
    if why:
        return Definition(source, vocab, added, byte_level, why=why)
    tokens = [token for token in vocab if _ALPHABET.issuperset(token)]
    for character in BYTE_OF_CHARACTER:
        if character not in vocab:
            raise ValueError(
                f"model.vocab has no token {character!r} for the byte "
                f"0x{BYTE_OF_CHARACTER[character]:02x}; expected all 256"
            )
    merges = _merge_ids(pairs, vocab)
    why = _exotic_added(tree.get("added_tokens") or [], vocab)
    if why:
        return Definition(source, vocab, added, byte_level, why=why)
    ids = np.array([vocab[token] for token in tokens], np.int32)
    if len(tokens) < len(vocab):  # merges of what bytes never make
        merges = merges[np.isin(merges, ids).all(axis=1)]
    offsets = np.zeros(len(tokens) + 1, np.int64)
    np.cumsum([len(token) for token in tokens], out=offsets[1:])
    data = np.frombuffer("".join(tokens).translate(_BYTES).encode("latin-1"), np.uint8)
    return Definition(
        source,
        vocab,
        added,
        byte_level,
        scheme=scheme,
        whole_words=_get(model, "ignore_merges", bool, False, where="model."),
        entries=(data, offsets, ids),
        merges=merges,
    )


def scheme_of(steps: list[dict]) -> str | None:
    """The scheme that a pretokenizer's steps amount to, or None when it is none of ours."""
    *splits, last = steps or [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True) is not False:
        return None
    if last.get("use_regex", True):
        return "gpt2" if not splits else None
    patterns = []
    for split in splits:
        pattern = split.get("pattern")
        if split.get("type") != "Split" or split.get("behavior") != "Isolated":
            return None
        if split.get("invert", False) is not False or not isinstance(pattern, dict):
            return None
        patterns.append(pattern.get("Regex"))
    spelled = [_spelled(pattern) for pattern in patterns]
    for scheme, expected in SCHEMES.items():
        if spelled == [_spelled(pattern) for pattern in expected]:
            return scheme
    return None


def _spelled(pattern: object) -> object:
    """A line break in a pattern may stand as itself or as an escape."""
    if not isinstance(pattern, str):
        return pattern
    return pattern.replace("\r", r"\r").replace("\n", r"\n")


_MISSING = object()


def _get(tree: dict, key: str, kind: type, default: object = _MISSING, where: str = "") -> Any:
    value = tree.get(key)
    if value is None and default is not _MISSING:
        return default
    if value is None and key not in tree:
        raise ValueError(f"no key {where + key!r}")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = type(value).__name__
        raise ValueError(f"{where + key!r} is of type {found}; expected {kind.__name__}")
    return value


def _added(index: int, token: object) -> Added:
    where = f"added_tokens[{index}]."
    if not isinstance(token, dict):
        raise ValueError(f"added_tokens[{index}] is of type {type(token).__name__}; expected dict")
    special = _get(token, "special", bool, False, where)
    number = _get(token, "id", int, where=where)
    if not 0 <= number < 1 << 31:
        raise ValueError(f"{where}id is {number}; expected 0 to 2^31 - 1")
    return Added(
        _get(token, "content", str, where=where),
        number,
        special,
        _get(token, "normalized", bool, not special, where),
    )


def _steps(tree: dict | None, where: str, key: str, depth: int = 0) -> list[dict]:
    """A pretokenizer's or normalizer's steps in order, sequences within sequences laid flat."""
    if tree is None:
        return []
    if not isinstance(tree, dict):
        raise ValueError(f"{where!r} is of type {type(tree).__name__}; expected dict")
    if tree.get("type") != "Sequence":
        return [tree]
    if depth == 16:
        raise ValueError(f"{where!r} is nested too deeply")
    steps = _get(tree, key, list, where=f"{where}.")
    return [step for part in steps for step in _steps(part, where, key, depth + 1)]


def _vocabulary(model: dict) -> dict[str, int]:
    vocab = _get(model, "vocab", dict, where="model.")
    values = vocab.values()
    if {*map(type, values)} - {int} or not 0 <= min(values, default=0) <= max(
        values, default=0
    ) < 1 << 31:
        token = next(t for t, v in vocab.items() if type(v) is not int or not 0 <= v < 1 << 31)
        raise ValueError(
            f"model.vocab[{token!r}] is {vocab[token]!r}; expected an id from 0 to 2^31 - 1"
        )
    return vocab


def _merges(model: dict) -> list[tuple[str, str]]:
    merges = _get(model, "merges", list, where="model.")
    pairs = [
        tuple(m.split(" ") if type(m) is str else m if type(m) is list else ()) for m in merges
    ]
    if {*map(len, pairs)} - {2} or {type(part) for pair in pairs for part in pair} - {str}:
        good = [len(pair) == 2 and {*map(type, pair)} == {str} for pair in pairs]
        i = good.index(False)
        raise ValueError(f"model.merges[{i}] is {merges[i]!r}; expected two tokens")
    # Of a merge that is listed twice the last place counts, as in `tokenizers`.
    if len(set(pairs)) < len(pairs):
        pairs = list(dict.fromkeys(reversed(pairs)))[::-1]
    return pairs


def _merge_ids(pairs: list[tuple[str, str]], vocab: dict[str, int]) -> np.ndarray:
    """The ids of left, right and joined token of every merge: int32 [merges, 3]."""
    rows = np.empty((len(pairs), 3), np.int32)
    try:
        rows[:, 0] = [vocab[left] for left, _ in pairs]
        rows[:, 1] = [vocab[right] for _, right in pairs]
        rows[:, 2] = [vocab[left + right] for left, right in pairs]
    except KeyError as error:
        i = next(i for i, (a, b) in enumerate(pairs) if not {a, b, a + b} <= vocab.keys())
        raise ValueError(
            f"merge {i} of model.merges, {pairs[i]!r}, needs the token {error.args[0]!r}, "
            "which model.vocab lacks"
        ) from None
    return rows


def _exotic(tree: dict, model: dict) -> str:
    """Why the native core can't encode with this model; empty when it can."""
    if _steps(tree.get("normalizer"), "normalizer", "normalizers"):
        return "it has a normalizer"
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            return f"its model has {key}"
    decoder = tree.get("decoder")
    if decoder is not None and (
        not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel"
    ):
        return "its decoder is not ByteLevel"
    return ""


def _exotic_added(tokens: list[dict], vocab: dict[str, int]) -> str:
    """Why added tokens need `tokenizers`; among others, when it would give them other ids."""
    highest = None
    for token in tokens:
        if (
            any(token.get(key) for key in ("single_word", "lstrip", "rstrip"))
            or not token["content"]
        ):
            return f"its added token {token['content']!r} strips, stands alone or is empty"
        number = vocab.get(token["content"])
        if number is None:
            size = len(vocab)
            number = size if highest is None or highest < size else highest + 1
        if number != token["id"]:
            return f"its added token {token['content']!r} would get the id {number}"
        highest = number if highest is None else max(highest, number)
    return ""
