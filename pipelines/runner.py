"""The runner: which stages have to run, and what a finished stage leaves behind.

A stage is a folder. `splits.json` is written first: the stage's key and, where the work is cut into
splits, what each of them is. `manifest.json` is written last: inputs, outputs with rows, bytes and
checksums, the resolved configuration, versions and metrics. A stage is done when its manifest holds
the key that it would have now: the checksums of its inputs, the settings that affect bytes, and the
stage's own version. Where only the key of an unfinished stage matches, it goes on at the first
missing split. A finished stage of another key is never reused and never deleted: it is put aside in
`old/`, and comes back if its recipe does.
"""

import fcntl
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from pipelines.files import checksum, fingerprint, read_json, remove_temporaries, write_json
from pipelines.launch import Executor, run_splits
from pipelines.recipe import Recipe
from pipelines.slurm import refuse_running


class StageError(RuntimeError):
    """A stage that cannot go on; the message says why and what to do."""


class StageInterrupted(RuntimeError):
    """A stage that stopped in good order because it was asked to; running again goes on."""


@dataclass(frozen=True)
class Stage:
    """A station of the line.

    config: the part of the recipe that affects its bytes, JSON-able. inputs: files it reads besides
    the stages in `after`, by a name that stays the same wherever they lie. run: does the work in
    `Context.directory`, returns the outputs, in order. version: raised whenever the same inputs and
    settings give other bytes. reads_metrics: whether it shows the metrics of the stages before.
    """

    name: str
    version: int
    after: tuple[str, ...]
    config: Callable[[Recipe], Any]
    run: Callable[["Context"], "Result"]
    _: KW_ONLY
    reads_metrics: bool = False
    inputs: Callable[[Recipe], dict[str, Path]] = lambda recipe: {}


@dataclass(frozen=True)
class Result:
    """What a stage made: paths of outputs with their number of rows (None where rows mean nothing).

    metrics and summary go into the manifest; summary is the line for the table at the end.
    """

    outputs: Mapping[Path, int | None]
    metrics: dict = field(default_factory=dict)
    summary: str = ""


@dataclass
class Context:
    """What a running stage is given."""

    recipe: Recipe
    stage: Stage
    directory: Path
    key: str
    progress: Progress

    def input(self, name: str) -> Path:
        """The folder of a stage that this one comes after."""
        return self.recipe.directory / name

    def manifest(self, name: str) -> dict:
        """The manifest of a finished stage."""
        return read_json(self.input(name) / "manifest.json")

    def outputs(self, name: str, suffix: str = "") -> list[Path]:
        """The outputs of a finished stage, in order, that end in `suffix`."""
        paths = (entry["path"] for entry in self.manifest(name)["outputs"])
        return [self.input(name) / path for path in paths if path.endswith(suffix)]

    def splits(self, make: Callable[[], list[dict]]) -> list[dict]:
        """The stage's splits, made from the inputs alone, so that they are the same each time."""
        content = read_json(self.directory / "splits.json") | {"splits": make()}
        write_json(self.directory / "splits.json", content)
        return content["splits"]

    def bar(self, what: str, total: float | None = None) -> "Bar":
        """A progress bar."""
        return Bar(
            self.progress,
            self.progress.add_task(f"{self.stage.name}: {what}", total=total, note=""),
        )

    def map(self, name: str, work: str, jobs: list[dict], *arguments: Any) -> list[dict]:
        """`work(number, job, *arguments)` for each job, on the recipe's executor; their records.

        work: a key of `tasks.MAPS`; jobs and arguments go through JSON.
        """
        bar, recipe = self.bar(name, len(jobs)), self.recipe
        executor = Executor(
            recipe.executor, recipe.workers, recipe.tasks, recipe.slurm.model_dump()
        )
        return run_splits(
            self.directory,
            name,
            work,
            jobs,
            arguments,
            executor=executor,
            progress=bar.at,
            warn=self.warn,
        )

    def warn(self, message: str) -> None:
        """Show a warning above the progress bars."""
        self.progress.console.print(f"[yellow]warning:[/] {escape(message)}", highlight=False)


@dataclass
class Bar:
    """One progress bar."""

    progress: Progress
    task: TaskID

    def at(self, done: float, total: float | None = None, note: str = "") -> None:
        """Set how far it is."""
        fields = {"note": note} if note else {}
        if total is not None:
            fields["total"] = total
        self.progress.update(self.task, completed=done, **fields)

    def over(self, items: Iterable, sizes: Sequence[int]) -> Iterator:
        """Pass items on, and move by the size of each."""
        done = 0
        for item, size in zip(items, sizes, strict=True):
            done += size
            self.at(done)
            yield item


