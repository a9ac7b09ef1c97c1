"""Turn code projects into documents whose files stand behind those that they need."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.readers import Problem, SourceError
from pipelines.projects import GRAPHS, ProjectSource, add_up, plan_projects
from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage


def _sources(recipe: Recipe) -> list[ProjectSource]:
    return [ProjectSource(s.path, s.name, s.each) for s in recipe.projects.sources]


def _settings(recipe: Recipe) -> dict:
    chosen = recipe.projects
    return {
        "order": chosen.order,
        "max_bytes": chosen.max_bytes,
        "licenses": chosen.licenses,
        "holes": chosen.holes,
        "seed": recipe.seed,
    }


def _run(context: Context) -> Result:
    recipe, directory = context.recipe, context.directory
    jobs = context.splits(lambda: plan_projects(_sources(recipe)))
    records = context.map(
        "read", "projects.write", jobs, str(directory), _settings(recipe), recipe.on_error
    )
    problems = [Problem(**problem) for record in records for problem in record["problems"]]
    for problem in problems[:20]:
        context.warn(str(problem))
    outputs: dict[Path, int | None] = {}
    tables = [GRAPHS.empty_table()]
    for number, record in enumerate(records):
        outputs[directory / "documents" / f"{number:05d}.parquet"] = record["rows"]
        graphs = directory / "graphs" / f"{number:05d}.parquet"
        outputs[graphs] = record["projects"]
        tables.append(pq.read_table(graphs))
    told = add_up(pa.concat_tables(tables))
    if not told["documents"]:
        raise SourceError(
            f"{directory}: no document came of {told['projects']:,} projects "
            f"({told['not_allowed']:,} with a licence that is not allowed); "
            f"files set aside: {told['aside'] or 'none'}"
        )
    share = told["edges_in_order"] / told["edges"] if told["edges"] else 1.0
    return Result(
        outputs,
        {"projects": told, "problems": [asdict(problem) for problem in problems]},
        f"{told['documents']:,} documents of {told['projects']:,} projects, "
        f"{told['edges']:,} edges, {share:.0%} in order",
    )


def _files(recipe: Recipe) -> dict[str, Path]:
    """Every file of the projects, by source and path inside it."""
    files = {}
    for source in recipe.projects.sources:
        root = Path(source.path)
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink() and ".git" not in path.parts:
                inside = path.relative_to(root.parent if root.is_file() else root)
                files[f"{source.name}/{inside}"] = path
    return files


def _config(recipe: Recipe) -> dict:
    sources = [{"name": s.name, "each": s.each} for s in recipe.projects.sources]
    return {"sources": sources, "on_error": recipe.on_error, **_settings(recipe)}


STAGE = Stage("projects", 3, (), _config, _run, inputs=_files)
