"""`gristmill tok train`: word counts, or text, to a tokenizer that Hugging Face reads.

The folder written: the tokenizer's files, `merges.parquet` (every merge with its count when it was
made), `tokenizer_training.json` (what it was made of and how), and the counts if text was counted.
"""

import difflib
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.progress import Progress
from tokenizers import Tokenizer

from pipelines.files import atomic, write_json
from pipelines.runner import Bar
from pipelines.texts import read_texts
from pipelines.tok_count import count
from tok import (
    COUNTS_SCHEMA,
    SCHEMES,
    Vocabulary,
    about_counts,
    assemble,
    count_words,
    export_tokenizer,
    extend_tokenizer,
    learn_merges,
    learn_merges_parity,
    protect,
    read_counts,
    temper,
    weigh,
)
from tok.assemble import max_tokens, vocabulary_of
from tok.load import read_definition
from tok.trainer import BYTES


@dataclass
class Options:
    """What can be chosen; see the command's help."""

    vocab_size: int = 128_000
    scheme: str | None = None
    weights: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    min_count: int = 1
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
class Words:
    """Counted words: the table, the scheme that cut them, and the files it came from."""

    table: pa.Table
    scheme: str
    files: list[Path]


def train(
    inputs: list[Path],
    out: Path,
    options: Options,
    *,
    force: bool = False,
    memory: int = 4 << 30,
    threads: int | None = None,
    progress: Progress,
    warn: Callable[[str], None] = lambda message: None,
) -> dict:
    """Train a tokenizer; returns what `tokenizer_training.json` says.

    inputs: files of counts, or text. Raises ValueError for whatever a user can mend.
    """
    if (out / "tokenizer.json").exists() and not force:
        raise ValueError(f"{out}: holds a tokenizer already; --force replaces it")
    protected, forbidden = _tokens(options.protect), _tokens(options.forbid)
    counting = {"memory": memory, "threads": threads, "progress": progress, "warn": warn}
    clock = time.monotonic()
    words = _words(inputs, options.scheme, out / "counts.parquet", counting)
    weights = _weights(words.table, options)
    table = weigh(words.table, weights)
    if not len(table):
        raise ValueError(f"{inputs[0]}: no words left to train on; look at weights and counts")
    learning = {
        "min_count": options.min_count,
        "max_token_bytes": options.max_token_bytes,
        "forbidden": forbidden,
    }
    bar = Bar(progress, progress.add_task("merges", total=options.vocab_size, note=""))
    scheme = words.scheme
    if options.extend is not None:
        tokenizer, vocabulary = _extended(options, words, table, threads, bar, learning)
    else:
        last = max_tokens(options.vocab_size)
        start = protect(protected) if protected else BYTES
        vocabulary = _first(options, words, table, start, last, threads, bar, learning)
        if options.superword_after is not None:
            scheme = _superword(words.scheme)
            more = _superwords(inputs, options, scheme, out, counting)
            vocabulary = learn_merges(
                weigh(more.table, _weights(more.table, options)),
                last, start=vocabulary, threads=threads, progress=bar.at, **learning,
            )  # fmt: skip
        if options.parity is not None:
            vocabulary = _parity(options, words, vocabulary, weights, bar, learning, warn)
        tokenizer = assemble(vocabulary, scheme, bos=options.bos, reserved=options.reserved)
    bar.at(options.vocab_size)

    about = {
        "options": {name: _plain(value) for name, value in asdict(options).items()},
        "scheme": scheme,
        "inputs": [{"path": str(path), "bytes": path.stat().st_size} for path in words.files],
        "distinct_words": len(table),
        "vocab_size": tokenizer.get_vocab_size(),
        "seconds": round(time.monotonic() - clock, 1),
        "versions": {name: version(name) for name in ("gristmill", "tokenizers")},
    }
    out.mkdir(parents=True, exist_ok=True)
    with atomic(out / "merges.parquet") as path:
        pq.write_table(_merge_table(vocabulary), path, compression="zstd")
    write_json(out / "tokenizer_training.json", about)
    export_tokenizer(tokenizer, out, bos=options.bos)
    return about


def _words(inputs: list[Path], scheme: str | None, kept: Path, counting: dict) -> Words:
    """The counts of the inputs; text is counted into the file `kept`."""
    for path in inputs:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
    counted = [path for path in inputs if _holds_counts(path)]
    if counted and len(counted) < len(inputs):
        other = next(path for path in inputs if path not in counted)
        raise ValueError(f"{other}: is text, {counted[0]} is counts; give one kind of input")
    if not counted:
        count(inputs, kept, scheme=scheme or "multilingual", **counting)
        counted = [kept]
    schemes = {about_counts(path).get("scheme"): path for path in counted}
    if len(schemes) > 1:
        (one, path), (two, other) = list(schemes.items())[:2]
        raise ValueError(f"{other}: counted by scheme {two}, {path} by {one}; they don't add up")
    found = next(iter(schemes)) or scheme or "multilingual"
    if scheme is not None and scheme != found:
        raise ValueError(f"{counted[0]}: counted by scheme {found}, not {scheme}; count again")
    return Words(read_counts(counted), found, counted)


