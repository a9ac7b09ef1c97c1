"""Thresholds: which ones a document is judged by, and what is said of one that breaks them.

A filter's fields are its thresholds for English prose, as published. Other languages and other
domains need others: `data/thresholds.yaml` has what we know of them, and a recipe's `languages` and
`domains` come on top, name by name. What is said for a document's language counts more than the
fields' defaults, what is said for its domain more than both. A field that a recipe sets counts for
every language, and if it is set to None, which is off, for every domain too: only the recipe's own
`languages` and `domains` count more.

A field that begins with `min_` is the least that passes, any other the most. The first broken one,
in the order of the fields, is the reason: `step:field`.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

DATA = Path(__file__).with_name("data")
ANY = "*"  # any language that is known and has no entry

Overrides = Mapping[str, Mapping[str, float | None]]


@cache
def _shipped() -> dict[str, dict[str, Overrides]]:
    return yaml.safe_load((DATA / "thresholds.yaml").read_text(encoding="utf-8"))


def names(step: Any) -> list[str]:
    """The fields of a step that are thresholds: those that the language or domain may change."""
    apart = {"languages", "domains", *getattr(step, "settings", ())}
    return [field.name for field in fields(step) if field.name not in apart]


def check_overrides(step: Any) -> None:
    """Refuse a recipe's `languages` and `domains` that name what is no threshold of the step.

    Raises ValueError naming the key, and what could have been there.
    """
    known = names(step)
    for place in ("languages", "domains"):
        for key, changed in getattr(step, place).items():
            for name, value in changed.items():
                if name not in known:
                    raise ValueError(
                        f"{place}.{key}.{name}: unknown threshold, expected one of "
                        f"{', '.join(known)}"
                    )
                if value is not None and not isinstance(value, bool | int | float):
                    raise ValueError(
                        f"{place}.{key}.{name}: expected a number or null, found {value!r}"
                    )


def limits(step: Any, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
    """Each threshold of each document: name -> float64 [documents], NaN where it is off."""
    key = pc.binary_join_element_wise(
        batch["domain"], batch["language"], "\n", null_handling="replace", null_replacement=""
    ).dictionary_encode()
    if isinstance(key, pa.ChunkedArray):
        key = key.combine_chunks()
    which = key.indices.to_numpy()
    kinds = [kind.rpartition("\n")[::2] for kind in key.dictionary.to_pylist()]
    found = {name: [] for name in names(step)}
    for domain, language in kinds:
        changed = _changed(step, domain, language)
        for name, values in found.items():
            values.append(changed.get(name, getattr(step, name)))
    return {name: np.array(values, float)[which] for name, values in found.items()}


def _changed(step: Any, domain: str, language: str) -> dict[str, float | None]:
    """What a language and a domain say other than the step's fields."""
    shipped = _shipped().get(step.name, {})
    own = {
        field.name: getattr(step, field.name)
        for field in fields(step)
        if getattr(step, field.name) != field.default
    }
    off = {name: None for name, value in own.items() if value is None}
    changed = _of_language(shipped.get("languages", {}), language) | own
    changed |= _of_language(step.languages, language)
    changed |= shipped.get("domains", {}).get(domain, {}) | off
    return changed | step.domains.get(domain, {})


def _of_language(known: Overrides, language: str) -> Mapping[str, float | None]:
    return known.get(language, known.get(ANY, {}) if language else {})


def judge(
    batch: pa.RecordBatch,
    step: str,
    thresholds: Mapping[str, np.ndarray],
    measures: Mapping[str, np.ndarray],
    also: Mapping[str, np.ndarray] | None = None,
) -> pa.RecordBatch:
    """Add `reject`: for each document `step:` and the first threshold that its measure breaks.

    `also` are other reasons (bool [documents] each), which come first.
    """
    broken = dict(also or {})
    for name, limit in thresholds.items():
        found = measures[name]
        broken[name] = found < limit if name.startswith("min_") else found > limit
    return reject(batch, step, broken)


def reject(batch: pa.RecordBatch, step: str, broken: Mapping[str, np.ndarray]) -> pa.RecordBatch:
    """Add `reject`: `step:` and the first of the reasons (bool [documents] each) that holds."""
    first = np.full(batch.num_rows, -1)
    for i, rows in reversed(list(enumerate(broken.values()))):
        first[rows] = i
    reasons = pa.array([f"{step}:{rule}" for rule in broken], pa.string())
    column = reasons.take(pa.array(first, mask=first < 0))
    return batch.append_column(pa.field("reject", pa.string()), column)
