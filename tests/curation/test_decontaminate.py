"""Decontamination: what is found, what is not, against a twin of sets of tuples of words."""

import gzip
import json
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import _native
from curation.decontaminate import DecontaminationFilter
from curation.document import SCHEMA, make_batch
from curation.words import words as plain_words

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
QUESTION = (
    "Anna's basket holds 14 ripe pears, and each pear weighs a third of a melon. "
    "How many melons balance the whole basket?"
)
PROSE = "The tide was low and the boats lay on the sand as if they had been forgotten there."
CHINESE = "小明有十四个梨，每个梨的重量是一个西瓜的三分之一，请问几个西瓜才能平衡整个篮子？"


def documents(*texts, **columns):
    return make_batch(
        {"text": t, "source": "s", "domain": "web", "uri": str(i)}
        | {name: values[i] for name, values in columns.items()}
        for i, t in enumerate(texts)
    )


def folder(tmp_path, **benchmarks):
    for name, rows in benchmarks.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text, "utf-8")
    return str(tmp_path)


def check(step, *texts, **columns):
    batch = documents(*texts, **columns)
    out = step(batch)
    assert out.schema.names == [*SCHEMA.names, "reject"]
    assert out.drop_columns(["reject", "metadata"]) == batch.drop_columns(["metadata"])
    return out


def words(text):
    return [word.replace("ς", "σ") for word in plain_words(text)]


WORDS = st.text(
    st.sampled_from("aB9_ é́ÀßΣσςİıКй漢字。ไทย가नमस्ते\u0300\u20dd١,.-\n\x85\u2028😀𝒳𠀀\ufffd"),
    max_size=30,
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(WORDS, st.text(max_size=20)))
def test_the_words_are_those_of_the_other_steps_but_for_the_final_sigma(text):
    assert _native.split_words(text) == words(text)


FEW = st.lists(st.sampled_from(["a", "B", "c.", "d\n", "漢", "é "]), max_size=14).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(FEW, max_size=6),
    st.lists(FEW, max_size=4),
    st.integers(3, 5),
    st.integers(1, 3),
    st.sampled_from([2**64 - 1, 0b111, 0]),
)
def test_the_index_finds_what_sets_of_words_in_common_find(passages, texts, ngram, most, mask):
    # With a mask, nearly all hashes are equal: only the words themselves can tell.
    owners = np.arange(len(passages), dtype=np.uint32)
    array = pa.array(passages, pa.large_string())
    index = _native.NgramIndex(array, owners, ngram, most, mask=mask)
    grams = {}
    for owner, passage in enumerate(passages):
        split = words(passage)
        size = min(ngram, len(split))
        for at in range(len(split) - size + 1 if size else 0):
            grams.setdefault(tuple(split[at : at + size]), []).append(owner)
    grams = {gram: owner[0] for gram, owner in grams.items() if len(set(owner)) <= most}
    assert len(index) == len(grams)
    rows, entries, starts, ends = index.find(pa.array(texts, pa.large_string()), 1000)
    for row, text in enumerate(texts):
        split = words(text)
        expected = {
            (owner, " ".join(gram))
            for gram, owner in grams.items()
            for at in range(len(split))
            if tuple(split[at : at + len(gram)]) == gram
        }
        mine = rows == row
        assert set(entries[mine].tolist()) == {owner for owner, _ in expected}
        data = text.encode()
        for entry, start, end in zip(entries[mine], starts[mine], ends[mine], strict=True):
            shown = " ".join(words(data[start:end].decode()))
            assert any(owner == entry and gram in shown for owner, gram in expected)


def test_a_planted_question_is_found_across_case_punctuation_and_line_breaks(tmp_path):
    step = DecontaminationFilter(folder(tmp_path, pears=[{"task_id": 7, "question": QUESTION}]))
    disguised = QUESTION.upper().replace(" ", "\n  * ").replace(",", " —").replace("'", "’")
    out = check(step, f"{PROSE} {QUESTION} {PROSE}", PROSE, f"{PROSE}\n{disguised}\n{PROSE}")
    assert out["reject"].to_pylist() == ["decontaminate:pears", None, "decontaminate:pears"]
    first, second, third = out["metadata"].to_pylist()
    report = {"benchmark": "pears", "entry": "7", "text": QUESTION.rstrip("?")}
    assert json.loads(first) == {"contaminated": [report]}
    assert second is None
    assert json.loads(third)["contaminated"][0]["entry"] == "7"


