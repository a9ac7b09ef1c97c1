"""Weights that make counts look like development text, and favour languages as they are worth."""

import random
from itertools import product

import numpy as np
import pytest

from tok import (
    balance,
    count_words,
    frequent_characters,
    frequent_sequences,
    learn_merges,
    train_tokenizer,
    weigh,
)
from tok.balance import WEIGHTED_BYTES, mixtures
from tok.counts import group_bytes
from tok.encoder import Encoder

SCHEME = "multilingual"
SYLLABLES = [a + b for a, b in product("bdfgklmnprst", "aeiou")]


def language(seed: int) -> list[str]:
    """Two hundred words of a made-up language."""
    rng = random.Random(seed)
    return ["".join(rng.choices(SYLLABLES, k=rng.randrange(2, 5))) for _ in range(200)]


def text(words: list[str], size: int, seed: int) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choices(words, k=size))


ONE, TWO, THREE = (language(seed) for seed in range(3))
GROUPS = {
    "one/news": text(ONE, 4000, 1),
    "one/laws": text(ONE[:20], 4000, 2),  # few of the language's words, over and over
    "two/news": text(TWO, 1000, 3),
    "three/news": text(THREE, 4000, 4),
    "code": "for x in y:\n    if x:\n        return f(x)\n" * 400,
}
DEV = {"eins": [text(ONE, 300, 5)], "zwei": [text(TWO, 300, 6)]}


@pytest.fixture(scope="module")
def counts():
    return count_words(list(GROUPS.values()), list(GROUPS), SCHEME)


def weighted_bytes(counts, weights):
    return {group: weights[group] * size for group, size in group_bytes(counts).items()}


def test_a_language_is_made_of_the_groups_that_are_like_it_whatever_their_names(counts):
    encoder = Encoder(train_tokenizer(weigh(counts), 1000, SCHEME))
    names = sorted(GROUPS)
    found, tokens = mixtures(counts, DEV, encoder, names, np.ones(len(names), bool))
    of = {(row, name): found[i, j] for i, row in enumerate(DEV) for j, name in enumerate(names)}
    assert np.allclose(found.sum(1), 1)
    assert of["eins", "one/news"] > 0.7
    assert of["zwei", "two/news"] > 0.7
    for name, total in zip(names, tokens, strict=True):
        assert total == len(encoder.encode(GROUPS[name]))


def test_a_mixture_is_recovered():
    mixed = {"a": text(ONE, 3000, 7), "b": text(TWO, 3000, 8)}
    counts = count_words(list(mixed.values()), list(mixed), SCHEME)
    encoder = Encoder(train_tokenizer(weigh(counts), 1000, SCHEME))
    dev = {"both": [text(ONE, 900, 9), text(TWO, 300, 10)]}
    found, _ = mixtures(counts, dev, encoder, ["a", "b"], np.ones(2, bool))
    assert found[0] == pytest.approx([0.75, 0.25], abs=0.05)


def test_what_no_development_text_is_like_weighs_next_to_nothing(counts):
    weights = balance(counts, DEV, 800, SCHEME)
    of = weighted_bytes(counts, weights)
    assert set(weights) == set(GROUPS)
    assert sum(of.values()) == pytest.approx(WEIGHTED_BYTES)
    assert of["one/news"] + of["two/news"] > 0.75 * WEIGHTED_BYTES
    assert of["one/news"] > 4 * of["one/laws"]
    assert of["three/news"] + of["code"] < 0.1 * WEIGHTED_BYTES


def test_balanced_counts_compress_the_languages_better(counts):
    def tokens(table):
        encoder = Encoder(train_tokenizer(table, 700, SCHEME))
        return sum(len(encoder.encode(texts[0])) for texts in DEV.values())

    assert tokens(weigh(counts, balance(counts, DEV, 700, SCHEME))) < 0.97 * tokens(weigh(counts))


def test_shares_are_kept_to_and_boosts_shift_them(counts):
    plain = weighted_bytes(counts, balance(counts, DEV, 700, SCHEME, shares={"code": 0.2}))
    assert plain["code"] == pytest.approx(0.2 * WEIGHTED_BYTES)
    boosted = weighted_bytes(
        counts, balance(counts, DEV, 700, SCHEME, shares={"code": 0.2}, boost={"zwei": 4})
    )
    assert boosted["code"] == pytest.approx(0.2 * WEIGHTED_BYTES)
    assert boosted["two/news"] > 1.5 * plain["two/news"]


def test_the_same_weights_come_out_again(counts):
    assert balance(counts, DEV, 600, SCHEME) == balance(counts, DEV, 600, SCHEME, threads=2)


def test_what_makes_no_sense_is_refused(counts):
    with pytest.raises(ValueError, match="development text is empty"):
        balance(counts, {"eins": [""]}, 600, SCHEME)
    with pytest.raises(ValueError, match="no group 'cod'"):
        balance(counts, DEV, 600, SCHEME, shares={"cod": 0.1})
    with pytest.raises(ValueError, match="no language 'drei'"):
        balance(counts, DEV, 600, SCHEME, boost={"drei": 2})
    with pytest.raises(ValueError, match="shares of groups come to 1"):
        balance(counts, DEV, 600, SCHEME, shares={"code": 1})


def test_frequent_characters_are_those_beyond_ascii_that_occur_often_enough():
    dev = {"a": ["éééééaaaaaa", "ж" * 4], "b": ["жあ"]}
    assert frequent_characters(dev) == ["é".encode(), "ж".encode()]
    assert frequent_characters(dev, 1) == [c.encode() for c in "éжあ"]


def test_frequent_sequences_are_the_first_tokens_of_training_on_the_text():
    texts = [text(ONE, 500, 11)]
    found = frequent_sequences(texts, 30, SCHEME)
    counts = weigh(count_words(texts, scheme=SCHEME))
    assert found == list(learn_merges(counts, 256 + 30).tokens[256:])
