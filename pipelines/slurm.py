"""Tasks as a Slurm array job: a script that calls `gristmill task` once for each of them.

`gristmill run` stays where it was started (a login node), submits one array a map, waits for it and
goes on; nothing else needs to be running. The script is plain text in `work/slurm/MAP.sh`, the
tasks' output is beside it, and no Python object is written anywhere. The folder of the run and the
sources must be on a file system that all machines see under the same path, as must this Python.

A task that says why it failed (bad input with `on_error: stop`, no room on the disk) ends the run
with its message. A task that vanished (time limit, memory, a machine that died) is submitted again,
with what is left of its splits, up to `attempts` times in all. If gristmill itself is stopped the
array goes on; the same command waits for it before it submits anything.
"""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.files import atomic, read_json, write_json
from pipelines.tasks import TaskError, Watch, failures

_FIRST_WAIT, _LAST_WAIT = 1.0, 15.0  # seconds between two questions to the queue
_SETTLE = 3.0  # seconds that a network file system may take to show the last records
_PATIENCE = 120.0  # seconds that one command of Slurm may take
_UNREACHABLE = 600.0  # seconds that the queue may be silent


def script_of(stage: Path, name: str, count: int, workers: int, settings: dict) -> str:
    """The array's script: tasks 0 to count - 1, `workers` of them at once."""
    folder = stage.resolve() / "work" / "slurm"
    options = {
        "job-name": f"gristmill-{stage.name}-{name}",
        "array": f"0-{count - 1}%{min(workers, count)}",
        "output": f"{folder}/{name}-%a.log",
        "chdir": str(Path.cwd()),
        "partition": settings.get("partition"),
        "account": settings.get("account"),
        "time": settings.get("time"),
        "mem": settings.get("memory"),
        "cpus-per-task": settings.get("cpus"),
    }
    for key, value in options.items():
        if any(sign in str(value) for sign in '"\\\n'):
            raise TaskError(
                f"{value!r} cannot be written into a Slurm script as its --{key}: "
                "expected a path without quotes, backslashes and line breaks"
            )
    lines = [f'#SBATCH --{key}="{value}"' for key, value in options.items() if value is not None]
    lines += [f"#SBATCH {line}" for line in settings.get("extra", ())]
    call = shlex.join([sys.executable, "-m", "pipelines.cli", "task", str(stage.resolve()), name])
    return "\n".join(["#!/bin/bash", *lines, f'exec {call} "$SLURM_ARRAY_TASK_ID"', ""])


def _call(*command: str) -> subprocess.CompletedProcess:
    if shutil.which(command[0]) is None:
        raise TaskError(
            f"executor: slurm needs the command {command[0]}, which is not on PATH; "
            "start gristmill where jobs are submitted from, or use executor: local"
        )
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer in {_PATIENCE:.0f} s")


def _submit(script: Path) -> str:
    """Submit a script; returns the job's id."""
    done = _call("sbatch", "--parsable", str(script))
    job = done.stdout.strip().split(";")[0]
    if done.returncode or not job:
        said = " ".join((done.stderr or done.stdout).split())
        raise TaskError(f"{script}: sbatch refused it: {said or f'exit code {done.returncode}'}")
    return job


def _is_queued(job: str) -> bool | None:
    """Whether any task of a job waits or runs; None if the queue does not answer."""
    done = _call("squeue", "--noheader", f"--jobs={job}")
    if done.returncode == 0:
        return bool(done.stdout.strip())
    return False if "Invalid job id" in done.stderr else None


def _wait(job: str, stage: Path, name: str, watch: Watch, warn: Callable[[str], None]) -> None:
    """Wait until a job has left the queue or all splits are done; tell a failure at once."""
    pause, heard, told = _FIRST_WAIT, time.monotonic(), False
    while True:
        asked = time.monotonic()
        while time.monotonic() < asked + pause:
            if not watch.glance():
                return
            time.sleep(0.25)
        pause = min(1.5 * pause, _LAST_WAIT)
        if not told and (said := failures(stage, name)):
            told = True
            number, message = next(iter(said.items()))
            warn(f"{name}: task {number} failed, the rest of job {job} goes on: {message}")
        queued = _is_queued(job)
        if queued is not None:
            heard = time.monotonic()
        elif time.monotonic() > heard + _UNREACHABLE:
            raise TaskError(
                f"squeue has not answered for {_UNREACHABLE:.0f} s; job {job} may still be "
                "running: run the same command again to go on waiting for it"
            )
        if queued is False:
            settled = time.monotonic() + _SETTLE
            while watch.left() and time.monotonic() < settled:
                time.sleep(0.25)
            return


