"""`gristmill classifier …` and `gristmill recall`, as a person runs them."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.classifier import Classifier
from curation.document import make_batch
from pipelines.cli import main

MODEL = ("--dim=8", "--bucket=2000", "--min-count=1", "--lr=0.5")
SMALL = (*MODEL, "--held-out=0.2")
RECALL = (*MODEL, "--word-ngrams=2", "--epochs=5", "--domain-pages=5", "--rounds=2")


def cooking(i):
    return f"Stir the soup number {i} slowly, add salt and {i % 7} onions, then serve it warm."


def sailing(i):
    return f"The ship number {i} left the harbour with {i % 5} masts, and the wind was strong."


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "GRISTMILL_TRACEBACK": ""},
    )  # fmt: skip


def run(folder, *arguments, code=0):
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, out + err
    return out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts of two kinds, a model that was trained on them, a seed and a pool of documents."""
    folder = tmp_path_factory.mktemp("models")
    pq.write_table(pa.table({"text": [cooking(i) for i in range(800)]}), folder / "good.parquet")
    with (folder / "poor.jsonl").open("w") as file:
        for i in range(800):
            file.write(json.dumps({"text": sailing(i)}) + "\n")
    printed, _ = run(
        folder, "classifier", "train", "--positive", "good.parquet", "--negative", "poor.jsonl",
        "--out", "models/food.bin", *SMALL,
    )  # fmt: skip
    (folder / "printed").write_text(printed)
    rows = [page(cooking, i, f"https://kitchen{i % 3}.example/{i}") for i in range(1000, 1120)]
    rows += [page(sailing, i, f"https://sea{i % 9}.example/{i}") for i in range(3000)]
    random.Random(1).shuffle(rows)
    kept = folder / "crawl" / "curate" / "documents"
    kept.mkdir(parents=True)
    (folder / "crawl" / "curate" / "rejected").mkdir()
    table = pa.Table.from_batches([make_batch(rows)])
    pq.write_table(table.slice(0, 1500), kept / "00000.parquet")
    pq.write_table(table.slice(1500), kept / "00001.parquet")
    pq.write_table(table.slice(0, 9), folder / "crawl" / "curate" / "rejected" / "00000.parquet")
    seed = pa.Table.from_batches([make_batch(page(cooking, i, None) for i in range(200))])
    pq.write_table(seed, folder / "seed.parquet")
    return folder


def page(words, i, uri):
    return {"text": words(i), "source": "s", "domain": "web", "uri": uri}


def test_training_prints_the_judgement_and_warns_of_few_texts(folder):
    printed = (folder / "printed").read_text()
    report = json.loads((folder / "models" / "food.json").read_text())
    held = report["held_out"]
    assert f"judged by {held['positive']} and {held['negative']} that were held out" in printed
    row = next(row for row in report["judged"] if row["min_score"] == 0.9)
    assert re.search(rf"0\.9 │ +{row['precision']:.4f} │ +{row['recall']:.4f} │", printed)
    assert sorted(path.name for path in (folder / "models").iterdir()) == ["food.bin", "food.json"]
    assert report["reproducible"]


def test_scores_are_counted_and_the_documents_at_the_ends_are_named(folder, tmp_path):
    rows = [{"text": f"{cooking(i)}\n\x1b[31m"} for i in range(7)]
    rows += [{"text": sailing(i)} for i in range(20)] + [{"text": ""}]
    pq.write_table(pa.Table.from_pylist(rows[:9]), tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(rows[9:]), tmp_path / "b.parquet")
    model = folder / "models" / "food.bin"
    arguments = ("classifier", "score", model, "--text", tmp_path, "--chars", 30)
    out, _ = run(tmp_path, *arguments, "-n", 2, "--near", 0.5)
    scores = Classifier(model).score([row["text"] for row in rows]).tolist()
    counts = [int(n) for n in re.findall(r"\d\.\d to \d\.\d │ +(\d+) │", out)]
    assert len(counts) == 10 and sum(counts) == 28
    assert counts[9] == sum(score >= 0.9 for score in scores)
    assert "28 documents by score" in out
    lowest, highest, nearest = (part.split("\n") for part in out.split("\n\n")[1:])
    order = sorted(range(28), key=lambda i: (scores[i], i))
    names = [f"{tmp_path}/a.parquet, document {i + 1}" for i in range(9)]
    names += [f"{tmp_path}/b.parquet, document {i + 1}" for i in range(19)]
    expected = {
        "lowest": order[:2],
        "highest": sorted(range(28), key=lambda i: (-scores[i], i))[:2],
        "nearest to 0.5": sorted(range(28), key=lambda i: (abs(scores[i] - 0.5), i))[:2],
    }
    for shown, (title, places) in zip((lowest, highest, nearest), expected.items(), strict=True):
        assert shown[0] == title
        assert [shown[1], shown[3]] == [f"{scores[i]:.4f}  {names[i]}" for i in places]
    assert "\x1b" not in out and "Stir the soup number" in highest[2] and " …" in highest[2]


