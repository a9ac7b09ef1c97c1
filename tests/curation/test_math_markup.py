"""MathML as browsers, KaTeX, Wikipedia and LaTeXML write it, and the TeX that comes out."""

import re

import lxml.html
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.math_markup import clean_tex, latex


def tex(inner, **attributes):
    fields = "".join(f' {k}="{v}"' for k, v in attributes.items())
    return latex(lxml.html.fragment_fromstring(f"<math{fields}>{inner}</math>"))


CELLS = "<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>0</mn></mtd></mtr><mtr><mtd><mi>a</mi></mtd>"
CELLS += "<mtd><mi>b</mi></mtd></mtr></mtable>"


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<mi>x</mi><mo>+</mo><mn>12</mn>", "x+12"),
        ("<mfrac><mi>a</mi><mrow><mi>b</mi><mo>+</mo><mn>1</mn></mrow></mfrac>", r"\frac{a}{b+1}"),
        ("<msub><mi>x</mi><mi>i</mi></msub><msup><mi>y</mi><mn>10</mn></msup>", "x_iy^{10}"),
        ("<msubsup><mi>x</mi><mn>0</mn><mn>2</mn></msubsup>", "x_0^2"),
        ("<msup><mrow><mi>a</mi><mi>b</mi></mrow><mn>2</mn></msup>", "{ab}^2"),
        ("<msup><mi>f</mi><mo>′</mo></msup>", "f'"),
        ("<msqrt><mi>a</mi><mi>b</mi></msqrt><mroot><mi>x</mi><mn>3</mn></mroot>",
         r"\sqrt{ab}\sqrt[3]{x}"),
        ("<mi>α</mi><mo>≤</mo><mi>β</mi><mo>⇒</mo><mi>x</mi><mo>∈</mo><mi>ℝ</mi>",
         r"\alpha\leq\beta\Rightarrow x\in\mathbb{R}"),
        ("<mi>sin</mi><mo>\u2061</mo><mi>θ</mi><mi>x</mi>", r"\sin\theta x"),
        ("<mi mathvariant='bold'>v</mi><mi mathvariant='normal'>d</mi><mi>rank</mi>",
         r"\mathbf{v}\mathrm{d}\mathrm{rank}"),
        ("<mi>𝐀</mi><mi>𝒮</mi><mi>𝔤</mi><mi>𝑥</mi>", r"\mathbf{A}\mathcal{S}\mathfrak{g}x"),
        ("<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>"
         "<msup><mi>i</mi><mn>2</mn></msup>", r"\sum_{i=1}^ni^2"),
        ("<munder><mo>lim</mo><mrow><mi>x</mi><mo>→</mo><mn>0</mn></mrow></munder>",
         r"\lim_{x\rightarrow0}"),
        ("<mover accent='true'><mi>x</mi><mo>¯</mo></mover>", r"\bar{x}"),
        ("<mover><mrow><mi>A</mi><mi>B</mi></mrow><mo>→</mo></mover>", r"\overrightarrow{AB}"),
        ("<mover><mover><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mo>⏞</mo></mover><mi>n</mi>"
         "</mover>", r"\overbrace{a+b}^n"),
        ("<munder><mrow><mi>a</mi><mi>b</mi></mrow><mo>_</mo></munder>", r"\underline{ab}"),
        ("<mover><mo>→</mo><mi>f</mi></mover>", r"\xrightarrow{f}"),
        ("<mover><mo>=</mo><mtext>def</mtext></mover>", r"\overset{\text{def}}{=}"),
        (f"<mrow><mo>(</mo>{CELLS}<mo>)</mo></mrow>",
         r"\begin{pmatrix} 1 & 0 \\ a & b \end{pmatrix}"),
        (f"<mi>M</mi><mo>=</mo><mo>[</mo>{CELLS}<mo>]</mo>",
         r"M=\begin{bmatrix} 1 & 0 \\ a & b \end{bmatrix}"),
        (f"<mi>f</mi><mo>=</mo><mrow><mo>{{</mo>{CELLS}</mrow>",
         r"f=\begin{cases} 1 & 0 \\ a & b \end{cases}"),
        (f"<mfenced open='|' close='|'>{CELLS}</mfenced>",
         r"\begin{vmatrix} 1 & 0 \\ a & b \end{vmatrix}"),
        ("<mrow><mo>(</mo><mfrac><mn>1</mn><mi>n</mi></mfrac><mo>)</mo></mrow>",
         r"\left(\frac{1}{n}\right)"),
        ("<mo>(</mo><mfrac linethickness='0'><mi>n</mi><mi>k</mi></mfrac><mo>)</mo>",
         r"\binom{n}{k}"),
        ("<mfenced><mi>a</mi><mi>b</mi></mfenced>", "(a,b)"),
        ("<mrow><mo>{</mo><mi>x</mi><mo>∣</mo><mi>y</mi><mo>}</mo></mrow>", r"\{x\mid y\}"),
        ("<mmultiscripts><mi>C</mi><mn>6</mn><none/><mprescripts/><none/><mn>14</mn>"
         "</mmultiscripts>", "{}^{14}C_6"),
        ("<mtext>50% of a_b </mtext>", r"\text{50\% of a\_b }"),
        ("<menclose notation='box'><mi>x</mi></menclose>", r"\boxed{x}"),
        ("<mi>a</mi><mspace width='1em'/><mi>b</mi>", r"a\quad b"),
        ("", ""),
    ],
)  # fmt: skip
def test_presentation_mathml_becomes_what_an_author_types(markup, expected):
    assert tex(markup) == expected


