"""Language: what each document is written in, by fastText's lid.176, and whether to keep it.

The model (176 languages, 938 KB, CC-BY-SA-3.0) reads 999 characters, of the beginning, the middle
and the end, as one line, and gives a label with a score. That is as often right as the first 2,000
(what a page begins with is not always its language) and costs half. The label says nothing of the
script, so the script of the whole text is counted (`languages.py`) and completes it; a label that
its text contradicts, such as Russian in Latin letters, is rejected, whoever gave it.

The model calls everything some natural language. So what is code or mathematics is told first
(`kinds.py`), and no label is believed for code; for mathematics the words beside the formulas are
asked about, and believed if they are sure. What is left without a language gets `unknown`, its
`kind` in the metadata says why, and it passes: other steps judge code and formulas.

How sure is sure differs by language: thresholds are in `data/language_scores.json`, chosen on the
development half of NTREX-128 (tests/benchmarks/bench_language.py), where a stricter one loses more
text of the language than it keeps others out. Documents that come with a language keep it: the
model is asked only where there is none, or where declared languages are not to be trusted. The
languages that it does not know, or takes for a close relative, cannot be checked and are kept.

The model is read by our own code, with fastText's answers at four times its speed
(native/bind_lid.cpp); a document costs about 0.1 ms, whatever its length.
"""

import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

import curation
from curation import _native
from curation.document import with_metadata
from curation.kinds import kinds
from curation.languages import all_script_counts, canonical, in_script

PIECES = 3
PIECE = 333  # characters

# Languages that lid.176 takes for one another, so that one for the other is no contradiction.
RELATIVES = [
    {"hbs", "bos", "hrv", "srp", "cnr"},
    {"nob", "nno", "dan"},
    {"zsm", "ind", "min", "bjn"},
    {"arb", "ary", "arz", "acm", "apc", "ajp", "acq", "ars", "aeb", "mey", "shu"},
    {"pes", "prs", "azb", "mzn", "glk", "lrc"},
    {"zho", "yue", "wuu", "lzh"},
    {"tgl", "fil"},
    {"hin", "bho", "mai", "mag", "hne", "awa"},
    {"npi", "dty", "new"},
    {"por", "glg"},
    {"ces", "slk"},
]


@dataclass(frozen=True)
class LanguageFilter:
    """Fill in and check `language`; reject by score, script and a list of languages to keep.

    A predicted language needs the score of its language: in `min_scores` (from a language in any
    spelling that `languages.canonical` knows, whatever its script, to a score), else `min_score`
    if given, else the package's. With `trust_declared` false a declared language that the model
    contradicts, with at least that score, is rejected as `language:not_as_declared`. `keep` (in any
    spelling) is for natural languages: documents of the domain `code` keep their programming
    language, or get `unknown`, and always pass, and so does what has none because of its kind.
    """

    name: ClassVar[str] = "language"

    min_score: float | None = None
    min_scores: dict[str, float] = field(default_factory=dict)
    trust_declared: bool = True
    keep: tuple[str, ...] | None = None

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give every row, with `language`, the metadata `kind` and `lid_score` (if there is one)
        where the model was asked, and `reject`."""
        texts = batch.column("text")
        domains = batch.column("domain").to_pylist()
        languages = batch.column("language").to_pylist()
        metadata = batch.column("metadata").to_pylist()
        natural = [row for row, domain in enumerate(domains) if domain != "code"]
        asked = [row for row in natural if languages[row] is None or not self.trust_declared]
        kind, predicted = _ask(texts, asked)
        scripts = all_script_counts(texts)
        keep = None if self.keep is None else {canonical(code) for code in self.keep}
        least = {_language(code): score for code, score in self.min_scores.items()}
        reject: list[str | None] = [None] * batch.num_rows
        for row in natural:
            declared = languages[row]
            label, score = predicted.get(row, (None, None))
            if row in kind:
                scored = {} if score is None else {"lid_score": score}
                metadata[row] = with_metadata(metadata[row], kind=kind[row], **scored)
            claimed = declared if declared is not None else label or "unknown"
            code = in_script(claimed, scripts[row])
            sure = score is not None and score >= self._least(least, label)
            if declared is None and kind[row] != "prose" and not (sure and code):
                languages[row] = "unknown"
                continue
            languages[row] = code or canonical(claimed)
            if declared is None and not sure:
                reject[row] = "language:low_score"
            elif code is None:
                reject[row] = "language:script_mismatch"
            elif sure and declared is not None and _contradicts(label, declared):
                reject[row] = "language:not_as_declared"
            elif keep is not None and code not in keep:
                reject[row] = "language:not_kept"
        for row, domain in enumerate(domains):
            if domain == "code" and languages[row] is None:
                languages[row] = "unknown"
        for name, values in (("language", languages), ("metadata", metadata)):
            column = batch.schema.field(name)
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, column, pa.array(values, column.type))
        return batch.append_column(pa.field("reject", pa.string()), pa.array(reject, pa.string()))

    def _least(self, own: dict[str, float], label: str) -> float:
        """The score from which a label is believed."""
        language = _language(label)
        if language in own:
            return own[language]
        if self.min_score is not None:
            return self.min_score
        return least_scores().get(language, least_scores()["default"])


def predict(texts: list[str]) -> list[tuple[str, float]]:
    """Label each text: (a lid.176 label without its prefix, its score from 0 to 1).

    Of the words of its sample. A text without any letter has no language: `unknown`, 0.
    """
    samples = [" ".join(_NO_WORDS.sub(" ", _sample(text)).split()) for text in texts]
    labels, scores = _model().predict(pa.array(samples, pa.large_string()))
    names = [label.removeprefix("__label__") for label in _model().labels]
    return [
        (names[label], min(round(score, 4), 1.0))
        if any(map(str.isalpha, sample))
        else ("unknown", 0.0)
        for sample, label, score in zip(samples, labels.tolist(), scores.tolist(), strict=True)
    ]


@cache
def least_scores() -> dict[str, float]:
    """The package's thresholds: by language (ISO 639-3), and `default` for all others."""
    path = Path(__file__).parent / "data" / "language_scores.json"
    return json.loads(path.read_text())["scores"]


