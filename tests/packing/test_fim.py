"""Fill-in-the-middle: where holes are, how they are written, and that nothing is lost."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.document import make_batch
from packing import Fim, encode_documents
from packing.fim import (
    FORMATS,
    MOST_LINES,
    STRATEGIES,
    choose_hole,
    rewrite,
    undo,
    whole_grapheme,
)

TEXT = "def add(a, b):\n    return a + b\n\n\ndef main():\n    print(add(1, 2))  # 漢字 ไทย\n"
NASTY = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("ab\r\n\t éé\u0301\u200d👩🏽🚀🇦🇹각ᄀ가ก็ิ<｜fim▁hole｜>\u0600\U000110bd"),
    ),
    min_size=1,
    max_size=80,
)


def lengths_of(encoder):
    return np.array([len(encoder.token_bytes(i)) for i in range(encoder.vocab_size)])


def rewritten(encoder, text, fim, name="id", seed=0, spans=()):
    plain = np.array(encoder.encode(text), np.int32)
    lengths = lengths_of(encoder)
    return rewrite(text, plain, name, encoder.encode, encoder.special, lengths, seed, fim, spans)


@st.composite
def documents(draw):
    """Text with spans of files and nodes in it, as a project's document has them."""
    text = draw(NASTY)
    borders = sorted(draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=6)))
    at = [len(text[:place].encode()) for place in borders]
    kinds = st.sampled_from(["file", "body", "arguments"])
    spans = [{"start": a, "end": b, "kind": draw(kinds), "path": "p"} for a, b in pairwise(at)]
    return text, spans


@settings(deadline=None, max_examples=400)
@given(
    documents(), st.integers(5, 60), st.integers(0, 9), st.sampled_from(FORMATS),
    st.sampled_from(STRATEGIES),
)  # fmt: skip
def test_a_rewritten_document_can_be_undone_and_keeps_to_its_span(
    encoder, document, span_tokens, seed, form, strategy
):
    text, spans = document
    fim = Fim({"code": 1}, {form: 1}, {strategy: 1}, span_tokens)
    done = rewritten(encoder, text, fim, seed=seed, spans=spans)
    assert done.length <= span_tokens and done.format == form
    back = undo(done.tokens, done.start, done.length, encoder.decode_bytes, encoder.special)
    assert back.decode() == text
    with_begin = [encoder.special["bos"], *done.tokens]
    again = undo(with_begin, done.start + 1, done.length, encoder.decode_bytes, encoder.special)
    assert again == back
    assert 0 <= done.changed <= done.inside == done.length - 4


@settings(max_examples=400)
@given(documents(), st.integers(1, 90), st.sampled_from(STRATEGIES), st.integers(0, 9))
def test_no_cut_goes_through_a_grapheme(document, window, strategy, seed):
    text, spans = document
    hole, _ = choose_hole(seed, "id", text, window, strategy, spans)
    assert 0 <= hole.start <= hole.first <= hole.last <= hole.end <= len(text)
    borders = {0, *(found.end() for found in regex.finditer(r"\X", text))}
    assert {hole.start, hole.first, hole.last, hole.end} <= borders


@given(NASTY, st.integers(0, 90))
def test_a_place_moves_back_to_its_graphemes_beginning(text, at):
    at = min(at, len(text))
    borders = [0, *(found.end() for found in regex.finditer(r"\X", text))]
    assert whole_grapheme(text, at) == max(b for b in borders if b <= at)


def test_the_two_formats(encoder):
    special = encoder.special
    for form in FORMATS:
        done = rewritten(encoder, TEXT, Fim({}, {form: 1}), name="x")
        hole, _ = choose_hole(0, "x", TEXT, len(TEXT))
        prefix, middle, suffix = (
            encoder.encode(TEXT[a:b])
            for a, b in ((0, hole.first), (hole.first, hole.last), (hole.last, len(TEXT)))
        )
        begin, gap, end, eos = (special[r] for r in ("fim_begin", "fim_hole", "fim_end", "eos"))
        assert done.tokens == (
            [begin, *prefix, gap, *suffix, end, *middle, eos]
            if form == "psm"
            else [begin, gap, *suffix, end, *prefix, *middle, eos]
        )
        assert (done.start, done.length) == (0, len(done.tokens))


