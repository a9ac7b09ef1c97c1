"""A look into vocabularies: what is said of a token is what encoding shows."""

import json
import random
import unicodedata
from collections import Counter
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tok import Encoder, count_words, export_tokenizer, train_tokenizer, weigh
from tok.vocabulary import (
    TOKENS_SCHEMA,
    can_be_in_utf8,
    count_in_words,
    describe,
    merge,
    near_duplicates,
    read_vocabulary,
    script_of,
    spelled,
    summarise,
    unreachable,
)

TEXTS = [
    "The cat and the Cat and THE CAT; the hat, a hat.\n\n    return the_cat[1234]\n" * 2,
    "Быстрая лисица и БЫСТРАЯ лисица. 快速的棕色狐狸跳过懒狗。" * 2,
    "मनुष्य स्वतन्त्र मनुष्य स्वतन्त्र เดอะควิก เดอะควิก",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    counts = weigh(count_words(TEXTS, ["all"] * len(TEXTS), "multilingual"))
    path = tmp_path_factory.mktemp("tokenizer")
    export_tokenizer(train_tokenizer(counts, 420, "multilingual"), path)
    return path


def with_merges(directory, target, merges, pattern=None):
    """A tokenizer.json with these merges (pairs of ASCII), and another pretokenizer if asked."""
    content = json.loads((directory / "tokenizer.json").read_text("utf-8"))
    specials = [token for token in content["added_tokens"] if token["id"] < 3]
    vocab = {token: i for token, i in content["model"]["vocab"].items() if i < 259}
    spelled_merges = []
    for pair in merges:
        left, right = (part.replace(" ", "Ġ").replace("\n", "Ċ") for part in pair)
        vocab.setdefault(left + right, len(vocab))
        spelled_merges.append([left, right])
    content["added_tokens"] = specials
    content["model"] |= {"vocab": vocab, "merges": spelled_merges}
    if pattern is not None:
        content["pre_tokenizer"]["pretokenizers"][:-1] = [
            {
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": False,
            }
        ]
    target.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return target


GPT4_LIKE = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\p{L}+|\p{N}{1,3}|\s*[\r\n]+|\s+"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pattern", [None, GPT4_LIKE], ids=["ours", "gpt4-like"])
def test_tokens_called_unreachable_are_those_that_no_short_text_becomes(
    directory, tmp_path, seed, pattern
):
    alphabet = "ab1 \n/"
    rng = random.Random(seed)
    parts, merges = list(alphabet), []
    while len(merges) < 40:
        pair = (rng.choice(parts), rng.choice(parts))
        if len(pair[0] + pair[1]) <= 3 and pair not in merges:
            merges.append(pair)
            parts += [pair[0] + pair[1]] * (pair[0] + pair[1] not in parts)
    path = with_merges(directory, tmp_path / "t.json", merges, pattern)
    encoder, vocabulary = Encoder.load(path), read_vocabulary(path)
    texts = ["".join(t) for n in range(1, 6) for t in product(alphabet, repeat=n)]
    ids, _ = encoder.encode_batch(texts)
    seen = set(ids.tolist())
    reasons = unreachable(encoder, vocabulary)
    for i, data in vocabulary.tokens.items():
        if i not in vocabulary.special and set(data.decode(errors="replace")) <= set(alphabet):
            assert (i in reasons) == (i not in seen), (data, reasons.get(i))
    assert {"merges", "utf8"} <= set(reasons.values())


def test_the_reasons_are_told_apart(directory, tmp_path):
    # "abc" needs a + bc, but ab comes first; "a1" is always cut before its digit.
    merges = [("a", "b"), ("b", "c"), ("a", "bc"), ("a", "1")]
    path = with_merges(directory, tmp_path / "t.json", merges)
    encoder, vocabulary = Encoder.load(path), read_vocabulary(path)
    names = {vocabulary.tokens[i]: why for i, why in unreachable(encoder, vocabulary).items()}
    assert names[b"abc"] == "merges" and names[b"a1"] == "pretokenizer"
    never = {bytes([b]) for b in (0xC0, 0xC1, *range(0xF5, 0x100))}
    assert {data for data, why in names.items() if why == "utf8"} == never
    assert set(names) == never | {b"abc", b"a1"}


