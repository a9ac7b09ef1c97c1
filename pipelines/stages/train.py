"""Train the model on the plan; measure it on held-out documents, by domain and language."""

from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage
from pipelines.shapes import model_config
from pipelines.training import NOT_IN_KEY, Training, open_training, run_training, settings_of


def prepare(recipe: Recipe, part: int = 0) -> Training:
    """Open the plan, the shards and the tokenizer of a recipe's run."""
    from tok import Encoder

    root = recipe.directory
    config = model_config(recipe.train, Encoder.load(root / "tokenizer").vocab_size)
    settings = settings_of(recipe.train, recipe.seed)
    return open_training(recipe, config, settings, root / "train", root / "plan", root / "encode")


def _run(context: Context) -> Result:
    told = run_training(context, prepare, 0)
    count = told["parameters"]
    return Result(
        dict.fromkeys(told.pop("outputs")),
        told,
        f"{(count['total'] + count['mtp']) / 1e6:.1f} M parameters, {told['steps']:,} steps, "
        f"loss {told['loss']:.3f}",
    )


def _config(recipe: Recipe) -> dict:
    return {"train": recipe.train.model_dump(exclude=NOT_IN_KEY), "seed": recipe.seed}


STAGE = Stage("train", 3, ("tokenizer", "encode", "plan"), _config, _run)