def test_nine_words_in_common_are_not_enough_and_ten_are(tmp_path):
    step = DecontaminationFilter(folder(tmp_path, pears=[{"question": QUESTION}]))
    common = words(QUESTION)
    for at in range(len(common) - 10):
        nine, ten = (" ".join(["zebra", *common[at : at + n], "zebra"]) for n in (9, 10))
        assert check(step, nine, ten)["reject"].to_pylist() == [None, "decontaminate:pears"]
    changed = QUESTION.replace("pears", "plums").replace("third of", "third part").split("balance")
    assert check(step, changed[0])["reject"].to_pylist() == [None]


def test_chinese_is_compared_letter_by_letter(tmp_path):
    step = DecontaminationFilter(folder(tmp_path, 梨=[{"question": CHINESE}]))
    letters = "".join(words(CHINESE))
    out = check(step, f"他说{letters[5:15]}了", f"他说{letters[5:14]}了", f"问题：{CHINESE}")
    assert out["reject"].to_pylist() == ["decontaminate:梨", None, "decontaminate:梨"]
    assert json.loads(out["metadata"][0].as_py())["contaminated"][0]["entry"] == "0"


def test_short_entries_match_as_a_whole_and_shorter_ones_and_labels_not_at_all(tmp_path):
    rows = [
        {"question": "Who paints the blue horses?", "subject": "modern art history"},
        {"question": "Name the seventh moon", "subject": "modern art history"},
        {"question": "Why me?", "subject": "modern art history"},
        {"question": QUESTION, "hint": "count the green melons"},
    ]
    step = DecontaminationFilter(folder(tmp_path, short=rows))
    texts = (
        "he asked who paints the blue horses, too", "who paints the blue", "modern art history",
        "Why me?", "count the green melons", "THE name: the seventh Moon", "name the seventh moons",
    )  # fmt: skip
    rejected = [reason is not None for reason in check(step, *texts)["reject"].to_pylist()]
    assert rejected == [True, False, False, False, False, True, False]
    assert step.index().counts == {"short": {"entries": 4, "whole": 2, "ignored": 1}}


def test_named_fields_alone_are_text(tmp_path):
    rows = [{"question": {"stem": QUESTION}, "answer": PROSE, "choices": ["one red", "two blue"]}]
    where = folder(tmp_path, pears=rows)
    assert check(DecontaminationFilter(where), PROSE, QUESTION)["reject"].null_count == 0
    for fields in (("question",), ("question.stem",)):
        step = DecontaminationFilter(where, fields=fields)
        assert check(step, PROSE, QUESTION)["reject"].to_pylist() == [None, "decontaminate:pears"]
    choices = DecontaminationFilter(where, fields=("choices",))
    assert check(choices, "One red two blue", "red two blue")["reject"].null_count == 1
    with pytest.raises(ValueError, match=r"pears.jsonl: no entry has a text in the fields prompt"):
        DecontaminationFilter(where, fields=("prompt",))(documents(PROSE))


def test_runs_of_words_that_many_entries_share_can_be_left_out(tmp_path):
    told = "Answer the question below with the letter of the one right choice and nothing else."
    rows = [
        {"question": f"{told} {QUESTION.replace('Anna', name)}"} for name in ("Ada", "Bo", "Cy")
    ]
    where = folder(tmp_path, pears=rows)
    assert check(DecontaminationFilter(where), told)["reject"].null_count == 0
    for exclude, kept in ((2, 1), (3, 0)):
        step = DecontaminationFilter(where, exclude=exclude)
        assert check(step, told)["reject"].null_count == kept
        own = f"choice and nothing else. {QUESTION.replace('Anna', 'Bo')}"
        assert check(step, own)["reject"].null_count == 0


