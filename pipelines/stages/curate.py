"""Curate: read the sources, filter, drop duplicates; keep what was rejected, with its reason.

A map over the splits reads them, runs the recipe's steps and signs what is left for the first round
of deduplication; then each round is a merge, which decides from all signatures, and a map, which
applies the decisions and signs what is left for the next round. The last map writes `documents`.
What is done to a split is in `curation_maps.py`; here is the order of it.

    map filter ─► merge R1 ─► map R1 ─► merge R2 ─► map R2 ─► … ─► documents

On disk, besides the outputs, there are at most the texts twice (zstd) and one round's signatures:
what a phase has read is deleted when all of the phase is done.

A file here is known by its checksum, a file elsewhere by its size and what the store says of its
version: the store is asked for its list each time, and what has changed there is curated anew.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from itertools import accumulate
from pathlib import Path

import pyarrow.parquet as pq

from curation.readers import Problem, Source, SourceError, plan_splits, versions
from curation.remote import is_remote, shown
from pipelines.recipe import Recipe
from pipelines.recipe_data import SourceSection
from pipelines.runner import Context, Result, Stage
from pipelines.steps import build_rounds, build_steps, files_of, fingerprints_of, shipped_data

MOST_PROBLEMS = 10_000  # that the manifest names one by one; all are counted


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


def _source(section: SourceSection) -> Source:
    return Source(**section.model_dump(), storage_options=section.storage_options)


def _sources(recipe: Recipe) -> list[Source]:
    sources = [_source(section) for section in recipe.sources]
    if recipe.sample is not None:
        sample = recipe.directory / "sample"
        sources.insert(0, Source(str(sample), name="sample", domain="web", format="parquet"))
    if recipe.projects is not None:
        made = recipe.directory / "projects" / "documents"
        sources.append(Source(str(made), name="projects", domain="code", format="parquet"))
    return sources


def _splits(context: Context) -> list[dict]:
    """Cut the sources. `splits.json`, which stays, is written without their `storage_options`."""
    recipe = context.recipe

    def make() -> list[dict]:
        return [
            split | {"source": split["source"] | {"storage_options": {}}}
            for source in _sources(recipe)
            for split in plan_splits(source, recipe.curate.split_bytes)
        ]

    options = {source.name: source.storage_options for source in recipe.sources}
    return [
        split | {"source": split["source"] | {"storage_options": options.get(name, {})}}
        for split in context.splits(make)
        for name in [split["source"]["name"]]
    ]


def _check_left(context: Context, maps: list[list[dict]]) -> None:
    """Raise SourceError with the reasons when the last map has kept no document."""
    if any(record["kept"] for record in maps[-1]):
        return
    reasons: Counter = Counter()
    for records in maps:
        for record in records:
            for row in record["tally"]:
                if row["step"]:
                    reasons[f"{row['step']} {row['reason']}"] += row["documents"]
    most = ", ".join(f"{reason} ({n:,})" for reason, n in reasons.most_common(3))
    problems = sum(record["problem_count"] for record in maps[0])
    raise SourceError(
        f"{context.recipe.directory}: no document is left of {reasons.total():,} read and "
        f"{problems:,} problems. Most rejected by: {most or 'nothing was read'}"
    )


def _round(context: Context, k: int, name: str, before: list[dict], arguments: tuple) -> tuple:
    """Round k: its merge and its map, given the records of the map before; both their records."""
    work = context.directory / "work"
    signed = [number for number, record in enumerate(before) if record["kept"]]
    job = {"splits": signed, "memory": context.recipe.curate.merge_memory_bytes}
    (merged,) = context.map(f"{name}-merge", "curate.merge", [job], *arguments)
    shutil.rmtree(work / f"signed-{k}", ignore_errors=True)
    # A document's place among all that were signed tells it from another of the same id.
    places = accumulate((record["kept"] for record in before), initial=0)
    jobs = [{"first_row": place} for place, _ in zip(places, before, strict=False)]
    applied = context.map(f"{name}-apply", "curate.apply", jobs, *arguments)
    shutil.rmtree(work / f"kept-{k}", ignore_errors=True)
    shutil.rmtree(work / f"merge-{k}", ignore_errors=True)
    return merged, applied


def _run(context: Context) -> Result:
    recipe, directory = context.recipe, context.directory
    jobs = _splits(context)
    steps, rounds = recipe.steps(), list(recipe.curate.dedup.items())
    first = context.map(
        "filter", "curate.filter", jobs, str(directory), steps, rounds, recipe.seed,
        recipe.on_error, recipe.curate.part_bytes,
    )  # fmt: skip
    shutil.rmtree(directory / "work" / "parts", ignore_errors=True)
    problems = [Problem(**problem) for record in first for problem in record["problems"]]
    _warn(context, problems)
    maps, merges = [first], []
    for k, (name, _) in enumerate(rounds):
        _check_left(context, maps)
        arguments = (str(directory), k, rounds, recipe.seed)
        merged, applied = _round(context, k, name, maps[-1], arguments)
        merges.append(merged)
        maps.append(applied)
    _check_left(context, maps)

    outputs: dict[Path, int | None] = {}
    for number, record in enumerate(maps[-1]):
        outputs[directory / "documents" / f"{number:05d}.parquet"] = record["kept"]
    for path in sorted((directory / "rejected").glob("*.parquet")):
        outputs[path] = pq.read_metadata(path).num_rows
    for (name, _), merged in zip(rounds, merges, strict=True):
        if merged["index_rows"] is not None:
            outputs[directory / "index" / f"{name}.parquet"] = merged["index_rows"]

    tally = _add_up(
        row
        for k, records in enumerate(maps)
        for record in records
        for row in record["tally"]
        if row["step"] or k == len(maps) - 1
    )
    kept = sum(row["documents"] for row in tally if not row["step"])
    size = sum(row["bytes"] for row in tally if not row["step"])
    read = sum(record["documents_in"] for record in first)
    found = sum(record["problem_count"] for record in first)
    return Result(
        outputs,
        {
            "tally": tally,
            "steps": _flows(steps, rounds, maps),
            "problems": [asdict(problem) for problem in problems[:MOST_PROBLEMS]],
            "problem_count": found,
            "peak_work_bytes": _peak_work(maps, merges),
        },
        f"{kept:,} of {read:,} documents kept, {size / 1e6:.1f} MB"
        + (f", {found:,} problems" if found else ""),
    )


def _add_up(rows) -> list[dict]:
    total: dict[tuple, dict] = {}
    for row in rows:
        key = tuple(row[name] for name in ("domain", "language", "step", "reason"))
        if key in total:
            total[key]["documents"] += row["documents"]
            total[key]["bytes"] += row["bytes"]
        else:
            total[key] = dict(row)
    return [total[key] for key in sorted(total)]


def _flows(steps: list[dict], rounds: list[tuple], maps: list[list[dict]]) -> list[dict]:
    """What each step and round, in order, was given and gave back (its rejected ones with it)."""
    names = [name for name, _ in build_steps(steps)] + [name for name, _ in rounds]
    fields = ("documents_in", "documents_out", "documents_edited", "bytes_in", "bytes_out")
    flows = [{"step": name} | dict.fromkeys(fields, 0) for name in names]
    for k, records in enumerate(maps):
        offset = len(steps) + k - 1 if k else 0
        for record in records:
            for place, counts in record["flows"].items():
                for field, n in counts.items():
                    flows[offset + int(place)][field] += n
    return flows


def _peak_work(maps: list[list[dict]], merges: list[dict]) -> int:
    """Most bytes of intermediate files at one time, but for a merge's own temporary ones."""
    files = [
        [sum(column) for column in zip(*(r["file_bytes"] for r in m), strict=True)] for m in maps
    ]
    parts = sum(record["part_bytes"] for record in maps[0])
    peak = parts + sum(files[0]) if parts and merges else parts
    for k, merged in enumerate(merges):
        documents, signatures = files[k]
        last = k == len(merges) - 1
        after = 0 if last else sum(files[k + 1])  # the last map writes outputs
        decisions = merged["decision_bytes"]
        peak = max(peak, documents + signatures + decisions, documents + decisions + after)
    return peak


