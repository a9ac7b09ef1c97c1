"""Curation steps and rounds by the names that recipes use.

A *step* sees one batch: `step(batch) -> batch`. A *round* must see everything: it signs each batch,
decides once from all signatures, and is applied to each batch. To add one of either kind, write a
frozen dataclass in `curation` and name it here; its fields are the settings that a recipe may give.

A step or a round that reads files of its own (a model, the texts of benchmarks) says so with a
method `files() -> list[Path]`: their checksums become part of the stage's key, so that another file
of the same name is another run. What else its results depend on, such as a library's version, is
told by a method `fingerprint() -> str`. A round with a field `seed` gets the recipe's, unless it is
given.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

import curation
from curation.c4 import C4Filter
from curation.classifier import ClassifierFilter
from curation.datatrove_step import DatatroveStep
from curation.decontaminate import DecontaminationFilter
from curation.dedup import DocumentDedup
from curation.fineweb import FineWebFilter
from curation.gopher import GopherQualityFilter, GopherRepetitionFilter
from curation.language import LanguageFilter
from curation.length import LengthFilter
from curation.paragraphs import ParagraphDedup
from curation.private_data import PrivateDataFilter
from curation.substrings import SubstringDedup
from curation.symbols import SymbolFilter
from pipelines.files import checksum, fingerprint

Step = Callable[[pa.RecordBatch], pa.RecordBatch]


class Round(Protocol):
    """A step in three parts, for what must see everything."""

    def sign(self, batch: pa.RecordBatch) -> pa.Table:
        """Give one row for each document, in order: all that the decision needs of it."""

    def merge(self, signed: Sequence[Path], out: Path, memory: int) -> None:
        """Decide: from all signatures (Parquet, in corpus order) write `out/decisions.parquet`.

        May leave `out/index.parquet`, to be published. Memory: about `memory` bytes. The result
        does not depend on how the corpus was cut into files.
        """

    def apply(self, batch: pa.RecordBatch, decisions: Path, first_row: int) -> pa.RecordBatch:
        """Give every row back, perhaps with another text, and a nullable column `reject`.

        first_row: the place of the batch's first document among all that were signed.
        """


STEPS: dict[str, type] = {
    "language": LanguageFilter,
    "length": LengthFilter,
    "symbols": SymbolFilter,
    "gopher_quality": GopherQualityFilter,
    "gopher_repetition": GopherRepetitionFilter,
    "c4": C4Filter,
    "fineweb": FineWebFilter,
    "classifier": ClassifierFilter,
    "decontaminate": DecontaminationFilter,
    "private_data": PrivateDataFilter,
    "datatrove": DatatroveStep,
}

ROUNDS: dict[str, type] = {
    "documents": DocumentDedup,
    "paragraphs": ParagraphDedup,
    "substrings": SubstringDedup,
}


def build_steps(settings: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, Step]]:
    """Make the steps that a recipe names, in order, with their names.

    The second `length` of a recipe is called `length-2`, so that each step is counted by itself.
    Raises ValueError naming the step and the setting that it doesn't have or can't take.
    """
    steps = []
    for entry in settings:
        ((name, fields),) = entry.items()
        same = sum(name in before for before in settings[: len(steps)]) + 1
        label = name if same == 1 else f"{name}-{same}"
        steps.append((label, _build(STEPS, "step", name, fields)))
    return steps


def build_rounds(
    settings: Iterable[tuple[str, Mapping[str, Any]]], seed: int
) -> list[tuple[str, Round]]:
    """Make the rounds that a recipe names, as (name, settings), in order; errors as for steps."""
    rounds = []
    for name, fields in settings:
        takes_seed = name in ROUNDS and "seed" in {f.name for f in dataclasses.fields(ROUNDS[name])}
        extra = {"seed": seed} if takes_seed else {}
        rounds.append((name, _build(ROUNDS, "round", name, extra | dict(fields))))
    return rounds


def files_of(parts: Iterable[tuple[str, Any]]) -> dict[str, Path]:
    """The files that steps or rounds read, by names that stay the same wherever the files lie.

    Raises ValueError naming the step and a file that is not there.
    """
    found = {}
    for place, (name, part) in enumerate(parts):
        for number, path in enumerate(part.files() if hasattr(part, "files") else ()):
            if not Path(path).is_file():
                raise ValueError(f"{name}: no such file: {path}")
            found[f"{place}-{name}/{number}-{Path(path).name}"] = Path(path)
    return found


def shipped_data() -> str:
    """A fingerprint of the tables that come with curation: thresholds, stop words, scores."""
    data = Path(curation.__file__).parent / "data"
    return fingerprint({p.name: checksum(p) for p in sorted(data.iterdir()) if p.is_file()})


def fingerprints_of(parts: Iterable[tuple[str, Any]]) -> list[str | None]:
    """What steps or rounds depend on besides settings and files; None where one is silent."""
    return [part.fingerprint() if hasattr(part, "fingerprint") else None for _, part in parts]


def _build(known: dict[str, type], kind: str, name: str, fields: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}, expected one of {', '.join(known)}")
    _check_names(known[name], fields, name)
    try:
        return TypeAdapter(known[name]).validate_python(dict(fields))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join([name, *(str(part) for part in first["loc"])])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}: {message}") from None


def _check_names(step: type, settings: Mapping[str, Any], key: str) -> None:
    """Refuse settings that a step, or a group of its settings, doesn't have."""
    known = {field.name: field for field in dataclasses.fields(step)}
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"{key}.{name}: unknown setting, expected one of {', '.join(known)}")
        if dataclasses.is_dataclass(known[name].type) and isinstance(value, dict):
            _check_names(known[name].type, value, f"{key}.{name}")
