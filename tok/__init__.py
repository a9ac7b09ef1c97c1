"""Byte-level BPE: pretokenizer schemes, word counts, the trainer, the encoder, the export."""

from tok.counts import COUNTS_SCHEMA, count_words, merge_counts, read_counts, weigh
from tok.encoder import Encoder
from tok.export import export_tiktoken, export_tokenizer, tiktoken_pattern
from tok.schemes import SCHEMES, pretokenizer, word_splitter
from tok.special_tokens import SPECIAL_TOKENS, chat_template
from tok.trainer import learn_merges, train_tokenizer

__all__ = [
    "COUNTS_SCHEMA",
    "SCHEMES",
    "SPECIAL_TOKENS",
    "Encoder",
    "chat_template",
    "count_words",
    "export_tiktoken",
    "export_tokenizer",
    "learn_merges",
    "merge_counts",
    "pretokenizer",
    "read_counts",
    "tiktoken_pattern",
    "train_tokenizer",
    "weigh",
    "word_splitter",
]
