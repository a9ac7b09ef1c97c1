"""Curate: read the sources, filter, drop duplicates; keep what was rejected, with its reason.

Two maps over the splits and a merge between them. The first reads a split, runs the recipe's steps
and writes what is left, what was rejected and the signatures of what is left; the merge finds the
duplicates among all signatures; the second writes the documents that stay.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.dedup import DocumentDedup
from curation.document import SCHEMA
from curation.readers import Problem, Source, SourceError, plan_splits, read_split
from pipelines.files import atomic
from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage
from pipelines.steps import Step, build_steps

REJECTED_SCHEMA = SCHEMA.append(pa.field("step", pa.string())).append(
    pa.field("reason", pa.string())
)


class Tally:
    """Documents and bytes by (domain, language, step, reason); step and reason "" for kept."""

    def __init__(self) -> None:
        self.documents: Counter = Counter()
        self.bytes: Counter = Counter()

    def add(self, batch: pa.RecordBatch, step: str = "", reasons: pa.Array | None = None) -> None:
        """Count a batch of documents."""
        sizes = pc.binary_length(batch.column("text").cast(pa.large_binary())).to_pylist()
        domains = batch.column("domain").to_pylist()
        languages = batch.column("language").to_pylist()
        why = reasons.to_pylist() if reasons is not None else [""] * len(sizes)
        for domain, language, reason, size in zip(domains, languages, why, sizes, strict=True):
            key = (domain, language or "", step, reason)
            self.documents[key] += 1
            self.bytes[key] += size

    def rows(self) -> list[dict]:
        """JSON-able rows, sorted."""
        names = ("domain", "language", "step", "reason")
        return [
            dict(zip(names, key, strict=True)) | {"documents": n, "bytes": self.bytes[key]}
            for key, n in sorted(self.documents.items())
        ]


def apply(
    step: Step, batch: pa.RecordBatch
) -> tuple[pa.RecordBatch, pa.RecordBatch | None, pa.Array | None]:
    """Run a step: what stays, and, for a filter, the rejected rows and their reasons."""
    result = step(batch)
    index = result.schema.get_field_index("reject")
    if index < 0:
        return result, None, None
    reject = result.column(index)
    result = result.select(SCHEMA.names)
    out = pc.is_valid(reject)
    return result.filter(pc.invert(out)), result.filter(out), reject.filter(out)


def _with_reasons(batch: pa.RecordBatch, step: str, reasons: pa.Array) -> pa.RecordBatch:
    step_column = pa.array([step] * len(batch), pa.string())
    return pa.RecordBatch.from_arrays(
        [*batch.columns, step_column, reasons.cast(pa.string())], schema=REJECTED_SCHEMA
    )


def filter_split(
    number: int, job: dict, out: str, steps: list, dedup: dict | None, on_error: str
) -> dict:
    """The first map: `work/kept`, `work/signatures` and `rejected` of one split."""
    directory = Path(out)
    chain = build_steps(steps)
    problems: list[Problem] = []

    def on_problem(problem: Problem) -> None:
        if on_error == "stop":
            raise SourceError(f"{problem} (on_error: stop)")
        problems.append(problem)

    tally = Tally()
    config = DocumentDedup(**dedup) if dedup else None
    signed = []
    with (
        atomic(directory / "work" / f"kept-{number:05d}.parquet") as kept_path,
        atomic(directory / "rejected" / f"{number:05d}.parquet") as rejected_path,
        pq.ParquetWriter(kept_path, SCHEMA, compression="zstd") as kept,
        pq.ParquetWriter(rejected_path, REJECTED_SCHEMA, compression="zstd") as rejected,
    ):
        for batch in read_split(job, on_problem):
            for name, step in chain:
                batch, dropped, reasons = apply(step, batch)
                if dropped is not None and len(dropped):
                    tally.add(dropped, name, reasons)
                    rejected.write_batch(_with_reasons(dropped, name, reasons))
            if len(batch):
                tally.add(batch)
                kept.write_batch(batch)
                if config:
                    signed.append(config.sign(batch))
    if signed:
        with atomic(directory / "work" / f"signatures-{number:05d}.parquet") as path:
            pq.write_table(pa.concat_tables(signed), path, compression="zstd")
    return {
        "kept": sum(n for key, n in tally.documents.items() if not key[2]),
        "tally": tally.rows(),
        "problems": [asdict(problem) for problem in problems],
    }


def write_split(number: int, job: dict, out: str) -> dict:
    """The second map: `documents` of one split, without duplicates, and `rejected/dedup-`."""
    directory = Path(out)
    decisions = directory / "work" / "decisions.parquet"
    table = decisions if decisions.exists() else None
    tally, dropped_tally = Tally(), Tally()
    with (
        atomic(directory / "documents" / f"{number:05d}.parquet") as kept_path,
        atomic(directory / "rejected" / f"dedup-{number:05d}.parquet") as rejected_path,
        pq.ParquetWriter(kept_path, SCHEMA, compression="zstd") as kept,
        pq.ParquetWriter(rejected_path, REJECTED_SCHEMA, compression="zstd") as rejected,
    ):
        row = job["first_row"]
        for batch in read_batches(directory / "work" / f"kept-{number:05d}.parquet"):
            if table is not None:
                step = partial(DocumentDedup().apply, decisions=table, first_row=row)
                row += len(batch)
                batch, dropped, reasons = apply(step, batch)
                if len(dropped):
                    dropped_tally.add(dropped, "dedup", reasons)
                    rejected.write_batch(_with_reasons(dropped, "dedup", reasons))
            if len(batch):
                tally.add(batch)
                kept.write_batch(batch)
    return {
        "rows": sum(tally.documents.values()),
        "kept": tally.rows(),
        "dropped": dropped_tally.rows(),
    }


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Read documents written as Parquet, a row group at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            for batch in file.read_row_group(group).combine_chunks().to_batches():
                yield batch.cast(SCHEMA)


def _merge(context: Context) -> None:
    """The merge: the table of all duplicates, from all signatures in the order of the splits."""
    target = context.directory / "work" / "decisions.parquet"
    if target.exists():
        return
    bar = context.bar("duplicates", 1)
    paths = sorted((context.directory / "work").glob("signatures-*.parquet"))
    DocumentDedup(**_dedup(context.recipe)).merge(paths, target.parent, 1 << 30)
    bar.at(1)


def curated_shards(context: Context) -> list[Path]:
    """The shards of curated documents, in order, for the stages that come after."""
    outputs = context.outputs("curate", ".parquet")
    return [path for path in outputs if path.parent.name == "documents"]


def _warn(context: Context, problems: list[Problem]) -> None:
    """Show one problem of each file, and one of each kind for whole files; the manifest has all."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        key = ("file", problem.file) if problem.where else ("kind", problem.what)
        groups.setdefault(key, []).append(problem)
    for k, ((kind, _), mine) in enumerate(groups.items()):
        if k == 20:
            context.warn(f"… and {len(groups) - k} more: {context.directory}/manifest.json")
            break
        others = "problems in this file" if kind == "file" else "such files"
        more = f" (and {len(mine) - 1:,} more {others})" if len(mine) > 1 else ""
        context.warn(f"{mine[0]}{more}")


