"""`gristmill tok train --plan`: forecasts from a sample, and nothing written."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipelines.runner import make_progress
from pipelines.tok_job import Options
from pipelines.tok_plan import growth, plan
from tok import count_words, weigh, write_counts

RANGES = ("words", "memory", "disk", "counting_seconds", "learning_seconds", "seconds")
STDLIB = Path(sysconfig.get_paths()["stdlib"])


def run(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "tok", "train", *map(str, arguments)],
        capture_output=True, text=True, timeout=200,
        env=os.environ | {"COLUMNS": "300", "GRISTMILL_TRACEBACK": ""},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


def forecast(inputs, tmp_path, sample, memory=4 << 30, **options):
    options = {"vocab_size": 2000} | options
    with make_progress(Console(quiet=True)) as progress:
        return plan(
            inputs, tmp_path / "out", Options(**options), memory=memory, sample=sample,
            progress=progress,
        )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Source files of the standard library, all of them in one table and a part in another."""
    folder = tmp_path_factory.mktemp("plan")
    paths = [p for p in sorted(STDLIB.rglob("*.py")) if "site-packages" not in p.parts]
    rows = [
        {"text": path.read_text("utf-8", "replace"), "language": "python", "domain": "code"}
        for path in paths[::2]
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "large.parquet", row_group_size=50)
    pq.write_table(pa.Table.from_pylist(rows[::8]), folder / "small.parquet", row_group_size=50)
    groups = ["code/python"] * len(rows)
    counts = count_words([row["text"] for row in rows], groups, "multilingual")
    write_counts([counts], folder / "counts.parquet", {"scheme": "multilingual"})
    return folder


def everything_in(folder):
    return sorted((p, p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*"))


@pytest.mark.parametrize("source", ["large.parquet", "counts.parquet"])
def test_a_plan_is_printed_and_nothing_is_written(folder, tmp_path, source):
    before = everything_in(folder)
    said = run(folder / source, "--out", tmp_path / "out", "--vocab-size", 1000, "--plan")
    assert everything_in(folder) == before and not list(tmp_path.iterdir())
    for word in (
        "distinct words",
        "learning",
        "time",
        "peak memory",
        "disk",
        "nothing was written",
    ):
        assert word in said
    run(
        folder / source, "--out", tmp_path / "out", "--vocab-size", 1000, "--plan",
        "--json", tmp_path / "plan.json",
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    result = json.loads((tmp_path / "plan.json").read_text())
    for name in RANGES:
        value = result[name]
        assert 0 < value["low"] <= value["about"] <= value["high"], name


def test_what_is_read_whole_is_forecast_exactly(folder, tmp_path):
    counts = pq.read_table(folder / "counts.parquet")
    rows = pq.read_table(folder / "large.parquet")
    for source in ("large", "counts"):
        result = forecast([folder / f"{source}.parquet"], tmp_path, 1 << 30)
        assert result["words"]["low"] == result["words"]["high"] == len(weigh(counts))
    result = forecast([folder / "large.parquet"], tmp_path, 1 << 30)
    assert result["text"]["documents"] == len(rows)
    assert result["text"]["bytes"] == sum(len(text.encode()) for text in rows["text"].to_pylist())
    size = (folder / "counts.parquet").stat().st_size + 2000 * 60  # and the tokenizer
    assert result["disk"]["about"] == pytest.approx(size, rel=0.02)


def test_a_sample_of_a_tenth_finds_how_many_words_there_are(folder, tmp_path):
    true = len(weigh(pq.read_table(folder / "counts.parquet")))
    size = pq.read_table(folder / "large.parquet")["text"].nbytes
    result = forecast([folder / "large.parquet"], tmp_path, size // 10)
    assert result["text"]["bytes"] == pytest.approx(size, rel=0.03)
    # One file in hundreds holds most of the library's odd words: a small sample has it or hasn't.
    assert true / 2 < result["words"]["about"] < 2 * true


def test_more_text_has_more_words_and_takes_more_disk(folder, tmp_path):
    few, many = (
        forecast([folder / f"{name}.parquet"], tmp_path, 1 << 18) for name in ("small", "large")
    )
    for name in ("words", "disk"):
        assert many[name]["about"] > 1.5 * few[name]["about"]
    assert many["text"]["bytes"] > 4 * few["text"]["bytes"]


def test_little_memory_means_spilling_and_more_disk(folder, tmp_path):
    roomy, tight = (
        forecast([folder / "large.parquet"], tmp_path, 1 << 20, memory=memory)
        for memory in (4 << 30, 1 << 20)
    )
    assert roomy["spills"] == 0 and tight["spills"] > 1
    assert tight["disk"]["about"] > 1.5 * roomy["disk"]["about"]


def test_a_single_document_can_be_planned_for(tmp_path):
    text = "one document and no other " * 9
    (tmp_path / "one.txt").write_text(text)
    result = forecast([tmp_path / "one.txt"], tmp_path, 1 << 20)
    assert result["words"]["about"] == len(count_words([text])) and result["text"]["documents"] == 1


def test_superwords_are_counted_as_a_second_stage(folder, tmp_path):
    plain = forecast([folder / "small.parquet"], tmp_path, 1 << 20)
    result = forecast([folder / "small.parquet"], tmp_path, 1 << 20, superword_after=1000)
    assert result["scheme"] == "multilingual-superword" and result["words"] == plain["words"]
    assert result["disk"]["about"] > 1.5 * plain["disk"]["about"]


def test_a_weight_for_what_the_sample_lacks_is_a_note(folder, tmp_path):
    weights = {"weights": {"web/deu": 2.0}}
    result = forecast([folder / "large.parquet"], tmp_path, 1 << 18, **weights)
    assert "'web/deu'" in result["notes"][0]
    with pytest.raises(ValueError, match="no such group"):
        forecast([folder / "large.parquet"], tmp_path, 1 << 30, **weights)


def test_mistakes_are_told_as_the_run_tells_them(folder, tmp_path, mistake):
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "body.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.txt").write_bytes(b"")
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9")
    (tmp_path / "bad.jsonl").write_text('{"text": 3}\n')
    large, counts = folder / "large.parquet", folder / "counts.parquet"
    for arguments in (
        [tmp_path / "none"], [tmp_path / "empty"], [tmp_path / "body.parquet"],
        [tmp_path / "nothing.txt"], [tmp_path / "bad.txt"], [tmp_path / "bad.jsonl"],
        [large, counts], [counts, "--scheme", "gpt2"], [large, "--scheme", "gpt9"],
        [large, "--vocab-size", 100], [counts, "--weight", "x=1"], [large, "--weight", "x"],
        [large, "--superword-after", 300, "--scheme", "gpt2"], [large, "--extend", large],
        [large, "--protect", tmp_path / "none"], [large, "--memory", "much"],
    ):  # fmt: skip
        arguments = [*arguments, "--out", tmp_path / "out"]
        told, expected = (mistake("train", *arguments, *more) for more in (["--plan"], []))
        assert told == expected


def test_growth_is_carried_on_by_its_law_or_below_it():
    low, about, high = growth(0.25**0.6, 512)
    assert high == pytest.approx(512**0.6)
    assert 0.5 * high < low < about < high
    assert growth(0.5, 1).tolist() == growth(1, 1e9).tolist() == [1, 1, 1]
    low, _, high = growth(0.1, 1e30)
    assert 1 < low < high < 1.01e30
