"""What a training of a tokenizer is to do: its options, and all that can be told before the work.

`prepare` is what `gristmill tok train` and its forecast, `--plan`, both begin with, so that a
mistake is told at once, in the same words.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from tokenizers import Tokenizer

from curation.formats import DAMAGE, one_line
from pipelines.files import check_output
from pipelines.texts import read_texts
from tok import COUNTS_SCHEMA, SCHEMES, Vocabulary, about_counts, protect
from tok.assemble import max_tokens, vocabulary_of
from tok.load import Definition, read_definition


@dataclass
class Options:
    """What can be chosen; see the command's help."""

    vocab_size: int = 128_000
    scheme: str | None = None
    weights: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    min_count: int = 2
    max_token_bytes: int = 128
    protect: Path | None = None
    forbid: Path | None = None
    reserved: int = 0
    bos: bool = False
    extend: Path | None = None
    superword_after: int | None = None
    superword_counts: Path | None = None
    parity: Path | None = None
    parity_merges: int | None = None
    parity_window: int = 0
    parity_alpha: float = 2.0


@dataclass
class Job:
    """What a training is to do, as far as its options and the kind of its inputs tell.

    scheme: of the words that are counted first; superword: of those counted then, if any. counted:
    the inputs are counts. size: bytes and merges in the end. start: the bytes, and what is
    protected. base: the tokenizer that is extended. dev: lines by language, for parity.
    """

    options: Options
    scheme: str
    superword: str | None
    counted: bool
    size: int
    start: Vocabulary
    forbidden: list[bytes]
    base: Definition | None
    dev: dict[str, list[str]]


def prepare(inputs: list[Path], out: Path, options: Options, *, force: bool = False) -> Job:
    """Check what can be checked before the work; raises ValueError for what a user can mend."""
    check_output(out, folder=True)
    if (out / "tokenizer.json").exists() and not force:
        raise ValueError(f"{out}: holds a tokenizer already; --force replaces it")
    for group, factor in options.weights.items():
        if not 0 <= factor < math.inf:
            raise ValueError(f"--weight {group}={factor}: expected a number, 0 or more")
    for name, most in _MOST.items():
        value = getattr(options, name)
        option = "--" + name.replace("_", "-")
        if value is not None and not value <= most:
            raise ValueError(f"{option} {value}: expected at most {most:,}")
    for name in ("temperature", "parity_alpha"):
        if not 0 < (value := getattr(options, name)) < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} {value}: must be positive")
    if options.parity is None and (options.parity_merges or options.parity_window):
        raise ValueError("--parity-merges, --parity-window: do nothing without --parity")
    counted, scheme = _kind_of(inputs)
    base = None
    if options.extend is not None:
        base, size = _base(options)
        found = scheme or options.scheme or base.scheme
        if found != base.scheme:
            raise ValueError(
                f"{options.extend}: cuts text by scheme {base.scheme}, the counts are cut by "
                f"{found}; count with --scheme {base.scheme}"
            )
        scheme = found
    else:
        size = max_tokens(options.vocab_size)
    if scheme is not None and options.scheme not in (None, scheme):
        raise ValueError(
            f"{inputs[0]}: counted by scheme {scheme}, not {options.scheme}; count again"
        )
    scheme = scheme or options.scheme or "multilingual"
    if scheme not in SCHEMES:
        raise ValueError(f"--scheme {scheme}: expected one of {', '.join(SCHEMES)}")
    superword = None
    if options.superword_after is not None:
        superword = _superword(inputs, options, scheme, counted, size)
    elif options.superword_counts is not None:
        raise ValueError("--superword-counts: does nothing without --superword-after")
    dev = {}
    if options.parity is not None:
        if superword is not None:
            raise ValueError("--parity: cannot be combined with --superword-after")
        dev = _development(options.parity)
    protected, forbidden = _tokens(options.protect), _tokens(options.forbid)
    if both := set(protected).intersection(forbidden):
        raise ValueError(
            f"{options.forbid}: forbids {min(both)!r}, which {options.protect} protects"
        )
    start = _protected(protected, options, size)
    return Job(options, scheme, superword, counted, size, start, forbidden, base, dev)


_MOST = {
    "vocab_size": 1 << 30, "min_count": 1 << 53, "max_token_bytes": 1 << 20, "reserved": 1 << 16,
    "parity_merges": 1 << 30, "parity_window": 1 << 30,
}  # fmt: skip


def _protected(tokens: list[bytes], options: Options, size: int) -> Vocabulary:
    """The vocabulary with these tokens, which training goes on from."""
    if long := [token for token in tokens if len(token) > options.max_token_bytes]:
        raise ValueError(
            f"{options.protect}: a token of {len(long[0]):,} bytes, {long[0][:20]!r}…; expected at "
            f"most {options.max_token_bytes} (--max-token-bytes)"
        )
    start = protect(tokens)
    if len(start) > size:
        raise ValueError(
            f"{options.protect}: its tokens and their beginnings take {len(start):,} of "
            f"--vocab-size, which has room for {size:,}; protect fewer, or raise it"
        )
    return start


