"""The trainer against `tokenizers`' own, merge for merge, and against a slow clear twin."""

import json
import sysconfig
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tok import SCHEMES, count_words, learn_merges, pretokenizer, train_tokenizer, weigh
from tok.special_tokens import LEADING
from tok.trainer import ALPHABET, BYTE_OF_CHARACTER

STDLIB = Path(sysconfig.get_paths()["stdlib"])
TEXTS = [
    *(p.read_text("utf-8") for p in sorted((STDLIB / "json").glob("*.py"))),
    *(p.read_text("utf-8") for p in sorted((STDLIB / "email").glob("*.py"))),
    "日本語のテキスト。ภาษาไทยไม่มีช่องว่าง हिन्दी में लिखा हुआ 한국어 문장 " * 30,
    "aaaaaaaaaaaaaaaaaaaaaaaa abababababababab !!!!!!!!!!!!! ........\r\n\r\n\n\n\n" * 20,
]


def counts_of(texts, scheme):
    return weigh(count_words(texts, ["all"] * len(texts), scheme))


def reference(texts, scheme, vocab_size, **options):
    """The same training by `tokenizers`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pretokenizer(scheme)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(LEADING.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        **options,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def merges_of(tokenizer):
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("vocab_size", [259, 300, 4000])
def test_merges_and_ids_are_those_of_tokenizers(scheme, vocab_size):
    ours = train_tokenizer(counts_of(TEXTS, scheme), vocab_size, scheme)
    theirs = reference(TEXTS, scheme, vocab_size)
    assert merges_of(ours) == merges_of(theirs)
    base = {token: i for token, i in ours.get_vocab().items() if i < vocab_size}
    assert base == theirs.get_vocab()


def test_a_minimum_count_and_a_longest_token_are_those_of_tokenizers():
    # `tokenizers` takes a strict bound, ours is inclusive; its min_frequency is our min_count.
    ours = train_tokenizer(
        counts_of(TEXTS, "deepseek-v3"), 3000, "deepseek-v3", min_count=20, max_token_bytes=6
    )
    theirs = reference(TEXTS, "deepseek-v3", 3000, min_frequency=20, max_token_length=7)
    assert merges_of(ours) == merges_of(theirs)
    assert max(len(a + b) for a, b in merges_of(ours)) == 6


def slow_merges(words: dict[bytes, int], max_merges: int):
    """Textbook BPE: count every pair afresh for each merge."""
    order = {BYTE_OF_CHARACTER[c]: i for i, c in enumerate(ALPHABET)}
    split = {word: [order[b] for b in word] for word in words}
    merges = []
    while len(merges) < max_merges:
        pairs = Counter()
        for word, symbols in split.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        pairs = {pair: n for pair, n in pairs.items() if n > 0}
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        new = 256 + len(merges)
        merges.append((*best, pairs[best]))
        for word, symbols in split.items():
            out, i = [], 0
            while i < len(symbols):
                if tuple(symbols[i : i + 2]) == best:
                    out.append(new)
                    i += 2
                else:
                    out.append(symbols[i])
                    i += 1
            split[word] = out
    return merges


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.one_of(st.binary(max_size=12), st.text("ab", max_size=20).map(str.encode)),
        st.integers(0, 2**40),
        max_size=12,
    )
)
def test_any_table_of_words_gives_the_merges_of_the_slow_twin(words):
    table = pa.table(
        {
            "word": pa.array(list(words), pa.large_binary()),
            "count": pa.array(list(words.values()), pa.int64()),
        }
    )
    got = learn_merges(table, 30).tolist()
    want = slow_merges(words, 30)
    assert [tuple(row[:2]) for row in got] == [row[:2] for row in want]


def test_the_order_of_the_words_does_not_matter():
    counts = counts_of(TEXTS, "multilingual")
    shuffled = counts.take(np.random.default_rng(0).permutation(len(counts)))
    np.testing.assert_array_equal(learn_merges(counts, 500), learn_merges(shuffled, 500))


def test_a_vocabulary_too_small_for_the_bytes_is_refused():
    with pytest.raises(ValueError, match="at least 259"):
        train_tokenizer(counts_of(["a"], "multilingual"), 100, "multilingual")
