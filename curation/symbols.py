"""Symbols: text that is not made of letters, in any domain; for code also the shape of its lines.

What Gopher says of words, bullets and ellipses is in `gopher.py`. Here are control characters,
which no text should have; signs against letters, of which formulas may have more; and for code its
share of letters and its lines (DeepSeek-Coder, section 2.1). The thresholds for `code` and `math`
stand in `data/thresholds.yaml`. Measured in C++, 500 to 1,000 MB/s a core.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa

from curation import _native
from curation.thresholds import Overrides, check_overrides, judge, limits


@dataclass(frozen=True)
class SymbolFilter:
    """Reject texts not made of letters, as `symbols:` and the threshold that was broken.

    Controls: control characters other than white space, U+FFFD, and private use, per character.
    Symbols: punctuation and symbols per letter. Letters (with marks): per character that is not
    white space. Lines that are not blank: characters, on average and in the longest.
    """

    name: ClassVar[str] = "symbols"

    max_controls: float | None = 0.001
    max_symbols: float | None = 0.5
    min_letters: float | None = None
    max_mean_line: float | None = None
    max_longest_line: float | None = None
    languages: Overrides = field(default_factory=dict)
    domains: Overrides = field(default_factory=dict)

    def __post_init__(self):
        check_overrides(self)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        thresholds = limits(self, batch)
        measures = dict(zip(thresholds, _native.symbols(batch["text"]).T, strict=True))
        return judge(batch, self.name, thresholds, measures)
