"""Classifiers of a recipe: trained before curation, found by their names."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from curation.classifier import ClassifierSettings
from pipelines.classifiers import at_half, draw
from pipelines.recipe_data import ClassifierSection

SMALL = {"dim": 8, "bucket": 2000, "min_count": 1, "lr": 0.5, "held_out": 0.2}


def cooking(i):
    return f"Stir the soup number {i} slowly, add salt and {i % 7} onions, then serve it warm."


def sailing(i):
    return f"The ship number {i} left the harbour with {i % 5} masts, and the wind was strong."


class Kitchen:
    """A folder with documents, texts to train on, and a recipe of curation alone."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "run"
        folder.mkdir()
        with (folder / "pages.jsonl").open("w") as file:
            for i in range(1000, 1200):
                text = cooking(i) if i % 4 == 0 else sailing(i)
                file.write(json.dumps({"text": text}) + "\n")
        pq.write_table(
            pa.table({"text": [cooking(i) for i in range(400)]}), folder / "good.parquet"
        )
        pq.write_table(
            pa.table({"text": [sailing(i) for i in range(400)]}), folder / "poor.parquet"
        )
        self.write()

    def write(self, model=None, step=None, **changes):
        food = {"positive": ["good.parquet"], "negative": ["poor.parquet"], "count": 300} | SMALL
        chosen = {"classifier": {"model": "food", "min_score": 0.5} | (step or {})}
        recipe = {
            "name": "kitchen",
            "out": "run",
            "sources": [{"path": "pages.jsonl", "name": "pages", "domain": "web"}],
            "classifiers": {"food": food | (model or {})},
            "curate": {"steps": [chosen], "dedup": None, "split_bytes": 4000},
        }
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(recipe | changes))

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
            cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "GRISTMILL_TRACEBACK": ""},
            start_new_session=True,
        )  # fmt: skip

    def __call__(self, *arguments, code=0):
        process = self.start(*(arguments or ("curate", "recipe.yaml")))
        out, err = process.communicate(timeout=200)
        assert process.returncode == code, out + err
        return out, err

    def manifest(self, stage, out=None):
        return json.loads(((out or self.out) / stage / "manifest.json").read_text())

    def bytes(self, stage, out=None):
        return {entry["path"]: entry["xxh3"] for entry in self.manifest(stage, out)["outputs"]}

    def kept(self):
        paths = sorted((self.out / "curate" / "documents").glob("*.parquet"))
        return pa.concat_tables(map(pq.read_table, paths))["text"].to_pylist()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A kitchen whose recipe was run, and what was printed."""
    kitchen = Kitchen(tmp_path_factory.mktemp("classifiers") / "kitchen")
    kitchen.printed, _ = kitchen()
    return kitchen


@pytest.fixture
def copy(done, tmp_path):
    """A copy of it to change."""
    shutil.copytree(done.folder, tmp_path / "copy")
    kitchen = Kitchen(tmp_path / "made")
    kitchen.folder, kitchen.out = tmp_path / "copy", tmp_path / "copy" / "run"
    return kitchen


def test_a_step_finds_the_model_that_the_recipe_trains_by_its_name(done):
    assert sorted(done.kept()) == sorted(cooking(i) for i in range(1000, 1200, 4))
    report = json.loads((done.out / "classifiers" / "food.json").read_text())
    assert report["settings"] == {**vars(ClassifierSettings(**SMALL)), "seed": 0}
    assert report["trained"]["positive"] + report["held_out"]["positive"] == 300
    assert sorted(path.name for path in (done.out / "classifiers").iterdir()) == [
        "food.bin", "food.json", "manifest.json", "splits.json",
    ]  # fmt: skip


def test_the_manifest_has_precision_and_recall_and_they_are_printed(done):
    manifest = done.manifest("classifiers")
    judged = manifest["metrics"]["classifiers"]["food"]["judged"]
    half = next(row for row in judged if row["min_score"] == 0.5)
    assert half["precision"] > 0.9 and half["recall"] > 0.9
    said = f"food: precision {half['precision']:.3f}, recall {half['recall']:.3f} at 0.5"
    assert manifest["summary"] == said and said in done.printed
    for row in judged:
        numbers = [f"{row[name]:.4f}" for name in ("precision", "recall", "f1", "passed_negative")]
        assert " │ ".join(numbers).replace(" ", "") in done.printed.replace(" ", "")


def test_the_report_of_curation_shows_the_model(done):
    half = at_half(done.manifest("classifiers")["metrics"]["classifiers"]["food"]["judged"])
    page = (done.out / "curate-report" / "report.html").read_text("utf-8")
    row = page.partition("<td>food</td>")[2].partition("</tr>")[0]
    assert f"<td>{half['precision']:.3f}</td><td>{half['recall']:.3f}</td>" in row


def test_the_manifest_of_curation_names_the_model_and_not_where_it_lies(done):
    manifest = done.manifest("curate")
    (step,) = manifest["config"]["curate"]["steps"]
    assert step["classifier"]["model"] == "food"
    assert "classifiers" in manifest["inputs"]


def test_a_second_run_does_nothing(done):
    out, _ = done()
    assert out.count("done before") == 3  # the classifier, curation, the report of both


def test_a_dry_run_needs_no_model_yet_and_writes_nothing(tmp_path):
    kitchen = Kitchen(tmp_path / "dry")
    plan = {"phases": [{"length": 512, "tokens": 512, "mixture": {"web": 1.0}}]}
    kitchen.write(plan=plan, encode={"fim": {"rate": {}}})
    out, _ = kitchen("run", "recipe.yaml", "--dry-run")
    curate = next(line for line in out.splitlines() if " curate " in line)
    assert "1 files of 1 sources, classifiers" in curate
    assert not kitchen.out.exists()


def test_other_texts_train_another_model_and_curation_follows_it(done, copy):
    table = pa.table({"text": [sailing(i) for i in range(2000, 2400)]})
    pq.write_table(table, copy.folder / "poor.parquet")
    out, _ = copy()
    assert "done before" not in out
    assert copy.bytes("classifiers")["food.bin"] != done.bytes("classifiers")["food.bin"]
    assert copy.manifest("curate")["key"] != done.manifest("curate")["key"]
    shutil.copy(done.folder / "poor.parquet", copy.folder / "poor.parquet")
    out, _ = copy()
    assert out.count("done before") == 3  # they came back from `old`
    assert copy.bytes("curate") == done.bytes("curate")


def test_neither_place_nor_workers_nor_files_change_a_byte(done, tmp_path):
    kitchen = Kitchen(tmp_path / "elsewhere")
    texts = pq.read_table(kitchen.folder / "poor.parquet")["text"].to_pylist()
    (kitchen.folder / "poor").mkdir()
    with (kitchen.folder / "poor" / "b.jsonl").open("w") as file:
        for text in texts[:150] * 2:
            file.write(json.dumps({"text": text}) + "\n")
    pq.write_table(pa.table({"text": texts[:149:-1]}), kitchen.folder / "poor" / "a.parquet")
    kitchen.write(model={"negative": ["poor"]}, workers=1)
    kitchen("curate", "recipe.yaml", "--out", "other/run")
    for stage in ("classifiers", "curate"):
        assert kitchen.bytes(stage, kitchen.folder / "other" / "run") == done.bytes(stage)


def test_the_command_trains_the_same_model_and_a_path_names_it(done, tmp_path):
    kitchen = Kitchen(tmp_path / "path")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    kitchen(
        "classifier", "train", "--positive", "good.parquet", "--negative", "poor.parquet",
        "--out", "models/food.bin", "--count", 300, *options,
    )  # fmt: skip
    trained = (kitchen.folder / "models" / "food.bin").read_bytes()
    assert trained == (done.out / "classifiers" / "food.bin").read_bytes()
    kitchen.write(step={"model": "models/food.bin"}, classifiers={})
    out, _ = kitchen()
    assert "classifiers" not in out
    assert kitchen.bytes("curate") == done.bytes("curate")


def test_a_model_may_be_trained_on_a_source_of_the_recipe(tmp_path):
    kitchen = Kitchen(tmp_path / "named")
    with (kitchen.folder / "pages.jsonl").open("a") as file:
        file.write("{not json\n")
    kitchen.write(model={"negative": ["pages"]}, step={"min_score": None, "keep_share": 0.5})
    kitchen()
    metrics = kitchen.manifest("classifiers")["metrics"]
    report = metrics["classifiers"]["food"]
    assert report["trained"]["negative"] + report["held_out"]["negative"] == 200
    (problem,) = metrics["problems"]
    assert (problem["file"], problem["where"]) == ("pages.jsonl", "line 201")
    assert {cooking(i) for i in range(1000, 1200, 4)} <= set(kitchen.kept())
    with (kitchen.folder / "pages.jsonl").open("a") as file:
        file.write(json.dumps({"text": sailing(5)}) + "\n")
    kitchen()
    metrics = kitchen.manifest("classifiers")["metrics"]
    assert (
        sum(metrics["classifiers"]["food"][p]["negative"] for p in ("trained", "held_out")) == 201
    )


def test_a_killed_training_ends_in_the_same_bytes(done, tmp_path):
    kitchen = Kitchen(tmp_path / "killed")
    folder = kitchen.out / "classifiers"
    process = kitchen.start("curate", "recipe.yaml")
    while not any((folder / "work").glob(".food.bin.*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.0005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "manifest.json").exists()
    kitchen()
    assert kitchen.bytes("classifiers") == done.bytes("classifiers")
    assert kitchen.bytes("curate") == done.bytes("curate")
    assert not (folder / "work").exists()


def bad_line(folder):
    (folder / "pages.jsonl").write_text("{not json\n")
    recipe = (folder / "recipe.yaml").read_text() + "on_error: stop\n"
    (folder / "recipe.yaml").write_text(recipe.replace("poor.parquet", "pages"))


def no_texts(folder):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), folder / "good.parquet")


def only_blanks(folder):
    pq.write_table(pa.table({"text": [" ", "", "\n"]}), folder / "good.parquet")


def other_column(folder):
    pq.write_table(pa.table({"body": ["a"]}), folder / "good.parquet")


def damaged(folder):
    (folder / "good.parquet").write_bytes(b"PAR1 and then nothing")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (no_texts, "food.bin: no positive texts to train on"),
        (only_blanks, "food.bin: no positive texts to train on"),
        (other_column, "good.parquet: no column 'text' (it has body)"),
        (bad_line, "pages.jsonl: line 1"),
        (damaged, "good.parquet: cannot be opened as Parquet"),
    ],
)
def test_texts_that_cannot_be_trained_on_end_the_run_with_one_line(tmp_path, change, expected):
    kitchen = Kitchen(tmp_path / "hostile")
    change(kitchen.folder)
    _, err = kitchen(code=1)
    assert expected in err and err.count("\n") == 1
    assert not (kitchen.out / "curate").exists()


def test_the_defaults_are_those_of_the_library():
    section = ClassifierSection(positive=["a"], negative=["b"])
    assert {**vars(ClassifierSettings()), "seed": None} == section.model_dump(
        exclude={"positive", "negative", "count"}
    )


def test_drawing_takes_distinct_texts_whatever_their_order():
    texts = [f"text {i}" for i in range(500)]
    arrays = lambda *parts: lambda: (pa.array(part, pa.large_string()) for part in parts)  # noqa: E731
    drawn = list(draw(arrays(texts), 100, 0))
    assert len(set(drawn)) == len(drawn) == 100
    assert drawn == sorted(drawn, key=texts.index)
    assert set(draw(arrays(texts[:200:-1], texts + texts), 100, 0)) == set(drawn)
    assert set(draw(arrays(texts), 200, 0)) > set(drawn)
    assert set(draw(arrays(texts), 100, 1)) != set(drawn)
    assert list(draw(arrays(texts[:3] * 2), 100, 0)) == texts[:3]
    assert list(draw(arrays(), 5, 0)) == []
