"""The report: one HTML file that shows what happened, station by station.

It shows the stations that a recipe has. `gristmill curate` ends with one of its own, of those
up to there, in another folder, so that it never takes the place of the whole one.
"""

from pipelines.files import atomic
from pipelines.page import page, table
from pipelines.report_sections import SECTIONS
from pipelines.runner import Context, Result, Stage


def _run(context: Context) -> Result:
    bar = context.bar("draw", 1)
    manifests = {name: context.manifest(name) for name in context.stage.after}
    made = [[name, manifest["summary"]] for name, manifest in manifests.items()]
    shown = ["<h2>What was made</h2>", table(["stage", "result"], made)]
    for needed, section in SECTIONS:
        if manifests.keys() >= set(needed):
            shown += section(context, manifests)
    target = context.directory / "report.html"
    with atomic(target) as temporary:
        temporary.write_text(page(context.recipe.name, shown), "utf-8")
    bar.at(1)
    return Result({target: None}, {}, f"{target}")


def stage(name: str, after: tuple[str, ...]) -> Stage:
    """The stage of this name that shows those stages, which must be done."""
    return Stage(name, 5, after, lambda recipe: {"name": recipe.name}, _run, reads_metrics=True)
