"""Language: what each document is written in, by fastText's lid.176, and whether to keep it.

The model (176 languages, 938 KB, CC-BY-SA-3.0) reads the first 2,000 characters as one line and
gives a label with a score. The label says nothing of the script, so the script of the whole text
is counted (`languages.py`) and completes it; a label that its text contradicts, such as Russian in
Latin letters, is rejected, whoever gave it. Documents that come with a language keep it: the model
is asked only where there is none, or where declared languages are not to be trusted. The languages
that it does not know, or takes for a close relative, cannot be checked and are kept.
"""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

import curation
from curation.languages import canonical, in_script, script_counts

SAMPLE = 2000  # characters

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

    `min_score` is for predicted languages. With `trust_declared` false a declared language that
    the model contradicts, with at least that score, is rejected as `language:not_as_declared`.
    `keep` (in any spelling that `languages.canonical` knows) is for natural languages: documents
    of the domain `code` keep their programming language, or get `unknown`, and always pass.
    """

    name: ClassVar[str] = "language"

    min_score: float = 0.35
    trust_declared: bool = True
    keep: tuple[str, ...] | None = None

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give every row, with `language`, the metadata `lid_score` where it was predicted, and
        `reject`."""
        texts = batch.column("text").to_pylist()
        domains = batch.column("domain").to_pylist()
        languages = batch.column("language").to_pylist()
        metadata = batch.column("metadata").to_pylist()
        natural = [row for row, domain in enumerate(domains) if domain != "code"]
        asked = [row for row in natural if languages[row] is None or not self.trust_declared]
        predicted = dict(zip(asked, predict([texts[row] for row in asked]), strict=True))
        keep = None if self.keep is None else {canonical(code) for code in self.keep}
        reject: list[str | None] = [None] * len(texts)
        for row in natural:
            counts = script_counts(texts[row])
            label, score = predicted.get(row, (None, None))
            if score is not None:
                metadata[row] = _with_score(metadata[row], score)
            declared = languages[row]
            code = in_script(label if declared is None else declared, counts)
            languages[row] = code or canonical(label if declared is None else declared)
            if score is not None and score < self.min_score and declared is None:
                reject[row] = "language:low_score"
            elif code is None:
                reject[row] = "language:script_mismatch"
            elif label and score >= self.min_score and _contradicts(label, declared):
                reject[row] = "language:not_as_declared"
            if reject[row] is None and keep is not None and code not in keep:
                reject[row] = "language:not_kept"
        for row, domain in enumerate(domains):
            if domain == "code" and languages[row] is None:
                languages[row] = "unknown"
        for name, values in (("language", languages), ("metadata", metadata)):
            field = batch.schema.field(name)
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, field, pa.array(values, field.type))
        return batch.append_column(pa.field("reject", pa.string()), pa.array(reject, pa.string()))


def predict(texts: list[str]) -> list[tuple[str, float]]:
    """Label each text: (a lid.176 label without its prefix, its score from 0 to 1).

    Of the first 2,000 characters, white space made single spaces. A text without any letter has
    no language: `unknown`, 0.
    """
    samples = [" ".join(text[:SAMPLE].split()) for text in texts]
    # A list, because predict(str) fails with NumPy 2 in fasttext 0.9.3.
    labels, scores = _model().predict(samples) if samples else ([], [])
    return [
        (label[0].removeprefix("__label__"), min(round(float(score[0]), 4), 1.0))
        if any(map(str.isalpha, sample))
        else ("unknown", 0.0)
        for sample, label, score in zip(samples, labels, scores, strict=True)
    ]


@cache
def _model():
    """Load lid.176, once in a process. Raises FileNotFoundError if it is nowhere."""
    import fasttext  # here, because it costs a tenth of a second and most steps go without it

    places = [Path(folder) / "lid.176.ftz" for folder in curation.__path__]
    if given := os.environ.get("GRISTMILL_LID_MODEL"):
        places = [Path(given)]
    for place in places:
        if place.is_file():
            fasttext.FastText.eprint = lambda *args, **kwargs: None  # a notice on every load
            return fasttext.load_model(str(place))
    raise FileNotFoundError(
        f"lid.176.ftz: not found as {' or '.join(map(str, places))}; install the package, which "
        "brings it, or set GRISTMILL_LID_MODEL to the file"
    )


def _known() -> set[str]:
    return {canonical(label).split("_")[0] for label in _model().labels}


def _contradicts(label: str, declared: str | None) -> bool:
    if declared is None:
        return False
    found, said = (canonical(code).split("_")[0] for code in (label, declared))
    related = any({found, said} <= group for group in RELATIVES)
    return found != said and not related and said in _known()


def _with_score(metadata: str | None, score: float) -> str:
    values = json.loads(metadata) if metadata else {}
    return json.dumps(values | {"lid_score": score}, ensure_ascii=False, sort_keys=True)
