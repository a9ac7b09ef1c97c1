"""Train the model on the plan; measure it on held-out documents, domain by domain."""

import functools
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.files import read_json, write_json
from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage, StageError, StageInterrupted
from pipelines.shapes import model_config
from pipelines.train_ranks import lead

if TYPE_CHECKING:
    from model.config import ModelConfig
    from model.parallel import Ranks
    from model.trainer import EvaluationSet, TrainConfig
    from packing.loader import Loader

# What may change between two parts of one run without making it another run.
_NOT_IN_KEY = {
    "checkpoint_every", "keep_checkpoints", "keep_every", "eval_every", "threads", "ranks",
    "recompute", "wandb", "device",
}  # fmt: skip
# Of the recipe's section: what is not the trainer's, or reaches it in another form.
_NOT_SETTINGS = {"preset", "model", "micro_batch_size", "threads", "ranks", "wandb"}


def unigram_entropy(labels) -> float:
    """Entropy in nats of the distribution of the labels themselves (int64, -100 left out).

    The loss of a model that knows how frequent each token is here, and nothing else.
    """
    import torch

    counts = torch.bincount(labels[labels >= 0].flatten()).double()
    p = counts[counts > 0] / counts.sum()
    return float(-(p * p.log()).sum())


@dataclass(frozen=True)
class Training:
    """What `model.trainer.train` is given, the same on every rank; `held_out` by domain."""

    config: "ModelConfig"
    settings: "TrainConfig"
    loader: "Loader"
    held_out: dict[str, "Loader"]
    evaluation: dict[str, "EvaluationSet"]


def prepare(recipe: Recipe) -> Training:
    """Open the plan, the shards and the tokenizer of a recipe's run."""
    import torch

    from model.trainer import EvaluationSet, TrainConfig
    from packing.loader import Loader
    from tok import Encoder

    section = recipe.train
    plan, shards = recipe.directory / "plan", recipe.directory / "encode"
    content = read_json(plan / "manifest.json")["metrics"]["plan"]
    encoder = Encoder.load(recipe.directory / "tokenizer")
    pad = encoder.special["pad"]
    config = model_config(section, encoder.vocab_size)
    loader = Loader.open(plan, shards, [phase["name"] for phase in content["phases"]], pad)
    held_out = {
        domain: Loader.open(plan, shards, [entry["name"]], pad)
        for domain, entry in content["validation"].items()
        if entry["sequences"]
    }
    sizes = torch.zeros(config.vocab_size, dtype=torch.int64)
    special = set(encoder.special.values())
    for token in range(encoder.vocab_size):
        sizes[token] = 0 if token in special else len(encoder.token_bytes(token))
    micro = section.micro_batch_size or section.batch_size
    settings = TrainConfig(
        seed=recipe.seed,
        threads=_threads(section.threads, section.ranks),
        micro_batch_size=micro,
        **section.model_dump(exclude=_NOT_SETTINGS),
    )
    evaluation = {
        domain: EvaluationSet(functools.partial(own.batches, micro), sizes)
        for domain, own in held_out.items()
    }
    return Training(config, settings, loader, held_out, evaluation)


def _threads(threads: int | None, ranks: int) -> int | None:
    """A rank's threads: as the recipe has it, or a share of the processors among several."""
    if threads is not None or ranks == 1:
        return threads
    return max(1, len(os.sched_getaffinity(0)) // ranks)


def start_training(
    training: Training, directory: Path, ranks: "Ranks", **listeners: object
) -> dict:
    """Train on one rank; give the summary."""
    from model.trainer import train

    return train(
        training.config,
        training.settings,
        training.loader,
        training.evaluation,
        directory,
        source_names=training.loader.sources,
        name_documents=functools.partial(_documents, training.loader, directory.parent / "encode"),
        ranks=ranks,
        **listeners,
    )


def _documents(loader: "Loader", shards: Path, position: int) -> list[str]:
    """The ids of the documents at a position of the run."""
    import pyarrow.parquet as pq

    names = read_json(shards.parent / "plan" / "plan.json")["shards"]
    return [
        pq.read_table(shards / f"{names[piece['shard']]}.documents.parquet", columns=["id"])["id"][
            piece["document"]
        ].as_py()
        for piece in loader.pieces(position)
    ]


def _run(context: Context) -> Result:
    import torch

    from model.parallel import RankError
    from model.peak import measure_peak
    from model.record import check_wandb
    from model.schedule import Course
    from model.train_config import find_device

    recipe, section = context.recipe, context.recipe.train
    if section.wandb is not None:
        check_wandb()
    training = prepare(recipe)
    course = Course(training.loader, training.settings)
    bar = context.bar("tokens", course.tokens)

    def on_line(line: dict) -> None:
        if "eval" in line:
            return
        if "skipped" in line:
            context.warn(f"train: step {line['step']} skipped: {line['skipped']}")
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
            ranks.tell(recipe.model_dump_json())
            summary = start_training(
                training,
                context.directory,
                ranks,
                progress=on_line,
                peak=peak,
                wandb=section.wandb,
            )
    except RankError as error:
        raise StageError(f"train: {error}") from error
    if summary["status"] == "interrupted":
        raise StageInterrupted(
            f"train: stopped after step {summary['step']} of {course.steps}, checkpoint saved; "
            "run the same command again to go on"
        )
    bar.at(course.tokens)
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
        }
        if "average_evaluation" in summary:
            averaged = summary["average_evaluation"][domain]
            validation[domain]["average_loss"] = averaged["loss"]
            validation[domain]["average_bits_per_byte"] = averaged["bits_per_byte"]
    write_json(context.directory / "validation.json", validation)
    outputs = [
        path
        for name in ("final", "average")
        if name in summary
        for path in sorted(Path(summary[name]).iterdir())
        if path.is_file()
    ]
    outputs.append(context.directory / "validation.json")
    count = training.config.parameter_count()
    return Result(
        dict.fromkeys(outputs),
        {
            "steps": summary["step"],
            "tokens": summary["tokens"],
            "loss": summary["loss"],
            "peak_operations_per_second": peak,
            "validation": validation,
            "parameters": {"total": count.total, "active": count.active, "mtp": count.mtp},
        },
        f"{(count.total + count.mtp) / 1e6:.1f} M parameters, {summary['step']:,} steps, "
        f"loss {summary['loss']:.3f}",
    )


def _config(recipe: Recipe) -> dict:
    return {"train": recipe.train.model_dump(exclude=_NOT_IN_KEY), "seed": recipe.seed}


STAGE = Stage("train", 2, ("tokenizer", "encode", "plan"), _config, _run)
