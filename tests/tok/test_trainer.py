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

from tok import (
    SCHEMES,
    count_words,
    extend_tokenizer,
    learn_merges,
    pretokenizer,
    protect,
    train_tokenizer,
    weigh,
)
from tok.assemble import vocabulary_of
from tok.special_tokens import LEADING
from tok.trainer import BYTES

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


def table_of(words: dict[bytes, int]) -> pa.Table:
    return pa.table(
        {
            "word": pa.array(list(words), pa.large_binary()),
            "count": pa.array(list(words.values()), pa.int64()),
        }
    )


def merges_of(tokenizer):
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("vocab_size", [259, 300, 4000])
def test_merges_and_ids_are_those_of_tokenizers(scheme, vocab_size):
    counts = counts_of(TEXTS, scheme)
    ours = train_tokenizer(counts, vocab_size, scheme, max_token_bytes=1 << 30)
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


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", [32_000, 128_000])
def test_large_vocabularies_have_the_merges_of_tokenizers(vocab_size):
    paths = sorted(path for path in STDLIB.rglob("*.py") if "site-packages" not in path.parts)
    texts = [path.read_text("utf-8", "replace") for path in paths]
    assert sum(map(len, texts)) > 10_000_000
    counts = counts_of(texts, "deepseek-v3")
    ours = train_tokenizer(counts, vocab_size, "deepseek-v3", max_token_bytes=1 << 30)
    theirs = reference(texts, "deepseek-v3", vocab_size)
    assert merges_of(ours) == merges_of(theirs)
    assert len(merges_of(ours)) == vocab_size - 259


def slow_merges(words: dict[bytes, int], max_tokens: int, tokens=BYTES.tokens, forbidden=()):
    """Textbook BPE: count every pair afresh for each merge."""
    tokens = list(tokens)
    split = {word: [tokens.index(bytes([b])) for b in word] for word in words}
    merges = []
    while len(tokens) < max_tokens:
        pairs = Counter()
        for word, symbols in split.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        pairs = {
            (a, b): n
            for (a, b), n in pairs.items()
            if n > 0 and tokens[a] + tokens[b] not in forbidden
        }
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        token = tokens[best[0]] + tokens[best[1]]
        if token not in tokens:
            tokens.append(token)
        merges.append((*best, tokens.index(token), pairs[best]))
        for word, symbols in split.items():
            split[word] = make(symbols, best, tokens.index(token))
    return merges


def make(symbols, pair, merged):
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            out.append(merged)
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


# Few letters and long words: the same bytes come about in different ways, and overlap themselves.
WORDS = st.dictionaries(
    st.one_of(
        st.binary(max_size=12),
        st.text("ab", max_size=20).map(str.encode),
        st.text("aab", max_size=60).map(str.encode),
    ),
    st.one_of(st.integers(0, 2**40), st.integers(0, 3)),
    max_size=14,
)


@settings(max_examples=300, deadline=None)
@given(WORDS, st.integers(1, 3))
def test_any_table_of_words_gives_the_merges_of_the_slow_twin(words, threads):
    got = learn_merges(table_of(words), 296, threads=threads).merges.tolist()
    assert [tuple(row) for row in got] == slow_merges(words, 296)


@settings(max_examples=100, deadline=None)
@given(WORDS, st.sets(st.sampled_from([b"ab", b"ba", b"aa", b"aba", b"abab"])))
def test_a_forbidden_token_is_never_made(words, forbidden):
    got = learn_merges(table_of(words), 280, forbidden=forbidden)
    assert not forbidden & set(got.tokens)
    assert [tuple(row) for row in got.merges.tolist()] == slow_merges(
        words, 280, forbidden=forbidden
    )


@settings(max_examples=100, deadline=None)
@given(WORDS, st.lists(st.text("ab", min_size=1, max_size=9).map(str.encode), max_size=4))
def test_protected_tokens_are_single_tokens_whatever_is_learned(words, protected):
    got = learn_merges(table_of(words), 300, start=protect(protected))
    for token in protected:
        assert [got.tokens[i] for i in got.encode(token)] == [token]


@settings(max_examples=100, deadline=None)
@given(WORDS, st.integers(256, 290))
def test_training_in_two_goes_is_training_in_one(words, first):
    table = table_of(words)
    half = learn_merges(table, first)
    whole = learn_merges(table, 290)
    assert learn_merges(table, 290, start=half).merges.tolist() == whole.merges.tolist()


def test_the_order_of_the_words_and_the_number_of_threads_do_not_matter():
    counts = counts_of(TEXTS, "multilingual")
    shuffled = counts.take(np.random.default_rng(0).permutation(len(counts)))
    merges = learn_merges(counts, 3000, threads=1).merges
    np.testing.assert_array_equal(merges, learn_merges(shuffled, 3000, threads=3).merges)


@pytest.mark.parametrize("factor", [1, 1000, 1 << 34])
def test_merges_depend_on_the_ratios_of_counts_only(factor):
    counts = counts_of(TEXTS, "gpt2")
    scaled = counts.set_column(1, "count", pa.array(counts["count"].to_numpy() * factor))
    expected = learn_merges(counts, 6000).merges
    merges = learn_merges(scaled, 6000).merges
    np.testing.assert_array_equal(merges[:, :3], expected[:, :3])
    np.testing.assert_array_equal(merges[:, 3], expected[:, 3] * factor)


def test_more_tokens_than_there_are_pairs_ends_when_none_is_left():
    vocabulary = learn_merges(table_of({b"abc": 2, b"d": 9}), 1000)
    assert vocabulary.tokens[256:] == (b"ab", b"abc")
    assert learn_merges(table_of({}), 1000).tokens == BYTES.tokens


def test_an_extended_tokenizer_keeps_its_ids_and_learns_new_words():
    base = train_tokenizer(counts_of(TEXTS[:5], "deepseek-v3"), 600, "deepseek-v3")
    text = "Straßenbahnhaltestelle und Fußgängerübergang " * 50
    extended = extend_tokenizer(base, counts_of([text], "deepseek-v3"), 30)
    before, after = base.get_vocab(), extended.get_vocab()
    assert {token: after[token] for token in before} == before
    assert sorted(after.values()) == list(range(len(before) + 30))
    assert len(extended.encode(text).ids) < len(base.encode(text).ids) / 2
    assert extended.decode(extended.encode(text).ids) == text


def test_a_tokenizer_that_is_no_byte_level_bpe_is_not_extended():
    with pytest.raises(ValueError, match="no token for byte"):
        vocabulary_of({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})
    with pytest.raises(ValueError, match="Unigram"):
        vocabulary_of({"model": {"type": "Unigram"}})


def test_a_vocabulary_too_small_for_the_bytes_is_refused():
    with pytest.raises(ValueError, match="at least 259"):
        train_tokenizer(counts_of(["a"], "multilingual"), 100, "multilingual")
