"""The words and sentences of prose, as the native core finds them."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import _native


def words(*texts):
    splits, spans = _native.words(pa.array(texts, pa.large_string()))
    found = []
    for i, text in enumerate(texts):
        data = text.encode()
        found.append([data[a:b].decode() for a, b in spans[splits[i] : splits[i + 1]].tolist()])
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat, the CAT!", "The|cat|,|the|CAT|!"),
        ('"Well," (he said)...', '"|Well|,|"|(|he|said|)|...'),
        ("I don't, can’t and cannot;", "I|do|n't|,|ca|n’t|and|can|not|;"),
        ("it's John's.", "it|'s|John|'s|."),
        ("We'll o'clock they've", "We|'ll|o'clock|they|'ve"),
        ("Mr. Who of the U.S. saw NASA.", "Mr.|Who|of|the|U.S.|saw|NASA|."),
        ("vs. me, e.g. a.", "vs.|me|,|e.g.|a."),
        ("well-known and/or—so", "well|-|known|and|/|or|—|so"),
        ("https://a.org/x-y?z=1, me@b-c.de!", "https://a.org/x-y?z=1|,|me@b-c.de|!"),
        ("3,000.50 5km 10% $5 2-3 +1", "3,000.50|5|km|10|%|$|5|2|-|3|+1"),
        ("wait…what end.Next a.b.c", "wait|…|what|end.Next|a.b.c"),
        ("«Nîmes», l’été", "«|Nîmes|»|,|l’été"),
        ("e\u0301te\u0301 हिन्दी, भाषा।", "e\u0301te\u0301|हिन्दी|,|भाषा|।"),
        ("我爱AI模型。", "我|爱|AI|模|型|。"),
        ("ไม่ดี 한국어, 문장.", "ไ|ม่|ดี|한국어|,|문장|."),
        ("សួ\u200bស្តី", "សួ\u200b|ស្|តី"),
        ("a\xa0b\u3000c\u2028d", "a|b|c|d"),
        (" \n\t", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_words_are_cut_as_the_tokenizer_of_spacy_cuts_them(text, expected):
    assert "|".join(words(text)[0]) == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_words_hold_every_visible_character_in_order(texts):
    for text, found in zip(texts, words(*texts), strict=True):
        assert "".join(found) == "".join(text.split())
        assert all(word and not any(map(str.isspace, word)) for word in found)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", "B", "don't", "x.y", "...", ".", "-", "(", "'s", "é", "漢", "5"])
    )
)
def test_words_are_cut_the_same_wherever_they_stand(pieces):
    apart = [word for piece in pieces for word in words(piece)[0]]
    assert words(" ".join(pieces))[0] == apart
    assert words("\n\u2003".join(["letters", *pieces, "z"]))[0] == ["letters", *apart, "z"]


@pytest.mark.parametrize("length", [15, 16, 17, 31, 32, 33, 64, 1000])
def test_long_runs_of_letters_are_one_word_at_any_place_of_a_block(length):
    for before in range(18):
        text = "b " * before + "a" * length + "." + " c"
        assert words(text)[0] == ["b"] * before + ["a" * length, ".", "c"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", 4),
        ("Mr. Who left. He did...", 2),
        ("What?! No.", 2),
        ('"Yes." He left.', 2),
        ("一。二！三？", 3),
        ("no end", 1),
        ("", 0),
        ("...", 1),
    ],
)
def test_sentences_end_in_full_stops_that_are_words(text, sentences):
    assert _native.count_sentences(pa.array([text], pa.large_string())).tolist() == [sentences]


def test_null_texts_have_no_words():
    splits, spans = _native.words(pa.array([None, "a", None], pa.large_string()))
    assert (splits.tolist(), spans.tolist()) == ([0, 0, 1, 1], [[0, 1]])


def test_a_hundred_thousand_signs_in_one_piece_take_no_quadratic_time():
    for sign in ("!", "'", ".", "(-", "a-", "’s", "1.", "http://"):
        text = sign * 100_000
        assert "".join(words(text)[0]) == text
