"""Curation: from raw files to documents worth training on, as steps over Arrow record batches.

Start with `document.py` (the row that everything passes on), then `readers.py` (where rows come
from), then any step: a step is a callable `step(batch) -> batch`, and a filter gives every row back
with a nullable column `reject`. Deduplication must see everything: it is a round, which signs
batches, merges the signatures of the corpus, and is then applied to the batches again.
"""

from curation.dedup import DocumentDedup
from curation.document import SCHEMA, derived_id, document_id, make_batch
from curation.language import LanguageFilter
from curation.languages import bcp47, canonical, script_of
from curation.paragraphs import ParagraphDedup
from curation.quality import LengthFilter, RepetitionFilter, SymbolFilter
from curation.readers import Problem, Source, SourceError, plan_splits, read_split

__all__ = [
    "SCHEMA",
    "DocumentDedup",
    "LanguageFilter",
    "LengthFilter",
    "ParagraphDedup",
    "Problem",
    "RepetitionFilter",
    "Source",
    "SourceError",
    "SymbolFilter",
    "bcp47",
    "canonical",
    "derived_id",
    "document_id",
    "make_batch",
    "plan_splits",
    "read_split",
    "script_of",
]