def test_every_format_is_read_and_the_first_of_two_benchmarks_is_the_reason(tmp_path):
    rows = [{"id": "x1", "question": QUESTION}]
    (tmp_path / "b.json").write_text(json.dumps({"version": "1", "data": rows}), "utf-8")
    (tmp_path / "c.json").write_text(json.dumps([{"question": PROSE}]), "utf-8")
    (tmp_path / "sub").mkdir()
    pq.write_table(pa.Table.from_pylist([{"q": CHINESE}]), tmp_path / "sub" / "d.parquet")
    line = json.dumps({"q": "one two three four five six seven eight nine ten"}) + "\n\n"
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    (tmp_path / "README.md").write_text("not a benchmark")
    (tmp_path / ".cache").write_text("not a benchmark")
    step = DecontaminationFilter(str(tmp_path))
    assert [path.name for path in step.files()] == ["a.jsonl.gz", "b.json", "c.json", "d.parquet"]
    both = f"{PROSE}\n{QUESTION}"
    out = check(step, QUESTION, PROSE, CHINESE, line, both, metadata=[None] * 4 + ['{"k": 1}'])
    reasons = [reason.removeprefix("decontaminate:") for reason in out["reject"].to_pylist()]
    assert reasons == ["b", "c", "sub/d", "a", "c"]
    report = json.loads(out["metadata"][4].as_py())
    assert report["k"] == 1
    assert [(r["benchmark"], r["entry"]) for r in report["contaminated"]] == [
        ("c", "0"),
        ("b", "x1"),
    ]


def test_at_most_four_entries_are_reported(tmp_path):
    rows = [{"q": " ".join(f"w{i}x{j}" for j in range(12))} for i in range(9)]
    step = DecontaminationFilter(folder(tmp_path, many=rows))
    out = check(step, "\n".join(row["q"] for row in rows))
    report = json.loads(out["metadata"][0].as_py())["contaminated"]
    assert [r["entry"] for r in report] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"q": "x"}\n{"q": \n', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl, line 1: expected an object, found list"),
        ("a.json", '{"q": "x"}', r"a\.json: expected a list of objects"),
        ("a.json", "{", r"a\.json: cannot be read"),
        ("a.parquet", "PAR1", r"a\.parquet: cannot be read"),
        ("a.csv", "q\nx", r"a\.csv: not a benchmark that can be read, expected one of \.jsonl"),
        ("README.md", "", r"has no file of \.jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        DecontaminationFilter(str(tmp_path))(documents("x"))


def test_settings_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        DecontaminationFilter(str(tmp_path / "none"))
    where = folder(tmp_path, a=[{"q": QUESTION}])
    with pytest.raises(ValueError, match="ngram: expected at least 3 words, found 2"):
        DecontaminationFilter(where, ngram=2)
    with pytest.raises(ValueError, match="exclude: expected at least 1 entry, found 0"):
        DecontaminationFilter(where, exclude=0)


def test_a_changed_file_changes_the_fingerprint_and_the_result(tmp_path):
    step = DecontaminationFilter(folder(tmp_path, a=[{"q": QUESTION}]))
    before = step.fingerprint()
    assert check(step, QUESTION, PROSE)["reject"].to_pylist() == ["decontaminate:a", None]
    (tmp_path / "README.md").write_text("says nothing to the step")
    os.utime(tmp_path / "a.jsonl", (1, 1))
    assert step.fingerprint() == before
    folder(tmp_path, a=[{"q": PROSE}])
    changed = step.fingerprint()
    assert changed != before
    assert check(step, QUESTION, PROSE)["reject"].to_pylist() == [None, "decontaminate:a"]
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    assert step.fingerprint() not in (before, changed)


def test_real_benchmarks_are_found_whole_and_problems_like_them_seldom():
    where = DATA / "benchmarks"
    if not where.is_dir():
        pytest.skip(f"no {where}")
    step = DecontaminationFilter(str(where))
    tests = [json.loads(line) for line in (where / "gsm8k-test.jsonl").open(encoding="utf-8")]
    noise = random.Random(5)
    planted = [f"{PROSE}\n{row['question'].upper()}\n{PROSE}" for row in noise.sample(tests, 200)]
    assert set(check(step, *planted)["reject"].to_pylist()) == {"decontaminate:gsm8k-test"}
    lines = (DATA / "math" / "gsm8k-train.jsonl").open(encoding="utf-8")
    train = [row["question"] + "\n" + row["answer"] for row in map(json.loads, lines)]
    found = Counter(check(step, *train)["reject"].to_pylist())
    # Of 7,473 problems of the same makers, some share a sentence with one of the test.
    assert 50 < found["decontaminate:gsm8k-test"] < 250
    assert found[None] > 7200
