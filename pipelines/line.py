"""The line: the stages of a recipe, in the order they run."""

from pipelines.recipe import Recipe
from pipelines.runner import Stage
from pipelines.stages import (
    classifiers,
    curate,
    encode,
    export,
    extend,
    plan,
    projects,
    publish,
    report,
    sample,
    supervised,
    tokenizer,
    train,
)  # fmt: skip

NAMES = (
    "sample", "projects", "classifiers", "curate", "tokenizer", "encode", "plan", "train", "extend",
    "supervised", "export", "publish", "report",
)  # fmt: skip


def stages(recipe: Recipe, last: str = "publish") -> list[Stage]:
    """The stages that this recipe has, up to `last`, and a report of them: `report` of the whole
    line, else `LAST-report`.
    """
    first = {"sample": sample.STAGE, "projects": projects.STAGE}
    line = [stage for name, stage in first.items() if getattr(recipe, name) is not None]
    if recipe.classifiers:
        line.append(classifiers.stage(recipe))
    line += [
        curate.stage(recipe),
        tokenizer.STAGE,
        encode.STAGE,
        plan.STAGE,
        train.STAGE,
        *([extend.STAGE] if recipe.extend else ()),
        *([supervised.stage(recipe)] if recipe.supervised else ()),
        export.stage(recipe),
        publish.STAGE,
    ]
    line = line[: [stage.name for stage in line].index(last) + 1]
    name = "report" if last == "publish" else f"{last}-report"
    return [*line, report.stage(name, tuple(stage.name for stage in line))]
