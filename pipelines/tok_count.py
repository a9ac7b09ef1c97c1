"""`gristmill tok count`: text to a table of word counts, in bounded memory, restartable.

Beside the output, `OUT.parts/` holds the sorted runs that were spilled so far and `progress.json`:
what is counted, and how many batches of it the runs cover. A run counts only once that says so, so
a killed count goes on after the last whole run, and its result has the same bytes.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.progress import Progress

from pipelines.files import atomic, check_output, read_json, write_json, writing
from pipelines.runner import Bar, lock
from pipelines.texts import check_groups, find_files, present_columns, read_texts
from tok import SCHEMES, WordCounter, write_counts


def count(
    texts: list[Path],
    out: Path,
    *,
    scheme: str,
    columns: tuple[str, ...] = (),
    memory: int = 4 << 30,
    threads: int | None = None,
    restart: bool = False,
    progress: Progress,
    warn: Callable[[str], None] = lambda message: None,
) -> dict:
    """Count the words of texts into one Parquet file of counts; returns what it says of itself.

    columns: whose values, joined by "/", are a document's group; by default `domain` and
    `language`, as far as there are any. Raises ValueError for whatever a user can mend.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"--scheme {scheme}: expected one of {', '.join(SCHEMES)}")
    files = find_files(texts)
    check_output(out, files)
    check_groups(texts, columns)
    columns = columns or present_columns(texts, ("domain", "language"))
    job = {"scheme": scheme, "groups": list(columns), "files": [_identity(path) for path in files]}
    parts = out.with_name(out.name + ".parts")
    with writing(out, AGAIN):
        parts.mkdir(parents=True, exist_ok=True)
    with lock(parts):
        state = _state(parts, job, restart)
        try:
            return _count(texts, out, parts, state, memory, threads, progress, warn)
        finally:
            # Nothing to go on from: leave nothing behind.
            if not state["runs"]:
                shutil.rmtree(parts, ignore_errors=True)


AGAIN = "make room or choose another place, and run the same command again: it goes on from there"


def _count(
    texts: list[Path], out: Path, parts: Path, state: dict, memory: int, threads: int | None,
    progress: Progress, warn: Callable[[str], None],
) -> dict:  # fmt: skip
    job = state["job"]
    scheme, columns = job["scheme"], tuple(job["groups"])

    counter = WordCounter(scheme, threads=threads, memory=memory, spill_directory=parts)
    counter.spilled = [parts / f"run-{run:05d}.parquet" for run in range(state["runs"])]
    documents, size = state["documents"], state["bytes"]
    sizes = [size for _, size, _ in job["files"]]
    total = max(sum(sizes), 1)
    bar = Bar(progress, progress.add_task("count words", total=total, note=""))
    begun = -1

    def started(path: Path) -> None:
        nonlocal begun
        begun += 1
        bar.at(sum(sizes[:begun]), total, path.name)

    clock = time.monotonic()
    batches = read_texts(
        texts, columns, started=started, skipped=lambda path: warn(f"{path}: not UTF-8, left out")
    )
    for number, batch in enumerate(batches):
        if number < state["batches"]:
            continue
        documents += batch.num_rows
        size += pc.sum(pc.binary_length(batch["text"])).as_py() or 0
        with writing(out, AGAIN):
            counter.add(batch["text"], groups_of(batch, columns))
            if len(counter.spilled) > state["runs"]:
                state |= {"runs": len(counter.spilled), "batches": number + 1}
                state |= {"documents": documents, "bytes": size}
                write_json(parts / "progress.json", state)
    bar.at(total, total, "adding up")
    about = {"scheme": scheme, "groups": list(columns), "documents": documents, "bytes": size}
    with writing(out, AGAIN), atomic(out) as temporary:
        rows = write_counts(counter.batches(), temporary, about)
    shutil.rmtree(parts)
    if not rows:
        warn(f"{texts[0]}: no words in the text")
    bar.at(total, total, "done")
    return about | {"rows": rows, "seconds": time.monotonic() - clock}


def _identity(path: Path) -> list:
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _state(parts: Path, job: dict, restart: bool) -> dict:
    new = {"job": job, "runs": 0, "batches": 0, "documents": 0, "bytes": 0}
    state = None if restart else read_json(parts / "progress.json")
    if state is None:
        return new
    if not isinstance(state, dict) or {k: type(v) for k, v in state.items()} != {
        k: type(v) for k, v in new.items()
    }:
        raise ValueError(f"{parts}/progress.json: damaged; begin anew with --restart")
    differs = [key for key in job if state["job"].get(key) != job[key]]
    if differs:
        raise ValueError(
            f"{parts}: left by a count of other {differs[0]}; finish that one, or throw its parts "
            "away with --restart"
        )
    return state


def groups_of(batch: pa.RecordBatch, columns: tuple[str, ...]) -> str | list[str]:
    """The group of each document of a batch; "" for all where there are no columns to go by."""
    if not columns:
        return ""
    values = [batch[name].fill_null("unknown").to_pylist() for name in columns]
    return ["/".join(group) for group in zip(*values, strict=True)]
