"""The round that removes paragraphs the corpus has before."""

import random
import re
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from curation.document import make_batch
from curation.paragraphs import ParagraphDedup, normal, split

MEMORY = 64 << 20


def batch_of(texts, spans=None):
    spans = spans or [None] * len(texts)
    return make_batch(
        {"text": text, "source": "s", "domain": "web", "uri": str(i), "spans": span}
        for i, (text, span) in enumerate(zip(texts, spans, strict=True))
    )


def run(config, batches, folder, memory=MEMORY):
    """Sign each batch to a file of its own, merge, apply to each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, first, done = [], 0, []
    for number, batch in enumerate(batches):
        paths.append(folder / f"{number}.parquet")
        table = config.sign(batch)
        assert len(table) == len(batch)
        pq.write_table(table, paths[-1], row_group_size=3)
    config.merge(paths, folder / "out", memory)
    for batch in batches:
        done.append(config.apply(batch, folder / "out" / "decisions.parquet", first))
        first += len(batch)
    return pa.Table.from_batches(done)


def test_a_paragraph_stays_where_the_corpus_has_it_first(tmp_path):
    notice = "Copyright the authors,  all rights reserved"
    texts = [
        f"An essay on mills and water.\n\n{notice}\n",
        "Nothing here is said twice.",
        f"{notice}\n \n\tAnother essay, on wind.\n\nIts end, at last.",
        f"A third essay, on steam.\n\n\n{notice.replace('  ', chr(10))}",
        f"A third essay, on steam.\n\nIts second part.\n\n{notice}\n\nA third essay, on steam.",
    ]
    out = run(ParagraphDedup(min_chars=20, min_left=10), [batch_of(texts)], tmp_path)
    assert out["text"].to_pylist() == [
        texts[0],
        texts[1],
        "\tAnother essay, on wind.\n\nIts end, at last.",
        "A third essay, on steam.",
        "Its second part.",
    ]
    assert out["reject"].null_count == 5
    assert out.drop_columns(["text", "reject"]) == pa.table(batch_of(texts)).drop_columns("text")


def test_a_document_with_nothing_left_is_rejected_with_its_text(tmp_path):
    text = "one and the same paragraph\n\nand a second one as well"
    texts = [text, text, f"short\n\n{text}", f"{text}\n\nwith enough that is its own", "tiny"]
    out = run(ParagraphDedup(min_chars=10, min_left=15), [batch_of(texts)], tmp_path)
    nothing = "paragraphs:nothing_left"
    assert out["reject"].to_pylist() == [None, nothing, nothing, None, None]
    assert out["text"].to_pylist() == [*texts[:3], "with enough that is its own", "tiny"]


def test_lines_can_be_the_unit(tmp_path):
    texts = ["{\n  int count = 0;\n}\n", "x\n  int  count = 0;\ny\n", "int count = 0;\n"]
    config = ParagraphDedup(unit="line", min_chars=5, min_left=1)
    out = run(config, [batch_of(texts)], tmp_path)
    assert out["text"].to_pylist() == [texts[0], "x\ny\n", texts[2]]
    assert out["reject"].to_pylist() == [None, None, "paragraphs:nothing_left"]


def test_spans_move_with_their_text_or_go_with_it(tmp_path):
    head, body, tail = "é repeated, long enough", "def ä(): pass", "ü repeated, long enough"
    text = f"{head}\n\n{body}\n\n{tail}\n\nrest"
    data = text.encode()

    def span(of, path):
        start = data.index(of.encode())
        return {"start": start, "end": start + len(of.encode()), "kind": "node", "path": path}

    spans = [
        span(head, "gone"),
        span(body, "body"),
        span(f"{body}\n\n{tail}", "shrinks"),
        span("rest", "rest"),
        span(text, "all"),
    ]
    batch = batch_of([f"{tail}\n\n{head}", text], [None, spans])
    out = run(ParagraphDedup(min_chars=20, min_left=1), [batch], tmp_path)
    left = out["text"][1].as_py().encode()
    assert left.decode() == f"{body}\n\nrest"
    found = {s["path"]: left[s["start"] : s["end"]].decode() for s in out["spans"][1].as_py()}
    assert found == {
        "body": body,
        "shrinks": f"{body}\n\n",
        "rest": "rest",
        "all": f"{body}\n\nrest",
    }
    assert out["spans"][0].as_py() is None


spaced = st.lists(
    st.sampled_from(
        [
            *"a\u00e9\u6211 \n\r\t\v\x1c\x1f\x85\u00a0\u00a1\u1680\u2003\u2028\u3000\u3001\u1681🙂",
            "\n\n",
        ]
    ),
    max_size=30,
).map("".join)


@settings(deadline=None)
@given(st.lists(spaced, max_size=4), st.sampled_from(["paragraph", "line"]), st.integers(1, 4))
def test_signatures_are_of_the_paragraphs_by_the_plain_definition(texts, unit, least):
    table = ParagraphDedup(unit=unit, min_chars=least).sign(batch_of(texts))
    expected = []
    for text in texts:
        found = [normal(text[start:end]) for start, end in split(text, unit)]
        expected.append([xxh3_128_digest(p.encode()) for p in found if len(p) >= least])
    assert table["paragraphs"].to_pylist() == expected


def oracle(texts, config):
    """Remove by the definition, piece by piece; separators are compared by the tests above."""
    seen, left = set(), []
    for text in texts:
        pieces = re.split(r"\n\s*\n" if config.unit == "paragraph" else "\n", text)
        stay = []
        for piece in pieces:
            normal = " ".join(piece.split())
            if len(normal) < config.min_chars or normal not in seen:
                stay.append(piece)
            if len(normal) >= config.min_chars:
                seen.add(normal)
        left.append((stay, len(stay) < len(pieces)))
    return left


pieces = st.text("ab é", max_size=5)
separated = st.tuples(pieces, st.sampled_from(["\n", "\n\n", "\n \n", "\n\n\n", " "]))
texts = st.lists(
    st.lists(separated, max_size=6).map(lambda parts: "".join(a + b for a, b in parts)), max_size=8
)


@settings(max_examples=80, deadline=None)
@given(texts, st.sampled_from(["paragraph", "line"]), st.data())
@example(["aa\n\naa\n\n", "aa\n\n\n\naa"], "paragraph", None)
def test_what_is_left_is_what_was_not_said_before(tmp_path_factory, texts, unit, data):
    config = ParagraphDedup(unit=unit, min_chars=2, min_left=0)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(texts)), max_size=3))) if data else []
    batch = batch_of(texts)
    batches = [batch.slice(a, b - a) for a, b in pairwise([0, *cuts, len(texts)])]
    out = run(config, batches, tmp_path_factory.mktemp("p"), 4096)
    separator = r"\n\s*\n" if unit == "paragraph" else "\n"
    for old, new, (stay, changed) in zip(
        texts, out["text"].to_pylist(), oracle(texts, config), strict=True
    ):
        if not changed:
            assert new == old
        else:
            kept = [p for p in re.split(separator, new) if p.strip()]
            assert [p.strip("\n") for p in kept] == [p.strip("\n") for p in stay if p.strip()]


def test_a_merge_with_little_memory_decides_as_one_with_much(tmp_path):
    rng = random.Random(5)
    some = [f"paragraph number {i} of those" for i in range(400)]
    texts = ["\n\n".join(rng.choice(some) for _ in range(rng.randrange(30))) for _ in range(300)]
    texts += ["\n\n".join([some[0]] * 2000)]
    config = ParagraphDedup(min_chars=20)
    batch = batch_of(texts)
    much = run(config, [batch], tmp_path / "much")
    little = run(config, [batch.slice(0, 100), batch.slice(100)], tmp_path / "little", 4096)
    assert much == little
    assert much["reject"].null_count < 301
    decisions = tmp_path / "little" / "out" / "decisions.parquet"
    assert pq.read_table(decisions) == pq.read_table(tmp_path / "much" / "out" / decisions.name)
    assert list(decisions.parent.iterdir()) == [decisions]


def test_a_corpus_that_changed_is_refused_and_settings_that_make_no_sense(tmp_path):
    config = ParagraphDedup(min_chars=3, min_left=0)
    batch = batch_of(["same", "same", "other"])
    run(config, [batch], tmp_path)
    with pytest.raises(ValueError, match="sign it again"):
        config.apply(batch.slice(1), tmp_path / "out" / "decisions.parquet", 0)
    with pytest.raises(ValueError, match="unknown unit 'word'"):
        ParagraphDedup(unit="word")
    with pytest.raises(ValueError, match="at least 1"):
        ParagraphDedup(min_chars=0)
    assert run(config, [batch_of([])], tmp_path / "none").num_rows == 0
