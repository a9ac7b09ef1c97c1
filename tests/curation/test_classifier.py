import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import _native
from curation.classifier import (
    Classifier,
    ClassifierFilter,
    ClassifierSettings,
    judge,
    judged_table,
    normalise,
    report_path,
    train_classifier,
)
from curation.document import SCHEMA, make_batch

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SMALL = ClassifierSettings(dim=16, bucket=5000, min_count=1, lr=0.5, held_out=0.2)
FLAGS, LOWER = _native.characters()
LETTER, MARK, NUMBER, SPACE, CONTROL, UNSPACED = (1 << bit for bit in (0, 1, 2, 4, 7, 9))


def cooking(i):
    return f"Stir the soup number {i} slowly, add salt and {i % 7} onions, then serve it warm."


def sailing(i):
    return (
        f"The ship number {i + 5000} left the harbour with {i % 5} masts, and the wind was strong."
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    out = tmp_path_factory.mktemp("classifier") / "food.bin"
    train_classifier(map(cooking, range(300)), map(sailing, range(300)), SMALL, out)
    return out


def twin(text, max_chars):
    """The words of `normalise`, one character at a time."""
    words, last = [], None
    for char in text[:max_chars]:
        kind = FLAGS[ord(char)]
        if kind & (SPACE | CONTROL):
            last = None
            continue
        mark = kind & MARK
        word = mark or (kind & (LETTER | NUMBER) and not kind & UNSPACED)
        now = "word" if word else "letter" if kind & LETTER else "sign"
        char = chr(LOWER[ord(char)])
        if word and (last == "word" or (mark and last == "letter")):
            words[-1] += char
        else:
            words.append(char)
            last = now
    return " ".join(words)


@settings(deadline=None)  # the first call imports
@given(st.text() | st.text("aZ _-ß́İ漢かไท่3\n\0\u3000😀"), st.integers(0, 40))
def test_lines_of_words_are_those_of_the_twin(text, max_chars):
    text = text.encode("utf-8", "replace").decode()
    assert normalise([text], max_chars) == [twin(text, max_chars)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("One,\n two\tTHREE", "one , two three"),
        (r"\frac{a_1}{2}", r"\ frac { a _ 1 } { 2 }"),
        ("__label__1 </s>", "_ _ label _ _ 1 < / s >"),
        ("東京へ行く", "東 京 へ 行 く"),
        ("हिन्दी भाषा", "हिन्दी भाषा"),
        ("ที่", "ที่"),
        ("", ""),
    ],
)
def test_a_text_becomes_a_line_of_words(text, line):
    assert normalise([text], 100) == [line]


def test_the_report_judges_texts_that_were_held_out(model):
    report = json.loads(report_path(model).read_text())
    held, trained = report["held_out"], report["trained"]
    assert sum(held.values()) + sum(trained.values()) == 600
    assert 60 < sum(held.values()) < 180
    half = next(row for row in report["judged"] if row["min_score"] == 0.5)
    assert half["precision"] > 0.95 and half["recall"] > 0.95
    assert len(report["plain_scores"]) == 100
    assert report["plain_scores"] == sorted(report["plain_scores"], reverse=True)


def test_the_model_does_not_depend_on_the_order_of_the_texts(model, tmp_path):
    other = tmp_path / "other.bin"
    train_classifier(
        map(cooking, range(299, -1, -1)), map(sailing, reversed(range(300))), SMALL, other
    )
    assert other.read_bytes() == model.read_bytes()
    assert report_path(other).read_text() == report_path(model).read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.bin", "other.json"]