@pytest.fixture(scope="module")
def recalled(folder):
    """What recall printed and wrote."""
    printed, _ = run(
        folder, "recall", "seed.parquet", "--pool", "crawl", "--out", "recalled", *RECALL
    )
    return folder / "recalled", printed


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_recall_reads_what_a_run_kept_and_prints_a_row_a_round(recalled):
    out, printed = recalled
    report = json.loads((out / "report.json").read_text())
    assert report["pool"] == 3120
    head, *rows = printed.splitlines()[1:]
    assert head.split()[:6] == ["round", "collected", "precision", "recall", "already", "tokens"]
    assert len(rows) == len(report["rounds"]) + 1
    for row, found in zip(rows, report["rounds"], strict=False):
        half = next(r for r in found["judged"] if r["min_score"] == 0.5)
        assert row.split()[:6] == [
            str(found["round"]), str(found["collected"]["documents"]), f"{half['precision']:.4f}",
            f"{half['recall']:.4f}", f"{found['already']:.1%}",
            f"{found['collected']['tokens']:,}",
        ]  # fmt: skip
    assert "  3: kitchen" in rows[0] and "kitchen0.example/ (40/40)" in rows[0]
    texts = pq.read_table(sorted(out.glob("documents-*.parquet")))["text"].to_pylist()
    assert sum("soup" in text for text in texts) >= 115 and len(texts) <= 125
    assert rows[-1].startswith(f"recalled: {len(texts)} of 3,120 documents")