def test_cuts_are_uniform_over_the_window():
    text = "x" * 100
    holes = [choose_hole(0, str(i), text, 100)[0] for i in range(4000)]
    # The mean of the smaller of two uniform cuts is a third of the way, of the larger two thirds.
    assert abs(np.mean([h.first for h in holes]) - 100 / 3) < 2
    assert abs(np.mean([h.last for h in holes]) - 200 / 3) < 2


def test_lines_are_whole():
    text = "".join(f"line {n}\n" for n in range(40))
    counts = set()
    for n in range(300):
        hole, strategy = choose_hole(0, str(n), text, len(text), "lines")
        assert strategy == "lines"
        middle = text[hole.first : hole.last]
        assert middle.endswith("\n") and (hole.first == 0 or text[hole.first - 1] == "\n")
        counts.add(middle.count("\n"))
    assert counts == set(range(1, MOST_LINES + 1))


def project():
    files = {
        "a.py": "A = 1\n" * 5,
        "b.py": "def f(x):\n    return g(x)\n",
        "c.py": "y = 2\nz = 3\n",
    }
    text, spans, at = "", [], 0
    for path, content in files.items():
        start = at + len(f"# {path}\n")
        spans.append({"start": start, "end": start + len(content), "kind": "file", "path": path})
        text += f"# {path}\n{content}\n"
        at = len(text)
    node = text.index("return")
    spans.append({"start": node, "end": node + len("return g(x)"), "kind": "body", "path": "b.py"})
    return text, spans


def test_syntax_holes_are_nodes_and_project_holes_lie_behind_what_their_file_needs():
    text, spans = project()
    first = text.index("# b.py")
    middles = set()
    for n in range(200):
        hole, strategy = choose_hole(0, str(n), text, len(text), "syntax", spans)
        assert (strategy, text[hole.first : hole.last]) == ("syntax", "return g(x)")
        hole, strategy = choose_hole(0, str(n), text, len(text), "project", spans)
        assert strategy == "project" and hole.start == 0 and hole.first > first
        inside = [s for s in spans[1:3] if s["start"] <= hole.first and hole.end <= s["end"]]
        assert len(inside) == 1  # the suffix ends with the file
        middles.add(text[hole.first : hole.last])
    assert "return g(x)" in middles and "z = 3\n" in middles


def test_nodes_of_all_sizes_are_holes_as_often():
    sizes = [10] * 50 + [100] * 5 + [1000]
    ends = np.cumsum(sizes).tolist()
    spans = [
        {"start": end - size, "end": end, "kind": "body", "path": "a"}
        for size, end in zip(sizes, ends, strict=True)
    ]
    found = Counter()
    for n in range(3000):
        hole, _ = choose_hole(0, str(n), "x" * ends[-1], ends[-1], "syntax", spans, (8, 1024))
        found[hole.last - hole.first] += 1
    # Nearest in ratio to 8, 16 | 32, 64, 128, 256 | 512, 1024.
    assert found.keys() == {10, 100, 1000}
    assert np.allclose(
        [found[size] / 3000 for size in (10, 100, 1000)], [2 / 8, 4 / 8, 2 / 8], atol=0.03
    )
    starts = {
        choose_hole(0, str(n), "x" * ends[-1], ends[-1], "syntax", spans, (8, 8))[0].first
        for n in range(1000)
    }
    assert len(starts) == 50  # each of those as near
    two = [{"start": 0, "end": 4, "kind": "body", "path": "a"},
           {"start": 4, "end": 20, "kind": "body", "path": "a"}]  # fmt: skip
    cuts = {choose_hole(0, str(n), "x" * 20, 20, "syntax", two, (8, 8))[0].first for n in range(99)}
    assert cuts == {0, 4}


def test_what_a_document_cannot_have_is_replaced():
    assert choose_hole(0, "i", "one line", 8, "project")[1] == "characters"
    assert choose_hole(0, "i", "two\nlines", 9, "syntax")[1] == "lines"
    text, spans = project()
    assert choose_hole(0, "i", text, 99, "project", spans[:1])[1] == "lines"