def test_another_process_with_used_memory_makes_the_same_bytes(model, tmp_path):
    script = (
        "import sys; from pathlib import Path; from curation.classifier import *\n"
        "sys.path.insert(0, sys.argv[2]); import test_classifier as t\n"
        "used = [b'\\xff' * 100_000 for _ in range(2000)]; del used\n"
        "train_classifier(map(t.cooking, range(300)), map(t.sailing, range(300)), t.SMALL,"
        " Path(sys.argv[1]))"
    )
    out = tmp_path / "model.bin"
    command = [sys.executable, "-c", script, str(out), str(Path(__file__).parent)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert out.read_bytes() == model.read_bytes()


def test_another_seed_makes_another_model(model, tmp_path):
    chosen = ClassifierSettings(**{**vars(SMALL), "seed": 1})
    out = tmp_path / "model.bin"
    train_classifier(map(cooking, range(300)), map(sailing, range(300)), chosen, out)
    assert out.read_bytes() != model.read_bytes()


def test_the_filter_scores_every_document_and_rejects_low_ones(model):
    texts = [cooking(1000), sailing(1000), "", "\n"]
    batch = make_batch(
        {"text": text, "source": "s", "domain": "web", "uri": str(i), "metadata": '{"a": 1}'}
        for i, text in enumerate(texts)
    )
    out = ClassifierFilter(str(model), min_score=0.5, key="food")(batch)
    low = "classifier:low_score"
    assert out["reject"].to_pylist() == [None, low, low, low]
    said = [json.loads(value) for value in out["metadata"].to_pylist()]
    assert said[0]["a"] == 1
    assert said[0]["food"] > 0.9 > 0.1 > said[1]["food"]
    assert said[2]["food"] == said[3]["food"] == 0
    assert out.schema.names == [*SCHEMA.names, "reject"]
    assert out["text"] == batch["text"]
    assert ClassifierFilter(str(model))(batch)["reject"].null_count == 4
    assert ClassifierFilter(str(model))(batch.slice(0, 0)).num_rows == 0


def test_a_share_is_kept_of_texts_like_the_plain_ones(model):
    batch = make_batch(
        {"text": sailing(i), "source": "s", "domain": "web", "uri": str(i)}
        for i in range(1000, 1400)
    )
    kept = ClassifierFilter(str(model), keep_share=0.25)(batch)["reject"].null_count
    assert 0.1 < kept / 400 < 0.4
    assert ClassifierFilter(str(model), keep_share=1)(batch)["reject"].null_count > 360


def test_a_model_trained_anew_is_read_anew(model, tmp_path):
    out = tmp_path / "model.bin"
    train_classifier(map(cooking, range(99)), map(sailing, range(99)), SMALL, out)
    batch = make_batch([{"text": cooking(5), "source": "s", "domain": "web"}])
    step = ClassifierFilter(str(out), min_score=0.5)
    assert step(batch)["reject"].null_count == 1
    train_classifier(map(sailing, range(99)), map(cooking, range(99)), SMALL, out)
    assert step(batch)["reject"].null_count == 0


def test_precision_and_recall_are_counted():
    table = judge(np.array([0.9, 0.6, 0.2]), np.array([0.55, 0.1, 0.0, 0.0]))
    row = next(row for row in table if row["min_score"] == 0.5)
    assert row == {
        "min_score": 0.5, "precision": 0.6667, "recall": 0.6667, "f1": 0.6667,
        "passed_negative": 0.25,
    }  # fmt: skip
    assert "0.5     0.6667  0.6667  0.6667             0.25" in judged_table(table)


def test_what_cannot_be_is_named(model, tmp_path):
    with pytest.raises(ValueError, match="no negative texts"):
        train_classifier(["a"], [" ", ""], SMALL, tmp_path / "model.bin")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match=r"none\.bin: no classifier here"):
        Classifier(tmp_path / "none.bin")
    with pytest.raises(ValueError, match="found both"):
        ClassifierFilter(str(model), min_score=0.5, keep_share=0.5)
    with pytest.raises(ValueError, match="keep_share: expected"):
        ClassifierFilter(str(model), keep_share=10)
    with pytest.raises(ValueError, match="held_out: expected"):
        ClassifierSettings(held_out=1)
    with pytest.raises(ArithmeticError, match="set lr lower than"):
        chosen = ClassifierSettings(**{**vars(SMALL), "lr": 1e30})
        train_classifier(map(cooking, range(99)), map(sailing, range(99)), chosen, tmp_path / "m")


