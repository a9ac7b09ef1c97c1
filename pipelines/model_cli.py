"""`gristmill classifier …` and `gristmill recall`: models that choose documents.

What they do is in `curation/classifier.py`, `curation/recall.py` and `classifiers.py`, imported
late. Here are the options, the progress and the tables.
"""

import heapq
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

classifier_app = typer.Typer(
    no_args_is_help=True,
    help="Train a model to tell two kinds of text apart, and score text with it.",
)
console = Console()
errors = Console(stderr=True)

TEXT = "Parquet or .jsonl(.gz, .zst) with `text`, plain files, or folders; may be repeated."
FEW = 100  # held-out texts of a side, below which the table says little

DimOption = Annotated[int, typer.Option(min=1, help="Numbers of a word's vector.")]
BucketOption = Annotated[
    int, typer.Option(min=1, help="Vectors of word n-grams; the model has 4 * dim * bucket bytes.")
]
EpochsOption = Annotated[int, typer.Option(min=1, help="Times that the texts are gone through.")]
NgramsOption = Annotated[int, typer.Option(min=1, help="Longest word n-grams.")]
MinCountOption = Annotated[int, typer.Option(min=1, help="Leave out words that occur less.")]
CharsOption = Annotated[int, typer.Option(min=1, help="Read so much of a text's beginning.")]
RateOption = Annotated[float, typer.Option(help="Learning rate.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the drawing and the training.")]


def _say(message: str) -> None:
    console.print(message, highlight=False, markup=False, soft_wrap=True)


def _warn(message: str) -> None:
    errors.print(
        f"warning: {message}", style="yellow", highlight=False, markup=False, soft_wrap=True
    )


@classifier_app.command()
def train(
    positive: Annotated[list[Path], typer.Option(help=f"Text to imitate: {TEXT}")],
    negative: Annotated[list[Path], typer.Option(help=f"Text to tell it from: {TEXT}")],
    out: Annotated[Path, typer.Option("--out", help="The model to write; its report is .json.")],
    count: Annotated[int, typer.Option(min=1, help="Texts to draw of each side.")] = 200_000,
    held_out: Annotated[
        float, typer.Option(help="Share of the texts to judge by and not to train on.")
    ] = 0.1,
    dim: DimOption = 100,
    bucket: BucketOption = 1_000_000,
    epochs: EpochsOption = 5,
    word_ngrams: NgramsOption = 2,
    min_count: MinCountOption = 3,
    max_chars: CharsOption = 10_000,
    lr: RateOption = 0.1,
    seed: SeedOption = 0,
) -> None:
    """Train a model on two kinds of text, and judge it by texts that were held out.

    The negative ones are best drawn from what the model will choose from: then the share of them
    that passes a score is the share to be kept. Use it in a recipe as the step
    `- classifier: {model: MODEL, keep_share: 0.1}`.
    """
    from curation.classifier import ClassifierSettings, report_path, train_classifier
    from pipelines.classifiers import draw, read_paths
    from pipelines.files import check_output
    from pipelines.runner import Bar, make_progress
    from pipelines.texts import find_files

    settings = ClassifierSettings(
        dim=dim, lr=lr, word_ngrams=word_ngrams, min_count=min_count, epochs=epochs, bucket=bucket,
        max_chars=max_chars, held_out=held_out, seed=seed,
    )  # fmt: skip
    inputs = find_files([*positive, *negative])
    for written in (out, report_path(out)):
        check_output(written, inputs)

    with make_progress(console) as progress:
        bar = Bar(progress, progress.add_task("reading", total=None, note=""))

        def side(name: str, paths: list[Path]) -> Iterator[str]:
            drawn = 0
            for drawn, text in enumerate(draw(read_paths(paths), count, seed), 1):
                if drawn % 1000 == 0:
                    bar.at(0, note=f"{drawn:,} {name} texts drawn")
                yield text
            bar.at(0, note=f"{drawn:,} {name} texts drawn; training" if name == "negative" else "")

        report = train_classifier(
            side("positive", positive), side("negative", negative), settings, out
        )
    _say(f"{out}: {_amounts(report)}")
    _print_judged(report, console)


@classifier_app.command()
def score(
    model: Annotated[
        Path, typer.Argument(help="A model that `classifier train` or a recipe wrote.")
    ],
    text: Annotated[list[Path], typer.Option("--text", help=TEXT)],
    n: Annotated[int, typer.Option("--n", "-n", min=0, help="Documents to show at each end.")] = 5,
    near: Annotated[
        float | None, typer.Option(help="Show as many documents whose score is nearest to this.")
    ] = None,
    chars: Annotated[int, typer.Option(min=1, help="Characters of each text to show.")] = 200,
) -> None:
    """Score text: how the scores are distributed, and the lowest and highest documents.

    Shows what a least score would keep before a recipe is run with it.
    """
    import numpy as np

    from curation.classifier import Classifier
    from pipelines.texts import read_texts

    classifier = Classifier(model)
    file, row, place = text[0], 0, 0
    parts: list[Any] = []
    ends = {"lowest": _Least(n, lambda value: value), "highest": _Least(n, lambda value: -value)}
    if near is not None:
        ends[f"nearest to {near:g}"] = _Least(n, lambda value: abs(value - near))

    def started(path: Path) -> None:
        nonlocal file, row
        file, row = path, 0

    for batch in read_texts(text, started=started):
        texts = batch["text"].to_pylist()
        scores = classifier.score(texts)
        parts.append(scores)
        for value, content in zip(scores.tolist(), texts, strict=True):
            row, place = row + 1, place + 1
            for end in ends.values():
                end.offer(value, place, f"{file}, document {row:,}", content[: chars + 1])
    scores = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not len(scores):
        raise ValueError(f"{text[0]}: no documents to score; expected text")
    _print_distribution(scores)
    for name, end in ends.items():
        _print_documents(name, end.found(), chars)


