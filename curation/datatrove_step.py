"""datatrove's own filters, formatters and extractors, as steps of ours.

A recipe names the class, and a record batch goes through it document by document:

    - datatrove: {step: GopherQualityFilter, arguments: {min_doc_words: 30}}

The class must be one that `datatrove.pipeline.filters`, `.formatters` or `.extractors` gives out;
nothing else is imported, and none that takes a function, downloads, or decides by the order in
which it sees documents. Each is tried on one sentence when it is made, so that a missing package or
an argument that it cannot take is heard of before a run begins.

A document has the text, the id, and as metadata ours plus `url` and `language`. What a class says
of it comes back: the reason, the edited text (spans are dropped then), changed metadata. Extractors
run in this process, not in datatrove's sandbox with a time limit, whose results depend on how busy
the machine is. The speed is the class's own: 0.3 to 10 MB/s for the filters, in Python.
"""

import importlib
import inspect
import json
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import pyarrow as pa

from curation.document import read_metadata

KINDS = {"filters": "filter", "formatters": "format", "extractors": "extract"}  # and their method

REFUSED = {
    "C4BadWordsFilter": "it downloads its lists of words",
    "FastTextClassifierFilter": "it reads its model through a cache of downloads",
    "LambdaFilter": "it takes a function, which a recipe cannot hold",
    "LanguageFilter": "it downloads its model; the step `language` needs none",
    "SamplerFilter": "it draws in the order of documents: files cut elsewhere are another sample",
    "URLFilter": "it downloads the list of public suffixes",
    "UnigramLogProbFilter": "it downloads its table of words",
}

# These replace by turns: made anew for each document, the result is of that document alone.
BY_TURNS = {"PIIFormatter"}

LIBRARIES = ("datatrove", "spacy", "ftfy", "trafilatura", "inscriptis", "readability-lxml")

PROBE = "This is a sentence with the words that a text has, and there is nothing else to be found."


@dataclass(frozen=True)
class DatatroveStep:
    """Run one of datatrove's classes; rejects as `datatrove:CLASS:reason`.

    `step` is the name of the class, `arguments` are its own. An extractor rejects, as `:empty` or
    `:error`, what it finds no text in or cannot read; an error of a filter or a formatter stops.

    Raises ValueError for a class that is unknown, refused or cannot be made, and RuntimeError
    naming the document for one that fails on it.
    """

    name: ClassVar[str] = "datatrove"

    step: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._made()

    def fingerprint(self) -> str:
        """What the result depends on beyond the settings: versions of libraries."""
        return " ".join(f"{name} {_version(name)}" for name in LIBRARIES)

    def _made(self) -> tuple[Any, str]:
        try:
            written = json.dumps(self.arguments)
        except TypeError as error:
            raise ValueError(f"{self.step}: arguments: expected what JSON holds: {error}") from None
        return _make(self.step, written)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        step, kind = self._made()
        rows = batch.select(["id", "text", "language", "uri", "metadata"]).to_pylist()
        reasons: list[str | None] = []
        edited = False
        for row in rows:
            if self.step in BY_TURNS:
                step = _new(self.step, self.arguments)
            given = row["text"]
            reason = _run(self.step, step, kind, row)
            reasons.append(reason and f"{self.name}:{self.step}:{reason}")
            edited |= row["text"] != given
        columns = {name: batch.column(name) for name in batch.schema.names}
        columns["metadata"] = pa.array([row["metadata"] for row in rows], pa.string())
        if edited:
            texts = pa.array([row["text"] for row in rows], pa.large_string())
            columns["spans"] = _dropped(batch.column("spans"), texts, batch.column("text"))
            columns["text"] = texts
        out = pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)
        return out.append_column(pa.field("reject", pa.string()), pa.array(reasons, pa.string()))


@cache
def known_classes() -> dict[str, tuple[type, str]]:
    """The classes that datatrove gives out: name -> (class, filters, formatters or extractors)."""
    found = {}
    for kind, method in KINDS.items():
        package = f"datatrove.pipeline.{kind}"
        for name, cls in inspect.getmembers(importlib.import_module(package), inspect.isclass):
            if cls.__module__.startswith(f"{package}.") and hasattr(cls, method):
                found[name] = (cls, kind)
    return found


