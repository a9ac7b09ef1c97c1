"""Training a classifier on texts that a recipe or the command line names.

Of the texts of a side `count` are drawn: the distinct ones of least hash, so that which they are
depends on the texts alone, on neither files nor order. For that the side is read twice, and held in
memory are 8 bytes a text. What a path names must be right (`texts.py` stops at the first thing that
is not); a source of the recipe is read as curation reads it, which steps over what is bad.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from curation.classifier import ClassifierSettings, report_path, train_classifier
from curation.readers import Problem, Source, SourceError, plan_splits, read_split
from curation.sampling import least_keys
from pipelines.texts import read_texts

MOST_PROBLEMS = 100  # of a model that are kept one by one

# Another hash than that which `train_classifier` sorts by, or what is held out were not by chance.
_DRAW = 0x9E3779B97F4A7C15

Read = Callable[[], Iterable[pa.Array]]  # reads texts, all of them anew each time


def draw(read: Read, count: int, seed: int) -> Iterator[str]:
    """Give `count` of the distinct texts, or all if there are fewer, in the order they are read."""

    def keys(texts: pa.Array) -> list[int]:
        key = (seed + _DRAW) % 2**64
        return [xxhash.xxh3_64_intdigest(text, key) for text in texts.cast(pa.binary()).to_pylist()]

    found = [np.array(keys(texts), np.uint64) for texts in read()]
    every = np.unique(np.concatenate([np.zeros(0, np.uint64), *found]))
    left = set(every[every <= least_keys(every, count)].tolist())
    del found, every
    for texts in read():
        if not left:
            return
        for place, key in enumerate(keys(texts)):
            if key in left:
                left.remove(key)
                yield texts[place].as_py()


def read_paths(paths: Sequence[Path]) -> Read:
    """Read Parquet, lines of JSON, plain files or folders of them; see `texts.py` for errors."""
    return lambda: (batch["text"] for batch in read_texts(list(paths)))


def read_source(source: Source, on_problem: Callable[[Problem], None]) -> Read:
    """Read a source of a recipe; its problems are told of the first time."""
    told = [on_problem, lambda problem: None]

    def read() -> Iterator[pa.Array]:
        tell = told.pop(0) if len(told) > 1 else told[0]
        for split in plan_splits(source):
            for batch in read_split(split, tell):
                yield batch["text"]

    return read


def train_model(number: int, job: dict, out: str, on_error: str) -> dict:
    """Train one of a recipe's models (a map of `tasks.MAPS`): `out/NAME.bin` and its report.

    job: name, count, settings, and for `positive` and `negative` lists of {path} or {source}.
    """
    problems: list[Problem] = []

    def tell(problem: Problem) -> None:
        if on_error == "stop":
            raise SourceError(str(problem))
        problems.append(problem)

    def side(entries: list[dict]) -> Iterator[str]:
        reads = [
            read_source(Source(**entry["source"]), tell)
            if "source" in entry
            else read_paths([Path(entry["path"])])
            for entry in entries
        ]

        def read() -> Iterator[pa.Array]:
            for part in reads:
                yield from part()

        return draw(read, job["count"], settings.seed)

    settings = ClassifierSettings(**job["settings"])
    directory = Path(out)
    model = directory / f"{job['name']}.bin"
    # What a killed training leaves lies in `work`, which is deleted in the end.
    made = directory / "work" / model.name
    report = train_classifier(side(job["positive"]), side(job["negative"]), settings, made)
    report_path(made).rename(report_path(model))
    made.rename(model)
    return {
        "name": job["name"],
        "report": {key: report[key] for key in ("trained", "held_out", "judged", "reproducible")},
        "problems": [asdict(problem) for problem in problems[:MOST_PROBLEMS]],
        "problem_count": len(problems),
    }


def at_half(judged: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of `judged` for a least score of 0.5."""
    return next(row for row in judged if row["min_score"] == 0.5)