def test_tex_that_comes_along_is_taken_as_it_stands():
    inner = (
        "<semantics><mrow><mi>E</mi></mrow><annotation encoding='{}'>{}</annotation></semantics>"
    )
    assert tex(inner.format("application/x-tex", r"E=mc^2 \le 1")) == r"E=mc^2 \le 1"
    wiki = r"{\displaystyle {\frac {a}{b}}\,x}"
    assert tex("<mi>a</mi>", alttext=wiki) == r"{\frac {a}{b}}\,x"
    assert tex(inner.format("application/mathml-content+xml", "no")) == "E"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"$x$", "x"), (r"\(x\)", "x"), (r"\[ x \]", "x"), ("$$x$$", "x"), ("$", "$"),
        (r"{\displaystyle a}", "a"), (r"{\displaystyle a}+{b}", r"{\displaystyle a}+{b}"),
        ("a%\n b", "a b"), (r"50\% \n", r"50\% \n"), (r"\displaystyle x", "x"), ("", ""),
    ],
)  # fmt: skip
def test_delimiters_and_layout_are_taken_off_tex(source, expected):
    assert clean_tex(source) == expected


NAMES = "mi mn mo mtext mrow mfrac msqrt mroot msub msup msubsup munder mover munderover mtable mtr"
NAMES += " mtd mfenced mmultiscripts mprescripts none menclose mspace mstyle mpadded semantics"
TREES = st.recursive(
    st.sampled_from(["x", "(", ")", "{", "∑", "\\", "%", "", "→", "lim"]),
    lambda inner: st.tuples(st.sampled_from(NAMES.split()), st.lists(inner, max_size=4)).map(
        lambda node: f"<{node[0]}>{''.join(node[1])}</{node[0]}>"
    ),
    max_leaves=12,
)


@given(st.lists(TREES, max_size=4).map("".join))
def test_any_tree_gives_tex_with_its_braces_closed(markup):
    plain = re.sub(r"\\[\\{}]", "", tex(markup))
    depth = 0
    for char in plain:
        depth += (char == "{") - (char == "}")
        assert depth >= 0
    assert depth == 0
    assert plain.count(r"\left") - plain.count(r"\leftarrow") == plain.count(
        r"\right"
    ) - plain.count(r"\rightarrow")
    assert plain.count(r"\begin") == plain.count(r"\end")
