"""Run one function over the splits of a stage with datatrove's executors.

datatrove starts the processes; what is done and what is left is ours. Each split leaves a record
`done/MAP/00042.json`, written last, and only splits without one are launched: datatrove's own
completion markers don't know of a changed configuration. No executor is pickled to disk.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.files import read_json, write_json

Work = Callable[..., dict]


@dataclass
class Task:
    """What an executor's process is given: `work(job, *arguments)` for the splits still missing."""

    work: Work
    jobs: list[tuple[int, dict]]
    arguments: tuple
    done: Path

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """Do one split and leave its record (datatrove's calling convention)."""
        number, job = self.jobs[rank]
        record = self.work(number, job, *self.arguments)
        write_json(self.done / f"{number:05d}.json", record)

    def __repr__(self) -> str:
        """A name for datatrove's log."""
        return f"{self.work.__module__}.{self.work.__name__}"


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
    work: Work,
    jobs: list[dict],
    arguments: tuple,
    *,
    done: Path,
    workers: int,
    progress: Callable[[int, int], None],
) -> list[dict]:
    """Call `work(number, job, *arguments)` for every job, in processes; returns their records.

    A job whose record is in `done` is not done again. work is a module's function; it writes its
    outputs atomically and returns a JSON-able record. progress(done, total) is called about four
    times a second. An exception in a job ends the call with that exception; finished jobs keep
    their records.
    """
    done.mkdir(parents=True, exist_ok=True)
    total = len(jobs)

    def finished() -> set[int]:
        return {int(p.stem) for p in done.glob("[0-9]*.json")}

    already = finished()
    pending = [(number, job) for number, job in enumerate(jobs) if number not in already]
    progress(total - len(pending), total)
    if pending:
        import multiprocess
        from datatrove.executor.local import LocalPipelineExecutor
        from loguru import logger

        logs = Path(tempfile.mkdtemp(prefix=".logs", dir=done.parent))
        executor = LocalPipelineExecutor(
            [Task(work, pending, arguments, done)],
            tasks=len(pending),
            workers=min(workers, len(pending)),
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
                progress(len(finished()), total)
                alive = {child.pid for child in multiprocess.active_children()}
                if seen - alive:
                    # The pool is closing, or a worker was killed, which the pool waits for forever.
                    thread.join(10)
                    if thread.is_alive() and len(finished()) < total:
                        outcome.append(
                            ChildProcessError(
                                f"{work.__name__}: a worker process was killed (out of memory?); "
                                "run the same command again to go on, with fewer workers if need be"
                            )
                        )
                        break
                seen |= alive
        if outcome:
            raise outcome[0]
        shutil.rmtree(logs, ignore_errors=True)
    progress(total, total)
    return [read_json(done / f"{number:05d}.json") for number in range(total)]
