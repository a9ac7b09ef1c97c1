"""Decontamination: documents that hold what a model is going to be examined with are left out.

The rule is that of DeepSeek-Coder and DeepSeek-Math: a document with any run of ten words in common
with a benchmark is rejected; an entry of three to nine words must occur as a whole; shorter ones
cannot be told from chance and are not looked for. Words are compared in lower case, without
punctuation, spaces and line breaks; in Chinese, Japanese, Thai and the like each letter is a word.

An entry is as long as its longest text. Of entries under ten words, each text of at least three
words is matched, unless another entry of the same file has it too: then it is a label ("high school
physics"), not a question.

The index is built once a process, in about 30 bytes for each run of ten words (the four benchmarks
GSM8K, HumanEval, MBPP and MATH-500: 10 MB); a look-up is exact, hashes only turn away. Reading is
native (`native/decontaminate.hpp`), about as fast as the words can be hashed.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curation import _native
from curation.benchmarks import Entry, benchmark_files, fingerprint, read_benchmark
from curation.document import read_metadata

SHORTEST = 3  # words
MAX_REPORTED = 4  # entries of a document
MAX_SHOWN = 300  # bytes of a text in common


@dataclass(frozen=True)
class Index:
    """The benchmarks of a folder, ready to be looked for.

    `counts`: benchmark -> {entries, matched as a whole, ignored}; ignored have no text of three
    words, or none of their own.
    """

    ngrams: _native.NgramIndex
    entries: list[Entry]
    counts: dict[str, dict[str, int]]


@dataclass(frozen=True)
class DecontaminationFilter:
    """Reject documents with `ngram` words in a row from a benchmark, as `decontaminate:NAME`.

    `benchmarks` is a folder (`benchmarks.py` says of what); `fields` are those of its rows that are
    text, all strings by default. Runs of words that more than `exclude` entries share, such as the
    instructions before each question, are not looked for; by default none are left out. The
    metadata of a rejected document gains `contaminated`: at most four {benchmark, entry, text}, the
    text being the document's own words; the first is the reason. Words that several entries share
    count for the first of them.

    Raises ValueError for a folder, a file or a setting that cannot be used.
    """

    name: ClassVar[str] = "decontaminate"

    benchmarks: str
    ngram: int = 10
    fields: tuple[str, ...] | None = None
    exclude: int | None = None

    def __post_init__(self) -> None:
        if self.ngram < SHORTEST:
            raise ValueError(f"ngram: expected at least {SHORTEST} words, found {self.ngram}")
        if self.exclude is not None and self.exclude < 1:
            raise ValueError(f"exclude: expected at least 1 entry, found {self.exclude}")
        benchmark_files(Path(self.benchmarks))

    def fingerprint(self) -> str:
        """What the result depends on beyond the settings: the names and contents of the files."""
        return fingerprint(Path(self.benchmarks))

    def files(self) -> list[Path]:
        """The benchmarks' files, sorted."""
        return benchmark_files(Path(self.benchmarks))

    def index(self) -> Index:
        """The index, built anew if a file changed."""
        stats = [(path, path.stat()) for path in self.files()]
        key = tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in stats)
        return _index(Path(self.benchmarks), key, self.ngram, self.fields, self.exclude)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        index = self.index()
        texts = batch.column("text")
        found = index.ngrams.find(texts, MAX_REPORTED)
        reasons: list[str | None] = [None] * batch.num_rows
        reports: dict[int, list[dict[str, str]]] = {}
        for row, number, start, end in zip(*(column.tolist() for column in found), strict=True):
            entry = index.entries[number]
            reasons[row] = reasons[row] or f"{self.name}:{entry.benchmark}"
            shown = texts[row].as_buffer()[start : min(end, start + MAX_SHOWN)].to_pybytes()
            report = {"benchmark": entry.benchmark, "entry": entry.id}
            report["text"] = shown.decode(errors="ignore")
            reports.setdefault(row, []).append(report)
        place = batch.schema.get_field_index("metadata")
        metadata = _with_reports(batch, reports)
        batch = batch.set_column(place, batch.schema.field(place), metadata)
        return batch.append_column(pa.field("reject", pa.string()), pa.array(reasons, pa.string()))


def _with_reports(batch: pa.RecordBatch, reports: dict[int, list]) -> pa.Array:
    column = batch.column("metadata")
    if not reports:
        return column
    rows: list[Any] = column.to_pylist()
    for row, report in reports.items():
        metadata = read_metadata(rows[row], batch.column("id")[row].as_py())
        rows[row] = json.dumps({**metadata, "contaminated": report}, ensure_ascii=False)
    return pa.array(rows, column.type)


@lru_cache(maxsize=2)
def _index(
    folder: Path,
    key: tuple,
    ngram: int,
    fields: tuple[str, ...] | None,
    exclude: int | None,
) -> Index:
    """Build the index; `key` has the files and what tells whether they changed."""
    entries: list[Entry] = []
    counts: dict[str, dict[str, int]] = {}
    passages: list[str] = []
    owners: list[int] = []
    for path, *_ in key:
        rows = list(read_benchmark(path, folder, fields))
        taken = _passages([list(row.texts.values()) for row in rows], ngram)
        if fields is not None and not any(row.texts for row in rows):
            raise ValueError(f"{path}: no entry has a text in the fields {', '.join(fields)}")
        tally = {"entries": len(rows), "whole": 0, "ignored": 0}
        for row, (texts, whole) in zip(rows, taken, strict=True):
            tally["whole"] += whole and bool(texts)
            tally["ignored"] += not texts
            passages += texts
            owners += [len(entries)] * len(texts)
            entries.append(row)
        if rows:
            counts[rows[0].benchmark] = tally
    most = 2**64 - 1 if exclude is None else exclude
    array = pa.array(passages, pa.large_string())
    return Index(
        _native.NgramIndex(array, np.array(owners, np.uint32), ngram, most), entries, counts
    )


def _passages(entries: list[list[str]], ngram: int) -> list[tuple[list[str], bool]]:
    """What of each entry is looked for, and whether as a whole."""
    words = [[_native.split_words(text) for text in texts] for texts in entries]
    long = [any(len(w) >= ngram for w in texts) for texts in words]
    labels = Counter(
        line
        for texts, is_long in zip(words, long, strict=True)
        if not is_long
        for line in {" ".join(w) for w in texts}
    )
    return [
        (
            [
                text
                for text, w in zip(texts, split, strict=True)
                if (len(w) >= ngram if is_long else len(w) >= SHORTEST and labels[" ".join(w)] == 1)
            ],
            not is_long,
        )
        for texts, split, is_long in zip(entries, words, long, strict=True)
    ]