def _job_file(stage: Path, name: str) -> Path:
    return stage / "work" / "slurm" / f"{name}.job.json"


def _logged(stage: Path, name: str) -> str:
    """The last words of the tasks that left any: for what even Python did not catch."""
    folder = stage.resolve() / "work" / "slurm"
    for path in sorted(folder.glob(f"{name}-*.log")):
        lines = path.read_text("utf-8", "replace").strip().splitlines()
        if lines:
            return f"; {path} ends with: {' '.join(lines[-1].split())[:300]}"
    return ""


def wait_for_former(stage: Path, name: str, *, watch: Watch, warn: Callable[[str], None]) -> None:
    """Wait for the array that an earlier gristmill left for this map, if it did: the same work."""
    former = read_json(_job_file(stage, name))
    if former is None:
        return
    job = former["job"]
    if _is_queued(job) is not False:
        warn(f"{name}: Slurm job {job} of this map is still there; waiting for it")
        _wait(job, stage, name, watch, warn)
    _job_file(stage, name).unlink()


def refuse_running(stage: Path) -> None:
    """Raise TaskError if an array works on a stage that is about to be made anew."""
    for path in sorted((stage / "work" / "slurm").glob("*.job.json")):
        job = read_json(path)["job"]
        if shutil.which("squeue") and _is_queued(job):
            raise TaskError(
                f"{stage}: Slurm job {job} still works on it, with another configuration: "
                f"stop it with `scancel {job}`, or wait until it is over"
            )


def run_on_slurm(
    stage: Path,
    name: str,
    count: int,
    cut: Callable[[], int],
    workers: int,
    settings: dict,
    *,
    watch: Watch,
    warn: Callable[[str], None],
) -> None:
    """Run tasks 0 to count - 1 as an array, `workers` at once, and wait for it.

    cut: writes the tasks of what is left and says how many, for submitting again. Raises TaskError
    for a task that failed, or one that vanished `attempts` times.
    """
    attempts = settings.get("attempts", 3)
    script = stage / "work" / "slurm" / f"{name}.sh"
    for attempt in range(1, attempts + 1):
        with atomic(script) as temporary:
            temporary.write_text(script_of(stage, name, count, workers, settings), "utf-8")
        for log in script.parent.glob(f"{name}-*.log"):
            log.unlink()
        job = _submit(script)
        write_json(_job_file(stage, name), {"job": job})
        try:
            _wait(job, stage, name, watch, warn)
        except KeyboardInterrupt:
            warn(f"{name}: Slurm job {job} goes on; `scancel {job}` stops it")
            raise
        _job_file(stage, name).unlink()
        left = watch.left()
        if not left:
            return
        if said := failures(stage, name):
            numbers = ", ".join(map(str, sorted(said)[:5])) + (", …" if len(said) > 5 else "")
            raise TaskError(
                f"{next(iter(said.values()))} (Slurm job {job}, {len(said)} of {count} tasks "
                f"failed: {numbers}; output in {script.parent}; once that is mended, the same "
                "command submits what is left)"
            )
        if attempt < attempts:
            warn(
                f"{name}: Slurm job {job} is over and {left:,} splits are not done: tasks were "
                f"killed (time, memory, a machine lost?); submitting them again, attempt "
                f"{attempt + 1} of {attempts}{_logged(stage, name)}"
            )
            count = cut()
    raise TaskError(
        f"{name}: {left:,} splits were not done in {attempts} attempts, their tasks were killed: "
        f"more slurm.time, slurm.memory or tasks may help; the same command submits them again"
        f"{_logged(stage, name)}"
    )
