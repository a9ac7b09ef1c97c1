import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.document import SCHEMA, make_batch
from curation.quality import (
    FormalRepetition,
    LengthFilter,
    Repetition,
    RepetitionFilter,
    SymbolFilter,
    Symbols,
    _ngram_shares,
    _symbol_measures,
)
from curation.words import words

RNG = random.Random(4)
PROSE = "\n".join(
    " ".join("".join(RNG.choices("abcdefghij", k=RNG.randrange(2, 9))) for _ in range(12)) + "."
    for _ in range(20)
)
CHINESE = "\n".join(
    "".join(chr(RNG.randrange(0x4E00, 0x5E00)) for _ in range(40)) for _ in range(9)
)


def reasons(step, *texts, domain="web"):
    batch = make_batch(
        {"text": t, "source": "s", "domain": domain, "uri": str(i)} for i, t in enumerate(texts)
    )
    out = step(batch)
    assert out.schema.names == [*SCHEMA.names, "reject"]
    assert out.drop_columns("reject") == batch
    return out["reject"].to_pylist()


def test_length_counts_characters_and_not_bytes():
    step = LengthFilter(min_chars=3, max_chars=5)
    assert reasons(step, "ab", "abc", "漢字文", "漢字", "abcdef", "😀😀😀😀😀") == [
        "length:too_short", None, None, "length:too_short", "length:too_long", None,
    ]  # fmt: skip


def test_ordinary_text_passes_in_every_kind_of_script():
    thai = "ผู้เชี่ยวชาญด้านเศรษฐกิจกล่าวว่าราคาอาหารในเมืองหลวงเพิ่มขึ้นมากในปีนี้เพราะฝนตกน้อยกว่าปกติ"
    for step in (LengthFilter(), RepetitionFilter(), SymbolFilter()):
        assert reasons(step, PROSE, CHINESE, thai) == [None] * 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{PROSE}\n" * 2, "duplicate_lines"),
        (PROSE + "\nhome\nlogin" * 30, "duplicate_lines"),
        (PROSE + "\n" + PROSE.replace("\n", " ") + "\n" + PROSE.replace("\n", " "),
         "duplicate_line_characters"),
        (PROSE[:400] + " buy it" * 60, "top_2gram"),
        (PROSE.replace("\n", " ") + " " + PROSE.replace("\n", "  "), "duplicate_5grams"),
        (CHINESE.replace("\n", "") + CHINESE.replace("\n", "。"), "duplicate_5grams"),
        ("買一送一" * 40, "top_2gram"),
    ],
)  # fmt: skip
def test_text_that_repeats_itself_is_rejected_by_the_rule_that_sees_it(text, reason):
    assert reasons(RepetitionFilter(), text) == [f"repetition:{reason}"]


def test_code_and_mathematics_may_repeat_more_than_prose():
    names = PROSE.replace(".", "").split()[:60]
    text = "\n".join(f"{a}({b}, {c}) {{\n}}" for a, b, c in zip(*[iter(names)] * 3, strict=True))
    assert reasons(RepetitionFilter(), text, domain="code") == [None]
    assert reasons(RepetitionFilter(), text, domain="math") == [None]
    assert reasons(RepetitionFilter(), text) == ["repetition:duplicate_lines"]
    same = "    return self.value\n" * 50
    assert reasons(RepetitionFilter(), same, domain="code") == ["repetition:duplicate_lines"]


def test_a_recipe_can_set_any_threshold_or_turn_it_off():
    text = f"{PROSE}\n" * 2
    off = dict.fromkeys(vars(Repetition()))
    assert reasons(RepetitionFilter(prose=Repetition(**off)), text) == [None]
    only = Repetition(**(off | {"duplicate_7grams": 0.4}))
    assert reasons(RepetitionFilter(prose=only), text) == ["repetition:duplicate_7grams"]
    strict = FormalRepetition(duplicate_lines=0.1)
    step = RepetitionFilter(formal=strict)
    assert reasons(step, text, domain="code") == ["repetition:duplicate_lines"]


