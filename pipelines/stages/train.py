"""Train the model on the plan; measure it on held-out documents, domain by domain."""

import math
from pathlib import Path

from pipelines.files import write_json
from pipelines.recipe import Recipe
from pipelines.runner import Context, Result, Stage, StageInterrupted
from pipelines.shapes import model_config

# What may change between two parts of one run without making it another run.
_NOT_IN_KEY = {"checkpoint_every", "keep_checkpoints", "eval_every", "threads"}


def unigram_entropy(labels) -> float:
    """Entropy in nats of the distribution of the labels themselves (int64, -100 left out).

    The loss of a model that knows how frequent each token is here, and nothing else.
    """
    import torch

    counts = torch.bincount(labels[labels >= 0].flatten()).double()
    p = counts[counts > 0] / counts.sum()
    return float(-(p * p.log()).sum())


def _run(context: Context) -> Result:
    import torch

    from model.trainer import TrainConfig, train
    from packing.loader import Loader
    from tok import Encoder

    recipe, section = context.recipe, context.recipe.train
    plan, shards = context.input("plan"), context.input("encode")
    content = context.manifest("plan")["metrics"]["plan"]
    encoder = Encoder.load(context.input("tokenizer"))
    pad = encoder.special["pad"]
    config = model_config(section, encoder.vocab_size)
    loader = Loader.open(plan, shards, [phase["name"] for phase in content["phases"]], pad)
    held_out = {
        domain: Loader.open(plan, shards, [entry["name"]], pad)
        for domain, entry in content["validation"].items()
        if entry["sequences"]
    }
    steps = math.ceil(len(loader) / section.batch_size)
    micro = section.micro_batch_size or section.batch_size
    settings = TrainConfig(
        steps=steps,
        seed=recipe.seed,
        threads=section.threads,
        micro_batch_size=micro,
        warmup_steps=min(section.warmup_steps, steps),
        **section.model_dump(
            exclude={"preset", "model", "micro_batch_size", "warmup_steps", "threads"}
        ),
    )
    bar = context.bar("steps", steps)
    shown = {"loss": math.nan, "speed": 0.0}

    def on_line(line: dict) -> None:
        if "eval" in line:
            return
        shown["loss"] = line["loss"] if line["loss"] is not None else math.nan
        shown["speed"] = line["tokens_per_second"]
        bar.at(line["step"], steps, f"loss {shown['loss']:.3f}, {shown['speed']:,.0f} tokens/s")
        if "skipped" in line:
            context.warn(f"train: step {line['step']} skipped: {line['skipped']}")

    summary = train(
        config,
        settings,
        lambda consumed: loader.batches(section.batch_size, consumed),
        {
            domain: (lambda own=own: own.batches(section.batch_size))
            for domain, own in held_out.items()
        },
        context.directory,
        source_names=loader.sources,
        progress=on_line,
    )
    if summary["status"] == "interrupted":
        raise StageInterrupted(
            f"train: stopped after step {summary['step']} of {steps}, checkpoint saved; "
            "run the same command again to go on"
        )
    bar.at(steps)
    validation = {}
    for domain, own in held_out.items():
        labels = torch.cat([batch["labels"].flatten() for batch in own.batches(64)])
        loss = summary["evaluation"][domain]["loss"]
        entropy = unigram_entropy(labels)
        validation[domain] = {
            "tokens": summary["evaluation"][domain]["tokens"],
            "loss": loss,
            "unigram_entropy": entropy,
            "ratio": loss / entropy if entropy else None,
        }
    write_json(context.directory / "validation.json", validation)
    final = Path(summary["final"])
    outputs = [*sorted(path for path in final.iterdir() if path.is_file())]
    outputs.append(context.directory / "validation.json")
    count = config.parameter_count()
    return Result(
        dict.fromkeys(outputs),
        {
            "steps": steps,
            "tokens": summary["tokens"],
            "loss": summary["loss"],
            "validation": validation,
            "parameters": {"total": count.total, "active": count.active, "mtp": count.mtp},
        },
        f"{(count.total + count.mtp) / 1e6:.1f} M parameters, {steps:,} steps, "
        f"loss {summary['loss']:.3f}",
    )


def _config(recipe: Recipe) -> dict:
    return {"train": recipe.train.model_dump(exclude=_NOT_IN_KEY), "seed": recipe.seed}


STAGE = Stage("train", 1, ("tokenizer", "encode", "plan"), _config, _run)
