"""Mix and pack: decide every training sequence."""

from pathlib import Path

from packing import Phase, PlanConfig, Share, Validation, make_plan
from pipelines.recipe import Recipe
from pipelines.recipe_training import PlanSection
from pipelines.runner import Context, Result, Stage


def plan_config(section: PlanSection, seed: int) -> PlanConfig:
    """A recipe's plan, as `packing` takes it."""
    return PlanConfig(
        phases=tuple(
            Phase(p.length, p.tokens, {name: Share(**dict(d)) for name, d in p.mixture.items()})
            for p in section.phases
        ),
        seed=seed,
        default_max_epochs=section.default_max_epochs,
        max_epochs=dict(section.max_epochs),
        when_short=dict(section.when_short),
        strategy=section.strategy,
        validation=Validation(
            section.validation.fraction,
            section.validation.sequences,
            section.validation.exclude_sources,
        ),
    )


def run_planner(context: Context, stems: list[Path], out: Path, config: PlanConfig) -> dict:
    """Plan with the recipe's workers and a bar; see `packing.make_plan`."""
    bar = context.bar("mix and pack")
    return make_plan(
        stems,
        out,
        config,
        workers=context.recipe.workers,
        progress=lambda what, done, total: bar.at(done, total, what),
    )


def _run(context: Context) -> Result:
    recipe = context.recipe
    stems = [p.with_suffix("") for p in context.outputs("encode", ".bin")]
    plan = run_planner(context, stems, context.directory, plan_config(recipe.plan, recipe.seed))
    sets = [*plan["phases"], *plan["validation"].values()]
    outputs = {context.directory / "plan.json": None}
    outputs |= {context.directory / name: None for entry in sets for name in entry["files"]}
    sequences = sum(phase["sequences"] for phase in plan["phases"])
    places = sum(phase["sequences"] * phase["length"] for phase in plan["phases"])
    tokens = sum(phase["tokens"] for phase in plan["phases"])
    return Result(
        outputs,
        {"plan": plan},
        f"{sequences:,} sequences, {tokens:,} tokens, fill {tokens / max(places, 1):.2%}",
    )


def _config(recipe: Recipe) -> dict:
    return {"plan": recipe.plan.model_dump(), "seed": recipe.seed}


STAGE = Stage("plan", 2, ("encode",), _config, _run)
