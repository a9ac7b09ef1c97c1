"""The kinds of texts, and the slow twin of `_native.line_shapes`, made of regular expressions.

A line, without blanks around it, is *code* if it has a mark of code for every four words at most;
*neutral* if it is a comment, or has neither words nor marks; *prose* otherwise, except that an
indented line after code goes on with it. Comments are lines that begin with `#` or `*` and blocks
that begin a line (`/*`, Lean's and HTML's, triple quotes): prose, but part of code, so neither.
"""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation import _native
from curation.kinds import KEYWORDS, kinds

DATA = Path(__file__).parents[2].parent / "shared" / "data"
COMMENTS = {b"/*": b"*/", b"/-": b"-/", b"<!--": b"-->", b'"""': b'"""', b"'''": b"'''"}
ADDRESS = re.compile(rb'://[^ \t\r)"<>]*')
MARKS = [
    re.compile(pattern)
    for pattern in (
        rb"(?<=\w)\(",  # a call
        rb"(?<=\w)_(?=\w)",
        rb"(?<!=)=",
        rb"[{}]",
        rb"->",
        rb"(?<!&)&&",
        rb"(?<!\|)\|\|",
        rb"(?<!:)::",
        rb"(?<!/)//|/>|/\*",
        rb"\*/",
        rb"[\"']:",
        rb"<[/!?A-Za-z]",
        rb"(?<=[\w)\]])\.(?=[a-z_])",
        rb";$",
    )
]
MATHEMATICS = [
    re.compile(pattern)
    for pattern in (
        rb"(?<![\w\"'\\])\\([A-Za-z]{2}|[\[(])",
        rb"[\^_](?=\{)",
        rb"\xe2[\x86-\x8b\x9f\xa6-\xab]",  # U+2180 to 22FF, 27C0 to 27FF, 2980 to 2AFF
        rb"\xf0\x9d[\x90-\x9f]",  # mathematical letters
    )
]
FORMULA = re.compile(rb"\$\$|(?<![\w\\$])\$(?![ \t\r$])[^$]{1,100}(?<![ \t\r])\$(?![\w{$])")
WORD = re.compile(rb"[A-Za-z]+|[\x80-\xff]+")