def test_a_token_that_comes_out_only_between_others_is_reachable(directory, tmp_path):
    # Alone, a line break and a slash are two words; after another sign they are one.
    path = with_merges(directory, tmp_path / "t.json", [("\n", "/")], GPT4_LIKE)
    encoder, vocabulary = Encoder.load(path), read_vocabulary(path)
    token = next(i for i, data in vocabulary.tokens.items() if data == b"\n/")
    assert token not in encoder.encode("\n/") and token in encoder.encode("!\n/")
    assert token not in unreachable(encoder, vocabulary)


def test_every_token_of_a_trained_vocabulary_is_reachable(directory):
    encoder, vocabulary = Encoder.load(directory), read_vocabulary(directory)
    assert set(unreachable(encoder, vocabulary).values()) == {"utf8"}


def test_merging_by_the_book_gives_the_encoders_tokens_of_a_word(directory):
    encoder, vocabulary = Encoder.load(directory), read_vocabulary(directory)
    for text in TEXTS:
        for word in text.split():
            if word.isalpha():
                expected = [encoder.token_bytes(i) for i in encoder.encode(word)]
                assert merge(word.encode(), vocabulary.merges) == expected
    assert merge(b"aaab", {(b"a", b"a"): 1, (b"a", b"b"): 0}) == [b"aa", b"ab"]
    assert merge(b"aaa", {(b"a", b"a"): 0}) == [b"aa", b"a"]


def _ends():
    """Beginnings and ends that can make characters of cut ones."""
    leads = [[b"\xc2"], [b"\xe0", b"\xe1", b"\xed"], [b"\xf0", b"\xf1", b"\xf4"]]
    tails = [b"\x80", b"\x8f", b"\x90", b"\x9f", b"\xa0", b"\xbf"]
    starts = [b""]
    for length, bytes_ in enumerate(leads, 1):
        for lead in bytes_:
            for n in range(length):
                starts += [lead + b"".join(rest) for rest in product(tails, repeat=n)]
    return starts, [b"".join(rest) for n in range(4) for rest in product(tails, repeat=n)]


STARTS, ENDS = _ends()


def _valid(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@settings(deadline=None, max_examples=150)
@given(
    st.one_of(
        st.lists(st.sampled_from(b"a\x80\x90\xa0\xbf\xc2\xe0\xe1\xed\xf0\xf4\xf5\xc0"), max_size=5),
        st.text("aé中𠀋", min_size=1, max_size=4).map(lambda t: list(t.encode()[1:-1])),
    ).map(bytes)
)
@example(b"\xed\xa0")
def test_bytes_can_be_in_utf8_if_something_around_them_makes_text(data):
    completed = any(_valid(start + data + end) for start in STARTS for end in ENDS)
    assert can_be_in_utf8(data) == completed


def test_counting_in_words_is_counting_in_the_text(directory):
    encoder = Encoder.load(directory)
    groups = ["x", "y", "x"]
    table = count_words(TEXTS, groups, "multilingual")
    expected = Counter(i for text in TEXTS for i in encoder.encode(text))
    for size in (3, 10_000):
        counts = count_in_words(encoder, table.to_batches(size))
        assert counts.dtype == np.int64
        assert {i: int(n) for i, n in enumerate(counts) if n} == expected
    large = pa.table({"word": [b"the"], "count": [2**53 + 1]}).to_batches()
    assert max(count_in_words(encoder, large)) == 2**53 + 1
    with pytest.raises(ValueError, match="no UTF-8"):
        count_in_words(encoder, pa.table({"word": [b"\xff"], "count": [1]}).to_batches())


def test_a_row_a_token_says_what_it_is(directory):
    encoder, vocabulary = Encoder.load(directory), read_vocabulary(directory)
    table = count_words(TEXTS, ["all"] * len(TEXTS), "multilingual")
    counts = count_in_words(encoder, table.to_batches())
    described = describe(encoder, vocabulary, counts)
    assert described.schema.equals(TOKENS_SCHEMA)
    rows = {row["id"]: row for row in described.to_pylist()}
    assert set(rows) == set(range(encoder.vocab_size))
    for i, row in rows.items():
        assert row["bytes"] == encoder.token_bytes(i) and row["count"] == counts[i]
        assert (row["text"] is None) == (not _valid(row["bytes"]))
        assert row["special"] == (i in set(encoder.special.values()) | vocabulary.special)
    assert describe(encoder, vocabulary)["count"].null_count == len(rows)


def test_a_summary_adds_up(directory):
    encoder, vocabulary = Encoder.load(directory), read_vocabulary(directory)
    table = count_words(TEXTS, ["all"] * len(TEXTS), "multilingual")
    described = describe(encoder, vocabulary, count_in_words(encoder, table.to_batches()))
    summary = summarise(described)
    assert json.loads(json.dumps(summary)).keys() == summary.keys()
    ordinary = [row for row in described.to_pylist() if not row["special"]]
    assert sum(row["tokens"] for row in summary["scripts"]) == len(ordinary)
    assert sum(row["count"] for row in summary["scripts"]) == summary["count"]
    assert sum(summary["lengths_in_bytes"].values()) == len(ordinary)
    pieces = summary["invalid_utf8"]["tokens"]
    assert sum(summary["lengths_in_characters"].values()) == len(ordinary) - pieces
    assert summary["unreachable"]["utf8"]["tokens"] == 13
    low = [row["count"] for row in summary["under_trained"]]
    assert low == sorted(row["count"] for row in ordinary)
    assert summary["never_counted"] == low.count(0) > 0
    assert len(summarise(described, 5)["under_trained"]) == 5


def rows_of(*texts):
    rows = [(i, t.encode(), t, "Latin", False, None, None) for i, t in enumerate(texts)]
    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, TOKENS_SCHEMA, strict=True)],
        schema=TOKENS_SCHEMA,
    )