def _sample(text: str) -> str:
    """The beginning, the middle and the end of a long text."""
    if len(text) <= PIECES * PIECE:
        return text
    step = (len(text) - PIECE) // (PIECES - 1)
    return " ".join(text[at : at + PIECE] for at in range(0, PIECES * step, step))


# Runs of ASCII that are no words of a language: addresses, names in code, tags, numbers.
_NO_WORDS = re.compile(
    r"(?<![!-~])[^\x00-\x20\x7f-\U0010ffff\d_(){}<>=/\\@#$|~^\[\]`*]*"
    r"[\d_(){}<>=/\\@#$|~^\[\]`*][!-~]*",
    re.ASCII,
)
# What is no word beside formulas: they, LaTeX's commands with the names that they take, and tags.
_FORMULAS = re.compile(
    r"\$\$[^$]{0,2000}\$\$|\$[^$]{0,500}\$|\\(?:begin|end|label|ref|cite|input|usepackage)\{[^{}]*\}"
    r"|\\[A-Za-z]+|[{}]|<[^<>]{0,200}>"
)
_MATH_SAMPLE = 6000  # characters, of which the words are about a third


def _ask(texts: pa.Array, asked: list[int]) -> tuple[dict[int, str], dict[int, tuple[str, float]]]:
    """The kinds of some rows, and the model's answers for those that it can be asked about."""
    if not asked:
        return {}, {}
    chosen = texts.take(pa.array(asked, pa.int64()))
    kind = dict(zip(asked, kinds(chosen), strict=True))
    samples = {}
    for row, text in zip(asked, chosen.to_pylist(), strict=True):
        if kind[row] == "math":
            samples[row] = _FORMULAS.sub(" ", text[:_MATH_SAMPLE])
        elif kind[row] == "prose":
            samples[row] = text
    return kind, dict(zip(samples, predict(list(samples.values())), strict=True))


@cache
def _model() -> _native.LanguageModel:
    """Load lid.176, once in a process."""
    return _native.LanguageModel(str(model_path()))


def model_path() -> Path:
    """Where lid.176 lies. Raises FileNotFoundError if it is nowhere."""
    places = [Path(folder) / "lid.176.ftz" for folder in curation.__path__]
    if given := os.environ.get("GRISTMILL_LID_MODEL"):
        places = [Path(given)]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"lid.176.ftz: not found as {' or '.join(map(str, places))}; install the package, which "
        "brings it, or set GRISTMILL_LID_MODEL to the file"
    )


@cache
def _known() -> frozenset[str]:
    return frozenset(_language(label) for label in _model().labels)


def _language(code: str) -> str:
    return canonical(code).split("_")[0]


def _contradicts(label: str, declared: str) -> bool:
    found, said = _language(label), _language(declared)
    related = any({found, said} <= group for group in RELATIVES)
    return found != said and not related and said in _known()