def test_real_mathematics_is_told_from_real_prose(tmp_path):
    if not (DATA / "math").exists():
        pytest.skip("the real data is not here")
    with pa.CompressedInputStream(str(DATA / "math" / "math_text.jsonl.zst"), "zstd") as file:
        mathematics = [json.loads(line)["text"] for line in file.read().splitlines()][:800]
    path = sorted((DATA / "multilingual").glob("*.parquet"))[0]
    rows = pq.read_table(path, columns=["text", "language"]).to_pylist()
    english = [row["text"] for row in rows if row["language"] == "eng_Latn"][:800]
    chosen = ClassifierSettings(dim=16, bucket=20_000, max_chars=2000)
    report = train_classifier(mathematics, english, chosen, tmp_path / "math.bin")
    best = max(report["judged"], key=lambda row: row["f1"])
    assert best["f1"] > 0.95


SHIM = """
#include <stdlib.h>
#include <string.h>
int mallopt(int what, int value) { return 1; }  /* knows the call, does nothing */
int posix_memalign(void **block, size_t alignment, size_t size) {
    *block = aligned_alloc(alignment, size);
    return *block ? memset(*block, FOUND, size), 0 : 12;
}
"""


@pytest.mark.parametrize(("found", "expected"), [(None, True), (0x3C, False), (0xFF, None)])
def test_where_memory_is_not_zeroed_it_is_said(tmp_path, found, expected):
    """What fastText finds in memory is nothing, small numbers (bytes 3C) or NaN (bytes FF)."""
    shim = tmp_path / "shim.so"
    environment = dict(os.environ)
    if found is not None:
        (tmp_path / "shim.c").write_text(SHIM)
        compiled = ["cc", "-shared", "-fPIC", f"-DFOUND={found}", "-o", shim, tmp_path / "shim.c"]
        if not shutil.which("cc") or subprocess.run(compiled).returncode:
            pytest.skip("no C compiler here")
        environment["LD_PRELOAD"] = str(shim)
    script = (
        "import sys; from pathlib import Path; from curation.classifier import *\n"
        "sys.path.insert(0, sys.argv[2]); import test_classifier as t\n"
        "train_classifier(map(t.cooking, range(99)), map(t.sailing, range(99)), t.SMALL,"
        " Path(sys.argv[1]))"
    )
    out = tmp_path / "model.bin"
    command = [sys.executable, "-c", script, str(out), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if expected is None:
        assert "overflowed 5 times, perhaps from what it found in memory" in done.stderr
        assert not out.exists()
    else:
        assert done.returncode == 0, done.stderr
        assert json.loads(report_path(out).read_text())["reproducible"] is expected


def test_a_model_without_its_own_report_is_refused(model, tmp_path):
    (tmp_path / "a.bin").write_bytes(model.read_bytes()[:-1])
    for report, expected in (
        (report_path(model).read_text(), r"a\.bin: [\d,]+ bytes, but its report says [\d,]+"),
        ("{}", r"a\.json: not the report of a classifier"),
        ("{", r"a\.json: not the report of a classifier"),
    ):
        (tmp_path / "a.json").write_text(report)
        with pytest.raises(ValueError, match=expected):
            Classifier(tmp_path / "a.bin")


def test_a_share_needs_texts_that_were_held_out(tmp_path):
    chosen = ClassifierSettings(**{**vars(SMALL), "held_out": 0})
    out = tmp_path / "model.bin"
    train_classifier(map(cooking, range(99)), map(sailing, range(99)), chosen, out)
    batch = make_batch([{"text": cooking(5), "source": "s", "domain": "web"}])
    assert ClassifierFilter(str(out), min_score=0.5)(batch)["reject"].null_count == 1
    with pytest.raises(ValueError, match="no negative texts were held out"):
        ClassifierFilter(str(out), keep_share=0.1)(batch)


@pytest.mark.parametrize(
    ("field", "value"),
    [("dim", 0), ("epochs", -1), ("bucket", 2**31), ("lr", float("nan")), ("seed", -1)],
)
def test_settings_that_cannot_be_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field}: expected"):
        ClassifierSettings(**{field: value})
