"""Longer contexts: train on at greater lengths, with YaRN, from the trained weights.

Each entry of `extend:` is a short training of its own (section 4.3 of the DeepSeek-V3 report has
two of 1,000 steps) that begins from the weights before it, in the folder of its number. Nothing is
encoded again. They share a plan in `extend/plan`: the phases of training and, behind them, one for
each entry, so that documents go on where training left them, epochs are counted over everything,
and the held-out documents are the same, at the length of training: what an extension costs in short
contexts is seen there. Planning the first phases again takes a pass over the tables of documents.

The learning rate is constant, by default that at the end of training; a batch has by default the
tokens that one of training has; the routers' biases stand still.
"""

from typing import TYPE_CHECKING

from pipelines.recipe import Recipe
from pipelines.recipe_training import PlanSection
from pipelines.runner import Context, Result, Stage
from pipelines.shapes import model_config
from pipelines.stages.plan import plan_config
from pipelines.training import (
    NOT_IN_KEY,
    Training,
    batch_size_of,
    continued,
    open_training,
    run_training,
    settings_of,
    write_plan,
)

if TYPE_CHECKING:
    from model.config import ModelConfig


def extended_plan(recipe: Recipe) -> PlanSection:
    """The recipe's plan with a phase for each extension behind its own."""
    more = []
    for entry in recipe.extend:
        batch = batch_size_of(recipe, entry.batch_size, entry.length)
        tokens = entry.tokens or entry.steps * batch * entry.length
        more.append(entry.phase(recipe.plan.phases[-1], tokens))
    return recipe.plan.model_copy(update={"phases": (*recipe.plan.phases, *more)})


def extended_config(config: "ModelConfig", recipe: Recipe, part: int) -> "ModelConfig":
    """The model's shape in extension number `part`; config: the trained one's."""
    from model.long_context import extend_context

    return extend_context(config, recipe.trained_length(), _factor(recipe, part))


def _factor(recipe: Recipe, part: int) -> float:
    entry = recipe.extend[part]
    return entry.factor or entry.length / recipe.trained_length()


def prepare(recipe: Recipe, part: int) -> Training:
    """Open extension number `part`; its plan is there, and the weights before it."""
    from tok import Encoder

    entry, root = recipe.extend[part], recipe.directory
    trained = recipe.train
    config = model_config(trained, Encoder.load(root / "tokenizer").vocab_size)
    last = trained.tails[-1].ratio if trained.tails else trained.min_lr_ratio
    section = continued(
        trained,
        batch_size=batch_size_of(recipe, entry.batch_size, entry.length),
        micro_batch_size=entry.micro_batch_size,
        learning_rate=entry.learning_rate or trained.learning_rate * last,
    )
    first = len(recipe.plan.phases) + part
    return open_training(
        recipe,
        extended_config(config, recipe, part),
        settings_of(section, recipe.seed),
        root / "extend" / str(part),
        root / "extend" / "plan",
        root / "encode",
        phases=slice(first, first + 1),
        start=(root / "extend" / str(part - 1) if part else root / "train") / "final",
    )


def _run(context: Context) -> Result:
    recipe = context.recipe
    stems = [path.with_suffix("") for path in context.outputs("encode", ".bin")]
    config = plan_config(extended_plan(recipe), recipe.seed)
    write_plan(context, stems, context.directory / "plan", config)
    outputs = sorted((context.directory / "plan").iterdir())
    runs = []
    for part, entry in enumerate(recipe.extend):
        told = run_training(context, prepare, part)
        outputs += told.pop("outputs")
        runs.append({"length": entry.length, "factor": _factor(recipe, part), **told})
    lengths = ", then ".join(f"{run['length']:,}" for run in runs)
    return Result(
        dict.fromkeys(outputs),
        {"runs": runs},
        f"{lengths} tokens of context, {sum(run['steps'] for run in runs):,} steps, "
        f"loss {runs[-1]['loss']:.3f}",
    )


def _config(recipe: Recipe) -> dict:
    return {
        "extend": [e.model_dump(exclude={"micro_batch_size"}) for e in recipe.extend],
        "plan": recipe.plan.model_dump(),
        "train": recipe.train.model_dump(exclude=NOT_IN_KEY),
        "seed": recipe.seed,
    }


STAGE = Stage("extend", 1, ("tokenizer", "encode", "train"), _config, _run)
