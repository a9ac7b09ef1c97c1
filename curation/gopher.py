"""Gopher's two filters (Rae et al. 2021, A1.1): is it prose, and does it say the same again?

They decide as datatrove's `GopherQualityFilter` and `GopherRepetitionFilter` do, whose denominators
they have: a repetition's share is of all the text's characters, white space included. Words are
those of `native/tokens.hpp`, which imitates the tokenizer that datatrove asks; in scripts without
spaces each letter is a word, and there an n-gram is one of 2n letters. All is measured in C++ on
the Arrow column as it lies; about 75 MB/s a core for both.

Punctuation is a word to that tokenizer, so `min_alphabetic_words` is strict: a dialogue or a page
of code has one sign in five words soon.

Two things differ from datatrove on purpose. N-grams are the same if their words are (Gopher's
definition), where datatrove joins them and so takes `a bc` for `ab c`. And for a word without more
than punctuation we ask Unicode, datatrove a list of common signs.

Stop words are those of the document's language (`data/stop_words.yaml`); a language without any is
not asked for them. A document of unknown language (null) is judged as English, as published.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from curation import _native
from curation.thresholds import DATA, Overrides, check_overrides, judge, limits

Words = tuple[np.ndarray, np.ndarray]  # as _native.words() gives them

ENGLISH = "eng_Latn"


@cache
def stop_words() -> dict[str, tuple[str, ...]]:
    """The stop words that come with the project, by language."""
    text = (DATA / "stop_words.yaml").read_text(encoding="utf-8")
    return {language: tuple(words.split()) for language, words in yaml.safe_load(text).items()}


@dataclass(frozen=True)
class GopherQualityFilter:
    """Reject what is not prose, as `gopher_quality:` and the threshold that was broken.

    Words are counted if they hold more than punctuation and symbols, and of these is the mean
    length in characters. Hashes (`#`) and ellipses (`...` or `…`) are per word, bullet and
    ellipsis lines (that begin with `-` or `•`, or end in an ellipsis) per line, alphabetic words
    (with a letter) per word. `min_stop_words` is how many different ones of its language's a text
    must have; `stop_words` gives lists for more languages, or others.
    """

    name: ClassVar[str] = "gopher_quality"
    settings: ClassVar[tuple[str, ...]] = ("stop_words",)

    min_words: int | None = 50
    max_words: int | None = 100_000
    min_mean_word: float | None = 3
    max_mean_word: float | None = 10
    max_hashes: float | None = 0.1
    max_ellipses: float | None = 0.1
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.3
    min_alphabetic_words: float | None = 0.8
    min_stop_words: int | None = 2
    stop_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    languages: Overrides = field(default_factory=dict)
    domains: Overrides = field(default_factory=dict)

    def __post_init__(self):
        check_overrides(self)

    def __call__(self, batch: pa.RecordBatch, words: Words | None = None) -> pa.RecordBatch:
        """Judge a batch, in the words given (as `_native.words` gives them) or its own."""
        spoken = pc.fill_null(batch["language"], ENGLISH).dictionary_encode()
        which = spoken.indices.to_numpy().astype(np.int64)
        known = {**stop_words(), **self.stop_words}
        lists = [list(known.get(language, ())) for language in spoken.dictionary.to_pylist()]
        thresholds = limits(self, batch)
        without = np.array([not some for some in lists], bool)
        thresholds["min_stop_words"][without[which]] = np.nan
        enough = np.nan_to_num(thresholds["min_stop_words"]).astype(np.int64)
        measured = _native.gopher_quality(batch["text"], lists, which, enough, words)
        found, mean, hashes, ellipses, bullets, trailing, alphabetic, stops = measured.T
        measures = {
            "min_words": found,
            "max_words": found,
            "min_mean_word": mean,
            "max_mean_word": mean,
            "max_hashes": hashes,
            "max_ellipses": ellipses,
            "max_bullet_lines": bullets,
            "max_ellipsis_lines": trailing,
            "min_alphabetic_words": alphabetic,
            "min_stop_words": stops,
        }
        return judge(batch, self.name, thresholds, measures)


@dataclass(frozen=True)
class GopherRepetitionFilter:
    """Reject texts that repeat themselves, as `gopher_repetition:` and the threshold exceeded.

    The largest shares that pass. A paragraph (after an empty line) or line is duplicate if it came
    before; `…_characters` is the share of the text's characters in such. `top_…` is the most
    frequent n-gram's, spaces between its words included, times its count; `duplicate_…grams` the
    characters, without spaces, of n-grams that came before, where after each the search goes on
    behind it. A text of no characters is rejected as `empty`.
    """

    name: ClassVar[str] = "gopher_repetition"

    duplicate_paragraphs: float | None = 0.30
    duplicate_paragraph_characters: float | None = 0.20
    duplicate_lines: float | None = 0.30
    duplicate_line_characters: float | None = 0.20
    top_2gram: float | None = 0.20
    top_3gram: float | None = 0.18
    top_4gram: float | None = 0.16
    duplicate_5grams: float | None = 0.15
    duplicate_6grams: float | None = 0.14
    duplicate_7grams: float | None = 0.13
    duplicate_8grams: float | None = 0.12
    duplicate_9grams: float | None = 0.11
    duplicate_10grams: float | None = 0.10
    languages: Overrides = field(default_factory=dict)
    domains: Overrides = field(default_factory=dict)

    def __post_init__(self):
        check_overrides(self)

    def __call__(self, batch: pa.RecordBatch, words: Words | None = None) -> pa.RecordBatch:
        """Judge a batch, in the words given (as `_native.words` gives them) or its own."""
        thresholds = limits(self, batch)
        measured = _native.gopher_repetition(batch["text"], words)
        measures = dict(zip(thresholds, measured.T, strict=True))
        empty = {"empty": np.isnan(measures["duplicate_line_characters"])}
        return judge(batch, self.name, thresholds, measures, empty)
