"""A training of a recipe: what the stages `train`, `extend` and `supervised` have in common.

Each of them says what is trained (`Training`): the model's shape, the settings, a plan, the weights
to begin from. Here it is opened, run on its ranks, measured on held-out documents by domain and by
language, and told. A stage that has one writes its plan first, into its own folder.
"""

import functools
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packing import PlanConfig
from pipelines.files import read_json, write_json
from pipelines.recipe import Recipe
from pipelines.recipe_training import TrainSection
from pipelines.runner import Context, StageError, StageInterrupted
from pipelines.stages.plan import run_planner
from pipelines.train_ranks import lead

if TYPE_CHECKING:
    from model.config import ModelConfig
    from model.parallel import Ranks
    from model.trainer import EvaluationSet, TrainConfig
    from packing.loader import Loader

# What may change between two parts of one run without making it another run.
NOT_IN_KEY = {
    "checkpoint_every", "keep_checkpoints", "keep_every", "eval_every", "threads", "ranks",
    "recompute", "wandb", "device",
}  # fmt: skip
# Of the recipe's section: what is not the trainer's, or reaches it in another form.
_NOT_SETTINGS = {"preset", "model", "micro_batch_size", "threads", "ranks", "wandb"}


@dataclass(frozen=True)
class Training:
    """What `model.trainer.train` is given, the same on every rank.

    `directory`: where it writes; `stems`: the token shards of its plan; `held_out`: by domain.
    """

    config: "ModelConfig"
    settings: "TrainConfig"
    directory: Path
    stems: list[Path]
    loader: "Loader"
    held_out: dict[str, "Loader"]
    evaluation: dict[str, "EvaluationSet"]
    start: Path | None = None


def settings_of(section: TrainSection, seed: int) -> "TrainConfig":
    """The recipe's section as the trainer takes it."""
    from model.trainer import TrainConfig

    return TrainConfig(
        seed=seed,
        threads=_threads(section.threads, section.ranks),
        micro_batch_size=section.micro_batch_size or section.batch_size,
        **section.model_dump(exclude=_NOT_SETTINGS),
    )


def continued(section: TrainSection, **changes: object) -> TrainSection:
    """The section for a training that goes on from one that is done: at a constant rate, the
    routers' biases standing still, without an average, and with `changes`.
    """
    rates = {"warmup_steps": 0, "decay": 0.0, "tails": (), "mtp_weight": section.late_mtp_weight}
    sizes = {"first_batch_size": None, "batch_ramp": 0.0}
    still = {"bias_update_speed": 0.0, "average": 0.0}
    return section.model_copy(update=rates | sizes | still | changes)