def make_progress(console: Console) -> Progress:
    """Bars with what is done, how long it took and how long it will take; on terminals only."""
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.percentage:>4.0f}%"),
        TimeElapsedColumn(),
        TimeLeft(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


def versions() -> dict[str, str]:
    """What made the bytes: our version, Python's and those of the libraries that matter."""
    names = ["gristmill", "tokenizers", "datatrove", "pyarrow", "numpy", "torch", "fasttext"]
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def input_checksums(
    recipe: Recipe, stage: Stage, *, remember: bool = True, progress: Progress | None = None
) -> dict[str, str]:
    """Checksums of the files a stage reads from outside, by the names that it gives them.

    They are remembered by size and time of change, so that a file is read for it once; several are
    read at a time. remember: keep what was found. progress: where to show a bar.
    """
    memory_path = recipe.directory / "checksums.json"
    memory = read_json(memory_path) or {}
    files = stage.inputs(recipe)
    marks = {}
    for path in files.values():
        status = path.stat()
        marks[path] = [status.st_size, status.st_mtime_ns]
    new = [path for path, mark in marks.items() if memory.get(str(path), [])[:2] != mark]

    def digest(path: Path) -> str:
        try:
            return checksum(path)
        except OSError as error:
            # The stage will meet the file again and say what to do about it.
            return f"unreadable: {error.strerror}"

    with ThreadPoolExecutor(recipe.workers) as pool:
        digests = pool.map(digest, new)
        if progress and sum(marks[path][0] for path in new) > 1 << 30:
            total = sum(marks[path][0] for path in new)
            bar = Bar(progress, progress.add_task(f"{stage.name}: checksums", total=total, note=""))
            digests = bar.over(digests, [marks[path][0] for path in new])
        for path, found in zip(new, digests, strict=True):
            memory[str(path)] = [*marks[path], found]
    if new and remember:
        write_json(memory_path, memory)
    return {name: memory[str(path)][2] for name, path in files.items()}


def stage_key(
    recipe: Recipe, stage: Stage, *, remember: bool = True, progress: Progress | None = None
) -> str:
    """The key of a stage whose predecessors are done; see `input_checksums`."""
    found = input_checksums(recipe, stage, remember=remember, progress=progress)
    inputs: dict[str, Any] = dict(found)
    for name in stage.after:
        manifest = read_json(recipe.directory / name / "manifest.json")
        if manifest is not None:
            inputs[name] = [[entry["path"], entry["xxh3"]] for entry in manifest["outputs"]]
            if stage.reads_metrics:
                inputs[f"{name} metrics"] = fingerprint(manifest["metrics"])
    return fingerprint(
        {
            "stage": stage.name,
            "version": stage.version,
            "config": stage.config(recipe),
            "inputs": inputs,
        }
    )


def _is_whole(directory: Path, manifest: dict) -> bool:
    """Whether all outputs are still there, in their sizes."""
    for entry in manifest["outputs"]:
        path = directory / entry["path"]
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return False
    return True


def state_of(recipe: Recipe, stage: Stage, key: str) -> str:
    """ "done", "begun" (splits.json has the key), "changed" (another key, lost files), or "new"."""
    directory = recipe.directory / stage.name
    manifest = read_json(directory / "manifest.json")
    if manifest is not None:
        return "done" if manifest["key"] == key and _is_whole(directory, manifest) else "changed"
    splits = read_json(directory / "splits.json")
    if splits is None:
        return "new"
    return "begun" if splits["key"] == key else "changed"


def prepare(recipe: Recipe, stage: Stage, key: str) -> str:
    """Make the stage's folder ready for this key; returns its state after that."""
    directory = recipe.directory / stage.name
    state = state_of(recipe, stage, key)
    if state == "changed":
        refuse_running(directory)
        manifest = read_json(directory / "manifest.json")
        if manifest is None or manifest["key"] == key:
            shutil.rmtree(directory)
        else:
            aside = recipe.directory / "old" / f"{stage.name}-{manifest['key'][:12]}"
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(parents=True, exist_ok=True)
            directory.rename(aside)
        state = "new"
    kept = recipe.directory / "old" / f"{stage.name}-{key[:12]}"
    if state == "new" and kept.is_dir():
        shutil.rmtree(directory, ignore_errors=True)
        kept.rename(directory)
        return prepare(recipe, stage, key)
    if state == "new":
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        write_json(directory / "splits.json", {"stage": stage.name, "key": key, "splits": None})
    if state == "begun":
        remove_temporaries(directory)
    return state


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Let one process at a time work on a run."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("a+") as file:
        try:
            # Not flock: a process forked from this one would hold it after this one was killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise StageError(
                f"{directory}: another gristmill (process {file.read().strip() or 'unknown'}) "
                "is working on this run; wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _clear(directory: Path) -> None:
    """Delete what only an unfinished stage needs. Not before the manifest is there: until then the
    records in `done` vouch for the files in `work`.
    """
    for name in ("work", "done"):
        shutil.rmtree(directory / name, ignore_errors=True)


def run_stage(recipe: Recipe, stage: Stage, progress: Progress) -> dict:
    """Run one stage unless it is done; returns its manifest, with `fresh` telling which it was."""
    for name in stage.after:
        if read_json(recipe.directory / name / "manifest.json") is None:
            raise StageError(
                f"{stage.name} needs {name}, which is not done in {recipe.directory}: "
                f"run `gristmill run` or `gristmill {name}` first"
            )
    key = stage_key(recipe, stage, progress=progress)
    directory = recipe.directory / stage.name
    if prepare(recipe, stage, key) == "done":
        _clear(directory)
        return {**read_json(directory / "manifest.json"), "fresh": False}
    started = time.monotonic()
    context = Context(recipe, stage, directory, key, progress)
    result = stage.run(context)
    with ThreadPoolExecutor(recipe.workers) as pool:
        outputs = [
            {
                "path": str(path.relative_to(directory)),
                "rows": rows,
                "bytes": path.stat().st_size,
                "xxh3": found,
            }
            for (path, rows), found in zip(
                result.outputs.items(), pool.map(checksum, result.outputs), strict=True
            )
        ]
    manifest = {
        "stage": stage.name,
        "version": stage.version,
        "key": key,
        "inputs": {name: str(recipe.directory / name) for name in stage.after}
        | input_checksums(recipe, stage),
        "config": stage.config(recipe),
        "outputs": outputs,
        "metrics": result.metrics,
        "summary": result.summary,
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    write_json(directory / "manifest.json", manifest)
    _clear(directory)
    return {**manifest, "fresh": True}