def test_a_killed_recall_goes_on_to_the_same_bytes(folder, recalled, tmp_path):
    out = tmp_path / "out"
    arguments = ("recall", "seed.parquet", "--pool", "crawl", "--out", out, *RECALL)
    process = start(folder, *arguments)
    while not (out / "round-01" / "round.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "report.json").exists()
    made = (out / "round-01" / "round.json").stat().st_mtime_ns
    printed, _ = run(folder, *arguments)
    assert (out / "round-01" / "round.json").stat().st_mtime_ns == made
    assert printed.splitlines()[1:-1] == recalled[1].splitlines()[1:-1]
    left = {name: data for name, data in contents(out).items() if not name.startswith(".")}
    assert left == contents(recalled[0])


def test_labelled_documents_are_what_is_judged_by(folder, tmp_path):
    for name, words in (("right", cooking), ("wrong", sailing)):
        rows = make_batch(page(words, i, None) for i in range(5000, 5100))
        pq.write_table(pa.Table.from_batches([rows]), tmp_path / f"{name}.parquet")
    # What is called right is wrong, and the other way round.
    printed, _ = run(
        folder, "recall", "seed.parquet", "--pool", "crawl", "--out", tmp_path / "out", *RECALL,
        "--rounds=1", "--labelled-positive", tmp_path / "wrong.parquet",
        "--labelled-negative", tmp_path / "right.parquet",
    )  # fmt: skip
    assert printed.splitlines()[2].split()[2:4] == ["0.0000", "0.0000"]


TRAIN = ("classifier", "train", "--out", "m.bin", *SMALL)
GOOD, POOR = ("--positive", "good.parquet"), ("--negative", "poor.jsonl")
POOL = ("--pool", "crawl")

MISTAKES = {
    "texts that are not there": (
        (*TRAIN, "--positive", "none", *POOR),
        "none: no such file or folder; expected Parquet, .jsonl or text",
    ),
    "an empty folder": ((*TRAIN, "--positive", "empty", *POOR), "empty: no files in this folder"),
    "an empty file": ((*TRAIN, "--positive", "empty.jsonl", *POOR), "m.bin: no positive texts"),
    "a table without text": (
        (*TRAIN, *GOOD, "--negative", "body.parquet"),
        "body.parquet: no column 'text' (it has body); rename the one with the text",
    ),
    "a table of numbers": (
        (*TRAIN, "--positive", "numbers.parquet", *POOR),
        "numbers.parquet: the column 'text' is of type int64, expected strings",
    ),
    "no Parquet at all": (
        (*TRAIN, "--positive", "torn.parquet", *POOR),
        "torn.parquet: cannot be opened as Parquet",
    ),
    "nothing but blanks": (
        (*TRAIN, *GOOD, "--negative", "blank.parquet"),
        "m.bin: no negative texts to train on",
    ),
    "all of a side held out": (
        (*TRAIN, *GOOD, "--negative", "one.parquet", "--held-out", "0.9999"),
        "texts to train on",
    ),
    "words that are too rare": (
        (*TRAIN, *GOOD, *POOR, "--min-count", "100000"),
        "m.bin: no word occurs min_count (100000) times",
    ),
    "a model that is a folder": (
        (*TRAIN, *GOOD, *POOR, "--out", "empty"),
        "empty: is a folder; expected the name of a file to write",
    ),
    "a model that is its report": (
        (*TRAIN, *GOOD, *POOR, "--out", "m.json"),
        "m.json: the name of a report; expected the model's file to write",
    ),
    "a model in place of texts": (
        (*TRAIN, *GOOD, *POOR, "--out", "good.parquet"),
        "good.parquet: is read from, so it can't be written to",
    ),
    "a report in place of texts": (
        (*TRAIN, "--positive", "m.json", *POOR),
        "m.json: is read from, so it can't be written to",
    ),
    "a rate without end": ((*TRAIN, *GOOD, *POOR, "--lr", "nan"), "lr: expected a number above 0"),
    "a rate that overflows": ((*TRAIN, *GOOD, *POOR, "--lr", "1e30"), "set lr lower than 1e+30"),
    "a model without end": (
        (*TRAIN, *GOOD, *POOR, "--bucket", "2000000000", "--dim", "2000000"),
        "m.bin: no memory for a model of over 16000000.0 GB; set dim or bucket lower",
    ),
    "no model to score by": (
        ("classifier", "score", "none.bin", "--text", "good.parquet"),
        "none.bin: no classifier here; train one first",
    ),
    "a model that was cut short": (
        ("classifier", "score", "short.bin", "--text", "good.parquet"),
        "short.bin: 1,000 bytes, but its report says ",
    ),
    "a model with another report": (
        ("classifier", "score", "strange.bin", "--text", "good.parquet"),
        "strange.json: not the report of a classifier",
    ),
    "nothing to score": (
        ("classifier", "score", "models/food.bin", "--text", "empty.jsonl"),
        "empty.jsonl: no documents to score",
    ),
    "a seed that is not there": (
        ("recall", "none", *POOL, "--out", "r"),
        "none: no such file or folder; expected Parquet of documents",
    ),
    "a folder without documents": (
        ("recall", "seed.parquet", "--pool", "empty", "--out", "r"),
        "empty: no .parquet in this folder; expected documents",
    ),
    "text that is no documents": (
        ("recall", "seed.parquet", "--pool", "good.parquet", "--out", "r"),
        "good.parquet: no documents, for want of id",
    ),
    "a seed that is no documents": (
        ("recall", "poor.jsonl", *POOL, "--out", "r"),
        "poor.jsonl: cannot be opened as Parquet",
    ),
    "an empty seed": (
        ("recall", "none.parquet", *POOL, "--out", "r", *RECALL),
        "r: no documents in the seed",
    ),
    "recalling into the pool": (
        ("recall", "seed.parquet", *POOL, "--out", "crawl/curate/documents/out"),
        "--out crawl/curate/documents/out: lies inside crawl/curate/documents, which is read",
    ),
    "recalling into a folder of other things": (
        ("recall", "seed.parquet", *POOL, "--out", "models"),
        "models: holds other files, expected an empty or a new folder",
    ),
    "recalling into a file": (
        ("recall", "seed.parquet", *POOL, "--out", "good.parquet"),
        "good.parquet: ",
    ),
    "half of what is labelled": (
        ("recall", "seed.parquet", *POOL, "--out", "r", "--labelled-positive", "seed.parquet"),
        "expected both or neither",
    ),
}


@pytest.fixture(scope="module")
def hostile(folder):
    """The folder with what is wrong in it."""
    (folder / "empty").mkdir()
    (folder / "empty.jsonl").touch()
    for name, table in {
        "body": {"body": ["a"]},
        "numbers": {"text": [1, 2]},
        "blank": {"text": ["", " \n"]},
        "one": {"text": ["a single text"]},
    }.items():
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    pq.write_table(pq.read_table(folder / "seed.parquet").slice(0, 0), folder / "none.parquet")
    (folder / "torn.parquet").write_bytes((folder / "good.parquet").read_bytes()[:-9])
    model, report = (folder / "models" / f"food.{end}" for end in ("bin", "json"))
    (folder / "short.bin").write_bytes(model.read_bytes()[:1000])
    (folder / "short.json").write_bytes(report.read_bytes())
    (folder / "strange.bin").write_bytes(model.read_bytes())
    (folder / "strange.json").write_text("[]")
    (folder / "m.json").write_text("{}")
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(hostile, monkeypatch, capsys, name):
    arguments, expected = MISTAKES[name]
    monkeypatch.chdir(hostile)
    monkeypatch.setattr(sys, "argv", ["gristmill", *arguments])
    monkeypatch.delenv("GRISTMILL_TRACEBACK", raising=False)
    before = contents(hostile)
    with pytest.raises(SystemExit) as left:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 1 and line.startswith("error: ") and expected in line
    assert contents(hostile) == before


def test_a_mistake_in_a_process_has_no_traceback_and_one_class_is_no_command(hostile):
    _, err = run(hostile, *TRAIN, "--positive", "none", *POOR, code=1)
    assert err.startswith("error: none: no such file") and err.count("\n") == 1
    _, err = run(hostile, *TRAIN, *GOOD, code=2)
    assert "Missing option '--negative'" in err and "Traceback" not in err
