"""What curation does to one split: read and filter it, or apply a round's decisions to it.

Each function is a map of `tasks.MAPS`: its arguments are JSON, its outputs are written whole, and
its record is all that the stage learns of it. Memory is that of a batch (`read_split`) and of the
steps' own, whatever the size of the split. A long split goes on where its task died; how, and at
what cost, is in `curation_parts.py`.

    work/kept-K/00042.parquet      documents that go into round K, a row group a batch
    work/signed-K/00042.parquet    their signatures
    work/merge-K/                  the round's decisions about them
    documents/00042.parquet        what the last round kept
    rejected/00042.parquet         what steps rejected; a round's are in rejected/NAME-00042.parquet
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.document import SCHEMA
from curation.readers import Problem, SourceError, read_parts
from pipelines.curation_parts import Files, Parts
from pipelines.steps import Round, Step, build_rounds, build_steps

REJECTED_SCHEMA = SCHEMA.append(pa.field("step", pa.string())).append(
    pa.field("reason", pa.string())
)
BATCH_BYTES = 4 << 20  # of text in a row group, whatever the steps have left of a batch
TALLIED = ("domain", "language", "step", "reason")
MOST_PROBLEMS = 1000  # of a split that are kept one by one; all are counted


def sizes(batch: pa.RecordBatch) -> pa.Array:
    """Bytes of UTF-8 of each text."""
    return pc.binary_length(batch.column("text").cast(pa.large_binary()))


class Tally:
    """Documents and bytes, kept and rejected, and what each step was given and gave back."""

    def __init__(self, rows: Iterable[dict] = (), flows: Mapping[str, dict] | None = None) -> None:
        """Go on from what `rows` and `flows` gave, or begin with nothing."""
        self.documents: Counter = Counter()  # by (domain, language, step, reason); "", "" for kept
        self.bytes: Counter = Counter()
        self.flow = {int(place): Counter(counts) for place, counts in (flows or {}).items()}
        for row in rows:
            key = tuple(row[name] for name in TALLIED)
            self.documents[key], self.bytes[key] = row["documents"], row["bytes"]

    def add(self, batch: pa.RecordBatch, step: str = "", reasons: pa.Array | None = None) -> None:
        """Count a batch of documents that were rejected by a step, or kept."""
        why = reasons if reasons is not None else pa.array([""] * len(batch), pa.string())
        columns = [batch.column("domain"), pc.fill_null(batch.column("language"), ""), why]
        table = pa.table([*columns, sizes(batch)], ["domain", "language", "reason", "bytes"])
        groups = table.group_by(["domain", "language", "reason"], use_threads=False)
        for row in groups.aggregate([("bytes", "sum"), ("bytes", "count")]).to_pylist():
            key = (row["domain"], row["language"], step, row["reason"])
            self.documents[key] += row["bytes_count"]
            self.bytes[key] += row["bytes_sum"]

    def pass_through(self, place: int, before: pa.RecordBatch, after: pa.RecordBatch) -> None:
        """Count what the step at a place of the chain was given and gave back, rejected or not."""
        flow = self.flow.setdefault(place, Counter())
        unchanged = after.column("text").equals(before.column("text"))
        flow["documents_in"] += len(before)
        flow["documents_out"] += len(after)
        size = pc.sum(sizes(before)).as_py() or 0
        flow["bytes_in"] += size
        flow["bytes_out"] += size if unchanged else pc.sum(sizes(after)).as_py() or 0
        if not unchanged and len(before) == len(after):
            differ = pc.not_equal(before.column("text"), after.column("text"))
            flow["documents_edited"] += pc.sum(differ).as_py() or 0

    def rows(self) -> list[dict]:
        """JSON-able rows of what was kept and rejected, sorted."""
        return [
            dict(zip(TALLIED, key, strict=True)) | {"documents": n, "bytes": self.bytes[key]}
            for key, n in sorted(self.documents.items())
        ]

    def flows(self) -> dict[str, dict]:
        """JSON-able counts by the step's place."""
        return {str(place): dict(flow) for place, flow in self.flow.items()}

    @property
    def kept(self) -> int:
        return sum(n for key, n in self.documents.items() if not key[2])


