"""Traces through a run's folder: a step's documents, and a document's steps.

`packing.trace` knows the plan, `step_record` the training; the origin of a document (`uri`) stands
in the curated documents. Shard k of tokens is shard k of documents, row for row, so that one row is
read there, and its id checked; where that fails, the row is looked for by its id.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from packing.plan import held_out
from packing.positions import Rows, Sequences, read_plan
from packing.trace import (
    Sighting,
    find_documents,
    is_in,
    name_documents,
    sightings,
    sightings_of,
    take_rows,
)
from pipelines.files import read_json
from pipelines.step_record import Step, StepRecord


class UnknownDocument(LookupError):
    """No document of the run has this id."""


@dataclass(frozen=True)
class Run:
    """A run's folder, opened for tracing."""

    directory: Path
    plan: dict
    sequences: Sequences
    steps: StepRecord

    @classmethod
    def open(cls, directory: Path, batch_size: int | None = None) -> "Run":
        """Open a folder that has `plan/` and `encode/`.

        batch_size: of steps that training has not recorded; None is that of the finished
        training, or of its last step. Raises ValueError naming what is missing.
        """
        if not (directory / "plan" / "plan.json").is_file():
            raise ValueError(
                f"{directory}: no plan in it, expected plan/plan.json: give the folder of a run "
                "whose plan is made (`gristmill plan`)"
            )
        trained = read_json(directory / "train" / "manifest.json")
        if batch_size is None and trained is not None:
            size = trained["config"]["train"].get("batch_size")
            batch_size = size if isinstance(size, int) else None
        sequences = Sequences.open(directory / "plan")
        record = directory / "train" / "metrics.jsonl"
        steps = StepRecord(record, len(sequences), sequences.phase_end, batch_size)
        return cls(directory, read_plan(directory / "plan"), sequences, steps)

    @property
    def stems(self) -> list[Path]:
        """The token shards, in the plan's order."""
        return [self.directory / "encode" / name for name in self.plan["shards"]]


def trace_step(run: Run, number: int, row: int | None = None) -> dict:
    """All that a step, or one row of its batch, is made of.

    Gives `step`, `first` and `last` (positions, `last` excluded), `recorded`, `phase`, and
    `pieces`, in order: `row`, `offset` (in the row), `length`, `start` (in the document), in
    tokens, with the document's `id`, `source`, `domain`, `language`, `uri`, `tokens`. Raises
    ValueError for a step or a row that there is not.
    """
    step = run.steps.step(number)
    first, last = step.first, step.last
    if row is not None:
        if not 0 <= row < last - first:
            raise ValueError(f"step {number:,}: its rows are 0 to {last - first - 1}, not {row}")
        first, last = first + row, first + row + 1
    found = sightings(run.sequences, first, last)
    named = name_documents(run.stems, {(x.shard, x.document) for x in found})
    origins = uris(run, {key: about["id"] for key, about in named.items()})
    pieces = [_told(x, step) | _about(x, named, origins) for x in found]
    return asdict(step) | {"phase": run.sequences.place(step.first)[0], "pieces": pieces}


def trace_document(run: Run, name: str) -> list[dict]:
    """Where a document is in a run; where only its parts or what was made of it are, those.

    Gives for each `id`, `source`, `domain`, `language`, `uri`, `tokens`, `held_out` (the validation
    set, "validation" if it is in none of them, or None), and `seen`, in order: `step`, `recorded`,
    `phase`, `row`, `offset`, `length`, `start`. Raises UnknownDocument.
    """
    found = find_documents(run.stems, name)
    if not found:
        raise UnknownDocument(
            f"{name}: no document of this id in {run.directory / 'encode'}; what curation dropped "
            f"is in `gristmill rejected {run.directory}`"
        )
    named = name_documents(run.stems, found)
    origins = uris(run, {key: about["id"] for key, about in named.items()})
    traced = []
    for key in found:
        seen = []
        for x in sightings_of(run.sequences, *key):
            step = run.steps.step_at(x.position)
            phase = run.sequences.place(x.position)[0]
            seen.append(
                {"step": step.step, "recorded": step.recorded, "phase": phase} | _told(x, step)
            )
        about = named[key] | {"uri": origins.get(key)}
        traced.append(about | {"held_out": None if seen else _held_out(run, *key), "seen": seen})
    return traced


def _told(x: Sighting, step: Step) -> dict:
    return {
        "row": x.position - step.first, "offset": x.offset, "length": x.length, "start": x.start,
    }  # fmt: skip


def _about(x: Sighting, named: dict, origins: dict) -> dict:
    key = (x.shard, x.document)
    return named[key] | {"uri": origins.get(key)}


def _held_out(run: Run, shard: int, document: int) -> str | None:
    """The validation set that holds a document; "validation" if it is held out and in none."""
    for entry in run.plan["validation"].values():
        if is_in(Rows(run.directory / "plan", entry), shard, document):
            return entry["name"]
    manifest = read_json(run.directory / "plan" / "manifest.json")
    if manifest is None:
        return None
    fraction = manifest["config"]["plan"]["validation"]["fraction"]
    stem = run.stems[shard]
    path = stem.with_name(stem.name + ".documents.parquet")
    (row,) = take_rows(path, [document], ("id", "parents"))
    held = held_out([row["id"]], [row["parents"]], run.plan["seed"], fraction)
    return "validation" if held[0] else None


def uris(run: Run, ids: dict[tuple[int, int], str]) -> dict[tuple[int, int], str | None]:
    """The origins of documents, by (shard, document); those that are not found are left out."""
    folder = run.directory / "curate" / "documents"
    splits = (read_json(run.directory / "encode" / "splits.json") or {}).get("splits") or []
    by_shard: dict[int, list[int]] = {}
    for shard, document in ids:
        by_shard.setdefault(shard, []).append(document)
    found = {}
    for shard, documents in by_shard.items():
        number = run.plan["shards"][shard].rpartition("-")[2]
        known = number.isdigit() and int(number) < len(splits)
        path = folder / Path(splits[int(number)]["path"]).name if known else None
        if path is None or not path.is_file():
            continue
        try:
            rows = take_rows(path, documents, ("id", "uri"))
        except ValueError:
            continue  # fewer rows: they are looked for by their ids
        for document, row in zip(documents, rows, strict=True):
            if row["id"] == ids[shard, document]:
                found[shard, document] = row["uri"]
    missing = {name: key for key, name in ids.items() if key not in found}
    for row in _scan(sorted(folder.glob("*.parquet")), set(missing)) if missing else ():
        found[missing[row["id"]]] = row["uri"]
    return found


def _scan(paths: Iterable[Path], names: set[str]) -> Iterable[dict]:
    """Rows of curated documents by id, out of the row groups that may have them."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    wanted = pa.array(sorted(names))
    for path in paths:
        if names:
            table = ds.dataset(path).to_table(["id", "uri"], filter=ds.field("id").isin(wanted))
            yield from table.to_pylist()


def top_documents(pieces: Iterable[dict], n: int) -> list[dict]:
    """The documents that have most tokens in some pieces, each with its `here` of them."""
    here: Counter = Counter()
    about = {}
    for piece in pieces:
        here[piece["id"]] += piece["length"]
        about[piece["id"]] = piece
    return [about[name] | {"here": tokens} for name, tokens in here.most_common(n)]