@lru_cache(maxsize=16)
def _make(name: str, arguments: str) -> tuple[Any, str]:
    """Make and try a step, once a process."""
    known = known_classes()
    if name not in known or name in REFUSED:
        why = f"is not used here: {REFUSED[name]}" if name in REFUSED else "is not known"
        usable = ", ".join(sorted(known.keys() - REFUSED.keys()))
        raise ValueError(f"datatrove's {name} {why}; expected one of {usable}")
    cls, kind = known[name]
    values = json.loads(arguments)
    _check_arguments(cls, kind, values)
    try:
        step = _new(name, values)
        if kind != "extractors":
            row = {"id": "0" * 32, "text": PROBE, "metadata": None, "uri": None, "language": None}
            _run(name, step, kind, row)
    except Exception as error:
        shown = " ".join(str(error).split())
        raise ValueError(f"datatrove's {name} cannot be used: {shown}") from error
    return step, kind


def _run(name: str, step: Any, kind: str, row: dict[str, Any]) -> str | None:
    """Take a document through a step: `row` is changed in place, and why it is rejected given."""
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import get_filter_result

    own = read_metadata(row["metadata"], row["id"])
    given = {"url": row["uri"], "language": row["language"]}
    given = {key: value for key, value in given.items() if value is not None} | own
    document = Document(text=row["text"], id=row["id"], metadata=dict(given))
    reason = None
    try:
        if kind == "filters":
            kept, why = get_filter_result(step.filter(document))
            reason = None if kept else " ".join(str(why or "dropped").split())
        elif kind == "formatters":
            document.text = step.format(document.text)
        else:
            document.text = step.extract(document.text) or ""
            reason = None if document.text.strip() else "empty"
        document.text.encode()
    except Exception as error:
        if kind != "extractors":
            raise RuntimeError(
                f"document {row['id']}: datatrove's {name} failed: {type(error).__name__}: {error}"
            ) from error
        reason = "error"
    if reason is None:
        row["text"] = document.text
    if document.metadata != given:
        kept = {k: v for k, v in document.metadata.items() if k in own or given.get(k) != v}
        row["metadata"] = json.dumps(kept, ensure_ascii=False, default=_plain)
    return reason


def _check_arguments(cls: type, kind: str, values: dict[str, Any]) -> None:
    parameters = dict(inspect.signature(cls).parameters)
    for parameter in parameters.values():
        if "Callable" in str(parameter.annotation):
            raise ValueError(f"datatrove's {cls.__name__} takes a function, no recipe can hold one")
    parameters.pop("exclusion_writer", None)  # the runner keeps what was rejected
    if kind == "extractors":
        parameters.pop("timeout", None)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [n for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    for argument in values:
        if argument in ("exclusion_writer", "timeout") or (
            argument not in names and not open_ended
        ):
            raise ValueError(
                f"datatrove's {cls.__name__} has no argument {argument!r} here, expected one of "
                f"{', '.join(names) or 'none'}"
            )
    if cls.__name__ == "Trafilatura" and values.get("deduplicate"):
        raise ValueError(
            "datatrove's Trafilatura: deduplicate drops what earlier documents of the process had, "
            "so a run with other workers gives other texts; expected false"
        )


def _new(name: str, values: dict[str, Any]) -> Any:
    cls, _ = known_classes()[name]
    if name == "Trafilatura":
        values = {**values, "deduplicate": False}
    return cls(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    """Lists as tuples: datatrove hands some to `str.endswith`, which takes no list."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _plain(value: Any) -> Any:
    """A NumPy number as one of JSON's."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"metadata: expected what JSON holds, found {type(value).__name__}")


def _dropped(spans: pa.Array, new: pa.Array, old: pa.Array) -> pa.Array:
    """The spans of the texts that stayed as they were."""
    if spans.null_count == len(spans):
        return spans
    kept = [
        span if a == b else None
        for span, a, b in zip(spans.to_pylist(), new.to_pylist(), old.to_pylist(), strict=True)
    ]
    return pa.array(kept, spans.type)