def _files(recipe: Recipe) -> dict[str, Path]:
    """Every file of the recipe's own sources, by source and path inside it; those of steps.

    Of sources elsewhere there is none here; `_config` has their versions.
    """
    files = {}
    for source in recipe.sources:
        if is_remote(source.path):
            continue
        root = Path(source.path)
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            base = root.parent if root.is_file() else root
            inside = path.relative_to(base)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                files[f"{source.name}/{inside}"] = path
    # No source has a name that begins with a slash.
    chain = build_steps(recipe.curate.steps)
    rounds = build_rounds(recipe.curate.dedup.items(), recipe.seed)
    files |= {f"/steps/{name}": path for name, path in files_of(chain, recipe.classifiers).items()}
    files |= {f"/dedup/{name}": path for name, path in files_of(rounds).items()}
    return files


def _source_config(section: SourceSection) -> dict:
    """A source's settings; of one elsewhere, its address and its files' versions, as told now."""
    settings = section.model_dump(exclude={"path"})
    if is_remote(section.path):
        settings |= {"address": shown(section.path), "files": versions(_source(section))}
    return settings


def _config(recipe: Recipe) -> dict:
    curate = recipe.curate.model_dump(exclude={"merge_memory_bytes"})
    return {
        "sources": [_source_config(section) for section in recipe.sources],
        # The order of the rounds counts, which a mapping would not tell.
        "curate": curate | {"dedup": list(curate["dedup"].items())},
        "fingerprints": fingerprints_of(build_steps(recipe.curate.steps)),
        "data": shipped_data(),
        "seed": recipe.seed,
        "on_error": recipe.on_error,
    }


def stage(recipe: Recipe) -> Stage:
    """The stage; it comes after `sample`, `projects`, `classifiers` where the recipe has them."""
    after = tuple(name for name in ("sample", "projects", "classifiers") if getattr(recipe, name))
    # Asked once: the manifest tells the same versions of remote files as the key.
    config: Callable[[], dict] = cache(lambda: _config(recipe))
    return Stage("curate", 4, after, lambda _: config(), _run, inputs=_files)