class _Least:
    """The documents whose score is least by some measure, the first ones of equals."""

    def __init__(self, n: int, measure: Callable[[float], float]) -> None:
        self._n, self._measure = n, measure
        self._heap: list[tuple] = []

    def offer(self, score: float, place: int, name: str, text: str) -> None:
        entry = (-self._measure(score), -place, score, name, text)
        if len(self._heap) < self._n:
            heapq.heappush(self._heap, entry)
        elif self._heap and entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def found(self) -> list[tuple[float, str, str]]:
        return [entry[2:] for entry in sorted(self._heap, reverse=True)]


def _print_distribution(scores: Any) -> None:
    import numpy as np

    table = Table(title=f"{len(scores):,} documents by score", title_justify="left")
    for column in ("score", "documents", "share", "share from here up", ""):
        table.add_column(column, justify="left" if not column else "right")
    counts, edges = np.histogram(scores, np.linspace(0, 1, 11))
    above = len(scores)
    for count, low, high in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        bar = "█" * round(40 * count / counts.max())
        share, up = f"{count / len(scores):.1%}", f"{above / len(scores):.1%}"
        table.add_row(f"{low:.1f} to {high:.1f}", f"{count:,}", share, up, bar)
        above -= count
    console.print(table)
    quantiles = np.quantile(scores, (0.01, 0.1, 0.5, 0.9, 0.99)).tolist()
    said = ", ".join(
        f"{share}: {value:.4f}"
        for share, value in zip(("1%", "10%", "50%", "90%", "99%"), quantiles, strict=True)
    )
    _say(f"scores below which there are {said}")


def _print_documents(title: str, found: list[tuple[float, str, str]], chars: int) -> None:
    if found:
        console.print(f"\n{title}", style="bold", highlight=False, markup=False)
    for value, name, text in found:
        _say(f"{value:.4f}  {name}")
        more = " …" if len(text) > chars else ""
        _say("        " + _plain(text[:chars]) + more)


def _plain(text: str) -> str:
    """One line without what would steer the terminal."""
    text = " ".join(text.split())
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _amounts(report: dict[str, Any]) -> str:
    trained, held = report["trained"], report["held_out"]
    return (
        f"trained on {trained['positive']:,} positive and {trained['negative']:,} negative texts, "
        f"judged by {held['positive']:,} and {held['negative']:,} that were held out"
    )


def print_models(models: dict[str, dict[str, Any]], out: Console) -> None:
    """Print what a recipe's stage `classifiers` found of each model."""
    for name, report in models.items():
        out.print(f"{name}: {_amounts(report)}", soft_wrap=True, markup=False, highlight=False)
        _print_judged(report, out)


def _print_judged(report: dict[str, Any], out: Console) -> None:
    held = report["held_out"]
    if any(held.values()):
        table = Table(title="held-out texts, by least score", title_justify="left")
        names = {
            "min_score": "least score", "precision": "precision", "recall": "recall", "f1": "F1",
            "passed_negative": "negative ones that pass",
        }  # fmt: skip
        for title in names.values():
            table.add_column(title, justify="right")
        for row in report["judged"]:
            table.add_row(f"{row['min_score']:g}", *(f"{row[name]:.4f}" for name in [*names][1:]))
        out.print(table)
    if min(held.values()) < FEW:
        few = " and ".join(f"{n:,} {side}" for side, n in held.items())
        _warn(f"{few} texts were held out: precision and recall are little more than a guess")
    if not report["reproducible"]:
        _warn("this machine's memory allocator can't be told to zero: another training may differ")


