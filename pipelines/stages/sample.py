"""Gather the embedded corpus from installed packages; see `curation.sample`."""

from curation.sample import build_sample
from curation.sample.build import installed_packages
from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage


def _config(recipe: Recipe) -> dict:
    return {
        "target_bytes": recipe.sample.target_bytes,
        "seed": recipe.seed,
        "packages": installed_packages(),
    }


def _run(context: Context) -> Result:
    bar = context.bar("gather")
    summary = build_sample(
        context.directory,
        seed=context.recipe.seed,
        target_bytes=context.recipe.sample.target_bytes,
        progress=lambda part, done, total: bar.at(done, total, part),
    )
    rows = {entry["path"]: entry["documents"] for entry in summary["files"]}
    outputs = {context.directory / path: n for path, n in rows.items()}
    outputs[context.directory / "sample.json"] = None
    return Result(
        outputs,
        {"domains": summary["domains"]},
        f"{summary['documents']:,} documents, {summary['bytes'] / 1e6:.1f} MB of text",
    )


STAGE = Stage("sample", 2, (), _config, _run)