def apply_step(
    step: Step, batch: pa.RecordBatch
) -> tuple[pa.RecordBatch, pa.RecordBatch, pa.Array | None]:
    """Run a step: every row that it gave back, those that stay, and, of a filter, the reasons."""
    result = step(batch)
    index = result.schema.get_field_index("reject")
    if index < 0:
        result = result.select(SCHEMA.names)
        return result, result, None
    reject = result.column(index)
    result = result.select(SCHEMA.names)
    if reject.null_count == len(reject):
        return result, result, reject
    return result, result.filter(pc.is_null(reject)), reject


class Sink:
    """Where a split's documents go: to the next round, signed, or to `documents`."""

    def __init__(self, files: Files, out: Path, number: int, k: int, rounds: list) -> None:
        self._files = files
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._round: Round | None = rounds[k][1] if k < len(rounds) else None
        path, self._signed_path = sink_paths(out, number, k, bool(self._round))
        self._documents = files.open(path, SCHEMA)
        self._signed: pq.ParquetWriter | None = None  # a split without documents has none

    def write(self, batch: pa.RecordBatch) -> None:
        """Take documents that stay; they are written when there are enough for a row group."""
        self._held.append(batch)
        self._held_bytes += pc.sum(sizes(batch)).as_py()
        if self._held_bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held: to be called at the end."""
        if not self._held:
            return
        (batch,) = pa.Table.from_batches(self._held).combine_chunks().to_batches()
        self._held, self._held_bytes = [], 0
        self._documents.write_batch(batch)
        if self._round:
            signed = self._round.sign(batch)
            if len(signed) != len(batch):
                raise ValueError(
                    f"{type(self._round).__name__}.sign gave {len(signed)} rows for "
                    f"{len(batch)} documents, expected one for each"
                )
            if self._signed is None:
                self._signed = self._files.open(self._signed_path, signed.schema)
            self._signed.write_table(signed)


def sink_paths(out: Path, number: int, k: int, signs: bool) -> tuple[Path, Path]:
    """Where a split's documents go before round k, and their signatures, if there is a round k."""
    file = f"{number:05d}.parquet"
    documents = out / "work" / f"kept-{k}" if signs else out / "documents"
    return documents / file, out / "work" / f"signed-{k}" / file


def _reject(
    writer: pq.ParquetWriter, tally: Tally, step: str, batch: pa.RecordBatch, reject: pa.Array
) -> None:
    """Write the rows that have a reason, and count them."""
    there = pc.is_valid(reject)
    dropped, reasons = batch.filter(there), reject.filter(there).cast(pa.string())
    if len(dropped):
        tally.add(dropped, step, reasons)
        steps = pa.array([step] * len(dropped), pa.string())
        writer.write_batch(
            pa.RecordBatch.from_arrays([*dropped.columns, steps, reasons], schema=REJECTED_SCHEMA)
        )


def _record(tally: Tally, paths: Iterable[Path]) -> dict:
    return {
        "kept": tally.kept,
        "tally": tally.rows(),
        "flows": tally.flows(),
        "file_bytes": [path.stat().st_size if path.exists() else 0 for path in paths],
    }


class Told:
    """The problems of a split: all counted, the first of them kept. `on_error: stop` raises."""

    def __init__(self, on_error: str, problems: list[dict], count: int) -> None:
        self.problems, self.count = problems, count
        self._stop = on_error == "stop"

    def __call__(self, problem: Problem) -> None:
        """Take a problem that the reader tells."""
        if self._stop:
            raise SourceError(f"{problem} (on_error: stop)")
        self.count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(asdict(problem))