def _holds_counts(path: Path) -> bool:
    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        return set(COUNTS_SCHEMA.names) <= set(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: cannot be opened as Parquet ({error})") from None


def _weights(counts: pa.Table, options: Options) -> dict[str, float] | None:
    if options.temperature == 1 and not options.weights:
        return None
    weights = temper(counts, options.temperature)
    for group, factor in options.weights.items():
        if group not in weights:
            near = difflib.get_close_matches(group, list(weights), 3) or sorted(weights)[:5]
            raise ValueError(f"--weight {group}: no such group in the counts; near: {near}")
        if not factor >= 0:
            raise ValueError(f"--weight {group}={factor}: expected 0 or more")
        weights[group] *= factor
    return weights


def _first(
    options: Options, words: Words, table: pa.Table, start: Vocabulary, last: int,
    threads: int | None, bar: Bar, learning: dict,
) -> Vocabulary:  # fmt: skip
    """What plain frequency chooses: all of it, or what comes before superwords or parity."""
    if options.superword_after is not None:
        _superword(words.scheme)
        last = min(last, options.superword_after)
    if options.parity is not None:
        last -= last - len(start) if options.parity_merges is None else options.parity_merges
    return learn_merges(table, last, start=start, threads=threads, progress=bar.at, **learning)


def _superword(scheme: str) -> str:
    name = f"{scheme}-superword"
    if name not in SCHEMES:
        have = [s for s in SCHEMES if f"{s}-superword" in SCHEMES]
        raise ValueError(f"--superword-after: not for scheme {scheme}, only for {', '.join(have)}")
    return name


def _superwords(
    inputs: list[Path], options: Options, scheme: str, out: Path, counting: dict
) -> Words:
    if options.superword_counts is not None:
        if not _holds_counts(options.superword_counts):
            raise ValueError(f"{options.superword_counts}: no Parquet file of counts")
        inputs = [options.superword_counts]
    elif any(_holds_counts(path) for path in inputs):
        raise ValueError(
            "--superword-after: needs the text, or --superword-counts, counts of it that were made "
            f"with `gristmill tok count --scheme {scheme}`"
        )
    return _words(inputs, scheme, out / "counts-superword.parquet", counting)


def _extended(
    options: Options, words: Words, table: pa.Table, threads: int | None, bar: Bar, learning: dict
) -> tuple[Tokenizer, Vocabulary]:
    definition = read_definition(options.extend)
    if definition.scheme != words.scheme:
        raise ValueError(
            f"{options.extend}: cuts text by scheme {definition.scheme}, the counts were cut by "
            f"{words.scheme}; count again with --scheme {definition.scheme}"
        )
    tokenizer = Tokenizer.from_str(definition.source)
    new = options.vocab_size - tokenizer.get_vocab_size()
    if new <= 0:
        have = tokenizer.get_vocab_size()
        raise ValueError(f"--vocab-size {options.vocab_size}: the tokenizer has {have} already")
    extended = extend_tokenizer(tokenizer, table, new, threads=threads, progress=bar.at, **learning)
    return extended, vocabulary_of(json.loads(extended.to_str()))


def _parity(
    options: Options, words: Words, start: Vocabulary, weights: dict | None, bar: Bar,
    learning: dict, warn: Callable[[str], None],
) -> Vocabulary:  # fmt: skip
    """The last merges, each for the development language that is worst off."""
    if options.superword_after is not None or options.extend is not None:
        raise ValueError("--parity: cannot be combined with --superword-after or --extend")
    texts: dict[str, list[str]] = {}
    for batch in read_texts([options.parity], ("language",)):
        pairs = zip(batch["language"].to_pylist(), batch["text"].to_pylist(), strict=True)
        for language, text in pairs:
            texts.setdefault(language or "", []).append(text)
    groups = sorted(set(words.table["group"].to_pylist()))
    counts, dev = {}, {}
    for language, lines in sorted(texts.items()):
        mine = [g for g in groups if g == language or g.rpartition("/")[2] == language]
        if not mine:
            warn(f"{options.parity}: no counts for language {language!r}, left out")
            continue
        chosen = words.table.filter(pc.is_in(words.table["group"], pa.array(mine)))
        counts[language] = weigh(chosen, weights)
        dev[language] = weigh(count_words(lines, language, words.scheme))
    if not dev:
        raise ValueError(f"{options.parity}: none of its languages is a group of the counts")
    return learn_merges_parity(
        counts, dev, max_tokens(options.vocab_size), start=start,
        window=options.parity_window, alpha=options.parity_alpha, progress=bar.at, **learning,
    )  # fmt: skip


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


def _plain(value):
    return str(value) if isinstance(value, Path) else value


def _merge_table(vocabulary: Vocabulary) -> pa.Table:
    left, right, merged, counts = vocabulary.merges.T.copy()
    tokens = pa.array(vocabulary.tokens, pa.large_binary())
    return pa.table(
        {
            "left": tokens.take(pa.array(left)),
            "right": tokens.take(pa.array(right)),
            "token": tokens.take(pa.array(merged)),
            "count": pa.array(counts),
        }
    )
