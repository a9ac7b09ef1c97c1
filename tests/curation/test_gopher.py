"""Gopher's filters: their rules, and the native measures against plain Python's."""

import random
import re
import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import _native
from curation.document import SCHEMA, make_batch
from curation.gopher import GopherQualityFilter, GopherRepetitionFilter, stop_words

RNG = random.Random(4)
PROSE = "\n".join(
    " ".join("".join(RNG.choices("abcdefghij", k=RNG.randrange(2, 9))) for _ in range(12)) + "."
    for _ in range(20)
)
ENGLISH = "To be honest, that is the lot of those who have come with hope.\n" + PROSE
CHINESE = "\n".join(
    "".join(chr(RNG.randrange(0x4E00, 0x5E00)) for _ in range(40)) for _ in range(9)
)


def reasons(step, *texts, domain="web", language=None):
    batch = make_batch(
        {"text": t, "source": "s", "domain": domain, "language": language, "uri": str(i)}
        for i, t in enumerate(texts)
    )
    out = step(batch)
    assert out.schema.names == [*SCHEMA.names, "reject"]
    assert out.drop_columns("reject") == batch
    return out["reject"].to_pylist()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The five of them and that", "min_words"),
        ("word, and the. " * 40_000, "max_words"),
        ("to be a b c d e f g " * 20, "min_mean_word"),
        ("the and internationalisation antidisestablishment " * 40, "max_mean_word"),
        (ENGLISH + " # a" * 60, "max_hashes"),
        (ENGLISH + " so… a..." * 40, "max_ellipses"),
        ("\n".join(f"  • the and {w}" for w in PROSE.split()), "max_bullet_lines"),
        ("\n".join(f"{line} the and ..." for line in PROSE.split("\n")), "max_ellipsis_lines"),
        (ENGLISH + " 1234 567 890" * 60, "min_alphabetic_words"),
        (PROSE.upper() + " the the THE And", "min_stop_words"),
    ],
)
def test_what_is_not_prose_is_rejected_by_the_rule_that_sees_it(text, reason):
    assert reasons(GopherQualityFilter(), text) == [f"gopher_quality:{reason}"]
    off = GopherQualityFilter(**{reason: None})
    assert reasons(off, text) != [f"gopher_quality:{reason}"]


def test_a_language_is_asked_for_its_own_stop_words_or_for_none():
    step = GopherQualityFilter()
    german = PROSE + " der Hund und die Katze"
    assert reasons(step, ENGLISH, PROSE.upper()) == [None, "gopher_quality:min_stop_words"]
    assert reasons(step, german, ENGLISH.upper(), language="deu_Latn") == [
        None,
        "gopher_quality:min_stop_words",
    ]
    assert reasons(step, PROSE, language="xho_Latn") == [None]
    own = GopherQualityFilter(stop_words={"xho_Latn": ("ukuba", "kwaye")})
    assert reasons(own, PROSE, PROSE + " ukuba kwaye", language="xho_Latn") == [
        "gopher_quality:min_stop_words",
        None,
    ]


def test_every_language_with_stop_words_finds_enough_of_them_in_its_own_list():
    step = GopherQualityFilter(min_words=None, min_mean_word=None)
    for language, words in stop_words().items():
        assert len(words) == len(set(words)) or language in ("deu_Latn", "ita_Latn")
        assert reasons(step, " ".join(words), language=language) == [None], language


