"""Rounds of curation: what they decide, in which order, and what of them is kept.

The rounds here are small ones of the tests' own, beside a plain loop over all documents that says
what must come out. One worker is this very process, so that it knows them.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipelines.recipe import Recipe, RecipeError, load_recipe
from pipelines.runner import make_progress, run_stage, stage_key
from pipelines.stages import curate
from pipelines.steps import ROUNDS, STEPS


@dataclass(frozen=True)
class LinesRound:
    """Cut the lines that are in an earlier document; reject what has none left."""

    name: ClassVar[str] = "lines"

    def sign(self, batch):
        lines = [text.split("\n") for text in batch["text"].to_pylist()]
        return pa.table({"lines": pa.array(lines, pa.list_(pa.string()))})

    def merge(self, signed, out, memory):
        assert memory == 12345
        seen, kept = set(), []
        for path in signed:
            for lines in pq.read_table(path)["lines"].to_pylist():
                kept.append([line for line in lines if line not in seen])
                seen |= set(lines)
        pq.write_table(
            pa.table({"row": range(len(kept)), "lines": pa.array(kept, pa.list_(pa.string()))}),
            out / "decisions.parquet",
        )
        pq.write_table(pa.table({"line": sorted(seen)}), out / "index.parquet")
        (out / "left-behind.run").write_bytes(b"x")

    def apply(self, batch, decisions, first_row):
        kept = pq.read_table(decisions).slice(first_row, len(batch))["lines"].to_pylist()
        texts = pa.array(["\n".join(lines) for lines in kept], pa.large_string())
        batch = batch.set_column(1, batch.schema.field("text"), texts)
        reject = [None if lines else "lines:nothing_left" for lines in kept]
        return batch.append_column("reject", pa.array(reject, pa.string()))


@dataclass(frozen=True)
class FirstWordRound:
    """Reject every `every`-th document and those whose first word began an earlier one."""

    name: ClassVar[str] = "first_word"

    seed: int = 0
    every: int = 5

    def sign(self, batch):
        words = [text.split()[0] for text in batch["text"].to_pylist()]
        return pa.table({"word": pa.array(words, pa.string())})

    def merge(self, signed, out, memory):
        words = [w for path in signed for w in pq.read_table(path)["word"].to_pylist()]
        drop = [w in words[:i] or i % self.every == self.seed for i, w in enumerate(words)]
        table = pa.table({"row": range(len(drop)), "drop": pa.array(drop, pa.bool_())})
        pq.write_table(table, out / "decisions.parquet")

    def apply(self, batch, decisions, first_row):
        drop = pq.read_table(decisions).slice(first_row, len(batch))["drop"].combine_chunks()
        reject = pc.if_else(drop, "first_word:again", pa.scalar(None, pa.string()))
        return batch.append_column("reject", reject)


@dataclass(frozen=True)
class Banned:
    """A filter that reads a file of its own."""

    name: ClassVar[str] = "banned"

    path: str

    def files(self) -> list[Path]:
        return [Path(self.path)]

    def __call__(self, batch):
        word = Path(self.path).read_text()
        bad = pc.match_substring(batch["text"], word)
        reject = pc.if_else(bad, "banned:word", pa.scalar(None, pa.string()))
        return batch.append_column("reject", reject)


@pytest.fixture(autouse=True)
def parts(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ROUNDS, "lines", LinesRound)
    monkeypatch.setitem(ROUNDS, "first_word", FirstWordRound)
    monkeypatch.setitem(STEPS, "banned", Banned)


def recipe(**changes) -> Recipe:
    content = {
        "name": "r",
        "workers": 1,
        "seed": 3,
        "sources": [{"path": "source", "name": "s", "domain": "web"}],
        "curate": {"steps": [], "merge_memory_bytes": 12345, **changes.pop("curate", {})},
    }
    return Recipe.model_validate(content | changes)


def make(made: Recipe) -> dict:
    with make_progress(Console(quiet=True)) as progress:
        return run_stage(made, curate.stage(made), progress)


def texts(made: Recipe, pattern: str = "documents/*.parquet") -> list[str]:
    paths = sorted((made.directory / "curate").glob(pattern))
    return [text for path in paths for text in pq.read_table(path)["text"].to_pylist()]


def write_corpus(documents: int, files: int = 3, width: int = 1) -> list[str]:
    rng = random.Random(1)
    made = [
        "\n".join(f"{rng.randrange(60)} {'x' * rng.randrange(width)}" for _ in range(4))
        for _ in range(documents)
    ]
    Path("source").mkdir()
    for k in range(files):
        lines = [json.dumps({"text": text}) for text in made[k::files]]
        Path(f"source/{k}.jsonl").write_text("\n".join(lines))
    return [text for k in range(files) for text in made[k::files]]


def expected(documents: list[str], order=("lines", "first_word"), seed=3) -> list[str]:
    """The definition: all documents in one list, one round after the other."""
    for name in order:
        if name == "lines":
            seen: set[str] = set()
            cut = []
            for text in documents:
                lines = text.split("\n")
                cut.append("\n".join(line for line in lines if line not in seen))
                seen |= set(lines)
            documents = [text for text in cut if text]
        else:
            words = [text.split()[0] for text in documents]
            documents = [
                text
                for i, text in enumerate(documents)
                if words[i] not in words[:i] and i % 5 != seed
            ]
    return documents


@pytest.mark.parametrize("order", [("lines", "first_word"), ("first_word", "lines")])
@pytest.mark.parametrize("split_bytes", [300, 1500, 10**7])
def test_rounds_see_the_whole_corpus_and_each_the_survivors_of_the_one_before(order, split_bytes):
    documents = write_corpus(60)
    made = recipe(curate={"dedup": {name: {} for name in order}, "split_bytes": split_bytes})
    manifest = make(made)
    want = expected(documents, order)
    assert texts(made) == want and 5 < len(want) < 50
    tally = manifest["metrics"]["tally"]
    assert sum(row["documents"] for row in tally) == 60
    assert sum(row["bytes"] for row in tally if not row["step"]) == sum(map(len, want))
    flows = {flow["step"]: flow for flow in manifest["metrics"]["steps"]}
    assert [flow["step"] for flow in manifest["metrics"]["steps"]] == list(order)
    assert flows[order[0]]["documents_in"] == 60
    assert flows[order[0]]["bytes_in"] == sum(map(len, documents))
    assert flows["lines"]["documents_edited"] > 0 == flows["first_word"]["documents_edited"]
    rejected = {(row["step"], row["reason"]) for row in tally if row["step"]}
    assert rejected == {("lines", "lines:nothing_left"), ("first_word", "first_word:again")}


def test_rows_are_counted_over_the_batches_of_a_split():
    documents = write_corpus(150, files=1, width=60_000)
    assert sum(map(len, documents)) > 8 << 20  # three batches
    made = recipe(curate={"dedup": {"lines": {}, "first_word": {}}, "split_bytes": 10**9})
    manifest = make(made)
    assert texts(made) == expected(documents)
    assert len([e for e in manifest["outputs"] if e["path"].startswith("documents/")]) == 1


def test_the_number_of_tasks_changes_no_byte():
    write_corpus(60)
    found = []
    for tasks in (None, 1, 2, 7, 1000):
        changes = {"dedup": {"lines": {}, "first_word": {}}, "split_bytes": 300}
        manifest = make(recipe(curate=changes, tasks=tasks, out=f"run-{tasks}"))
        found.append([(entry["path"], entry["xxh3"]) for entry in manifest["outputs"]])
    assert len(found[0]) > 20 and all(outputs == found[0] for outputs in found)


def test_what_little_steps_leave_of_each_batch_is_put_together():
    write_corpus(150, files=1, width=60_000)
    steps = [{"length": {"min_chars": 160_000, "max_chars": 10**9}}]
    made = recipe(curate={"steps": steps, "dedup": None, "split_bytes": 10**9})
    make(made)
    with pq.ParquetFile(made.directory / "curate" / "documents" / "00000.parquet") as file:
        assert file.num_row_groups == 1 and 2 < file.metadata.num_rows < 25


def test_an_index_is_published_and_nothing_else_of_a_round_is_left():
    documents = write_corpus(30)
    made = recipe(curate={"dedup": {"lines": {}, "first_word": {}}, "split_bytes": 500})
    manifest = make(made)
    folder = made.directory / "curate"
    (index,) = [e for e in manifest["outputs"] if e["path"].startswith("index/")]
    lines = {line for text in documents for line in text.split("\n")}
    assert index["path"] == "index/lines.parquet" and index["rows"] == len(lines)
    assert pq.read_table(folder / index["path"])["line"].to_pylist() == sorted(lines)
    left = {path.relative_to(folder).parts[0] for path in folder.rglob("*")}
    assert left == {"documents", "rejected", "index", "splits.json", "manifest.json"}
    assert manifest["metrics"]["peak_work_bytes"] > 0


def test_without_rounds_the_documents_are_written_at_once():
    documents = write_corpus(20)
    made = recipe(curate={"dedup": None, "split_bytes": 500})
    assert make(made)["metrics"]["peak_work_bytes"] == 0
    assert texts(made) == documents


def test_splits_without_a_document_left_have_no_part_in_a_round():
    documents = write_corpus(40)
    Path("source/-.jsonl").write_text(json.dumps({"text": "short"}))
    Path("source/9.jsonl").write_text(json.dumps({"text": "short"}))
    changes = {"steps": [{"length": {"min_chars": 6}}], "dedup": {"lines": {}, "first_word": {}}}
    made = recipe(curate=changes | {"split_bytes": 200})
    make(made)
    assert texts(made) == expected([text for text in documents if len(text) > 5])
    assert not pq.read_metadata("runs/r/curate/documents/00000.parquet").num_rows


def test_a_round_that_leaves_nothing_says_why():
    write_corpus(3)
    made = recipe(curate={"dedup": {"first_word": {"every": 1, "seed": 0}}})
    with pytest.raises(
        ValueError, match=r"no document is left of 3 read .* first_word:again \(3\)"
    ):
        make(made)


def test_the_order_of_rounds_their_settings_and_the_seed_are_in_the_key_and_the_memory_is_not():
    write_corpus(5)

    def key(**changes):
        made = recipe(**changes)
        return stage_key(made, curate.stage(made), remember=False)

    base = {"dedup": {"lines": {}, "first_word": {}}}
    keys = [
        key(curate=base),
        key(curate={"dedup": {"first_word": {}, "lines": {}}}),
        key(curate={"dedup": {"lines": {}, "first_word": {"every": 4}}}),
        key(curate={"dedup": {"lines": {}}}),
        key(curate=base, seed=4),
    ]
    assert len(set(keys)) == len(keys)
    same = [
        key(curate=base | {"merge_memory_bytes": 1 << 30}),
        key(curate=base, workers=9, tasks=2, executor="ray"),
    ]
    assert set(same) == {keys[0]}


def test_another_file_of_a_step_is_another_run_and_the_old_output_is_not_reused():
    documents = write_corpus(30)
    Path("words.txt").write_text("17 ")
    made = recipe(curate={"steps": [{"banned": {"path": "words.txt"}}], "dedup": None})
    make(made)
    assert texts(made) == [text for text in documents if "17 " not in text] != documents
    assert make(made)["fresh"] is False
    Path("words.txt").write_text("18 ")
    assert make(made)["fresh"] is True
    assert texts(made) == [text for text in documents if "18 " not in text]


def test_a_step_that_is_there_twice_is_counted_twice():
    documents = write_corpus(30)
    steps = [{"length": {"min_chars": 0, "max_chars": 14}}, {"length": {"min_chars": 14}}]
    made = recipe(curate={"steps": steps, "dedup": None})
    metrics = make(made)["metrics"]
    assert texts(made) == [text for text in documents if len(text) == 14]
    counts = {(row["step"], row["reason"]): row["documents"] for row in metrics["tally"]}
    assert counts["length", "length:too_long"] == sum(len(text) > 14 for text in documents) > 0
    assert counts["length-2", "length:min_chars"] == sum(len(text) < 14 for text in documents) > 0
    assert [flow["step"] for flow in metrics["steps"]] == ["length", "length-2"]


def test_a_source_that_changed_is_another_run():
    documents = write_corpus(12)
    made = recipe(curate={"dedup": None})
    make(made)
    assert make(made)["fresh"] is False
    path = Path("source/2.jsonl")
    path.write_text(path.read_text() + "\n" + json.dumps({"text": "one more"}))
    assert make(made)["fresh"] is True
    assert texts(made) == [*documents, "one more"]
    Path("source/1.jsonl").unlink()
    assert make(made)["fresh"] is True
    assert texts(made) == [*documents[:4], *documents[8:], "one more"]


def test_a_run_that_was_begun_with_another_configuration_is_begun_again():
    documents = write_corpus(30, files=2)
    Path("source/2.jsonl").write_text("{")
    changes = {"dedup": {"lines": {}}, "split_bytes": 300}
    with pytest.raises(ValueError, match="malformed JSON"):
        make(recipe(curate=changes, on_error="stop"))
    done = sorted(Path("runs/r/curate/done/filter").iterdir())
    assert done  # all but the last split
    made = recipe(curate={"dedup": {"first_word": {}}, "split_bytes": 300})
    make(made)
    assert texts(made) == expected(documents, ["first_word"])


def test_a_file_of_a_step_that_is_not_there_is_told_before_anything_runs(tmp_path):
    write_corpus(1)
    Path("r.yaml").write_text(
        "name: r\nsources: [{path: source, name: s, domain: web}]\n"
        "curate: {steps: [{banned: {path: nowhere.txt}}]}\n"
    )
    with pytest.raises(RecipeError, match=r"r.yaml: curate.steps: banned: no such file: nowhere"):
        load_recipe("r.yaml")


def test_a_round_that_forgets_a_row_is_found_out(monkeypatch):
    write_corpus(5, files=1)
    monkeypatch.setattr(LinesRound, "sign", lambda self, batch: pa.table({"n": [1, 2]}))
    with pytest.raises(ValueError, match="sign gave 2 rows for 5 documents"):
        make(recipe(curate={"dedup": {"lines": {}}}))


def test_problems_beyond_a_thousand_of_a_split_are_counted():
    write_corpus(4, files=1)
    with Path("source/0.jsonl").open("a") as file:
        file.write("\n" + "{\n" * 1500)
    metrics = make(recipe(curate={"dedup": None}))["metrics"]
    assert metrics["problem_count"] == 1500 and len(metrics["problems"]) == 1000
