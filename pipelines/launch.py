"""Run one function over the splits of a stage: on this machine, a Slurm cluster or a Ray cluster.

Executors know nothing of steps. Each is told a number of tasks (`tasks.py`) and how many of them
may run at once, and has them run by whatever process; what is done and what is left is read from
the splits' records, and only splits without one are handed out. So a run may be stopped anywhere
and go on with another executor, other workers or another number of tasks: the bytes are the same.

`local` uses datatrove's executor. `slurm.py` has its own script, because datatrove's pickles the
pipeline to disk; `ray_tasks.py` speaks to Ray itself.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines import tasks as cut
from pipelines.tasks import TaskError, Watch

MOST_TASKS = 1000  # what a Slurm array holds unless its administrators say otherwise (1,001)


@dataclass(frozen=True)
class Executor:
    """Where tasks run: how many at once, into how many the work is cut, and Slurm's settings.

    tasks None: one for each split, up to `MOST_TASKS`.
    """

    kind: str = "local"
    workers: int = 2
    tasks: int | None = None
    slurm: dict = field(default_factory=dict)


@dataclass
class Rank:
    """What datatrove's executor is given: rank k does task k."""

    stage: Path
    name: str

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """Do one task (datatrove's calling convention)."""
        cut.run_task(self.stage, self.name, rank)

    def __repr__(self) -> str:
        """A name for datatrove's log."""
        return f"{self.stage.name}.{self.name}"


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send this process's standard error, and its children's, to a file: datatrove's logs."""
    sys.stderr.flush()
    saved = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)


def run_splits(
    stage: Path,
    name: str,
    work: str,
    jobs: list[dict],
    arguments: tuple,
    *,
    executor: Executor,
    progress: Callable[[int, int], None],
    warn: Callable[[str], None],
) -> list[dict]:
    """Call `work(number, job, *arguments)` for every job, in processes; returns their records.

    stage: the stage's folder. name: of this map, among those of the stage. work: a key of
    `tasks.MAPS`. jobs and arguments are JSON-able. A job whose record is there is not done again.
    progress(done, total) is called about four times a second. An exception in a job ends the call
    with that exception (TaskError where it comes from another machine); finished jobs keep their
    records.
    """
    total = len(jobs)
    watch = Watch(stage, name, total, progress)

    def write() -> int:
        """Cut what is left into tasks."""
        done = cut.finished(stage, name)
        left = [(number, job) for number, job in enumerate(jobs) if number not in done]
        most = executor.tasks or MOST_TASKS
        return cut.write_tasks(stage, name, work, left, arguments, most)

    if executor.kind == "slurm":
        from pipelines.slurm import run_on_slurm, wait_for_former

        wait_for_former(stage, name, watch=watch, warn=warn)
    if watch.left():
        count = write()
        if executor.kind == "slurm":
            run_on_slurm(
                stage, name, count, write, executor.workers, executor.slurm, watch=watch, warn=warn
            )
        elif executor.kind == "ray":
            from pipelines.ray_tasks import run_on_ray

            run_on_ray(stage, name, count, executor.workers, watch)
        else:
            _run_here(stage, name, count, executor.workers, watch)
        if left := watch.left():
            said = cut.failures(stage, name)
            first = f": {next(iter(said.values()))}" if said else ""
            raise TaskError(f"{name}: {left} of {total} splits were not done{first}")
    progress(total, total)
    return cut.records(stage, name, total)


def _run_here(stage: Path, name: str, count: int, workers: int, watch: Watch) -> None:
    """Run tasks in `workers` processes of this machine, with datatrove's local executor.

    datatrove's own markers of completion don't know of a changed configuration: they are unused.
    """
    import multiprocess
    from datatrove.executor.local import LocalPipelineExecutor
    from loguru import logger

    logs = Path(tempfile.mkdtemp(prefix="logs-", dir=stage / "work"))
    executor = LocalPipelineExecutor(
        [Rank(stage, name)],
        tasks=count,
        workers=min(workers, count),
        logging_dir=str(logs),
        skip_completed=False,
    )
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            executor.run()
        except BaseException as error:
            outcome.append(error)

    with _output_to(logs / "stderr.log"):
        logger.remove()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        seen: set[int] = set()
        while thread.is_alive():
            thread.join(0.25)
            watch.glance()
            alive = {child.pid for child in multiprocess.active_children()}
            if seen - alive:
                # The pool is closing, or a worker was killed, which the pool waits for forever.
                thread.join(10)
                if thread.is_alive() and watch.left():
                    outcome.append(
                        ChildProcessError(
                            f"{name}: a worker process was killed (out of memory?); "
                            "run the same command again to go on, with fewer workers if need be"
                        )
                    )
                    break
            seen |= alive
    if outcome:
        raise outcome[0]
    shutil.rmtree(logs, ignore_errors=True)