def test_letters_are_words_where_nothing_stands_between_them():
    text = "我们的研究在这里，是有意义的。" * 3 + CHINESE
    assert reasons(GopherQualityFilter(), text, language="zho_Hans") == [None]
    few = "我们的研究在这里。" * 5
    assert reasons(GopherQualityFilter(), few, language="zho_Hans") == ["gopher_quality:min_words"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE.replace("\n", "\n\n").replace("\n\n", "\n\nhome login\n\n"), "duplicate_paragraphs"),
        (PROSE + "\n\nhi" + ("\n\n" + PROSE[:900].replace("\n", " ")) * 2,
         "duplicate_paragraph_characters"),
        (PROSE + "\nhome\nlogin" * 30, "duplicate_lines"),
        (PROSE + ("\n" + PROSE[:900].replace("\n", " ")) * 2, "duplicate_line_characters"),
        (PROSE[:400] + " buy it" * 60, "top_2gram"),
        (PROSE.replace("\n", " ") + " " + PROSE.replace("\n", "  "), "duplicate_5grams"),
        (CHINESE.replace("\n", "") + CHINESE.replace("\n", "。"), "duplicate_5grams"),
        ("買一送一" * 40, "top_2gram"),
        ("", "empty"),
    ],
)  # fmt: skip
def test_text_that_repeats_itself_is_rejected_by_the_rule_that_sees_it(text, reason):
    assert reasons(GopherRepetitionFilter(), text) == [f"gopher_repetition:{reason}"]


def test_ordinary_text_passes_in_every_kind_of_script():
    thai = "ผู้เชี่ยวชาญด้านเศรษฐกิจกล่าวว่าราคาอาหารในเมืองหลวงเพิ่มขึ้นมากในปีนี้เพราะฝนตกน้อยกว่าปกติ"
    assert reasons(GopherRepetitionFilter(), PROSE, CHINESE, thai) == [None] * 3


def test_code_and_mathematics_may_repeat_more_than_prose():
    names = PROSE.replace(".", "").split()[:60]
    text = "\n".join(f"{a}({b}, {c}) {{\n}}" for a, b, c in zip(*[iter(names)] * 3, strict=True))
    step = GopherRepetitionFilter()
    assert reasons(step, text, domain="code") == [None]
    assert reasons(step, text, domain="math") == [None]
    assert reasons(step, text) == ["gopher_repetition:duplicate_lines"]
    same = "    return self.value\n" * 50
    assert reasons(step, same, domain="code") == ["gopher_repetition:duplicate_lines"]
    assert reasons(GopherQualityFilter(), text, same, domain="code") == [None] * 2


def test_a_document_is_judged_the_same_in_any_company():
    texts = ["", PROSE, "買一送一" * 40, f"{PROSE}\n" * 2, "a ...", "#", ENGLISH, " \n\n ", "a"]
    for step in (GopherRepetitionFilter(), GopherQualityFilter()):
        assert reasons(step, *texts) == [reasons(step, text)[0] for text in texts]
        assert reasons(step) == []


# The plain way, one word at a time, as the paper and datatrove say it.


def share(part, whole):
    return part / whole if whole else float("nan")


def plain_quality(text, words, stop):
    def more(word):
        return any(
            unicodedata.category(c)[0] not in "PS"
            and not (unicodedata.category(c) in ("Cc", "Co") or c.isspace() or c == "\ufffd")
            for c in word
        )

    lines = text.splitlines()
    counted = [word for word in words if more(word)]
    ellipses = text.count("...") + text.count("…")
    return [
        len(counted),
        share(sum(map(len, counted)), len(counted)),
        share(text.count("#"), len(words)),
        share(ellipses, len(words)),
        share(sum(x.lstrip().startswith(("-", "•")) for x in lines), len(lines)),
        share(sum(x.rstrip().endswith(("...", "…")) for x in lines), len(lines)),
        share(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        len(set(words) & set(stop)),
    ]


def plain_repetition(text, words):
    shares = []
    for parts in (re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)):
        again = [part for i, part in enumerate(parts) if part in parts[:i]]
        shares += [len(again) / len(parts), share(sum(map(len, again)), len(text))]
    for n in range(2, 11):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if n <= 4:
            top, count = Counter(grams).most_common(1)[0] if grams else ((), 0)
            shares.append(share(len(" ".join(top)) * count, len(text)))
            continue
        seen, found, i = set(), 0, 0
        while i < len(grams):
            if grams[i] in seen:
                found += sum(map(len, grams[i]))
                i += n
            else:
                seen.add(grams[i])
                i += 1
        shares.append(share(found, len(text)))
    return shares


