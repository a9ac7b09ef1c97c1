"""The native scanner cuts every text as `tokenizers` does with the scheme's regexes."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import PreTokenizedString

from tok import _native
from tok.schemes import SCHEMES, pretokenizer, split_words, word_splitter

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "tok" / "native"
NTREX = ROOT.parent / "shared" / "data" / "parallel" / "ntrex128.parquet"

SPLITTERS = {scheme: word_splitter(scheme) for scheme in SCHEMES}
each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def ends_by_regex(text: str, scheme: str) -> list[int]:
    pieces = PreTokenizedString(text)
    SPLITTERS[scheme].pre_tokenize(pieces)
    return [end for _, (_, end), _ in pieces.get_splits("original", "byte")]


def assert_same(text: str, scheme: str) -> None:
    native = set(_native.word_ends(scheme, text.encode()).tolist())
    by_regex = set(ends_by_regex(text, scheme))
    if native != by_regex:
        first = min(native ^ by_regex)
        at = max(end for end in {0, *native} if end < first)
        near = text.encode()[at : at + 60].decode(errors="replace")
        found = "does not end" if first in by_regex else "ends"
        raise AssertionError(f"{scheme}: the word from byte {at} {found} at {first}: {near!a}")


def in_contexts(characters: list[str]) -> str:
    """Each between line breaks, letters, digits and spaces, and after each of the others."""
    return "".join(f"\n{c}a{c}1{c} {c}\r" for c in characters)


def class_borders() -> list[str]:
    """The first, second and last code point of every run of the committed table."""
    table = (NATIVE / "unicode_classes.inc").read_text().split("kRuns[] = {")[1]
    firsts = [int(number, 16) >> 8 for number in re.findall(r"0x[0-9a-f]+", table)]
    near = {c + d for c in firsts for d in (-1, 0, 1)} - {-1, *range(0xD800, 0xE000)}
    return [chr(c) for c in sorted(near)]


# --- the class tables ---


def test_committed_classes_are_what_the_installed_tokenizers_answers_for_every_code_point():
    script = [sys.executable, NATIVE / "make_classes.py"]
    answered = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert answered == (NATIVE / "unicode_classes.inc").read_text()


@each_scheme
def test_code_points_at_the_border_of_a_class_in_all_contexts(scheme):
    assert_same(in_contexts(class_borders()), scheme)


@pytest.mark.slow
@each_scheme
def test_every_code_point_in_all_contexts(scheme):
    everything = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    # One in 16 of the private and unassigned planes (4 to 16), which are one class, or two.
    chosen = everything[:0x40000] + everything[0x40000::16]
    for at in range(0, len(chosen), 50_000):
        assert_same(in_contexts(chosen[at : at + 50_000]), scheme)


# --- texts ---

# What schemes treat specially, and neighbours of it that they do not.
NASTY = [
    *"'’`\"aAsStTrReEvVmMlLdDzZéßſKǅİʰŉﬆΣςдЖ한글ㄱ",
    *["\u0301", "\u0345", "\u0903", "\u20dd", "\u200b", "\u200c", "\u200d", "\ufe0f", "\ufeff"],
    *"漢字々〇〢ー゠・ひカﾊﾞ龥龦。、ไก๑่กຂខ។៣မ၊༡་བོ",
    *["\r", "\n", "\r\n", "\t", "\v", "\f", "\x85", "\xa0", "\u1680", "\u180e", "\u2028", "\u3000"],
    *"0129٣²Ⅷ½१!/-.,_€^~©",
    *["😀", "👩‍🚀", "🇦🇹", "\0", "\x1f", "\x7f", "\ue000", "\U000e0001", "\U0010ffff", "\u0378"],
    *["  ", " ", " ", "\n", "'", "'s", "'Ll", "'ſ", "    ", "\n\n"],
]
LONG = st.builds(lambda piece, n: piece * n, st.sampled_from(NASTY), st.integers(1, 40))
TEXTS = st.one_of(
    st.lists(st.sampled_from(NASTY), max_size=12).map("".join),
    st.lists(st.one_of(LONG, st.sampled_from(NASTY), st.text(max_size=3)), max_size=12).map(
        "".join
    ),
)


@settings(deadline=None, max_examples=1500)
@given(TEXTS)
def test_texts_of_mixed_scripts_marks_spaces_and_apostrophes(text):
    for scheme in SCHEMES:
        assert_same(text, scheme)


# Words of ASCII are found by blocks of 64 bytes, so this is long, and mostly ASCII.
PLAIN = [
    *["a", "I", "foo", "Bar", "HTTPServer", "isValid", "pneumonoultramicroscopic" * 2],
    *["1", "12", "123", "4567", "0123456789" * 3, "x1", "1x", "_", "__init__", "a_b", "$", "@x"],
    *["(", "((", ")", "):", "=", "==", '"', "-", "--", "/", "//", ".", "...", "<=", "*" * 20, "/*"],
    *["'", "''", "'s", "'S", "'ll", "'LL", "'re", "'x", "n't", "'tis", "l'an", "'1", "' "],
    *[
        " ",
        " ",
        " ",
        "  ",
        "    ",
        "\t",
        " \t",
        "\t ",
        "\n",
        "\n    ",
        "\n\n",
        "\r\n",
        "\n\t\t",
        ")\n",
    ],
    *["é", "'é", "é'", "’", "ſ", "'ſ", "漢", "ก", "٣", "\x00", "\x1f", "\x7f", "\x85", "\xa0"],
]


@settings(deadline=None, max_examples=1500)
@given(st.lists(st.sampled_from(PLAIN), min_size=8, max_size=60).map("".join))
def test_long_texts_that_are_mostly_ascii(text):
    for scheme in SCHEMES:
        assert_same(text + "\n" + "and so on " * 7, scheme)


@each_scheme
def test_random_bytes_made_valid(scheme):
    for seed in range(300):
        rng = random.Random(seed)
        some = rng.randbytes(rng.randrange(400))
        # Most random bytes form no characters, so half of them are drawn as characters.
        others = "".join(
            chr(rng.choice([rng.randrange(0x3100), rng.randrange(0x20000, 0x30000)]))
            for _ in range(rng.randrange(100))
        )
        assert_same(some.decode(errors="ignore") + others, scheme)
        assert_same(some.decode(errors="replace"), scheme)


@each_scheme
def test_parallel_text_in_129_languages(scheme):
    if not NTREX.exists():
        pytest.skip(f"no parallel text at {NTREX}")
    lines = pq.read_table(NTREX, columns=["text", "line"]).to_pylist()
    assert_same("\n".join(row["text"] for row in lines if row["line"] % 60 == 7), scheme)


@each_scheme
def test_source_code(scheme):
    files = sorted((ROOT / "tok").rglob("*.?pp")) + sorted(ROOT.glob("t*/**/*.py"))
    assert_same("\n".join(path.read_text() for path in files), scheme)
    assert_same("\r\n".join(path.read_text().replace("\n", "\r\n") for path in files[:6]), scheme)


@each_scheme
def test_pieces_longer_than_one_buffer_of_the_scanner(scheme):
    for text in ("・ひ" * 3000, "བོད་" * 3000, "1๑" * 3000, " \n" * 3000 + "x", "a'S" * 3000):
        assert_same(text, scheme)


# --- properties and examples ---


@each_scheme
@pytest.mark.parametrize(
    ("unit", "end"),
    [
        (" ", ""), (" ", "x"), ("\n ", "x"), (" \n", " "), ("\x01", ""), ("\x01", "a"), ("a", "1"),
        ("A", ""), ("aA", ""), ("ªA", ""), ("1", ""), ("!", "a"), ("!\n", ""), ("'", "s"),
        ("\u0301", "a"), ("\u200d", "a"), ("漢", ""), ("・ひ", ""), ("ก", "1"), ("་", ""),
        ("\u3000", "x"), ("😀\u200d", ""),
    ],
)  # fmt: skip
def test_two_megabytes_of_anything_end_and_are_covered(scheme, unit, end):
    """At quadratic cost none of these would end within the life of the test run."""
    text = (unit * (2_000_000 // len(unit.encode())) + end).encode()
    ends = _native.word_ends(scheme, text)
    assert ends[-1] == len(text)
    assert (ends[1:] > ends[:-1]).all()


@each_scheme
@settings(deadline=None)
@given(text=st.one_of(st.binary(max_size=80), TEXTS.map(str.encode)), cut=st.integers(0, 5))
def test_bytes_that_are_not_utf8_are_cut_somehow_and_none_is_lost(scheme, text, cut):
    text = text[: len(text) - cut]
    words = split_words(text, scheme)
    assert b"".join(words) == text
    assert all(words)


@each_scheme
def test_the_export_cuts_where_the_scanner_does(scheme):
    text = "It's 12345 naïve\u0301  words,\r\n\n  漢字かな กขค"
    exported = pretokenizer(scheme).pre_tokenize_str(text)
    assert [text[start:end].encode() for _, (start, end) in exported] == split_words(text, scheme)


def words(text: str, scheme: str) -> list[str]:
    return [word.decode() for word in split_words(text, scheme)]


def test_contractions_differ_by_scheme():
    text = "it's IT'S DON'T l'été"
    assert words(text, "gpt2")[:3] == ["it", "'s", " IT"]
    assert words(text, "gpt2")[3:5] == ["'", "S"]
    assert words(text, "cl100k") == ["it", "'s", " IT", "'S", " DON", "'T", " l", "'été"]
    assert words(text, "o200k") == ["it's", " IT'S", " DON'T", " l", "'été"]
    assert words(text, "deepseek-v3")[:4] == ["it", "'s", " IT", "'S"]
    assert words("'ſ", "cl100k") == ["'ſ"]  # the long s folds to s
    assert words("'ſa", "cl100k") == ["'ſ", "a"]


def test_o200k_gives_back_capitals_until_a_word_can_end():
    assert words("HTMLParser", "o200k") == ["HTMLParser"]
    assert words("parserHTML", "o200k") == ["parser", "HTML"]
    assert words("ªHTML", "o200k") == ["ª", "HTML"]  # ª is of either case and ends the first word
    assert words("!\u0301A", "o200k") == ["!\u0301", "A"]


def test_an_earlier_expression_ends_the_text_for_a_later_one():
    assert words("a  1", "deepseek-v3") == ["a", "  ", "1"]
    assert words("a  b", "deepseek-v3") == ["a", " ", " b"]
    assert words("a  漢", "deepseek-v3") == ["a", "  ", "漢"]
    assert words("ひ・カ", "deepseek-v3") == [
        "ひ",
        "・",
        "カ",
    ]  # the third cuts what the second found
    assert words(";\n  1", "multilingual") == [";\n  ", "1"]
    assert words("\n  漢", "multilingual") == ["\n  ", "漢"]


def test_what_no_expression_matches_is_one_word():
    assert words("a\x01\x02\x03b\x04", "deepseek-v3") == ["a", "\x01\x02", "\x03b", "\x04"]


def test_multilingual_keeps_indentation_with_the_line_break_before_it():
    code = "def f(x):\n        if x:\n\n\t\treturn {\r\n\t}\n  # a\tb"
    assert words(code, "multilingual") == [
        *("def", " f", "(x", "):\n       ", " if", " x", ":\n\n\t\t", "return", " {\r\n\t", "}\n "),
        *(" #", " a", "\t", "b"),
    ]
    assert words("\n\n \n    a", "multilingual") == ["\n\n \n   ", " a"]
    assert words("a\n b", "multilingual") == ["a", "\n", " b"]
    assert words("}; \n  }", "multilingual") == ["};", " \n ", " }"]


def test_multilingual_keeps_words_whole_that_are_written_with_apostrophes_joiners_and_tsheg():
    assert words("It's l’été'", "multilingual") == ["It's", " l’été", "'"]
    assert words("f'' 'a", "multilingual") == ["f", "''", " '", "a"]
    assert words("می\u200cخواهم", "multilingual") == ["می\u200cخواهم"]
    assert words("བོད་ཡིག་། ་", "multilingual") == ["བོད་ཡིག་", "།", " ་"]
    assert words("漢字かなabc", "multilingual") == ["漢字かな", "abc"]
    assert words("1〇二〇二六年2026〢", "multilingual") == ["1", "〇二〇二六年", "202", "6", "〢"]


def test_superwords_go_on_across_spaces_and_hyphens_within_a_line():
    text = "It's well-known, (as a rule); “so” we’d say.\n    But no"
    assert words(text, "multilingual-superword") == [
        "It's well-known", ",", " (", "as a rule", ");", " “", "so” we’d say", ".\n   ", " But no"
    ]  # fmt: skip
    assert words("a b c d e f g h i", "multilingual-superword") == ["a b c d e f g h", " i"]


def test_an_unknown_scheme_is_refused_with_the_names():
    for call in (lambda: split_words("a", "gpt5"), lambda: _native.word_ends("gpt5", b"a")):
        with pytest.raises(
            ValueError, match=r"gpt5.*gpt2.*cl100k.*o200k.*deepseek-v3.*multilingual"
        ):
            call()