def recall(
    seed: Annotated[
        list[Path], typer.Argument(help="Documents to find the like of: Parquet, or a run.")
    ],
    pool: Annotated[
        list[Path], typer.Option("--pool", help="Documents to collect from; may be repeated.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write into.")],
    rounds: Annotated[int, typer.Option(min=1, help="Rounds at most.")] = 4,
    stop_share: Annotated[
        float, typer.Option(min=0, max=1, help="End when so much of a round was known before.")
    ] = 0.98,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Least score to collect.")] = 0.5,
    most_bytes: Annotated[
        int | None, typer.Option(min=1, help="Collect only the best of each round, so many bytes.")
    ] = None,
    domain_share: Annotated[
        float, typer.Option(min=0, max=1, help="A site is looked through if so much is collected.")
    ] = 0.1,
    domain_pages: Annotated[int, typer.Option(min=1, help="… and it has so many pages.")] = 10,
    join_score: Annotated[
        float, typer.Option(min=0, max=1, help="Least score of its other pages to join the seed.")
    ] = 0.1,
    positives: Annotated[int, typer.Option(min=1, help="Positive texts to train on.")] = 500_000,
    negatives: Annotated[int, typer.Option(min=1, help="Negative texts to train on.")] = 500_000,
    labelled_positive: Annotated[
        list[Path] | None, typer.Option(help="Documents known to be right, to judge by.")
    ] = None,
    labelled_negative: Annotated[
        list[Path] | None, typer.Option(help="Documents known to be wrong, to judge by.")
    ] = None,
    dim: DimOption = 256,
    bucket: BucketOption = 1_000_000,
    epochs: EpochsOption = 3,
    word_ngrams: NgramsOption = 3,
    min_count: MinCountOption = 3,
    max_chars: CharsOption = 10_000,
    lr: RateOption = 0.1,
    random_seed: SeedOption = 0,
) -> None:
    """Collect from a pool the documents that are like a seed, round by round.

    A model is trained on the seed against the pool and scores the pool; sites that are often found
    give the seed more; then again, as DeepSeekMath collected mathematics. Seed and pool are
    documents as curation writes them: a run's folder, or Parquet. Kill it and run it again: it goes
    on after the last finished round. Without --labelled-…, any page of the pool counts as wrong
    when precision is measured, which is then at least what is said.
    """
    from curation.classifier import ClassifierSettings
    from curation.recall import RecallSettings
    from curation.recall import recall as run
    from pipelines.runner import make_progress

    settings = RecallSettings(
        classifier=ClassifierSettings(
            dim=dim, lr=lr, word_ngrams=word_ngrams, min_count=min_count, epochs=epochs,
            bucket=bucket, max_chars=max_chars, held_out=0, seed=random_seed,
        ),
        rounds=rounds, stop_share=stop_share, positives=positives, negatives=negatives,
        min_score=min_score, most_bytes=most_bytes, domain_share=domain_share,
        domain_pages=domain_pages, join_score=join_score, seed=random_seed,
    )  # fmt: skip
    if bool(labelled_positive) != bool(labelled_negative):
        raise ValueError("--labelled-positive and --labelled-negative: expected both or neither")
    labelled = None
    if labelled_positive and labelled_negative:
        labelled = (_documents(labelled_positive, out), _documents(labelled_negative, out))
    seeds, pools = _documents(seed, out), _documents(pool, out)
    # A shell that expands `--pool *.parquet` makes seeds of all but the first: let it be seen.
    _say(f"seed: {len(seeds):,} files; pool: {len(pools):,} files")
    with make_progress(console) as progress:
        bars: dict[str, Any] = {}

        def at(what: str, done: int, total: int) -> None:
            if what not in bars:
                for task in bars.values():
                    progress.remove_task(task)
                bars.clear()
                bars[what] = progress.add_task(what, total=total, note="")
            progress.update(bars[what], completed=done)

        def each(found: dict[str, Any]) -> None:
            for line in _round_lines(found, settings.min_score):
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

        report = run(seeds, pools, settings, out, at, labelled=labelled, each=each)
    _say(
        f"{out}: {report['documents']:,} of {report['pool']:,} documents, "
        f"{report['bytes'] / 1e6:,.1f} MB, about {report['tokens']:,} tokens (bytes / 4), "
        f"in {len(report['rounds'])} rounds"
    )


def _documents(paths: list[Path], out: Path) -> list[Path]:
    """The Parquet files of documents: of a run those that curation kept; not those written here."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder; expected Parquet of documents")
        if not path.is_dir():
            found.append(path)
            continue
        kept = path / "curate" / "documents"
        folder = kept if kept.is_dir() else path
        if out.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"--out {out}: lies inside {folder}, which is read; name another")
        inside = sorted(folder.rglob("*.parquet"), key=os.fsencode)
        inside = [file for file in inside if not file.name.startswith(".")]
        if not inside:
            raise ValueError(f"{folder}: no .parquet in this folder; expected documents")
        found += inside
    return found


COLUMNS = "round  collected  precision  recall  already        tokens  new domains"


def _round_lines(found: dict[str, Any], min_score: float) -> Iterator[str]:
    """A round as a row of the table; before the first, its head."""
    if found["round"] == 1:
        yield COLUMNS
    judged = min(found["judged"], key=lambda row: abs(row["min_score"] - min_score))
    new = found["largest_new_domains"]
    domains = [f"{d['domain']} ({d['collected']}/{d['pages']})" for d in new[:3]]
    more = ", …" if found["new_domains"] > len(domains) else ""
    named = f": {', '.join(map(_plain, domains))}{more}" if domains else ""
    yield (
        f"{found['round']:5}  {found['collected']['documents']:9,}  {judged['precision']:9.4f}  "
        f"{judged['recall']:6.4f}  {found['already']:7.1%}  {found['collected']['tokens']:12,}  "
        f"{found['new_domains']:,}{named}"
    )
