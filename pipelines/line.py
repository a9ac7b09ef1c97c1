"""The line: the stages of a recipe, in the order they run."""

from pipelines.recipe import Recipe
from pipelines.runner import Stage
from pipelines.stages import (
    curate,
    encode,
    export,
    plan,
    projects,
    publish,
    report,
    sample,
    tokenizer,
    train,
)  # fmt: skip

NAMES = (
    "sample", "projects", "curate", "tokenizer", "encode", "plan", "train", "export", "publish",
    "report",
)  # fmt: skip


def stages(recipe: Recipe) -> list[Stage]:
    """The stages that this recipe has."""
    line = [
        curate.stage(recipe),
        tokenizer.STAGE,
        encode.STAGE,
        plan.STAGE,
        train.STAGE,
        export.STAGE,
        publish.STAGE,
        report.stage(recipe),
    ]
    first = [sample.STAGE] if recipe.sample is not None else []
    return [*first, *([projects.STAGE] if recipe.projects is not None else []), *line]
