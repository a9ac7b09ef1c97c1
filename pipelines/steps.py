"""Curation steps by the names that recipes use."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from curation.c4 import C4Filter
from curation.fineweb import FineWebFilter
from curation.gopher import GopherQualityFilter, GopherRepetitionFilter
from curation.language import LanguageFilter
from curation.length import LengthFilter
from curation.symbols import SymbolFilter

Step = Callable[[pa.RecordBatch], pa.RecordBatch]

STEPS: dict[str, type] = {
    "language": LanguageFilter,
    "length": LengthFilter,
    "symbols": SymbolFilter,
    "gopher_quality": GopherQualityFilter,
    "gopher_repetition": GopherRepetitionFilter,
    "c4": C4Filter,
    "fineweb": FineWebFilter,
}


def build_steps(settings: Sequence[dict[str, dict[str, Any]]]) -> list[tuple[str, Step]]:
    """Make the steps that a recipe names, in order, with their names.

    Raises ValueError naming the step and the setting that it doesn't have or can't take.
    """
    steps = []
    for entry in settings:
        ((name, fields),) = entry.items()
        if name not in STEPS:
            raise ValueError(f"unknown step {name!r}, expected one of {', '.join(STEPS)}")
        _check_names(STEPS[name], fields, name)
        try:
            steps.append((name, TypeAdapter(STEPS[name]).validate_python(fields)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join([name, *(str(part) for part in first["loc"])])
            message = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{key}: {message}") from None
    return steps


def _check_names(step: type, settings: dict[str, Any], key: str) -> None:
    """Refuse settings that a step, or a group of its settings, doesn't have."""
    known = {field.name: field for field in dataclasses.fields(step)}
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"{key}.{name}: unknown setting, expected one of {', '.join(known)}")
        if dataclasses.is_dataclass(known[name].type) and isinstance(value, dict):
            _check_names(known[name].type, value, f"{key}.{name}")
