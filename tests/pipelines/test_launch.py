"""Jobs over splits: what is done stays done, what fails is said, whoever runs them."""

import json
import os
from pathlib import Path

import pytest

from curation.readers import Source, SourceError, plan_splits
from pipelines.launch import Executor, run_splits
from pipelines.tasks import MAPS, run_task, write_tasks


def square(number, job, folder):
    """A job that leaves a trace of every time it runs."""
    with open(os.path.join(folder, f"ran-{number}"), "a") as file:  # noqa: PTH118, PTH123
        file.write("x")
    return {"square": job["n"] ** 2}


@pytest.fixture
def stage(tmp_path, monkeypatch):
    monkeypatch.setitem(MAPS, "test.square", (__name__, "square"))
    return tmp_path


def write_source(folder, names):
    """Files of as many documents as their number says; bad.jsonl holds none but a bad line."""
    folder.mkdir()
    for name in names:
        line = json.dumps({"text": f"document of {name}"}) if name != "bad" else "{"
        (folder / f"{name}.jsonl").write_text((line + "\n") * (1 if name == "bad" else int(name)))
    return plan_splits(Source(str(folder), "s", "web"))


def run(stage, splits, workers, tasks=None, seen=None):
    return run_splits(
        stage, "m", "curate.filter", splits, (str(stage), [], [], 0, "stop", 1 << 20),
        executor=Executor("local", workers, tasks), warn=print,
        progress=lambda done, total: (seen if seen is not None else []).append((done, total)),
    )  # fmt: skip


@pytest.mark.parametrize(("workers", "tasks"), [(1, None), (3, None), (2, 2), (3, 100)])
def test_records_come_in_order_and_finished_jobs_are_not_done_again(tmp_path, workers, tasks):
    stage, seen = tmp_path / "stage", []
    splits = write_source(tmp_path / "source", "12345")
    records = run(stage, splits, workers, tasks, seen)
    assert [record["kept"] for record in records] == [1, 2, 3, 4, 5]
    assert len(list((stage / "work/tasks/m").glob("[0-9]*.json"))) == min(5, tasks or 5)
    outputs = sorted((stage / "documents").iterdir())
    before = [path.stat().st_mtime_ns for path in outputs]
    (stage / "done" / "m" / "00003.json").unlink()
    assert run(stage, splits, workers, tasks, seen) == records
    after = [path.stat().st_mtime_ns for path in outputs]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, True, False, True]
    assert seen[0] == (0, 5) and seen[-1] == (5, 5)


def test_a_failing_job_ends_the_call_with_its_own_error_and_the_others_keep_their_records(tmp_path):
    stage = tmp_path / "stage"
    splits = write_source(tmp_path / "source", ["1", "bad"])
    with pytest.raises(SourceError, match=r"bad\.jsonl: line 1: malformed JSON"):
        run(stage, splits, 1)
    (record,) = (stage / "done" / "m").glob("*.json")
    assert json.loads(record.read_text())["kept"] == 1
    (failure,) = (stage / "work" / "tasks" / "m").glob("*.failed.json")
    assert "bad.jsonl: line 1" in json.loads(failure.read_text())["message"]


def test_a_task_does_several_splits_and_only_those_without_a_record(stage):
    jobs = [(n, {"n": n}) for n in range(7)]
    assert write_tasks(stage, "m", "test.square", jobs, (str(stage),), 3) == 3
    (stage / "done" / "m").mkdir(parents=True)
    (stage / "done" / "m" / "00003.json").write_text("{}")
    run_task(stage, "m", 0)
    ran = sorted(path.name for path in stage.glob("ran-*"))
    assert ran == ["ran-0", "ran-6"]
    with pytest.raises(ValueError, match="no such task"):
        run_task(stage, "m", 3)


def test_a_task_that_was_withdrawn_meanwhile_leaves_no_record(stage, monkeypatch):
    jobs = [(0, {"n": 0})]

    def overtaken(number, job):
        write_tasks(stage, "m", "test.overtaken", jobs, (), 1)  # as a second gristmill would
        return {}

    monkeypatch.setitem(globals(), "overtaken", overtaken)
    monkeypatch.setitem(MAPS, "test.overtaken", (__name__, "overtaken"))
    write_tasks(stage, "m", "test.overtaken", jobs, (), 1)
    with pytest.raises(ValueError, match="withdrawn"):
        run_task(stage, "m", 0)
    assert not (stage / "done").exists()
    left = {path.name for path in (stage / "work/tasks/m").iterdir()}
    assert left == {"00000.json", "cut.json"}


def test_a_task_file_can_start_nothing_but_the_maps_of_this_project(stage):
    jobs = [(0, {"n": 0})]
    with pytest.raises(
        ValueError, match=r"unknown map 'os.system', expected one of projects.write"
    ):
        write_tasks(stage, "m", "os.system", jobs, (), 1)
    write_tasks(stage, "m", "test.square", jobs, (str(stage),), 1)
    path = stage / "work" / "tasks" / "m" / "00000.json"
    path.write_text(path.read_text().replace("test.square", "os:system"))
    with pytest.raises(ValueError, match="unknown map"):
        run_task(stage, "m", 0)


def test_every_map_is_a_function_that_is_there():
    from pipelines.tasks import find_work

    for name in MAPS:
        work = find_work(name)
        assert callable(work) and Path(work.__code__.co_filename).parts[-2] != "tests"
