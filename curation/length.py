"""Length: texts of so few or so many characters that nothing else about them matters."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.thresholds import reject


@dataclass(frozen=True)
class LengthFilter:
    """Reject texts of fewer than `min_chars` or more than `max_chars` characters; None is off."""

    name: ClassVar[str] = "length"

    min_chars: int | None = 50
    max_chars: int | None = 2_000_000

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        lengths = pc.utf8_length(batch.column("text")).to_numpy()
        least = 0 if self.min_chars is None else self.min_chars
        most = np.inf if self.max_chars is None else self.max_chars
        broken = {"min_chars": lengths < least, "max_chars": lengths > most}
        return reject(batch, self.name, broken)
