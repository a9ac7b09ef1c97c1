"""Curation: from raw files to documents worth training on, as steps over Arrow record batches.

Start with `document.py` (the row that everything passes on), then `readers.py` (where rows come
from), then any step: a step is a callable `step(batch) -> batch`, and a filter gives every row back
with a nullable column `reject`. Deduplication must see everything: it is a round, which signs
batches, merges the signatures of the corpus, and is then applied to the batches again.
"""

from curation.c4 import C4Filter
from curation.classifier import ClassifierFilter, ClassifierSettings, judged_table, train_classifier
from curation.datatrove_step import DatatroveStep
from curation.decontaminate import DecontaminationFilter
from curation.dedup import DocumentDedup
from curation.document import SCHEMA, derived_id, document_id, make_batch
from curation.fineweb import FineWebFilter
from curation.gopher import GopherQualityFilter, GopherRepetitionFilter
from curation.language import LanguageFilter
from curation.languages import bcp47, canonical, script_of
from curation.length import LengthFilter
from curation.paragraphs import ParagraphDedup
from curation.private_data import PrivateDataFilter
from curation.readers import (
    Problem,
    Source,
    SourceError,
    plan_splits,
    read_parts,
    read_split,
    versions,
)
from curation.sampling import sample_texts
from curation.substrings import SubstringDedup
from curation.symbols import SymbolFilter

__all__ = [
    "SCHEMA",
    "C4Filter",
    "ClassifierFilter",
    "ClassifierSettings",
    "DatatroveStep",
    "DecontaminationFilter",
    "DocumentDedup",
    "FineWebFilter",
    "GopherQualityFilter",
    "GopherRepetitionFilter",
    "LanguageFilter",
    "LengthFilter",
    "ParagraphDedup",
    "PrivateDataFilter",
    "Problem",
    "Source",
    "SourceError",
    "SubstringDedup",
    "SymbolFilter",
    "bcp47",
    "canonical",
    "derived_id",
    "document_id",
    "judged_table",
    "make_batch",
    "plan_splits",
    "read_parts",
    "read_split",
    "sample_texts",
    "script_of",
    "train_classifier",
    "versions",
]