def filter_split(
    number: int,
    job: dict,
    out: str,
    steps: list,
    rounds: list,
    seed: int,
    on_error: str,
    part_bytes: int,
) -> dict:
    """The first map: read a split, run the steps, sign what is left for the first round.

    Of a split with more text than `part_bytes`, what was done before stays done.
    """
    directory, chain, signers = Path(out), build_steps(steps), build_rounds(rounds, seed)
    rejected_path = directory / "rejected" / f"{number:05d}.parquet"
    parts = Parts(directory, number)
    before = parts.state or {}
    tally = Tally(before.get("tally", ()), before.get("flows"))
    told = Told(on_error, before.get("problems", []), before.get("problem_count", 0))
    read, ended = before.get("documents_in", 0), before.get("ended", False)
    reader = read_parts(job, told, after=before.get("place"))

    def counts() -> dict:
        return {"documents_in": read, "problems": told.problems, "problem_count": told.count}

    while not ended:
        with Files() as files:
            sink = Sink(files, directory, number, 0, signers)
            rejected = files.open(rejected_path, REJECTED_SCHEMA)
            place, size = None, 0
            while size < part_bytes:
                place, batch = next(reader, (None, None))
                if batch is None:
                    ended = True
                    break
                read += len(batch)
                size += pc.sum(sizes(batch)).as_py()
                batch = _filter(batch, chain, tally, rejected)
                if len(batch):
                    tally.add(batch)
                    sink.write(batch)
            sink.flush()
            if ended and not parts.count:
                files.keep()
                break
            so_far = {"tally": tally.rows(), "flows": tally.flows()}
            parts.add(files, {"place": place, "ended": ended} | so_far | counts())
    if parts.count:
        parts.join()
    paths = sink_paths(directory, number, 0, bool(signers))
    return _record(tally, paths) | counts() | {"part_bytes": parts.bytes}


def _filter(
    batch: pa.RecordBatch,
    chain: list[tuple[str, Step]],
    tally: Tally,
    rejected: pq.ParquetWriter,
) -> pa.RecordBatch:
    """Run the steps on a batch; give what is left of it."""
    for place, (name, step) in enumerate(chain):
        if not len(batch):
            break
        result, stays, reject = apply_step(step, batch)
        tally.pass_through(place, batch, result)
        if reject is not None:
            _reject(rejected, tally, name, result, reject)
        batch = stays
    return batch


def merge_round(number: int, job: dict, out: str, k: int, rounds: list, seed: int) -> dict:
    """A round's merge: `work/merge-K`, from the signatures of the splits that the job names."""
    directory = Path(out)
    name, method = build_rounds(rounds, seed)[k]
    folder = directory / "work" / f"merge-{k}"
    shutil.rmtree(folder, ignore_errors=True)  # of a merge that was killed
    folder.mkdir(parents=True)
    signed = directory / "work" / f"signed-{k}"
    method.merge([signed / f"{n:05d}.parquet" for n in job["splits"]], folder, job["memory"])
    decisions, index = folder / "decisions.parquet", folder / "index.parquet"
    if not decisions.exists():
        raise ValueError(f"{type(method).__name__}.merge wrote no {decisions}")
    record = {"decision_bytes": decisions.stat().st_size, "index_rows": None}
    if index.exists():
        record["index_rows"] = pq.read_metadata(index).num_rows
        published = directory / "index" / f"{name}.parquet"
        published.parent.mkdir(exist_ok=True)
        index.replace(published)
    return record


def apply_round(number: int, job: dict, out: str, k: int, rounds: list, seed: int) -> dict:
    """A round's second map: apply its decisions, sign what is left for the next round."""
    directory, chain = Path(out), build_rounds(rounds, seed)
    name, method = chain[k]
    decisions = directory / "work" / f"merge-{k}" / "decisions.parquet"
    tally, row = Tally(), job["first_row"]
    with Files() as files:
        sink = Sink(files, directory, number, k + 1, chain)
        rejected_path = directory / "rejected" / f"{name}-{number:05d}.parquet"
        rejected = files.open(rejected_path, REJECTED_SCHEMA)
        for batch in read_batches(directory / "work" / f"kept-{k}" / f"{number:05d}.parquet"):
            step = partial(method.apply, decisions=decisions, first_row=row)
            result, stays, reject = apply_step(step, batch)
            if len(result) != len(batch) or reject is None:
                raise ValueError(
                    f"{type(method).__name__}.apply gave {len(result)} rows for {len(batch)}, "
                    "expected every row and a column `reject`"
                )
            tally.pass_through(0, batch, result)
            _reject(rejected, tally, name, result, reject)
            row += len(batch)
            if len(stays):
                tally.add(stays)
                sink.write(stays)
        sink.flush()
        files.keep()
    return _record(tally, sink_paths(directory, number, k + 1, k + 1 < len(chain)))


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Read documents written as Parquet, a row group at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            for batch in file.read_row_group(group).combine_chunks().to_batches():
                yield batch.cast(SCHEMA)
