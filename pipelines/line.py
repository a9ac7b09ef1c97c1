"""The line: the stages of a recipe, in the order they run."""

from pipelines.recipe import Recipe
from pipelines.runner import Stage
from pipelines.stages import curate, encode, export, plan, publish, report, sample, tokenizer, train

NAMES = (
    "sample", "curate", "tokenizer", "encode", "plan", "train", "export", "publish", "report",
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
        report.STAGE,
    ]
    return [sample.STAGE, *line] if recipe.sample is not None else line
