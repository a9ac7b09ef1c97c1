"""A task: some splits of a map, described in JSON on disk, so that any process can do it.

Work on a stage is cut twice. Its splits decide what is written: split k becomes output shard k. Its
tasks decide only who does which splits, so neither their number nor the executor changes a byte.

    work/tasks/MAP/00003.json          what to do: the function's name, its arguments, the splits
    work/tasks/MAP/cut.json            which cutting into tasks is the valid one
    work/tasks/MAP/00003.failed.json   why it was not done
    done/MAP/00042.json                split 42 is done; this is what its function returned

A task file names its function by a key of `MAPS` and holds nothing but JSON: no executor, function
or object is ever pickled to disk, and a task file can start nothing that is not in `MAPS`.
"""

import importlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.files import read_json, write_json

Work = Callable[..., dict]

# A map's function, by module and name: work(number, job, *arguments) -> JSON-able record. It writes
# its outputs atomically and gives the same bytes wherever it runs.
MAPS: dict[str, tuple[str, str]] = {
    "projects.write": ("pipelines.projects", "write_projects"),
    "classifiers.train": ("pipelines.classifiers", "train_model"),
    "curate.filter": ("pipelines.curation_maps", "filter_split"),
    "curate.merge": ("pipelines.curation_maps", "merge_round"),
    "curate.apply": ("pipelines.curation_maps", "apply_round"),
    "tokenizer.count": ("pipelines.stages.tokenizer", "count_split"),
    "encode.encode": ("pipelines.stages.encode", "encode_split"),
    "publish.write": ("pipelines.publish.configs", "write_file"),
    "publish.validation": ("pipelines.publish.configs", "write_validation"),
}


class TaskError(RuntimeError):
    """A task that failed in another process; the message is that process's own."""


def find_work(name: str) -> Work:
    """The function of a map. Raises ValueError if `MAPS` doesn't have it."""
    if name not in MAPS:
        raise ValueError(f"unknown map {name!r}, expected one of {', '.join(MAPS)}")
    module, function = MAPS[name]
    return getattr(importlib.import_module(module), function)


def _place(stage: Path, name: str) -> Path:
    return stage / "work" / "tasks" / name


def write_tasks(
    stage: Path,
    name: str,
    work: str,
    splits: Sequence[tuple[int, dict]],
    arguments: tuple,
    tasks: int,
) -> int:
    """Deal (number, job) pairs out to at most `tasks` task files; returns how many there are.

    Former task files of this map go: a process that still works on one stops before its next split.
    """
    find_work(work)
    folder = _place(stage, name)
    shutil.rmtree(folder, ignore_errors=True)
    count, token = min(tasks, len(splits)), uuid.uuid4().hex
    for task in range(count):
        content = {
            "cut": token,
            "work": work,
            "folder": str(Path.cwd()),  # what relative paths of the recipe are relative to
            "arguments": list(arguments),
            "splits": [list(pair) for pair in splits[task::count]],
        }
        write_json(folder / f"{task:05d}.json", content)
    write_json(folder / "cut.json", {"cut": token})
    return count


def finished(stage: Path, name: str) -> set[int]:
    """The numbers of the splits that are done."""
    folder = stage / "done" / name
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {int(entry.name[:-5]) for entry in entries if entry.name[0].isdigit()}


class Watch:
    """How many splits of a map are left, as an executor waits for them; shows the progress."""

    def __init__(
        self, stage: Path, name: str, total: int, progress: Callable[[int, int], None]
    ) -> None:
        self._look = partial(finished, stage, name)
        self._total, self._progress = total, progress
        self._left, self._next = total, 0.0

    def left(self) -> int:
        """Look now."""
        started = time.monotonic()
        done = len(self._look())
        ended = time.monotonic()
        # A million records take seconds to list: glances cost a twentieth of the time at most.
        self._next = ended + max(0.2, 20 * (ended - started))
        self._left = self._total - done
        self._progress(done, self._total)
        return self._left

    def glance(self) -> int:
        """Look, or give what was seen a moment ago; to be called about four times a second."""
        return self.left() if time.monotonic() >= self._next else self._left


def records(stage: Path, name: str, total: int) -> list[dict]:
    """What the function returned for each split, in order."""
    return [read_json(stage / "done" / name / f"{number:05d}.json") for number in range(total)]


def run_task(stage: Path, name: str, task: int) -> None:
    """Do the splits of a task that have no record yet, in order; leave a record of each.

    Raises ValueError for a task that is not there or was withdrawn, and whatever the function
    raises, which is also written beside the task file for the process that waits.
    """
    stage = stage.resolve()
    path = _place(stage, name) / f"{task:05d}.json"
    content = read_json(path)
    if content is None:
        raise ValueError(f"{path}: no such task; tasks are made by `gristmill run` or a stage")
    work = find_work(content["work"])

    def is_wanted() -> bool:
        return read_json(path.with_name("cut.json")) == {"cut": content["cut"]}

    def check_wanted() -> None:
        if not is_wanted():
            raise ValueError(f"{path}: this task was withdrawn: the run was started again")

    os.chdir(content["folder"])
    done = stage / "done" / name
    try:
        for number, job in content["splits"]:
            if (done / f"{number:05d}.json").exists():
                continue
            check_wanted()
            record = work(number, job, *content["arguments"])
            check_wanted()
            write_json(done / f"{number:05d}.json", record)
    except Exception as error:
        if is_wanted():
            message = str(error) or type(error).__name__
            failure = {"type": type(error).__name__, "message": message}
            write_json(path.with_suffix(".failed.json"), failure)
        raise


def failures(stage: Path, name: str) -> dict[int, str]:
    """Why tasks failed that could say so, by task."""
    found: dict[int, Any] = {}
    for path in sorted(_place(stage, name).glob("[0-9]*.failed.json")):
        content = read_json(path)
        known = ("ValueError", "ArithmeticError", "SourceError", "OSError", "FileNotFoundError")
        kind = "" if content["type"] in known else f"{content['type']}: "
        found[int(path.name.split(".")[0])] = kind + content["message"]
    return found
