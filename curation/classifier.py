"""Classifier: is a text more like these or more like those? Quality as DCLM judges it.

DCLM (Li et al. 2024, section 4.4) trained fastText on 200,000 texts worth imitating, instructions
and good explanations, against 200,000 plain pages of the web, and kept the tenth of the web that
looks most like the first. `train_classifier` does that with any two collections; `ClassifierFilter`
gives every document its score and rejects low ones. Mathematics is recalled with it (`recall.py`).

The classifier is a bag of words and word n-grams: one vector each, averaged, and a logistic
regression on top. Words are those of `normalise`, the same in training and use: lower case, each
punctuation mark a word, and each letter too in scripts without spaces between words (with its
combining marks).

Training is deterministic: one thread, a seed, and lines in the order of a hash, whatever order the
texts came in. Those of the hash's first part are held out, so that equal texts are on the same
side; they are the report's precision and recall. That it is the same bytes every time rests on
glibc (see `_zeroed_memory`); with another C library two trainings may differ, and the report's
`reproducible` is false. Memory: 4 * dim * (bucket + words) bytes for the model, and a 64th of the
text for sorting it. The model is fastText's own binary, not pickle; beside it lies its report,
which also says how texts were cut and which score keeps which share of the plain texts.
"""

import ctypes
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import xxhash

from curation import _native
from curation.document import with_metadata

_POSITIVE, _NEGATIVE = "__label__1", "__label__0"
_PARTS = 64  # files that training lines are sorted in
_TRIES = 5  # to train where memory is not zeroed


@dataclass(frozen=True)
class ClassifierSettings:
    """What fastText is trained with. `max_chars` of each text are read, `held_out` is a share.

    The defaults are for 100,000 texts and more; with some thousand, scores lie close together until
    `lr` is 0.5 or there are 25 epochs.
    """

    dim: int = 100
    lr: float = 0.1
    word_ngrams: int = 2
    min_count: int = 3
    epochs: int = 5
    bucket: int = 1_000_000
    max_chars: int = 10_000
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out: expected a share below 1, found {self.held_out}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr: expected a number above 0, found {self.lr}")
        for name in ("dim", "word_ngrams", "min_count", "epochs", "bucket", "max_chars"):
            if not 1 <= getattr(self, name) < 2**31:
                raise ValueError(f"{name}: expected from 1 to 2^31, found {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: expected from 0 to 2^63, found {self.seed}")


def normalise(texts: Iterable[str], max_chars: int) -> list[str]:
    """Make the beginning of each text a line of words for fastText, at tens of MB/s.

    fastText's own signs, `__label__` and `</s>`, fall into pieces like everything else.
    """
    return _native.normalise(pa.array(texts, pa.large_string()), max_chars)


def train_classifier(
    positive: Iterable[str], negative: Iterable[str], settings: ClassifierSettings, out: Path
) -> dict[str, Any]:
    """Train on two collections; write the model as `out` and its report beside it as JSON.

    The report, which is also returned: `settings`, `trained` and `held_out` (texts by side),
    `judged` (see `judge`), `plain_scores`, the held-out negative texts' score that is exceeded by
    1% of them, by 2% and so on to 100%, `reproducible`, and `bytes`, the model's size. Raises
    ValueError if either side is empty, no word is frequent enough or `out` cannot be a model's
    name, ArithmeticError if fastText's numbers overflow.
    """
    if out.is_dir() or out == report_path(out):
        found = "a folder" if out.is_dir() else "the name of a report"
        raise ValueError(f"{out}: {found}; expected the model's file to write, such as good.bin")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
        folder = Path(name)
        counts = _write_lines(positive, negative, settings, folder)
        for side, texts in zip(("positive", "negative"), counts["trained"], strict=True):
            if not texts:
                raise ValueError(f"{out}: no {side} texts to train on")
        model, reproducible = _fit(folder / "train.txt", settings, out)
        model.save_model(str(folder / "model.bin"))
        scores: tuple[list, list] = ([], [])
        with (folder / "held_out.txt").open(encoding="utf-8", newline="\n") as lines:
            for batch in _batches(lines, 1000):
                found = _scores(model, [line[len(_POSITIVE) + 1 : -1] for line in batch])
                for line, score in zip(batch, found.tolist(), strict=True):
                    scores[not line.startswith(_POSITIVE)].append(score)
        report = {
            "settings": asdict(settings),
            "trained": dict(zip(("positive", "negative"), counts["trained"], strict=True)),
            "held_out": dict(zip(("positive", "negative"), map(len, scores), strict=True)),
            "judged": judge(*map(np.array, scores)),
            "plain_scores": _plain_scores(np.array(scores[1])),
            "reproducible": reproducible,
            "bytes": (folder / "model.bin").stat().st_size,
        }
        text = json.dumps(report, indent=1) + "\n"
        (folder / "report.json").write_text(text)
        (folder / "report.json").rename(report_path(out))
        (folder / "model.bin").rename(out)
    return report