def line_shapes(text: str, keywords: set[str]) -> tuple[int, int, int, int, int, int]:
    """Bytes of code, of prose and of all lines; lines of code; marks of mathematics; words."""
    known = {word.encode() for word in keywords}
    code = prose = total = code_lines = mathematics = words = 0
    closer, in_code = None, False
    for raw in text.encode().split(b"\n"):
        line = raw.strip(b" \t\r")
        if not line:
            continue
        here = sum((len(w) + 5) // 6 if w[0] > 127 else 1 for w in WORD.findall(line))
        total += len(line)
        words += here
        mathematics += sum(len(mark.findall(line)) for mark in MATHEMATICS)
        mathematics += 2 * len(FORMULA.findall(line))
        if closer:
            if closer in line:
                closer = None
            continue
        opened = [opener for opener in COMMENTS if line.startswith(opener)]
        if opened:
            end = COMMENTS[opened[0]]
            _, ended, rest = line[len(opened[0]) :].partition(end)
            closer = None if ended else end
            if not rest:  # what goes on after its end is no comment
                continue
        keyword = re.split(rb"[ \t(:;{]", line)[0] in known
        if line[:1] in b"#*" and not keyword:
            continue
        bare = ADDRESS.sub(b":", line)
        marks = keyword + sum(len(mark.findall(bare)) for mark in MARKS)
        marks += here if line.startswith(b"//") else 0
        if marks and 4 * marks >= here:
            in_code = True
        elif here == 0:
            continue
        else:
            in_code = in_code and raw[:1] in b" \t"
        if in_code:
            code, code_lines = code + len(line), code_lines + 1
        else:
            prose += len(line)
    return code, prose, total, code_lines, mathematics, words


PROSE = "The committee met on Tuesday (as it always does) and decided: the bridge comes first.\n"
CODE = """
def total(items):
    # adds what each of them costs
    result = 0
    for item in items:
        result += item.price * item.count
    return result
"""
LATEX = r"""
Let $f \colon X \to Y$ be a morphism of schemes. Then $f^{-1}(U)$ is open, and
\begin{equation} \sum_{i=1}^{n} a_i = \int_X f \, d\mu \end{equation}
so that \emph{every} such map is continuous by \ref{lemma-open}.
"""
PIECES = [
    *("def ", "return", "#include", "word", "f(", "x_1", " = ", "==", "{", "}", "->", "&&", "||"),
    *("&", "|", "::", ":", "//", "/*", "*/", "/-", "-/", "<!--", "-->", '"""', "'''", "</", "<a"),
    *("http://a.b/c_d(e", '"', "'", ":", ".", "a.b", ";", "\n", "\n    ", "\t", "\r", " ", "#"),
    *("* ", "$", "$$", "\\alpha", "\\[", "\\n", "^{", "_{", "→", "∀", "𝔸", "日本語", "слово", "1"),
]


def shapes_of(text):
    return tuple(_native.line_shapes(pa.array([text], pa.large_string()), KEYWORDS)[0].tolist())


@settings(deadline=None)  # the first call imports
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@example("$x$")
@example("$" * 7)
@example("$" + "a" * 100 + "$")
@example("$" + "a" * 101 + "$")
@example("/* a\nb */\nx = 1;")
@example("/* a */ x = 1;")
@example('""""""\nx = 1')
@example("://x)y=://")
def test_the_native_shapes_are_those_of_the_twin(text):
    assert shapes_of(text) == line_shapes(text, set(KEYWORDS))


@settings(deadline=None)  # the first call imports
@given(st.text())
def test_any_text_has_the_shapes_that_the_twin_sees(text):
    text = text.encode("utf-8", "replace").decode()
    assert shapes_of(text) == line_shapes(text, set(KEYWORDS))


def test_the_shapes_of_many_texts_are_those_of_each():
    texts = [PROSE, CODE, "", LATEX, PROSE]
    found = _native.line_shapes(pa.array(texts).slice(1), KEYWORDS).tolist()
    assert [tuple(row) for row in found] == [shapes_of(text) for text in texts[1:]]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PROSE * 5, "prose"),
        (CODE, "code"),
        (LATEX, "math"),
        (PROSE * 12 + CODE, "prose"),  # a page about code
        (PROSE + CODE * 5, "code"),
        ('{"a": [1, 2],\n "b": {"c": null},\n "d": "e",\n "f": "g"}', "code"),
        ("if so,\nfor now\nreturn to\nthe new house\nand let us go\n", "prose"),
        ("Dies gilt; jenes nicht: (siehe oben)\n" * 9, "prose"),
        ("* eins\n* zwei\n# drei\n", "prose"),
        ("# a comment of a licence\n" * 20 + "x = 1\n", "prose"),  # comments alone say nothing
        ("Read http://example.org/a_b?c=d&e=f_g. It helps.\n" * 9, "prose"),
        ("我们用 numpy 来计算。结果保存在文件里，然后画图。\n" * 9, "prose"),
        ("It costs $5 and then $7, or between $10 and $20.\n" * 9, "prose"),
        ("{;}\n" * 99, "prose"),  # no words at all
        ("$$" * 99, "prose"),
        ("/*! a licence */" + "function f(a,b){return a.c(b)&&d[e];}" * 60, "code"),
        ("", "prose"),
    ],
)
def test_a_text_is_called_what_most_of_it_is(text, kind):
    assert kinds(pa.array([text], pa.large_string())) == [kind]


def test_real_code_and_mathematics_are_told_from_real_prose():
    if not (DATA / "math").exists():
        pytest.skip("the real data is not here")
    with pa.CompressedInputStream(str(DATA / "math" / "math_text.jsonl.zst"), "zstd") as file:
        rows = [json.loads(line) for line in file.read().splitlines()]
    latex = [row["text"] for row in rows if row["source"] == "OpenLogicProject/OpenLogic"]
    root = Path(__file__).parents[2]
    code = [
        path.read_text() for path in sorted(root.glob("*/**/*.py")) if ".venv" not in path.parts
    ]
    code = [text for text in code if len(text) > 200]
    path = sorted((DATA / "multilingual").glob("*.parquet"))[0]
    table = pq.read_table(path, columns=["text", "source"])
    chosen = ("eltec", "gnome_docs", "oldi_seed", "aozora", "mozilla_www", "wesnoth")
    prose = [row["text"] for row in table.to_pylist() if row["source"] in chosen][:1500]

    def share(texts, *names):
        called = kinds(pa.array(texts, pa.large_string()))
        return sum(name in names for name in called) / len(called)

    assert len(latex) > 500 and len(code) > 30 and len(prose) == 1500
    assert share(latex, "math") > 0.9
    assert share(code, "code") > 0.9
    assert share(prose, "prose") > 0.995