def batch_size_of(recipe: Recipe, given: int | None, length: int) -> int:
    """Sequences of a batch: as given, or as many as have the tokens of one of training."""
    tokens = recipe.train.batch_size * recipe.plan.phases[0].length
    return given or max(1, tokens // length)


def write_plan(context: Context, stems: list[Path], target: Path, config: PlanConfig) -> None:
    """Write a plan into the folder `target`, whole or not at all, unless it is there."""
    if target.is_dir():
        return
    beside = target.with_name(f".writing-{target.name}")
    shutil.rmtree(beside, ignore_errors=True)
    run_planner(context, stems, beside, config)
    beside.rename(target)


def last_weights(recipe: Recipe, *, supervised: bool = True) -> tuple[str, Path]:
    """The last stage that trains and the folder of its weights; supervised: or the one before."""
    root = recipe.directory
    if supervised and recipe.supervised is not None:
        return "supervised", root / "supervised" / "final"
    if recipe.extend:
        return "extend", root / "extend" / str(len(recipe.extend) - 1) / "final"
    return "train", root / "train" / "final"


def config_of(weights: Path) -> "ModelConfig":
    """The model's shape that stands beside trained weights."""
    from model.config import ModelConfig

    return ModelConfig.from_hugging_face(read_json(weights / "config.json"))


def open_training(
    recipe: Recipe,
    config: "ModelConfig",
    settings: "TrainConfig",
    directory: Path,
    plan: Path,
    shards: Path,
    *,
    phases: slice = slice(None),
    start: Path | None = None,
    apart: bool = False,
) -> Training:
    """Open phases of a plan (all of them), its shards, and its held-out documents.

    apart: whether documents of a sequence are hidden from each other (see `packing.loader`).
    """
    import torch

    from model.trainer import EvaluationSet
    from packing.languages import LabelLanguages
    from packing.loader import Loader
    from tok import Encoder

    content = read_json(plan / "plan.json")
    encoder = Encoder.load(recipe.directory / "tokenizer")
    pad, special = encoder.special["pad"], set(encoder.special.values())
    stems = [shards / name for name in content["shards"]]
    names = [phase["name"] for phase in content["phases"][phases]]
    loader = Loader.open(plan, shards, names, pad, apart=apart)
    sizes = torch.zeros(config.vocab_size, dtype=torch.int64)
    for token in range(encoder.vocab_size):
        sizes[token] = 0 if token in special else len(encoder.token_bytes(token))
    held_out, evaluation = {}, {}
    for domain, entry in content["validation"].items():
        if not entry["sequences"]:
            continue
        own = held_out[domain] = Loader.open(plan, shards, [entry["name"]], pad, apart=apart)
        languages = LabelLanguages(own, stems)
        batches = functools.partial(own.batches, settings.micro_batch_size)
        evaluation[domain] = EvaluationSet(batches, sizes, languages.names, languages)
    return Training(
        config, settings, directory, stems, loader, held_out, evaluation, start
    )  # fmt: skip


def _threads(threads: int | None, ranks: int) -> int | None:
    """A rank's threads: as the recipe has it, or a share of the processors among several."""
    if threads is not None or ranks == 1:
        return threads
    return max(1, len(os.sched_getaffinity(0)) // ranks)


def start_training(training: Training, ranks: "Ranks", **listeners: object) -> dict:
    """Train on one rank; give the summary."""
    from model.trainer import train

    return train(
        training.config,
        training.settings,
        training.loader,
        training.evaluation,
        training.directory,
        source_names=training.loader.sources,
        name_documents=functools.partial(documents_at, training),
        start=training.start,
        ranks=ranks,
        **listeners,
    )


def documents_at(training: Training, position: int) -> list[str]:
    """The ids of the documents at a position of the run."""
    from packing.trace import name_documents

    places = [(p["shard"], p["document"]) for p in training.loader.pieces(position)]
    named = name_documents(training.stems, places)
    return [named[place]["id"] for place in places]


def run_training(context: Context, prepare: Callable[[Recipe, int], Training], part: int) -> dict:
    """Do a stage's training number `part` on all ranks; give what is to be told of it.

    prepare: the stage's own; `train_ranks.follow` calls it too. Gives `outputs`, the paths of what
    was made, and metrics: `steps`, `tokens`, `loss`, `peak_operations_per_second`, `validation` by
    domain, `languages`, `parameters`.
    """
    import torch

    from model.parallel import RankError
    from model.peak import measure_peak
    from model.record import check_wandb
    from model.schedule import Course
    from model.train_config import find_device

    recipe, section, name = context.recipe, context.recipe.train, context.stage.name
    if section.wandb is not None:
        check_wandb()
    training = prepare(recipe, part)
    course = Course(training.loader, training.settings)
    bar = context.bar(f"tokens of {part + 1}" if part else "tokens", course.tokens)

    def on_line(line: dict) -> None:
        if "eval" in line:
            return
        if "skipped" in line:
            context.warn(f"{name}: step {line['step']} skipped: {line['skipped']}")
        done = course.tokens
        if line["sequences"] < course.sequences:
            done = course.step(line["sequences"]).before
        loss = math.nan if line["loss"] is None else line["loss"]
        note = (
            f"step {line['step']:,} of {course.steps:,}, loss {loss:.3f}, "
            f"{line['tokens_per_second']:,.0f} tokens/s, {line['mfu']:.0%} of the peak"
        )
        bar.at(done, note=note)

    try:
        with lead(section.ranks) as ranks:
            if training.settings.threads is not None:
                torch.set_num_threads(training.settings.threads)
            peak = measure_peak(device=find_device(training.settings.device, ranks.rank))
            ranks.tell({"recipe": recipe.model_dump_json(), "stage": name, "part": part})
            summary = start_training(
                training, ranks, progress=on_line, peak=peak, wandb=section.wandb
            )
    except RankError as error:
        raise StageError(f"{name}: {error}") from error
    if summary["status"] == "interrupted":
        raise StageInterrupted(
            f"{name}: stopped after step {summary['step']} of {course.steps}, checkpoint saved; "
            "run the same command again to go on"
        )
    bar.at(course.tokens)
    validation = _validation(training, summary)
    write_json(training.directory / "validation.json", validation)
    outputs = [
        path
        for kind in ("final", "average")
        if kind in summary
        for path in sorted(Path(summary[kind]).iterdir())
        if path.is_file()
    ]
    count = training.config.parameter_count()
    return {
        "outputs": [*outputs, training.directory / "validation.json"],
        "steps": summary["step"],
        "tokens": summary["tokens"],
        "loss": summary["loss"],
        "peak_operations_per_second": peak,
        "validation": validation,
        "languages": by_language(validation),
        "parameters": {"total": count.total, "active": count.active, "mtp": count.mtp},
    }


def _validation(training: Training, summary: dict) -> dict[str, dict]:
    """What the last evaluation found, by domain; `languages` are those of its documents."""
    import torch

    validation = {}
    for domain, own in training.held_out.items():
        labels = torch.cat([batch["labels"].flatten() for batch in own.batches(64)])
        found = summary["evaluation"][domain]
        entropy = unigram_entropy(labels)
        validation[domain] = {
            "tokens": found["tokens"],
            "loss": found["loss"],
            "bits_per_byte": found["bits_per_byte"],
            "unigram_entropy": entropy,
            "ratio": found["loss"] / entropy if entropy else None,
            "languages": found["groups"],
        }
        if "average_evaluation" in summary:
            averaged = summary["average_evaluation"][domain]
            validation[domain]["average_loss"] = averaged["loss"]
            validation[domain]["average_bits_per_byte"] = averaged["bits_per_byte"]
    return validation


def unigram_entropy(labels) -> float:
    """Entropy in nats of the distribution of the labels themselves (int64, -100 left out).

    The loss of a model that knows how frequent each token is here, and nothing else.
    """
    import torch

    counts = torch.bincount(labels[labels >= 0].flatten()).double()
    p = counts[counts > 0] / counts.sum()
    return float(-(p * p.log()).sum())


def by_language(validation: dict[str, dict]) -> dict[str, dict]:
    """Each language's tokens, loss and bits per byte over all domains, most tokens first.

    validation: domain → {"languages": {language: {tokens, loss, bytes, bits_per_byte}}}.
    """
    sums: dict[str, list[float]] = {}
    for entry in validation.values():
        for language, own in entry["languages"].items():
            total = sums.setdefault(language, [0, 0, 0])
            for k, value in enumerate((own["tokens"], own["tokens"] * own["loss"], own["bytes"])):
                total[k] += value
    return {
        language: {
            "tokens": tokens,
            "loss": total / tokens,
            "bytes": read,
            "bits_per_byte": total / math.log(2) / read if read else None,
        }
        for language, (tokens, total, read) in sorted(sums.items(), key=lambda x: (-x[1][0], x[0]))
    }
