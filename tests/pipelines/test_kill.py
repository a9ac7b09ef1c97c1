"""SIGKILL in any stage, then the same command again: the same bytes as a run never killed."""

import os
import shutil
import signal
import time

import pytest

pytestmark = pytest.mark.slow

ATTEMPTS = 5  # a stage can be over in the moment between seeing it begin and killing it


def begun(run, stage: str) -> bool:
    """Whether a stage is in the midst of its work, as far as its folder shows."""
    folder = run.out / stage
    if stage in ("curate", "tokenizer", "encode"):
        return any(folder.glob("done/*/*.json"))
    if stage == "train":
        return any(folder.glob("checkpoints/step-*"))
    if stage == "sample":
        return any(folder.glob("*.parquet"))
    return (folder / "splits.json").exists()


def kill_in(run, stage: str, command: str = "run", begun=begun) -> None:
    """Start the stage and kill all its processes while it works."""
    for _ in range(ATTEMPTS):
        shutil.rmtree(run.out / stage, ignore_errors=True)
        process = run.start(command, "tiny.yaml")
        deadline = time.monotonic() + 200
        while not begun(run, stage):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if not (run.out / stage / "manifest.json").exists():
            return
    pytest.fail(f"{stage} was over each time before it could be killed")


def start_training(run, finished, line):
    """Start training on what the finished run has; returns when there is a checkpoint."""
    for before in line[: line.index("train")]:
        shutil.copytree(finished.out / before, run.out / before)
    process = run.start("train", "tiny.yaml")
    while not begun(run, "train"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    return process


@pytest.mark.parametrize(
    "stage", ["curate", "tokenizer", "encode", "plan", "train", "export", "publish", "report"]
)
def test_a_killed_run_ends_in_the_same_bytes(finished, line, make_run, stage):
    run = make_run("killed")
    for before in line[: line.index(stage)]:
        shutil.copytree(finished.out / before, run.out / before)
    kill_in(run, stage)
    left = {path.name for path in (run.out / stage).rglob("*.json")}
    run(stage, "tiny.yaml")
    assert left and run.bytes(stage) == finished.bytes(stage)
    for path, checksum in run.bytes(stage).items():
        assert (run.out / stage / path).is_file(), (path, checksum)
    assert not list((run.out / stage).rglob("*.partial"))


def test_a_plan_killed_while_it_reads_documents_ends_in_the_same_bytes(finished, line, make_run):
    run = make_run("killed")
    for before in line[: line.index("plan")]:
        shutil.copytree(finished.out / before, run.out / before)

    def reading(run, stage):  # or over, and to be tried again
        return any(
            (run.out / stage / name).exists() for name in (".census.partial", "manifest.json")
        )

    kill_in(run, "plan", begun=reading)
    run("plan", "tiny.yaml")
    assert run.bytes("plan") == finished.bytes("plan")


@pytest.mark.parametrize("phase", ["filter", "documents-merge", "documents-apply"])
def test_curation_killed_in_any_phase_goes_on_with_what_is_not_done(curated, make_run, phase):
    run = make_run("killed")
    run.write_curation()

    def in_phase(run, stage):
        if phase == "documents-merge":
            return any((run.out / stage / "work" / "tasks" / phase).glob("cut.json"))
        return any((run.out / stage / "done" / phase).glob("*.json"))

    kill_in(run, "curate", "curate", in_phase)
    # An output of a split that was done is the very same file afterwards.
    folder = run.out / "curate"
    made = {
        folder / "rejected" / f"{prefix}{record.name[:5]}.parquet"
        for done, prefix in (("filter", ""), ("documents-apply", "documents-"))
        for record in (folder / "done" / done).glob("*.json")
    }
    before = {path: path.stat().st_mtime_ns for path in made}
    run("curate", "tiny.yaml")
    assert run.bytes("curate") == curated.bytes("curate")
    assert before and {path: path.stat().st_mtime_ns for path in made} == before
    left = {path.name for path in folder.iterdir()}
    assert left == {"documents", "rejected", "splits.json", "manifest.json"}


def test_killing_the_one_process_leaves_no_lock_behind(finished, make_run):
    run = make_run("alone")
    process = run.start("curate", "tiny.yaml")
    while not begun(run, "curate"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.0005)
    process.kill()  # its workers are left to themselves
    process.wait()
    run("curate", "tiny.yaml")
    assert run.bytes("curate") == finished.bytes("curate")
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("stage", ["curate", "tokenizer"])
def test_a_stage_killed_before_its_manifest_ends_in_the_same_bytes(finished, line, make_run, stage):
    run = make_run("late")
    for before in line[: line.index(stage) + 1]:
        shutil.copytree(finished.out / before, run.out / before)
    (run.out / stage / "manifest.json").unlink()
    run(stage, "tiny.yaml")
    assert run.bytes(stage) == finished.bytes(stage)


def test_a_killed_sample_ends_in_the_same_bytes(make_run):
    pytest.importorskip("plone.app.locales", reason="needs the extra `sample`")
    results = []
    for name in ("whole", "killed"):
        run = make_run(name)
        run.write(sample={"target_bytes": 2_000_000})
        if name == "killed":
            kill_in(run, "sample")
        run("sample", "tiny.yaml")
        results.append(run.bytes("sample"))
    assert results[0] == results[1] and len(results[0]) >= 5


def test_sigterm_in_training_saves_and_exits_well_and_the_run_goes_on(finished, line, make_run):
    run = make_run("stopped")
    process = start_training(run, finished, line)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0 and "run the same command again" in err, err
    run("train", "tiny.yaml")
    assert run.bytes("train") == finished.bytes("train")


def test_two_runs_at_once_on_one_folder_are_refused(finished, line, make_run):
    run = make_run("twice")
    process = start_training(run, finished, line)
    process.send_signal(signal.SIGSTOP)  # or it may be done before the other has begun
    _, err = run("train", "tiny.yaml", code=1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert f"process {process.pid}" in err and "is working on this run" in err
