"""C4's rules, and the native ones against plain Python's."""

import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import _native
from curation.c4 import C4Filter
from curation.document import SCHEMA, make_batch

GOOD = [
    "This line is fine.",
    "So is this one!",
    "And is this?",
    'He said "yes, it is"',
    "Good it is'",
]


def run(step, *texts, **more):
    batch = make_batch({"text": t, "source": "s", "domain": "web", **more} for t in texts)
    out = step(batch)
    assert out.schema.names == [*SCHEMA.names, "reject"]
    assert out.schema.remove(len(SCHEMA)) == SCHEMA
    same = [n for n in SCHEMA.names if n not in ("text", "spans")]
    assert out.select(same) == batch.select(same)
    return list(zip(out["text"].to_pylist(), out["reject"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    "line",
    [
        "Home | About | Contact",
        "Read on and on and on...",
        "Too short.",
        "x" * 1001 + " is a word.",
        "Please turn on JavaScript to go on.",
        "We have a new Cookie Policy for you.",
        "This site USES COOKIES all day.",
        "",
    ],
)
def test_a_line_that_is_no_sentence_is_dropped(line):
    text = "\n".join([*GOOD, line, "The last one is fine."])
    kept = "\n".join([*GOOD, "The last one is fine."])
    assert run(C4Filter(), text) == [(kept, None)]


def test_lines_are_stripped_and_citations_taken_out():
    text = "\r\n".join(
        ["  A fact[1], and [23] one more[].", "It is[edit] so[citation needed].", *GOOD]
    )
    kept = "\n".join(["A fact, and  one more.", "It is so.", *GOOD])
    assert run(C4Filter(), text) == [(kept, None)]
    assert run(C4Filter(citations=False), text)[0][0].startswith("A fact[1], and")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("Lorem Ipsum dolor sit amet.", "lorem_ipsum"),
        ("if (x) { return it. }.", "curly_bracket"),
    ],
)
def test_some_lines_reject_the_page_which_keeps_its_text(line, rule):
    text = "\n".join([*GOOD, f"  {line}"])
    assert run(C4Filter(), text) == [(text, f"c4:{rule}")]
    assert run(C4Filter(**{rule: False}), text)[0][1] is None
    dropped = text.rstrip(".")  # a line that is dropped anyway is not looked at
    assert run(C4Filter(), dropped) == [("\n".join(GOOD), None)]


def test_a_page_of_few_sentences_is_rejected():
    four = "One is here. Two is here! Dr. Who is three? Four is...\nmenu"
    assert run(C4Filter(), four + " gone", four.replace("...", "."))[0][1] == "c4:min_sentences"
    assert run(C4Filter(min_sentences=4), four.replace("...", ".")) == [
        ("One is here. Two is here! Dr. Who is three? Four is.", None)
    ]
    assert run(C4Filter(min_sentences=None), "")[0] == ("", None)


def test_other_languages_and_code_are_asked_for_less():
    chinese = "这是第一句。这是第二句！这是第三句？这是第四句。这是第五句。"
    assert run(C4Filter(), chinese) == [(chinese, "c4:min_sentences")]
    assert run(C4Filter(), chinese, language="zho_Hans") == [(chinese, None)]
    code = "def f(x):\r\n    return {x}\n\n"
    out = C4Filter()(make_batch([{"text": code, "source": "s", "domain": "code"}]))
    assert out["text"].to_pylist() == [code] and out["reject"].to_pylist() == [None]


def test_spans_are_dropped_where_the_text_is_edited():
    spans = [{"start": 0, "end": 4, "kind": "file", "path": "a"}]
    texts = "\n".join(GOOD), "\n".join([*GOOD, "menu"])
    batch = make_batch(
        {"text": t, "source": "s", "domain": "web", "spans": spans, "uri": t} for t in texts
    )
    assert C4Filter()(batch)["spans"].to_pylist() == [spans, None]


def test_an_empty_batch_gives_an_empty_batch():
    assert run(C4Filter()) == []


def plain(text, sentences):
    """The rules in datatrove's order, for lines of at least two words, none over six characters."""
    kept, found = [], 0
    for line in text.splitlines():
        line = line.strip()
        words = line.split()
        if any(len(word) > 6 for word in words):
            continue
        line = re.sub(r"\[[0-9]*\]|\[edit\]|\[citation needed\]", "", line)
        if not line.endswith((".", "?", "!", '"', "'")) or line.endswith("..."):
            continue
        if len(words) < 2:
            continue
        if "lorem ipsum" in line.lower():
            return text, 1
        if "{" in line:
            return text, 2
        found += sentences(line)
        kept.append(line)
    return (text, 3) if found < 3 else ("\n".join(kept).strip(), 0)


def sentences(line):
    return int(_native.count_sentences(pa.array([line], pa.large_string()))[0])


PIECES = st.sampled_from(
    ["a", "word ", " ", "\n", "\r\n", "\u2028", ".", "...", "! ", "[1]", "[edit]", "[", "]", "{",
     "LOREM ", "ipsum", "\xa0", "é", "toolong", '"']
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=40).map("".join), max_size=3))
def test_the_texts_are_those_of_the_plain_way(texts):
    limits = [1, 1, 1, 0, 1, 0, 2, 6, 3]
    offsets, data, verdicts = _native.c4(
        pa.array(texts, pa.large_string()), _numbers(limits * len(texts))
    )
    for i, text in enumerate(texts):
        found = data[offsets[i] : offsets[i + 1]].decode()
        assert (found, verdicts[i]) == plain(text, sentences)


def _numbers(values):
    return pa.array(values, pa.int64()).to_numpy()