def test_near_duplicates_differ_by_nothing_but_what_is_named():
    tokens = rows_of("cat", " cat", "Cat", " CAT", "dog", " ", "  ", " Dog", "ß", "SS")
    assert near_duplicates(tokens, "case") == [[0, 2], [1, 3], [8, 9]]
    assert near_duplicates(tokens, "space") == [[0, 1], [5, 6]]
    assert near_duplicates(tokens, "both") == [[0, 1, 2, 3], [4, 7], [5, 6], [8, 9]]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        (" cat", "Latin"), ("ｃａｔ", "Latin"), ("кот", "Cyrillic"), ("猫々", "Han"),
        ("ネコ", "Katakana"), ("ネコー", "Katakana"), ("ねこ猫", "mixed"), ("बिल्ली", "Devanagari"),
        ("แมว", "Thai"), ("e\u0301", "Latin"), ("\u0301", "letters of no script"),
        ("123", "digits"), ("१२", "digits"), ("\n\n  ", "space"),
        (");\n", "punctuation and symbols"),
        ("1.", "digits"), ("\u212a", "letters of no script"), (None, "piece of a character"),
        ("ᥐᥑ", "Tai Le"), ("𐌀", "Old Italic"),
    ],
)  # fmt: skip
def test_a_tokens_script_is_that_of_its_letters(text, script):
    assert script_of(text) == script


@given(st.binary(max_size=12) | st.text(max_size=8).map(str.encode))
def test_spelled_tokens_cannot_steer_a_terminal(data):
    shown = spelled(data)
    assert all(unicodedata.category(char)[0] not in "CZ" for char in shown)


def test_spelled_tokens_show_what_they_are():
    assert spelled(b" a\n\t") == "␣a\\n\\t"
    assert spelled("é".encode()[:1] + b"x") == "\\xc3x"
    assert spelled("\u202e\x1b".encode()) == "\\u202e\\x1b"


def test_a_file_that_is_no_tokenizer_is_named(directory, tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer\.json: No such file.*expected"):
        read_vocabulary(tmp_path / "tokenizer.json")
    for content in ("{", "[]", '{"model": {"type": "Unigram", "vocab": []}}'):
        (tmp_path / "t.json").write_text(content)
        with pytest.raises(ValueError, match=r"t\.json: no tokenizer\.json of byte-level BPE"):
            read_vocabulary(tmp_path / "t.json")
    content = json.loads((directory / "tokenizer.json").read_text("utf-8"))
    content["model"]["vocab"]["▁the"] = 999
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="not byte-level"):
        read_vocabulary(tmp_path / "t.json")