def plain_ngram_shares(text):
    """Gopher's measures one n-gram at a time."""
    found = words(text)
    factor = 2 if found and sum(len(w) == 1 for w in found) > 0.7 * len(found) else 1
    total = max(sum(map(len, found)), 1)
    shares = {}
    for size in range(2, 11):
        n = size * factor
        grams = [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
        if size <= 4:
            often = [(c, sum(map(len, g))) for g, c in Counter(grams).items() if c > 2]
            count, length = max(often, default=(0, 0))
            shares[f"top_{size}gram"] = min(count * length / total, 1)
        else:
            covered, seen = set(), set()
            for i, gram in enumerate(grams):
                if gram in seen:
                    covered |= set(range(i, i + n))
                seen.add(gram)
            shares[f"duplicate_{size}grams"] = sum(len(found[i]) for i in covered) / total
    return shares


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "bb", "ccc", "dddd", "漢", "字"]), max_size=60).map(
            " ".join
        ),
        max_size=5,
    )
)
def test_ngram_shares_are_those_of_the_plain_way_document_by_document(texts):
    together = _ngram_shares(texts)
    for i, text in enumerate(texts):
        plain = plain_ngram_shares(text)
        assert {name: together[name][i] for name in plain} == pytest.approx(plain)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE + "\0" * 10, "controls"),
        (PROSE + "\ufffd" * 10, "controls"),
        ("#tag word " * 20, "hashes"),
        ("wait... what… " * 20, "ellipses"),
        ("a+b={c}; " * 20, "symbols"),
        ("\n".join(f"  • item {w}" for w in PROSE.split()), "bullet_lines"),
        ("\n".join(f"{line} read on ..." for line in PROSE.split("\n")), "ellipsis_lines"),
        ("word 12 34 56 " * 20, "alphabetic_words"),
        ("12345 67890 " * 20, "alphabetic_words"),
    ],
)
def test_text_that_is_not_made_of_words_is_rejected_by_the_rule_that_sees_it(text, reason):
    assert reasons(SymbolFilter(), text) == [f"symbols:{reason}"]


def test_tabs_and_line_breaks_are_no_control_characters():
    assert reasons(SymbolFilter(), PROSE.replace(" ", "\t").replace("\n", "\r\n")) == [None]


def test_code_is_judged_by_its_lines_and_letters_only():
    good = "def f(x):\n    return {k: v for k, v in x.items()}  # ...\n" * 9
    assert reasons(SymbolFilter(), good, domain="code") == [None]
    assert reasons(SymbolFilter(), "x" * 1001 + "\ny\n" * 50, domain="code") == [
        "symbols:longest_line"
    ]
    assert reasons(SymbolFilter(), ("y" * 120 + "\n") * 9, domain="code") == ["symbols:mean_line"]
    assert reasons(SymbolFilter(), "0x12, 34, 56,\n" * 9, domain="code") == ["symbols:letters"]
    assert reasons(SymbolFilter(), good + "\0" * 9, domain="code") == ["symbols:controls"]
    assert reasons(SymbolFilter(prose=Symbols(max_longest_line=10)), PROSE) == [
        "symbols:longest_line"
    ]


def test_formulas_pass_as_mathematics_and_not_as_prose():
    text = (
        "We have $\\sum_{i=1}^{n} a_i^2 + b_i^2 = (c_1 + 2)$ and $x^2 - 3 \\ge 0$ for all $x$. " * 3
    )
    assert reasons(SymbolFilter(), text, domain="math") == [None]
    assert reasons(SymbolFilter(), text) == ["symbols:symbols"]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab .…#\n-•漢\0\t1\u0301", max_size=40), max_size=6))
def test_symbol_measures_are_those_of_the_plain_way_document_by_document(texts):
    together = _symbol_measures(texts)
    for i, text in enumerate(texts):
        lines = [line for line in text.split("\n") if line.strip()]
        letters = sum(c in "ab漢\u0301" for c in text)
        runs = text.replace("漢", " 漢 ").split()
        plain = {
            "controls": text.count("\0") / (len(text) + 1),
            "hashes": text.count("#") / max(len(runs), 1),
            "symbols": sum(c in ".…#-•" for c in text) / max(letters, 1),
            "letters": letters / max(sum(not c.isspace() for c in text), 1),
            "alphabetic_words": sum(any(c in "ab漢\u0301" for c in r) for r in runs)
            / max(len(runs), 1),
            "bullet_lines": sum(x.strip()[0] in "-•" for x in lines) / max(len(lines), 1),
            "ellipsis_lines": sum(x.strip().endswith(("...", "…")) for x in lines)
            / max(len(lines), 1),
            "mean_line": sum(map(len, lines)) / max(len(lines), 1),
            "longest_line": max(map(len, lines), default=0),
        }
        assert {name: together[name][i] for name in plain} == pytest.approx(plain)


def test_a_run_of_dots_is_one_ellipsis_and_two_dots_are_none():
    found = _symbol_measures(["a ... b", "a ....... b", "a .. b", "a… b… c", ".."])
    assert found["ellipses"] == pytest.approx([1 / 3, 1 / 3, 0, 2 / 3, 0])


def test_empty_and_blank_documents_are_judged_without_dividing_by_nothing():
    with np.errstate(all="raise"):
        assert reasons(RepetitionFilter(), "", " \n\n ", "a") == [None] * 3
        assert reasons(SymbolFilter(), "", "a")[1] is None
        assert reasons(LengthFilter(), "") == ["length:too_short"]
        for step in (LengthFilter(), RepetitionFilter(), SymbolFilter()):
            assert reasons(step) == []


def test_a_document_is_judged_the_same_in_any_company():
    texts = ["", PROSE, "買一送一" * 40, f"{PROSE}\n" * 2, "a ...", "#"]
    for step in (RepetitionFilter(), SymbolFilter()):
        assert reasons(step, *texts) == [reasons(step, text)[0] for text in texts]