def test_a_middle_that_is_too_long_is_shortened():
    text = "x" * 50 + "\n" + "y" * 500
    hole, _ = choose_hole(0, "id", text, 20, "lines")
    assert hole.end - hole.start <= 20 and hole.last - hole.first <= 20


def test_rates_by_language_formats_and_strategies_by_share(encoder):
    fim = Fim(
        {"code": 0.2, "code/python": 0.8}, {"psm": 1, "spm": 1}, {"lines": 3, "characters": 1}
    )
    rows = [
        {"text": TEXT + str(n), "source": "s", "domain": domain, "language": language}
        for n in range(400)
        for domain, language in (("code", "python"), ("code", "rust"), ("web", "python"))
    ]
    seen = []
    _, table = encode_documents(
        [make_batch(rows)], encoder, fim=fim, bos=False, seed=1, told=seen.append
    )
    counts = {}
    for row in table.to_pylist():
        key = row["domain"], row["language"]
        counts[key] = counts.get(key, 0) + (row["atomic"] is not None)
    assert 280 <= counts["code", "python"] <= 360
    assert 50 <= counts["code", "rust"] <= 115
    assert counts["web", "python"] == 0
    spm = sum(done.format == "spm" for done in seen) / len(seen)
    lines = sum(done.strategy == "lines" for done in seen) / len(seen)
    assert 0.4 < spm < 0.6 and 0.65 < lines < 0.85


def test_what_the_cuts_change_is_counted(encoder):
    """Against a slow count of the tokens that are not where the unbroken text has one."""
    for n in range(50):
        done = rewritten(encoder, TEXT, Fim({}), name=str(n))
        places, at = set(), 0
        for token in encoder.encode(TEXT):
            size = len(encoder.token_bytes(token))
            places.add((at, at + size))
            at += size
        hole, _ = choose_hole(0, str(n), TEXT, len(TEXT))
        changed = 0
        for a, b in ((0, hole.first), (hole.first, hole.last), (hole.last, len(TEXT))):
            at = len(TEXT[:a].encode())
            for token in encoder.encode(TEXT[a:b]):
                size = len(encoder.token_bytes(token))
                changed += (at, at + size) not in places
                at += size
        assert done.changed == changed


def test_text_that_spells_the_tokens_stays_text(encoder):
    text = "<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>c"
    done = rewritten(encoder, text, Fim({}))
    begin = encoder.special["fim_begin"]
    assert done.tokens.count(begin) == 1
    back = undo(done.tokens, done.start, done.length, encoder.decode_bytes, encoder.special)
    assert back.decode() == text


def test_wrong_settings_and_spans_are_refused(encoder):
    with pytest.raises(ValueError, match=r"fim\.holes: trees: 1: expected shares of characters"):
        Fim(holes={"trees": 1})
    with pytest.raises(ValueError, match="add up to nothing"):
        Fim(formats={"psm": 0})
    with pytest.raises(ValueError, match=r"fim\.node_bytes: 9, 8: expected the least size"):
        Fim(node_bytes=(9, 8))
    with pytest.raises(ValueError, match="expected the least size"):
        Fim(node_bytes=(1.5, 8))
    with pytest.raises(ValueError, match="expected more than 4"):
        rewritten(encoder, TEXT, Fim({}, span_tokens=4))
    with pytest.raises(ValueError, match="no fill-in-the-middle span"):
        undo(encoder.encode(TEXT), 0, 5, encoder.decode_bytes, encoder.special)


@settings(deadline=None)
@given(
    st.text(st.sampled_from("aé漢\n \u0301👩"), max_size=30),
    st.lists(
        st.tuples(st.integers(-5, 100), st.integers(-5, 100), st.sampled_from(["file", "body"])),
        max_size=6,
    ),
    st.integers(0, 40),
    st.sampled_from(["characters", "lines", "syntax", "project"]),
)
def test_spans_of_another_text_make_no_hole_that_is_none(text, places, window, strategy):
    spans = [{"start": a, "end": b, "kind": kind, "path": "a"} for a, b, kind in places]
    hole, _ = choose_hole(0, "id", text, window, strategy, spans)
    assert 0 <= hole.start <= hole.first <= hole.last <= hole.end <= len(text)