def _dedup(recipe: Recipe) -> dict | None:
    dedup = recipe.curate.dedup
    if not dedup:
        return None
    settings = dedup.model_dump() | {"seed": recipe.seed}
    return settings | {"near": not settings.pop("exact_only")}


def _sources(recipe: Recipe) -> list[Source]:
    sources = [Source(**source.model_dump()) for source in recipe.sources]
    if recipe.sample is not None:
        sample = recipe.directory / "sample"
        sources.insert(0, Source(str(sample), name="sample", domain="web", format="parquet"))
    return sources


def _run(context: Context) -> Result:
    recipe, directory = context.recipe, context.directory
    jobs = context.splits(
        lambda: [
            split
            for source in _sources(recipe)
            for split in plan_splits(source, recipe.curate.split_bytes)
        ]
    )
    first = context.map(
        "filter", filter_split, jobs, str(directory), list(recipe.curate.steps), _dedup(recipe),
        recipe.on_error,
    )  # fmt: skip
    problems = [Problem(**problem) for record in first for problem in record["problems"]]
    _warn(context, problems)
    if _dedup(recipe):
        _merge(context)
    # A document's place among all that were signed tells it from another of the same id.
    places = accumulate((record["kept"] for record in first), initial=0)
    jobs = [{"first_row": place} for place, _ in zip(places, jobs, strict=False)]
    second = context.map("write", write_split, jobs, str(directory))

    outputs: dict[Path, int | None] = {}
    for number, record in enumerate(second):
        outputs[directory / "documents" / f"{number:05d}.parquet"] = record["rows"]
    for path in sorted((directory / "rejected").glob("*.parquet")):
        outputs[path] = pq.read_metadata(path).num_rows
    tally = [row for record in first for row in record["tally"] if row["step"]]
    tally += [row for record in second for row in (*record["dropped"], *record["kept"])]
    total = _add_up(tally)
    kept = sum(row["documents"] for row in total if not row["step"])
    size = sum(row["bytes"] for row in total if not row["step"])
    read = sum(row["documents"] for row in total)
    if not kept:
        reasons = Counter()
        for row in total:
            reasons[f"{row['step']} {row['reason']}"] += row["documents"]
        most = ", ".join(f"{reason} ({n:,})" for reason, n in reasons.most_common(3))
        raise SourceError(
            f"{recipe.directory}: no document is left of {read:,} read and "
            f"{len(problems):,} problems. Most rejected by: {most or 'nothing was read'}"
        )
    return Result(
        outputs,
        {"tally": total, "problems": [asdict(problem) for problem in problems]},
        f"{kept:,} of {read:,} documents kept, {size / 1e6:.1f} MB"
        + (f", {len(problems):,} problems" if problems else ""),
    )


def _add_up(rows: list[dict]) -> list[dict]:
    total: dict[tuple, dict] = {}
    for row in rows:
        key = tuple(row[name] for name in ("domain", "language", "step", "reason"))
        if key in total:
            total[key]["documents"] += row["documents"]
            total[key]["bytes"] += row["bytes"]
        else:
            total[key] = dict(row)
    return [total[key] for key in sorted(total)]


def _files(recipe: Recipe) -> dict[str, Path]:
    """Every file of the recipe's own sources, by source and path inside it."""
    files = {}
    for source in recipe.sources:
        root = Path(source.path)
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            base = root.parent if root.is_file() else root
            inside = path.relative_to(base)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                files[f"{source.name}/{inside}"] = path
    return files


def _config(recipe: Recipe) -> dict:
    return {
        "sources": [source.model_dump(exclude={"path"}) for source in recipe.sources],
        "curate": recipe.curate.model_dump(),
        "seed": recipe.seed,
        "on_error": recipe.on_error,
    }


def stage(recipe: Recipe) -> Stage:
    """The stage; it comes after `sample` when the recipe has one."""
    after = ("sample",) if recipe.sample is not None else ()
    return Stage("curate", 1, after, _config, _run, _files)
