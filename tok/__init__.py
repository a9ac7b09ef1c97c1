"""Byte-level BPE: schemes, word counts, the trainer, the encoder, the export."""

from tok.assemble import assemble, extend_tokenizer, train_tokenizer
from tok.balance import balance, frequent_characters, frequent_sequences
from tok.counts import (
    COUNTS_SCHEMA,
    WordCounter,
    about_counts,
    count_words,
    merge_counts,
    read_counts,
    temper,
    weigh,
    write_counts,
)
from tok.encoder import Encoder
from tok.export import export_tiktoken, export_tokenizer, tiktoken_pattern
from tok.schemes import SCHEMES, pretokenizer, split_words, word_splitter
from tok.special_tokens import SPECIAL_TOKENS, chat_template
from tok.trainer import Vocabulary, learn_merges, learn_merges_parity, protect

__all__ = [
    "COUNTS_SCHEMA",
    "SCHEMES",
    "SPECIAL_TOKENS",
    "Encoder",
    "Vocabulary",
    "WordCounter",
    "about_counts",
    "assemble",
    "balance",
    "chat_template",
    "count_words",
    "export_tiktoken",
    "export_tokenizer",
    "extend_tokenizer",
    "frequent_characters",
    "frequent_sequences",
    "learn_merges",
    "learn_merges_parity",
    "merge_counts",
    "pretokenizer",
    "protect",
    "read_counts",
    "split_words",
    "temper",
    "tiktoken_pattern",
    "train_tokenizer",
    "weigh",
    "word_splitter",
    "write_counts",
]
