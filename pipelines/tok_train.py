"""`gristmill tok train`: word counts, or text, to a tokenizer that Hugging Face reads.

The folder written: the tokenizer's files, `merges.parquet` (every merge with its count when it was
made), `tokenizer_training.json` (what it was made of and how), and the counts if text was counted.
"""

import difflib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.progress import Progress
from tokenizers import Tokenizer

from pipelines.files import TEMPORARY, atomic, write_json, writing
from pipelines.runner import Bar
from pipelines.tok_count import count
from pipelines.tok_job import Job, Options, prepare
from tok import (
    Vocabulary,
    assemble,
    count_words,
    export_tokenizer,
    extend_tokenizer,
    learn_merges,
    learn_merges_parity,
    read_counts,
    temper,
    weigh,
)
from tok.assemble import vocabulary_of

NOTHING = "no words left to train on: the text is empty, or all weights are 0"


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
    job = prepare(inputs, out, options, force=force)
    counting = {"memory": memory, "threads": threads, "progress": progress, "warn": warn}
    clock = time.monotonic()
    files = inputs if job.counted else [out / "counts.parquet"]
    new = not out.exists()
    try:
        if not job.counted and not count(inputs, files[0], scheme=job.scheme, **counting)["rows"]:
            files[0].unlink()
            raise ValueError(NOTHING)
    except BaseException:
        if new:
            with suppress(OSError):
                out.rmdir()
        raise

    def superwords() -> pa.Table:
        path = options.superword_counts or out / "counts-superword.parquet"
        if options.superword_counts is None:
            count(inputs, path, scheme=job.superword, **counting)
        files.append(path)
        return read_counts([path])

    bar = Bar(progress, progress.add_task("merges", total=options.vocab_size, note=""))
    learned = learn(job, read_counts(files), superwords, threads, bar.at, warn)
    bar.at(options.vocab_size)
    tokenizer = learned.tokenizer
    if missing := job.size - len(learned.vocabulary):
        warn(
            f"{missing:,} tokens fewer than --vocab-size {options.vocab_size:,} asks for: no pair "
            f"is left that occurs {options.min_count} times and makes an allowed token; more text "
            "or a lower --min-count gives more"
        )
    about = {
        "options": {name: _plain(value) for name, value in asdict(options).items()},
        "scheme": job.superword or job.scheme,
        "inputs": [{"path": str(path), "bytes": path.stat().st_size} for path in files],
        "distinct_words": learned.distinct,
        "vocab_size": tokenizer.get_vocab_size(),
        "seconds": round(time.monotonic() - clock, 1),
        "versions": {name: version(name) for name in ("gristmill", "tokenizers")},
    }
    with writing(out, "make room or choose another place, and run the command again"):
        out.mkdir(parents=True, exist_ok=True)
        with atomic(out / "merges.parquet") as path:
            pq.write_table(_merge_table(learned.vocabulary), path, compression="zstd")
        write_json(out / "tokenizer_training.json", about)
        _export(tokenizer, out, options.bos)
    return about


@dataclass
class Learned:
    """What training gives; distinct: how many different words it began with."""

    tokenizer: Tokenizer
    vocabulary: Vocabulary
    distinct: int


def learn(
    job: Job,
    words: pa.Table,
    superwords: Callable[[], pa.Table],
    threads: int | None,
    progress: Callable[[int], None],
    warn: Callable[[str], None],
) -> Learned:
    """From counts to a tokenizer. superwords gives the counts of the second stage, if any."""
    options = job.options
    weights = _weights(words, options)
    table = weigh(words, weights)
    if not len(table):
        raise ValueError(NOTHING)
    learning = {
        "min_count": options.min_count,
        "max_token_bytes": options.max_token_bytes,
        "forbidden": job.forbidden,
        "progress": progress,
    }
    if job.base is not None:
        tokenizer = Tokenizer.from_str(job.base.source)
        new = options.vocab_size - tokenizer.get_vocab_size()
        tokenizer = extend_tokenizer(tokenizer, table, new, threads=threads, **learning)
        return Learned(tokenizer, vocabulary_of(json.loads(tokenizer.to_str())), len(table))
    start = job.start
    plain = job.size
    if job.superword is not None:
        plain = options.superword_after
    if job.dev:
        merges = options.parity_merges
        plain = len(start) if merges is None else max(job.size - merges, len(start))
    vocabulary = learn_merges(table, plain, start=start, threads=threads, **learning)
    if job.superword is not None:
        more = superwords()
        vocabulary = learn_merges(
            weigh(more, _weights(more, options)), job.size, start=vocabulary, threads=threads,
            **learning,
        )  # fmt: skip
    if job.dev:
        counts, dev = _by_language(job, words, weights, warn)
        vocabulary = learn_merges_parity(
            counts, dev, job.size, start=vocabulary, window=options.parity_window,
            alpha=options.parity_alpha, **learning,
        )  # fmt: skip
    scheme = job.superword or job.scheme
    tokenizer = assemble(vocabulary, scheme, bos=options.bos, reserved=options.reserved)
    return Learned(tokenizer, vocabulary, len(table))


def _weights(counts: pa.Table, options: Options) -> dict[str, float] | None:
    if options.temperature == 1 and not options.weights:
        return None
    weights = temper(counts, options.temperature)
    for group, factor in options.weights.items():
        if group not in weights:
            near = difflib.get_close_matches(group, list(weights), 3) or sorted(weights)[:5]
            raise ValueError(f"--weight {group}: no such group in the counts; near: {near}")
        weights[group] *= factor
    return weights


def _by_language(
    job: Job, words: pa.Table, weights: dict | None, warn: Callable[[str], None]
) -> tuple[dict[str, pa.Table], dict[str, pa.Table]]:
    """Counts and development words of the languages that have both."""
    path = job.options.parity
    groups = sorted(pc.unique(words["group"]).to_pylist())
    counts, dev, without = {}, {}, []
    for language, lines in sorted(job.dev.items()):
        mine = [g for g in groups if g == language or g.rpartition("/")[2] == language]
        if not mine:
            without.append(language)
            continue
        chosen = words.filter(pc.is_in(words["group"], pa.array(mine)))
        counts[language] = weigh(chosen, weights)
        dev[language] = weigh(count_words(lines, language, job.scheme))
    if not dev:
        raise ValueError(
            f"{path}: none of its languages ({', '.join(without[:5])}, …) is a group of the counts "
            f"({', '.join(groups[:5])}, …)"
        )
    if without:
        few = ", ".join(without[:8]) + (", …" if len(without) > 8 else "")
        warn(f"{path}: no counts for {len(without)} of its languages, left out: {few}")
    return counts, dev


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


def _export(tokenizer: Tokenizer, out: Path, bos: bool) -> None:
    """Write the tokenizer's files, each whole, tokenizer.json last: it says that they are there."""
    with TemporaryDirectory(prefix=".", suffix=TEMPORARY, dir=out) as folder:
        files = export_tokenizer(tokenizer, Path(folder), bos=bos)
        for file in sorted(files, key=lambda file: file.name == "tokenizer.json"):
            file.replace(out / file.name)