def judge(positive: np.ndarray, negative: np.ndarray) -> list[dict[str, float]]:
    """Precision, recall, F1, and the share of the negative texts that pass, by least score."""
    table = []
    for least in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
        right, wrong = int((positive >= least).sum()), int((negative >= least).sum())
        precision = right / max(right + wrong, 1)
        recall = right / max(len(positive), 1)
        row = {
            "min_score": least,
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / max(precision + recall, 1e-9),
            "passed_negative": wrong / max(len(negative), 1),
        }
        table.append({key: round(value, 4) for key, value in row.items()})
    return table


def judged_table(judged: list[dict[str, float]]) -> str:
    """The rows of `judge` as text, for people."""
    names = list(judged[0])
    lines = ["  ".join(names)]
    lines += ["  ".join(f"{row[name]:{len(name)}.4g}" for name in names) for row in judged]
    return "\n".join(lines)


def report_path(model: Path) -> Path:
    """Where the report of a model lies."""
    return model.with_suffix(".json")


class Classifier:
    """A trained model: `score(texts)` is float32 [texts], from 0 to 1."""

    def __init__(self, path: Path) -> None:
        """Load it.

        Raises FileNotFoundError if the model or its report is not there, ValueError if they are not
        what `train_classifier` wrote.
        """
        for part in (path, report_path(path)):
            if not part.is_file():
                raise FileNotFoundError(f"{part}: no classifier here; train one first")
        import fasttext

        fasttext.FastText.eprint = lambda *args, **kwargs: None
        try:
            self.report = json.loads(report_path(path).read_text())
            self._max_chars = self.report["settings"]["max_chars"]
            size = self.report["bytes"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{report_path(path)}: not the report of a classifier") from None
        # fastText believes a file: what it was cut short of would be scored with anything.
        if path.stat().st_size != size:
            raise ValueError(
                f"{path}: {path.stat().st_size:,} bytes, but its report says {size:,}; train it "
                "again, or copy the model with its report"
            )
        self._model = fasttext.load_model(str(path))

    def score(self, texts: Iterable[str]) -> np.ndarray:
        """How much each text is like the positive ones; 0 for a text without words."""
        return _scores(self._model, normalise(texts, self._max_chars))


@dataclass(frozen=True)
class ClassifierFilter:
    """Score documents into `metadata[key]`; reject low ones as `classifier:low_score`.

    `model` is a file that `train_classifier` wrote. Rejected is what scores less than `min_score`,
    or, with `keep_share`, what is not in that share of texts like the negative ones it was trained
    on (0.1 is DCLM's tenth, if those were plain pages). With neither, nothing is.
    """

    name: ClassVar[str] = "classifier"

    model: str
    min_score: float | None = None
    keep_share: float | None = None
    key: str = "classifier_score"

    def __post_init__(self) -> None:
        if self.min_score is not None and self.keep_share is not None:
            raise ValueError("expected min_score or keep_share, found both")
        if self.keep_share is not None and not 0.01 <= self.keep_share <= 1:
            raise ValueError(f"keep_share: expected from 0.01 to 1, found {self.keep_share}")

    def files(self) -> list[Path]:
        """The model and its report."""
        return [Path(self.model), report_path(Path(self.model))]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        path = Path(self.model)
        classifier = _load(path, path.stat().st_mtime_ns if path.exists() else 0)
        least = self.min_score
        if self.keep_share is not None:
            if not classifier.report["held_out"]["negative"]:
                raise ValueError(
                    f"{path}: no negative texts were held out in training, so that keep_share has "
                    "nothing to go by; train with held_out, or give min_score"
                )
            shares = np.arange(1, 101) / 100
            least = float(np.interp(self.keep_share, shares, classifier.report["plain_scores"]))
        scores = classifier.score(batch.column("text").to_pylist()).tolist()
        metadata = [
            with_metadata(old, **{self.key: round(score, 4)})
            for old, score in zip(batch.column("metadata").to_pylist(), scores, strict=True)
        ]
        reject = [
            "classifier:low_score" if least is not None and score < least else None
            for score in scores
        ]
        place = batch.schema.get_field_index("metadata")
        column = batch.schema.field("metadata")
        batch = batch.set_column(place, column, pa.array(metadata, column.type))
        return batch.append_column(pa.field("reject", pa.string()), pa.array(reject, pa.string()))


@lru_cache(4)
def _load(path: Path, changed: int) -> Classifier:
    return Classifier(path)


def _write_lines(
    positive: Iterable[str], negative: Iterable[str], settings: ClassifierSettings, folder: Path
) -> dict[str, list[int]]:
    """Write `train.txt` and `held_out.txt`, in the order of a hash of their lines."""
    counts = {"trained": [0, 0], "held_out": [0, 0]}
    held = int(settings.held_out * 2**64)
    parts = [(folder / f"part-{part}").open("wb") for part in range(_PARTS)]
    for side, (label, texts) in enumerate(((_POSITIVE, positive), (_NEGATIVE, negative))):
        lines = (
            line
            for batch in _batches(texts, 500)
            for line in normalise(batch, settings.max_chars)
            if line
        )
        for words in lines:
            key = xxhash.xxh3_64_intdigest(words.encode(), settings.seed)
            counts["held_out" if key < held else "trained"][side] += 1
            parts[key % _PARTS].write(f"{key:016x} {label} {words}\n".encode())
    with (folder / "train.txt").open("wb") as train, (folder / "held_out.txt").open("wb") as rest:
        for part in parts:
            part.close()
            lines = sorted(Path(part.name).read_bytes().split(b"\n")[:-1])
            for line in lines:
                file = rest if int(line[:16], 16) < held else train
                file.write(line[17:] + b"\n")
            Path(part.name).unlink()
    return counts


def _fit(lines: Path, settings: ClassifierSettings, out: Path) -> tuple[Any, bool]:
    """Train; gives the model, and whether its bytes are the same every time."""
    import fasttext

    for tries in count(1):
        with _zeroed_memory() as zeroed:
            try:
                model = fasttext.train_supervised(
                    input=str(lines),
                    dim=settings.dim,
                    lr=settings.lr,
                    wordNgrams=settings.word_ngrams,
                    minCount=settings.min_count,
                    epoch=settings.epochs,
                    bucket=settings.bucket,
                    seed=settings.seed % 2**31,
                    thread=1,
                    verbose=0,
                )
                # fastText makes a model without words, too; the line's end is one of them.
                if set(model.get_words()) <= {"</s>"}:
                    raise ValueError(
                        f"{out}: no word occurs min_count ({settings.min_count}) times in what it "
                        "is trained on; give more texts or set min_count lower"
                    )
                return model, zeroed
            except MemoryError:
                size = 4 * settings.dim * settings.bucket / 1e9
                raise ValueError(
                    f"{out}: no memory for a model of over {size:.1f} GB; set dim or bucket lower"
                ) from None
            except RuntimeError as error:
                if "NaN" not in str(error):
                    raise
                advice = f"set lr lower than {settings.lr}"
                if zeroed:
                    raise ArithmeticError(
                        f"{out}: fastText's numbers overflowed; {advice}"
                    ) from None
                if tries == _TRIES:
                    raise ArithmeticError(
                        f"{out}: fastText's numbers overflowed {tries} times, perhaps from what it "
                        "found in memory, which this process's malloc can't be told to zero; use "
                        f"glibc's own (no LD_PRELOAD), or {advice}"
                    ) from None


@contextmanager
def _zeroed_memory() -> Iterator[bool]:
    """Let malloc hand out zeros; gives whether it does.

    With one thread, fastText 0.9.3 sets the first tenth of its matrix and trains the rest from
    whatever bytes it finds: another model each time, or none ("Encountered NaN"). glibc can fill
    what it hands out with a byte of one's choice (mallopt, M_PERTURB: the complement of the byte).
    Elsewhere (musl, macOS, another malloc preloaded) memory is zero if it is new, which large
    blocks often are; what is free is zeroed as well as can be, and nothing is sure.
    """
    library = ctypes.CDLL(None)
    mallopt = getattr(library, "mallopt", lambda what, value: None)
    m_perturb = -6
    mallopt(m_perturb, 0xFF)
    try:
        zeroed = _hands_out_zeros(library)
        if not zeroed:
            _zero_what_is_free(library)
        yield zeroed
    finally:
        mallopt(m_perturb, 0)


def _hands_out_zeros(library: ctypes.CDLL) -> bool:
    """Try it, since an allocator can know mallopt and do nothing: is what was used zero again?"""
    return all(_use(library, 1 << 16, 0x5A, 4) for _ in range(2))


def _zero_what_is_free(library: ctypes.CDLL) -> None:
    """Zero some free memory of any size that a matrix up to 32 MiB may have.

    Without it, small matrices hardly ever met anything but NaN with jemalloc and mimalloc.
    """
    for quarter in range(60, -1, -1):
        size = round(1024 * 2 ** (quarter / 4))
        _use(library, size, 0, max(2, min(64, (1 << 22) // size)))


def _use(library: ctypes.CDLL, size: int, byte: int, blocks: int) -> bool:
    """Take blocks of memory, fill them and give them back; tell whether they had been zero."""
    library.posix_memalign.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    taken, zeros = [], True
    for _ in range(blocks):
        pointer = ctypes.c_void_p()
        if library.posix_memalign(ctypes.byref(pointer), 64, size):  # fastText's own call
            break
        zeros = zeros and not any(ctypes.string_at(pointer, min(size, 1 << 16)))
        ctypes.memset(pointer, byte, size)
        taken.append(pointer)
    for pointer in taken:
        library.free(pointer)
    return zeros


def _scores(model: Any, lines: list[str]) -> np.ndarray:
    if not lines:
        return np.zeros(0, np.float32)
    labels, chances = model.predict(lines, k=2)
    found = (
        float(chance[label.index(_POSITIVE)]) if line and _POSITIVE in label else 0.0
        for line, label, chance in zip(lines, labels, chances, strict=True)
    )
    return np.clip(np.fromiter(found, np.float32, len(lines)), 0, 1)


def _plain_scores(negative: np.ndarray) -> list[float]:
    if not len(negative):
        return [0.0] * 100
    quantiles = np.quantile(negative, 1 - np.arange(1, 101) / 100)
    return [round(float(score), 6) for score in quantiles]


def _batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
