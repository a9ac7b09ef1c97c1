"""Slurm: a fake `sbatch` that really runs the script with bash, and a whole stage on it."""

import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest

from pipelines.slurm import script_of
from pipelines.tasks import TaskError

pytestmark = pytest.mark.slow

# What of Slurm matters here: an array's tasks are run one by one with the script's own options;
# a job is in the queue until they are over. LOSE names a task that is lost in the first job; none
# begins while there is a file `held`. Who asks for the queue leaves a file `asked`.
SBATCH = """
import os, re, subprocess, sys, time
from pathlib import Path
here = Path(__file__).parent
if sys.argv[1] != "--parsable":
    sys.exit(f"unexpected arguments {sys.argv[1:]}")
script = Path(sys.argv[2]).read_text()
options = dict(re.findall(r'^#SBATCH --([a-z-]+)=(.*)$', script, re.M))
options = {key: value.strip('"') for key, value in options.items()}
if options["partition"] != "cpu":
    sys.exit(f"sbatch: error: invalid partition specified: {options['partition']}")
first, last = map(int, options["array"].split("%")[0].split("-"))
job = 100 + len(list(here.glob("job-*")))
(here / f"job-{job}").write_text(script)
(here / f"queued-{job}").touch()
if os.fork() == 0:
    os.setsid()
    for fd in (0, 1, 2):
        os.close(fd)
        os.open(os.devnull, os.O_RDWR)
    for task in range(first, last + 1):
        give_up = time.monotonic() + 300
        while (here / "held").exists() and time.monotonic() < give_up:
            time.sleep(0.02)
        if job == 100 and os.environ.get("LOSE") == str(task):
            continue
        with open(options["output"].replace("%a", str(task)), "wb") as log:
            subprocess.run(
                ["bash", "-s"], input=script.encode(), stdout=log, stderr=log,
                cwd=options["chdir"], env=os.environ | {"SLURM_ARRAY_TASK_ID": str(task)},
            )
    (here / f"queued-{job}").unlink()
    os._exit(0)
print(f"{job};cluster")
"""
SQUEUE = """
import sys
from pathlib import Path
(job,) = [a.removeprefix("--jobs=") for a in sys.argv if a.startswith("--jobs=")]
(Path(__file__).parent / "asked").touch()
if not (Path(__file__).parent / f"queued-{job}").exists():
    sys.exit("slurm_load_jobs error: Invalid job id specified")
print(f"{job}_[0-3]  cpu  gristmill  R")
"""
SETTINGS = {
    "partition": "cpu", "account": "lab.a", "time": "1-00:00:00", "memory": "4G", "cpus": 2,
    "extra": ["--qos=low", "--requeue"],
}  # fmt: skip


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A folder on PATH with the two commands."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (folder / name).write_text(f"#!{sys.executable}{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def run(make_run, slurm):
    made = make_run("a run with spaces")
    made.write_curation(executor="slurm", workers=2, tasks=2, slurm=SETTINGS)
    return made


def jobs(slurm: Path) -> list[str]:
    return [path.read_text() for path in sorted(slurm.glob("job-*"))]


def test_a_stage_on_slurm_has_the_same_bytes_and_a_lost_task_is_submitted_again(
    run, slurm, curated, monkeypatch
):
    monkeypatch.setenv("LOSE", "1")
    out, _ = run("curate", "tiny.yaml")
    assert run.bytes("curate") == curated.bytes("curate")
    filter_map, again, merge, apply_map = jobs(slurm)
    assert 'array="0-1%2"' in filter_map and 'array="0-0%1"' in merge
    assert "gristmill-curate-filter" in again and "curate-documents-apply" in apply_map
    assert "filter: Slurm job 100 is over" in out and "attempt 2 of 3" in out
    assert not (run.out / "curate" / "work").exists()


def test_an_array_outlives_gristmill_and_is_waited_for_but_not_with_another_recipe(
    run, slurm, curated
):
    (slurm / "held").touch()
    process = run.start("curate", "tiny.yaml")
    file = run.out / "curate" / "work" / "slurm" / "filter.job.json"
    deadline = time.monotonic() + 100
    while not file.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    recipe = (run.directory / "tiny.yaml").read_text()
    (run.directory / "tiny.yaml").write_text(recipe.replace("seed: 7", "seed: 8"))
    _, err = run("curate", "tiny.yaml", code=1)
    assert "Slurm job 100 still works on it" in err and "scancel 100" in err
    (run.directory / "tiny.yaml").write_text(recipe)
    (slurm / "asked").unlink()
    process = run.start("curate", "tiny.yaml")
    while not (slurm / "asked").exists():
        assert process.poll() is None and time.monotonic() < deadline + 200, process.communicate()
        time.sleep(0.01)
    (slurm / "held").unlink()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Slurm job 100 of this map is still there" in out
    # Filter, merge and apply; a task that was killed with gristmill is submitted once more.
    assert run.bytes("curate") == curated.bytes("curate") and len(jobs(slurm)) in (3, 4)


def test_a_task_that_fails_ends_the_run_with_its_own_words(run, slurm):
    run.write_curation(executor="slurm", tasks=3, slurm=SETTINGS, on_error="stop")
    out, err = run("curate", "tiny.yaml", code=1)
    assert "failed, the rest of job 100 goes on" in out
    assert "prose.jsonl.gz" in err and "malformed JSON" in err and "Slurm job 100" in err
    assert err.count("\n") == 1 and len(jobs(slurm)) == 1


def test_what_sbatch_refuses_is_told(run, slurm, monkeypatch):
    run.write_curation(executor="slurm", slurm=SETTINGS | {"partition": "gpu"})
    _, err = run("curate", "tiny.yaml", code=1)
    assert "sbatch refused it: sbatch: error: invalid partition specified: gpu" in err
    monkeypatch.setenv("PATH", str(slurm.parent / "empty"))  # where no real Slurm is either
    _, err = run("curate", "tiny.yaml", code=1)
    assert "the command sbatch, which is not on PATH" in err and err.count("\n") == 1


def test_the_script_is_plain_bash_that_calls_gristmill_for_its_task(tmp_path):
    stage = tmp_path / "it's $HOME"
    stage.mkdir()
    lines = script_of(stage, "filter", 40, 8, SETTINGS).splitlines()
    assert lines[0] == "#!/bin/bash"
    for option in (
        'array="0-39%8"', 'partition="cpu"', 'account="lab.a"', 'time="1-00:00:00"', 'mem="4G"',
        'cpus-per-task="2"', "qos=low", "requeue",
    ):  # fmt: skip
        assert f"#SBATCH --{option}" in lines
    call = shlex.split(lines[-1])
    assert call[:4] == ["exec", sys.executable, "-m", "pipelines.cli"]
    assert call[4:] == ["task", str(stage), "filter", "$SLURM_ARRAY_TASK_ID"]
    with pytest.raises(TaskError, match="cannot be written into a Slurm script as its --job-name"):
        script_of(tmp_path / 'a"\n#SBATCH --b', "filter", 1, 1, SETTINGS)
