"""Length and symbols: their rules, and the native measures against plain Python's."""

import random
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import _native
from curation.document import SCHEMA, make_batch
from curation.length import LengthFilter
from curation.symbols import SymbolFilter

RNG = random.Random(4)
PROSE = "\n".join(
    " ".join("".join(RNG.choices("abcdefghij", k=RNG.randrange(2, 9))) for _ in range(12)) + "."
    for _ in range(20)
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
        "length:min_chars", None, None, "length:min_chars", "length:max_chars", None,
    ]  # fmt: skip
    assert reasons(LengthFilter(min_chars=None, max_chars=None), "", PROSE) == [None] * 2
    assert reasons(step) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE + "\0" * 10, "max_controls"),
        (PROSE + "\ufffd" * 10, "max_controls"),
        ("a+b={c}; " * 20, "max_symbols"),
        ("... !?\n" * 9, "max_symbols"),
    ],
)
def test_text_that_is_not_made_of_letters_is_rejected_by_the_rule_that_sees_it(text, reason):
    assert reasons(SymbolFilter(), text) == [f"symbols:{reason}"]
    assert reasons(SymbolFilter(**{reason: None}), text) == [None]


def test_ordinary_text_passes_in_every_kind_of_script():
    thai = "ผู้เชี่ยวชาญด้านเศรษฐกิจกล่าวว่าราคาอาหารในเมืองหลวงเพิ่มขึ้น"
    texts = [PROSE, "我们的研究在这里，是有意义的。", thai, PROSE.replace(" ", "\t\r\n"), "", " "]
    assert reasons(SymbolFilter(), *texts) == [None] * 6
    assert reasons(SymbolFilter()) == []


def test_code_is_judged_by_its_lines_and_letters():
    step = SymbolFilter()
    good = "def f(x):\n    return {k: v for k, v in x.items()}  # ...\n" * 9
    texts = [good, "x" * 1001 + "\ny\n" * 50, ("y" * 120 + "\n") * 9, "0x12, 34, 56,\n" * 9]
    assert reasons(step, *texts, good + "\0" * 9, domain="code") == [
        None, "symbols:max_longest_line", "symbols:max_mean_line", "symbols:min_letters",
        "symbols:max_controls",
    ]  # fmt: skip
    assert reasons(SymbolFilter(max_longest_line=10), PROSE) == ["symbols:max_longest_line"]


def test_formulas_pass_as_mathematics_and_not_as_prose():
    text = (
        "We have $\\sum_{i=1}^{n} a_i^2 + b_i^2 = (c_1 + 2)$ and $x^2 - 3 \\ge 0$ for all $x$. " * 3
    )
    assert reasons(SymbolFilter(), text, domain="math") == [None]
    assert reasons(SymbolFilter(), text) == ["symbols:max_symbols"]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab .…#\n-•漢\0\t1\u0301\ufffd\ue000\u2028$", max_size=60))
def test_the_measures_are_those_of_the_plain_way(text):
    def count(which):
        return sum(map(which, text))

    def control(c):
        return c == "\ufffd" or (unicodedata.category(c) in ("Cc", "Co") and not c.isspace())

    letters = count(lambda c: unicodedata.category(c)[0] in "LM")
    signs = count(lambda c: unicodedata.category(c)[0] in "PS" and not control(c))
    visible = count(lambda c: not c.isspace())
    lines = [len(line) for line in text.split("\n") if line.strip()]
    nan = float("nan")
    assert _native.symbols(pa.array([text], pa.large_string()))[0].tolist() == pytest.approx(
        [
            count(control) / len(text) if text else nan,
            signs / max(letters, 1),
            letters / visible if visible else nan,
            sum(lines) / len(lines) if lines else nan,
            max(lines, default=0),
        ],
        nan_ok=True,
    )


def test_counters_of_a_long_text_do_not_overflow():
    text = "a" * 200_000 + "!" * 150_000 + "é" * 70_000
    measured = _native.symbols(pa.array([text], pa.large_string()))[0]
    assert measured[:3].tolist() == [0, 150_000 / 270_000, 270_000 / 420_000]