def given_words(texts, words):
    """Words as the native functions take them; each is the next in its text that reads so."""
    splits, spans = [0], []
    for text, found in zip(texts, words, strict=True):
        at, data = 0, text.encode()
        for word in map(str.encode, found):
            at = data.index(word, at)
            spans.append((at, at + len(word)))
            at += len(word)
        splits.append(len(spans))
    return np.array(splits), np.array(spans, np.uint32).reshape(-1, 2)


ALPHABET = st.sampled_from(
    ["a", "bb", "ccc", "a", "the", "of", " ", "  ", "\n", "\n\n", "\r\n", "-", "•", "...", "…", ".",
     "#", "é", "e\u0301", "漢", "1", "\u2028", "\x1c", "\xa0", "\0", "\ufffd", "😀", "$"]
)  # fmt: skip
TEXTS = st.lists(st.lists(ALPHABET, max_size=50).map("".join), max_size=4)
STOP = ("the", "of", "a")


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_the_measures_are_those_of_the_plain_way_in_words_that_are_given(texts):
    column = pa.array(texts, pa.large_string())
    words = [text.split() for text in texts]
    spans = given_words(texts, words)
    each = np.zeros(len(texts), np.int64)
    quality = _native.gopher_quality(column, [STOP], each, each + 9, spans)
    repetition = _native.gopher_repetition(column, spans)
    for i, text in enumerate(texts):
        assert quality[i].tolist() == pytest.approx(
            plain_quality(text, words[i], STOP), rel=0, abs=0, nan_ok=True
        )
        assert repetition[i].tolist() == pytest.approx(
            plain_repetition(text, words[i]), rel=0, abs=0, nan_ok=True
        )


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", "bb a"]), min_size=20, max_size=200))
def test_long_repetitive_texts_are_measured_as_the_plain_way_does(words):
    text = " ".join(words)
    measured = _native.gopher_repetition(
        pa.array([text], pa.large_string()), given_words([text], [text.split()])
    )
    assert measured[0].tolist() == plain_repetition(text, text.split())


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_its_own_words_are_measured_as_if_they_were_given(texts):
    column = pa.array(texts, pa.large_string())
    spans = _native.words(column)
    each = np.zeros(len(texts), np.int64)
    own = _native.gopher_quality(column, [STOP], each, each + 9)
    assert np.array_equal(
        own, _native.gopher_quality(column, [STOP], each, each + 9, spans), equal_nan=True
    )


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="漢字。 ", min_size=1, max_size=120))
def test_an_ngram_of_lone_letters_is_one_of_twice_as_many(text):
    letters = [c for c in text if c != " "]
    lone = sum(c != "。" for c in letters)
    measured = _native.gopher_repetition(pa.array([text], pa.large_string()))[0, 4:]
    if lone <= 0.7 * len(letters):
        assert measured.tolist() == plain_repetition(text, letters)[4:]
        return
    for order in (2, 3, 4):
        n = 2 * order
        grams = Counter(tuple(letters[i : i + n]) for i in range(len(letters) - n + 1))
        top = grams.most_common(1)[0][1] if grams else 0
        assert measured[order - 2] == top * n / len(text)


def test_words_that_do_not_fit_their_texts_are_refused():
    column = pa.array(["ab", "c"], pa.large_string())
    spans = np.array([[0, 2], [0, 1]], np.uint32)
    with pytest.raises(ValueError, match="splits"):
        _native.gopher_repetition(column, (np.array([0, 1]), spans))
    with pytest.raises(IndexError, match="splits"):
        _native.gopher_repetition(column, (np.array([0, 1, 3]), spans))
    with pytest.raises(IndexError, match="end of its text"):
        _native.gopher_repetition(column, (np.array([0, 1, 2]), spans[::-1].copy() + 2))
