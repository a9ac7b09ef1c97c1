"""FineWeb's filter: its rules, and the native measures against plain Python's."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import _native
from curation.document import SCHEMA, make_batch
from curation.fineweb import FineWebFilter

LINES = [f"This is line number {i} of a page, and it says something else." for i in range(40)]
PAGE = "\n".join(LINES)


def reasons(step, *texts, language=None):
    batch = make_batch(
        {"text": t, "source": "s", "domain": "web", "language": language, "uri": str(i)}
        for i, t in enumerate(texts)
    )
    out = step(batch)
    assert out.schema.names == [*SCHEMA.names, "reject"]
    assert out.drop_columns("reject") == batch
    return out["reject"].to_pylist()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\n \t", "empty"),
        (PAGE.replace(".", ""), "min_punctuated_lines"),
        (PAGE.replace(".", ". "), "min_punctuated_lines"),  # with a space after it
        (PAGE + "\nOne more.\n" * 1 + "".join(f"{i} short.\n" for i in range(200)),
         "max_short_lines"),
        (PAGE + ("\n" + LINES[0]) * 8, "max_duplicate_line_characters"),
        ("\n\n\n\n\n\n\n\n".join(LINES), "max_line_breaks"),
    ],
)  # fmt: skip
def test_pages_of_lists_are_rejected_by_the_rule_that_sees_it(text, reason):
    assert reasons(FineWebFilter(), PAGE, text) == [None, f"fineweb:{reason}"]


def test_a_line_may_be_called_short_at_any_length():
    assert reasons(FineWebFilter(short_line=80), PAGE) == ["fineweb:max_short_lines"]
    with pytest.raises(ValueError, match="short_line: expected characters"):
        FineWebFilter(short_line=-1)


def test_sentences_end_in_other_signs_in_other_scripts():
    for sign, language in (("。", "zho_Hans"), ("।", "hin_Deva"), ("؟", "arb_Arab")):
        text = "\n".join(f"字ابक{i}" * 9 + sign for i in range(20))
        assert reasons(FineWebFilter(), text, language=language) == [None]


def plain(text, words):
    lines = [line for line in text.split("\n") if line.strip()]
    ended = sum(line.endswith((".", "!", "?", "。", "।", "؟")) for line in lines)
    again = sum(len(line) for i, line in enumerate(lines) if line in lines[:i])
    return [
        ended / len(lines),
        sum(len(line) <= 5 for line in lines) / len(lines),
        again / len(text.replace("\n", "")),
        text.count("\n") / len(words),
    ]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab .\n\r!。।؟é\u2028-😀", max_size=80))
def test_the_measures_are_those_of_the_plain_way(text):
    words = text.split()
    spans, at, data = [], 0, text.encode()
    for word in map(str.encode, words):
        at = data.index(word, at)
        spans.append((at, at + len(word)))
        at += len(word)
    given_words = np.array([0, len(spans)]), np.array(spans, np.uint32).reshape(-1, 2)
    measured = _native.fineweb(pa.array([text], pa.large_string()), 5, given_words)[0].tolist()
    if text.strip():
        assert measured == plain(text, words)
    else:
        assert np.isnan(measured[:2]).all()
