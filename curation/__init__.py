"""Curation: from raw files to documents worth training on, as steps over Arrow record batches.

Start with `document.py` (the row that everything passes on), then `readers.py` (where rows come
from), then any step: a step is a callable `step(batch) -> batch`, and a filter gives every row back
with a nullable column `reject`. Deduplication alone must see everything: a map, a merge, a map.
"""

from curation.c4 import C4Filter
from curation.dedup import MinHash, drop_duplicates, find_duplicates, signatures
from curation.document import SCHEMA, derived_id, document_id, make_batch
from curation.fineweb import FineWebFilter
from curation.gopher import GopherQualityFilter, GopherRepetitionFilter
from curation.language import LanguageFilter
from curation.languages import bcp47, canonical, script_of
from curation.length import LengthFilter
from curation.readers import Problem, Source, SourceError, plan_splits, read_split
from curation.symbols import SymbolFilter

__all__ = [
    "SCHEMA",
    "C4Filter",
    "FineWebFilter",
    "GopherQualityFilter",
    "GopherRepetitionFilter",
    "LanguageFilter",
    "LengthFilter",
    "MinHash",
    "Problem",
    "Source",
    "SourceError",
    "SymbolFilter",
    "bcp47",
    "canonical",
    "derived_id",
    "document_id",
    "drop_duplicates",
    "find_duplicates",
    "make_batch",
    "plan_splits",
    "read_split",
    "script_of",
    "signatures",
]
