"""C4's rules (Raffel et al. 2020, section 2.2): drop the lines that are not sentences.

They decide as datatrove's `C4QualityFilter` does, line by line and in its order. Lines are
stripped; dropped are those with a word of over `max_word` characters, those that do not end in one
of `. ? ! " '` or end in `...`, those of fewer than `min_words` runs between spaces, and those that
name javascript or policies; marks of citations (`[3]`, `[edit]`) are taken out. A kept line with
`lorem ipsum` or `{` rejects the whole document, as do fewer than `min_sentences` sentences in the
lines that are left. FineWeb does not ask for terminal punctuation: `terminal_punctuation: false`.

This is a filter that edits: the texts of documents that pass are what was kept of them, and where
that is not all, `spans` is dropped, as its bytes are gone. The rejected keep their text.
Sentences are counted as spaCy's sentencizer would, only until there are enough.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import _native
from curation.document import SCHEMA
from curation.thresholds import Overrides, check_overrides, limits, reject

VERDICTS = ("lorem_ipsum", "curly_bracket", "min_sentences")  # 1, 2 and 3, as in c4.hpp


@dataclass(frozen=True)
class C4Filter:
    """Keep the sentences of a page; reject it, as `c4:` and the rule, if there are too few.

    The rules that are switches can be turned off by `false`, the numbers by None.
    """

    name: ClassVar[str] = "c4"

    citations: bool = True
    terminal_punctuation: bool = True
    lorem_ipsum: bool = True
    javascript: bool = True
    curly_bracket: bool = True
    policies: bool = True
    min_words: int | None = 3
    max_word: int | None = 1000
    min_sentences: int | None = 5
    languages: Overrides = field(default_factory=dict)
    domains: Overrides = field(default_factory=dict)

    def __post_init__(self):
        check_overrides(self)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = limits(self, batch).values()
        rules = np.nan_to_num(np.stack(list(columns), 1), nan=-1).astype(np.int64)
        offsets, data, verdicts = _native.c4(batch["text"], rules.reshape(-1))
        text = pa.LargeStringArray.from_buffers(
            batch.num_rows, pa.py_buffer(offsets), pa.py_buffer(data)
        )
        edited = pc.not_equal(text, batch["text"])
        spans = pc.if_else(edited, pa.scalar(None, SCHEMA.field("spans").type), batch["spans"])
        place = batch.schema.get_field_index
        batch = batch.set_column(place("text"), SCHEMA.field("text"), text)
        batch = batch.set_column(place("spans"), SCHEMA.field("spans"), spans)
        return reject(batch, self.name, {rule: verdicts == i for i, rule in enumerate(VERDICTS, 1)})