def _kind_of(inputs: list[Path]) -> tuple[bool, str | None]:
    """Whether the inputs are counts, and by which scheme they were counted, if they say so."""
    for path in inputs:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
    counted = [path for path in inputs if _holds_counts(path)]
    if counted and len(counted) < len(inputs):
        other = next(path for path in inputs if path not in counted)
        raise ValueError(f"{other}: is text, {counted[0]} is counts; give one kind of input")
    schemes = {about_counts(path).get("scheme"): path for path in counted}
    if len(schemes) > 1:
        (one, path), (two, other) = list(schemes.items())[:2]
        raise ValueError(f"{other}: counted by scheme {two}, {path} by {one}; they don't add up")
    return bool(counted), next(iter(schemes), None)


def _holds_counts(path: Path) -> bool:
    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        return set(COUNTS_SCHEMA.names) <= set(pq.read_schema(path).names)
    except DAMAGE as error:
        raise ValueError(f"{path}: cannot be opened as Parquet: {one_line(error)}") from None


def _base(options: Options) -> tuple[Definition, int]:
    """The tokenizer to extend, and its bytes and merges together with the new ones."""
    given = {
        "--protect": options.protect, "--reserved": options.reserved, "--bos": options.bos,
        "--superword-after": options.superword_after, "--parity": options.parity,
    }  # fmt: skip
    if useless := [name for name, value in given.items() if value]:
        raise ValueError(f"{useless[0]}: cannot be combined with --extend")
    base = read_definition(options.extend)
    if base.scheme is None:
        raise ValueError(
            f"{options.extend}: cannot be extended: {base.why}; expected byte-level BPE under one "
            f"of the schemes {', '.join(SCHEMES)}"
        )
    try:
        merges = len(vocabulary_of(json.loads(base.source)))
    except ValueError as error:
        raise ValueError(f"{options.extend}: cannot be extended: {error}") from None
    try:
        have = Tokenizer.from_str(base.source).get_vocab_size()
    except Exception as error:  # of no narrower kind
        raise ValueError(f"{options.extend}: `tokenizers` cannot read it: {error}") from None
    if options.vocab_size <= have:
        raise ValueError(
            f"--vocab-size {options.vocab_size}: {options.extend} has {have} tokens already; "
            "expected more"
        )
    return base, merges + options.vocab_size - have


def _superword(inputs: list[Path], options: Options, scheme: str, counted: bool, size: int) -> str:
    """The scheme of the second stage."""
    name = f"{scheme}-superword"
    if name not in SCHEMES:
        have = [s for s in SCHEMES if f"{s}-superword" in SCHEMES]
        raise ValueError(f"--superword-after: not for scheme {scheme}, only for {', '.join(have)}")
    if options.superword_after >= size:
        raise ValueError(
            f"--superword-after {options.superword_after}: expected less than the {size} bytes and "
            f"merges of --vocab-size {options.vocab_size}"
        )
    if options.superword_counts is None:
        if counted:
            raise ValueError(
                "--superword-after: needs the text, or --superword-counts, counts of it that were "
                f"made with `gristmill tok count --scheme {name}`"
            )
    else:
        path = options.superword_counts
        if not path.is_file() or not _holds_counts(path):
            raise ValueError(f"{path}: no Parquet file of counts")
        if (found := about_counts(path).get("scheme", name)) != name:
            raise ValueError(f"{path}: counted by scheme {found}, expected {name}")
    return name


def _development(path: Path) -> dict[str, list[str]]:
    """Lines of development text by language."""
    texts: dict[str, list[str]] = {}
    for batch in read_texts([path], ("language",)):
        pairs = zip(batch["language"].to_pylist(), batch["text"].to_pylist(), strict=True)
        for language, text in pairs:
            if language:
                texts.setdefault(language, []).append(text)
    if not texts:
        raise ValueError(
            f"{path}: no text with a `language`; --parity wants parallel text with one"
        )
    return texts


def _tokens(path: Path | None) -> list[bytes]:
    r"""One token a line; \n, \r, \t, \\ and \xNN stand for those bytes."""
    if path is None:
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; expected a file with a token a line") from None
    return [_ESCAPE.sub(_byte, line) for line in lines if line]


_ESCAPE = re.compile(rb"\\(?:[nrt\\]|x[0-9a-fA-F]{2})")


def _byte(match: re.Match[bytes]) -> bytes:
    escape = match[0][1:]
    if escape[:1] == b"x":
        return bytes.fromhex(escape[1:].decode())
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\"}[escape]
