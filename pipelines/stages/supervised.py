"""Supervised fine-tuning: conversations, after everything else (section 5.1, DeepSeek-V3 report).

Conversations become tokens as the exported chat template has them, and only what assistants say
counts for the loss. Samples are packed whole by best fit, a phase of the plan for each epoch, and
masked from each other in their rows (`model/sample_attention.py`); positions stay those of the row,
which gives the same scores as positions that begin anew, since RoPE is relative. The learning rate
falls along a cosine over all epochs.

In the stage's folder: `encode` and `plan`, and what every training leaves.
"""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from packing import Phase, PlanConfig, Validation
from packing.plan import held_out
from pipelines.chats import DOMAIN, chat_files, write_chats
from pipelines.files import read_json, write_json
from pipelines.recipe import Recipe
from pipelines.recipe_training import SupervisedSection
from pipelines.runner import Context, Result, Stage, StageError
from pipelines.training import (
    NOT_IN_KEY,
    Training,
    batch_size_of,
    config_of,
    continued,
    last_weights,
    open_training,
    run_training,
    settings_of,
    write_plan,
)


def length_of(recipe: Recipe) -> int:
    """The length of the sequences, in tokens."""
    return recipe.supervised.length or recipe.longest_context()


def prepare(recipe: Recipe, part: int = 0) -> Training:
    """Open the stage's own plan and shards, and the weights of the stage before."""
    section, root = recipe.supervised, recipe.directory
    _, start = last_weights(recipe, supervised=False)
    trained = continued(
        recipe.train,
        batch_size=batch_size_of(recipe, section.batch_size, length_of(recipe)),
        micro_batch_size=section.micro_batch_size,
        learning_rate=section.learning_rate,
        min_lr_ratio=section.final_learning_rate / section.learning_rate,
        decay=1.0,
    )
    own = root / "supervised"
    settings = settings_of(trained, recipe.seed)
    return open_training(
        recipe, config_of(start), settings, own, own / "plan", own / "encode", start=start,
        apart=True,
    )  # fmt: skip


def _encode(context: Context) -> dict:
    """Write the shards, whole or not at all; give what became of the conversations."""
    from tok import Encoder

    recipe, target = context.recipe, context.directory / "encode"
    if not target.is_dir():
        beside = context.directory / ".writing-encode"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        encoder = Encoder.load(context.input("tokenizer"))
        told = write_chats(
            recipe.supervised.sources, beside, encoder, bos=recipe.encode.bos,
            length=length_of(recipe),
        )  # fmt: skip
        write_json(beside / "told.json", {**vars(told), "left_out": dict(told.left_out)})
        beside.rename(target)
    told = read_json(target / "told.json")
    for problem in told["problems"][:5]:
        context.warn(f"supervised: left out: {problem}")
    return told


def plan_of(recipe: Recipe, stems: list[Path]) -> PlanConfig:
    """A phase for each epoch, with every conversation that is not held out.

    Raises StageError if there is none.
    """
    section, seed = recipe.supervised, recipe.seed
    columns = ["id", "parents", "tokens"]
    tables = [
        pq.read_table(stem.with_name(f"{stem.name}.documents.parquet"), columns=columns)
        for stem in stems
    ]
    tokens = 0
    if tables:
        rows = pa.concat_tables(tables)
        ids, parents = rows["id"].to_pylist(), rows["parents"].to_pylist()
        kept = ~held_out(ids, parents, seed, section.validation.fraction)
        tokens = int(rows["tokens"].to_numpy()[kept].sum())
    if not tokens:
        raise StageError(
            "supervised: no conversation to train on: none could be used, or "
            "supervised.validation.fraction holds all of them out"
        )
    phase = Phase(length_of(recipe), tokens, {DOMAIN: 1.0})
    held = section.validation
    return PlanConfig(
        phases=(phase,) * section.epochs,
        seed=seed,
        default_max_epochs=float(section.epochs),
        validation=Validation(held.fraction, held.sequences, held.exclude_sources),
    )


def _run(context: Context) -> Result:
    recipe, directory = context.recipe, context.directory
    told = _encode(context)
    stems = sorted(path.with_suffix("") for path in (directory / "encode").glob("*.bin"))
    if not (directory / "plan").is_dir():
        write_plan(context, stems, directory / "plan", plan_of(recipe, stems))
    run = run_training(context, prepare, 0)
    made = [*(directory / "encode").iterdir(), *(directory / "plan").iterdir()]
    outputs = [*sorted(made), *run.pop("outputs")]
    return Result(
        dict.fromkeys(outputs),
        {"conversations": told, **run},
        f"{told['kept']:,} conversations, {told['answers']:,} of {told['tokens']:,} tokens learnt, "
        f"{run['steps']:,} steps, loss {run['loss']:.3f}",
    )


def _files(recipe: Recipe) -> dict[str, Path]:
    found = {}
    for source in recipe.supervised.sources:
        root = Path(source.path)
        for path in chat_files(source):
            inside = path.relative_to(root) if root.is_dir() else path.name
            found[f"{source.name}/{inside}"] = path
    return found


def _config(recipe: Recipe) -> dict:
    section: SupervisedSection = recipe.supervised
    content = section.model_dump(exclude={"micro_batch_size"})
    for source in content["sources"]:
        del source["path"]
    return {
        "supervised": content,
        "length": length_of(recipe),
        "bos": recipe.encode.bos,
        "batch_size": batch_size_of(recipe, section.batch_size, length_of(recipe)),
        "train": recipe.train.model_dump(exclude=NOT_IN_KEY),
        "seed": recipe.seed,
    }


def stage(recipe: Recipe) -> Stage:
    """The stage: it begins from the last weights before it."""
    before, _ = last_weights(recipe, supervised=False)
    return Stage("supervised", 1, ("tokenizer", before), _config, _run, inputs=_files)
