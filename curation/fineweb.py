"""FineWeb's own filter (Penedo et al. 2024, section 3.6): lines of lists, menus and boilerplate.

It decides as datatrove's `FineWebQualityFilter` does. That has 0.01 as its default for the share of
characters in duplicate lines, the paper 0.1: the paper's is ours. Only line breaks per word need
words, those of `native/tokens.hpp`. FineWeb-2 has no rule on short lines for languages other than
English (`data/thresholds.yaml`).
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation import _native
from curation.thresholds import Overrides, check_overrides, judge, limits


@dataclass(frozen=True)
class FineWebFilter:
    """Reject texts that are mostly lists, as `fineweb:` and the threshold that was broken.

    Of the lines that are not blank: those that end in a full stop or the like (as they are, without
    white space taken off) and those of at most `short_line` characters. Characters in lines that
    came before are a share of all but line breaks. Line breaks are per word. A text without lines
    is rejected as `empty`.
    """

    name: ClassVar[str] = "fineweb"
    settings: ClassVar[tuple[str, ...]] = ("short_line",)

    min_punctuated_lines: float | None = 0.12
    max_short_lines: float | None = 0.67
    max_duplicate_line_characters: float | None = 0.1
    max_line_breaks: float | None = 0.3
    short_line: int = 30
    languages: Overrides = field(default_factory=dict)
    domains: Overrides = field(default_factory=dict)

    def __post_init__(self):
        if self.short_line < 0:
            raise ValueError(f"short_line: expected characters, 0 or more, found {self.short_line}")
        check_overrides(self)

    def __call__(
        self, batch: pa.RecordBatch, words: tuple[np.ndarray, np.ndarray] | None = None
    ) -> pa.RecordBatch:
        """Judge a batch, in the words given (as `_native.words` gives them) or its own."""
        thresholds = limits(self, batch)
        measured = _native.fineweb(batch["text"], self.short_line, words)
        measures = dict(zip(thresholds, measured.T, strict=True))
        empty = {"empty": np.isnan(measures["min_punctuated_lines"])}
        return judge(batch, self.name, thresholds, measures, empty)
