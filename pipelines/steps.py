"""Curation steps by the names that recipes use."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from curation.language import LanguageFilter
from curation.quality import LengthFilter, RepetitionFilter, SymbolFilter

Step = Callable[[pa.RecordBatch], pa.RecordBatch]

STEPS: dict[str, type] = {
    "language": LanguageFilter,
    "length": LengthFilter,
    "repetition": RepetitionFilter,
    "symbols": SymbolFilter,
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
        try:
            steps.append((name, TypeAdapter(STEPS[name]).validate_python(fields)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join([name, *(str(part) for part in first["loc"])])
            known = ", ".join(STEPS[name].__dataclass_fields__)
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] == "unexpected_keyword_argument":
                message = f"unknown setting, expected one of {known}"
            raise ValueError(f"{key}: {message}") from None
    return steps
