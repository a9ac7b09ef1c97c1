import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.words import hash_ngrams, hash_words, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat, the CAT!", ["the", "cat", "the", "cat"]),
        ("l’été à Nîmes", ["l", "été", "à", "nîmes"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),  # decomposed accents stay in their word
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("我爱AI模型", ["我", "爱", "ai", "模", "型"]),
        ("カタカナ、かな", ["カ", "タ", "カ", "ナ", "か", "な"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("བོད་སྐད", ["བོད", "སྐད"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("\u0301 ... \0 —", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_and_single_letters_of_unspaced_scripts(text, expected):
    assert words(text) == expected


@given(st.text())
def test_white_space_and_case_of_ascii_make_no_difference(text):
    assert words(text.replace(" ", " \n ")) == words(text)
    assert words(text.upper()) == words(text) or not text.isascii()


@given(st.lists(st.text(alphabet="ab 我é", max_size=30), max_size=6), st.integers(1, 6))
def test_equal_ngrams_have_equal_hashes_wherever_they_stand(texts, n):
    hashes, lengths, owner = hash_words(texts)
    flat = [(k, w) for k, text in enumerate(texts) for w in words(text)]
    assert owner.tolist() == [k for k, _ in flat]
    assert lengths.tolist() == [len(w) for _, w in flat]
    grams = [tuple(w for _, w in flat[i : i + n]) for i in range(len(flat) - n + 1)]
    hashed = hash_ngrams(hashes, n)
    assert len(hashed) == len(grams)
    assert len(set(hashed.tolist())) == len(set(grams))
    assert len(set(zip(grams, hashed.tolist(), strict=True))) == len(set(grams))


def test_ngram_hashes_are_those_of_the_published_formula():
    one = hash_words(["a b"])[0]
    total = (int(one[0]) * 0x9E3779B97F4A7C15 + int(one[1])) % 2**64
    total ^= total >> 30
    total = total * 0xBF58476D1CE4E5B9 % 2**64
    total ^= total >> 27
    total = total * 0x94D049BB133111EB % 2**64
    assert hash_ngrams(one, 2).tolist() == [total ^ (total >> 31)]
    assert hash_ngrams(np.zeros(3, np.uint64), 4).tolist() == []
