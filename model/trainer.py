"""The training loop: batches in, weights and a record of every step out.

A step takes one whole batch, cut into micro-batches that fit in memory. Each gives sums, every sum
is divided by the whole batch's count, so cutting it otherwise changes nothing but rounding. The
objective is the report's (arXiv 2412.19437): cross-entropy, plus λ/D times the sum of the depths'
multi-token losses (equation 25), plus α times the sequence-wise balance loss (equation 17). After
the optimizer's step the routers' biases move by the load of the whole batch (section 2.1.2).

A run is its output folder. `metrics.jsonl` has a line a step, `checkpoints/` the last few complete
states, `final/` the weights at the end. Calling `train` again on the folder continues from the
newest undamaged checkpoint, cuts the record back to it, and, with the same number of threads, ends
in the same bytes as a run that was never stopped: nothing depends on a generator that was not
saved, since only initialisation is random and it depends on the seed and each parameter's name
alone.

A step whose loss or gradient is not finite is skipped and recorded; five in a row end the run,
since by then something is wrong that more data will not mend. SIGTERM ends the step in progress,
writes a checkpoint and returns.
"""

import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint import load_checkpoint, save_checkpoint
from model.config import ModelConfig
from model.linear import PRECISIONS
from model.moe import move_biases
from model.optimizer import (
    clip_gradients,
    learning_rate,
    make_optimizer,
    prepare_state,
    set_learning_rate,
)
from model.record import Record, cut_back
from model.transformer import Transformer, count_labels, initialize

# input_ids, labels [b, L] int64; document_ids, source_ids [b, L] int32; sequence_index [b] int64
Batch = dict[str, Tensor]

MOST_SKIPPED = 5


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Lengths are in optimizer steps, sizes in sequences.

    `decay_fraction` of the steps, at the end, bring the learning rate down to `min_lr_ratio` of its
    peak. `eval_every` 0 evaluates only at the end; `checkpoint_every` 0 saves only at the end.
    `embedding_scale` multiplies the embedding table's deviation at the start and its learning rate,
    which for AdamW is the same as multiplying the embeddings in the forward pass: a row is only
    updated when its token occurs, so in a short run a table at 1 hardly leaves where it began.
    `head_scale` multiplies the head's learning rate.
    `threads` sets torch's threads, None leaves them. Raises ValueError, naming the field.
    """

    steps: int
    batch_size: int
    micro_batch_size: int
    learning_rate: float
    min_lr_ratio: float = 0.1
    warmup_steps: int = 0
    decay_fraction: float = 0.3
    embedding_scale: float = 1.0
    head_scale: float = 1.0
    weight_decay: float = 0.1
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    mtp_weight: float = 0.3
    balance_alpha: float = 1e-4
    bias_update_speed: float = 1e-3
    precision: str = "fp32"
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    eval_every: int = 0
    log_every: int = 1
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        rules = {
            "steps": (self.steps >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "micro_batch_size": (
                self.micro_batch_size >= 1 and self.batch_size % self.micro_batch_size == 0,
                f"a divisor of batch_size {self.batch_size}",
            ),
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "min_lr_ratio": (0 <= self.min_lr_ratio <= 1, "between 0 and 1"),
            "warmup_steps": (0 <= self.warmup_steps <= self.steps, f"0 to {self.steps} steps"),
            "decay_fraction": (0 <= self.decay_fraction <= 1, "between 0 and 1"),
            "embedding_scale": (self.embedding_scale > 0, "above 0"),
            "head_scale": (self.head_scale > 0, "above 0"),
            "clip": (self.clip > 0, "above 0"),
            "precision": (self.precision in PRECISIONS, f"one of {PRECISIONS}"),
            "keep_checkpoints": (self.keep_checkpoints >= 1, "at least 1"),
            "log_every": (self.log_every >= 1, "at least 1"),
            "checkpoint_every": (self.checkpoint_every >= 0, "at least 0"),
            "eval_every": (self.eval_every >= 0, "at least 0"),
            "threads": (self.threads is None or self.threads >= 1, "at least 1, or null"),
        }
        for name, (holds, expected) in rules.items():
            if not holds:
                found = getattr(self, name)
                raise ValueError(f"training configuration: {name} is {found}, expected {expected}")

    def rate(self, step: int) -> float:
        """The learning rate of a step (0-based)."""
        decay = round(self.decay_fraction * self.steps)
        return learning_rate(
            step, self.steps, self.learning_rate, self.min_lr_ratio, self.warmup_steps, decay
        )


# What may differ between a run and its continuation, for it does not change the weights.
UNBOUND = {"checkpoint_every", "keep_checkpoints", "eval_every", "log_every", "threads"}


def train(
    model_config: ModelConfig,
    train_config: TrainConfig,
    batches: Callable[[int], Iterator[Batch]],
    evaluation: dict[str, Callable[[], Iterable[Batch]]],
    out: Path,
    *,
    source_names: list[str] | None = None,
    progress: Callable[[dict], None] | None = None,
) -> dict:
    """Train into the folder `out`, or continue what is there; give a summary.

    `batches(n)` yields whole batches, [batch_size, L], from sequence n on. `evaluation` maps a name
    to a function that gives batches of any size. `source_names[i]` names source id i. `progress` is
    called with each line written to `metrics.jsonl`.

    The summary has `status` ("complete" or "interrupted"), `step`, `sequences`, `tokens`, `loss`
    (of the last step), `evaluation` (the last) and, if complete, `final` (a path). Raises
    ValueError if `out` holds a run with other settings or only damaged checkpoints, or if the
    batches end early; ArithmeticError after five steps in a row that are not finite.
    """
    if train_config.threads is not None:
        torch.set_num_threads(train_config.threads)
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(model_config, train_config)
    run.resume(out / "checkpoints")
    cut_back(out / "metrics.jsonl", run.step)
    with Record(out, run.step, progress) as record, _sigterm() as stopped:
        supply = batches(run.sequences) if run.step < train_config.steps else iter(())
        while run.step < train_config.steps:
            batch = next(supply, None)
            if batch is None:
                raise ValueError(
                    f"{out}: batches ended after {run.step} of {train_config.steps} steps"
                )
            line = run.take_step(batch, source_names)
            if run.step % train_config.log_every == 0 or "skipped" in line:
                record.write(line)
            last = run.step == train_config.steps
            if evaluation and (last or _due(run.step, train_config.eval_every)):
                run.evaluation = evaluate(run.model, evaluation)
                record.write({"step": run.step, "eval": run.evaluation})
            if last or stopped.is_set() or _due(run.step, train_config.checkpoint_every):
                run.save(out / "checkpoints")
            if run.skipped >= MOST_SKIPPED:
                raise ArithmeticError(
                    f"{out}: {MOST_SKIPPED} steps in a row had a loss or gradient that is not "
                    f"finite, the last one step {run.step}; lower the learning rate"
                )
            if stopped.is_set() and not last:
                return run.summary("interrupted")
    write_weights(run.model, out / "final")
    return run.summary("complete") | {"final": str(out / "final")}


@torch.no_grad()
def evaluate(
    model: Transformer, evaluation: dict[str, Callable[[], Iterable[Batch]]]
) -> dict[str, dict]:
    """Mean losses of each set, over all its labels: `loss`, `tokens`, and `mtp_loss` by depth."""
    results = {}
    for name, open_batches in evaluation.items():
        main, tokens = 0.0, 0
        mtp = [[0.0, 0] for _ in model.mtp_modules]
        for batch in open_batches():
            losses = model.losses(batch["input_ids"], batch["labels"], batch["document_ids"] >= 0)
            main += losses.main.item()
            tokens += losses.main_tokens
            for depth, value, count in zip(mtp, losses.mtp, losses.mtp_tokens, strict=True):
                depth[0] += value.item()
                depth[1] += count
        results[name] = {
            "loss": main / max(tokens, 1),
            "tokens": tokens,
            "mtp_loss": [value / max(count, 1) for value, count in mtp],
        }
    return results


def write_weights(model: Transformer, target: Path) -> None:
    """Write float32 weights under the training names, and config.json, as the folder `target`."""
    beside = target.with_name(f".writing-{target.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file(model.state_dict(), beside / "model.safetensors", {"format": "pt"})
    config = json.dumps(model.config.to_hugging_face(), indent=2, sort_keys=True)
    (beside / "config.json").write_text(config + "\n")
    if target.exists():
        shutil.rmtree(target)
    beside.replace(target)


class _Run:
    """The state of a run: everything that a checkpoint holds."""

    def __init__(self, model_config: ModelConfig, config: TrainConfig) -> None:
        self.config = config
        self.model = Transformer(model_config, config.precision)
        initialize(self.model, config.seed, config.embedding_scale)
        self.optimizer = make_optimizer(
            self.model,
            config.betas,
            config.eps,
            config.weight_decay,
            config.embedding_scale,
            config.head_scale,
        )
        prepare_state(self.optimizer)
        self.step = self.sequences = self.tokens = self.updates = self.skipped = 0
        self.loss = math.nan
        self.evaluation: dict[str, dict] | None = None

    def take_step(self, batch: Batch, source_names: list[str] | None) -> dict:
        """Train on one whole batch; give the line for the record."""
        began = time.perf_counter()
        config, model = self.config, self.model
        size = batch["input_ids"].shape[0]
        if not 1 <= size <= config.batch_size:  # the last of a run may be smaller
            raise ValueError(f"batch of {size} sequences, expected batch_size {config.batch_size}")
        real = batch["document_ids"] >= 0
        labels = batch["labels"]
        depths = len(model.mtp_modules)
        tokens = max(count_labels(labels), 1)
        mtp_tokens = [max(count_labels(labels[:, k:]), 1) for k in range(1, depths + 1)]
        main = balance = mtp = 0.0
        loads = [torch.zeros(r.weight.shape[0], dtype=torch.float64) for r in model.routers]
        token_losses = []
        for rows in torch.arange(size).split(config.micro_batch_size):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            losses = model.losses(batch["input_ids"][part], labels[part], real[part])
            main_mean = losses.main / tokens
            mtp_means = [v / n for v, n in zip(losses.mtp, mtp_tokens, strict=True)]
            mtp_mean = sum(mtp_means) / depths if depths else main_mean.new_zeros(())
            balance_mean = losses.balance / size
            objective = main_mean + config.mtp_weight * mtp_mean
            (objective + config.balance_alpha * balance_mean).backward()
            main += main_mean.item()
            mtp += float(mtp_mean.detach())
            balance += balance_mean.item()
            for total, load in zip(loads, losses.loads, strict=True):
                total += load
            token_losses.append(losses.token_losses)
        rate = config.rate(self.step)
        norm = clip_gradients(model.parameters(), config.clip).item()
        finite = math.isfinite(norm) and math.isfinite(main + mtp + balance)
        if finite:
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
            move_biases(model.routers, loads, config.bias_update_speed)
            self.updates += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.skipped = 0 if finite else self.skipped + 1
        self.step += 1
        self.sequences += size
        seen = int(real.sum())
        self.tokens += seen
        self.loss = main
        line = {
            "step": self.step,
            "sequences": self.sequences,
            "tokens": self.tokens,
            "loss": main,
            "mtp_loss": mtp,
            "balance_loss": balance / max(len(loads), 1),
            "grad_norm": norm,
            "lr": rate,
            "tokens_per_second": seen / (time.perf_counter() - began),
            "expert_load": [_fractions(load) for load in loads],
        }
        if source_names is not None:
            line["source_loss"] = _by_source(torch.cat(token_losses), batch, source_names)
        if not finite:
            line["skipped"] = "the loss or the gradient norm is not finite"
        return line

    def tensors(self) -> list[dict[str, Tensor]]:
        """All tensors of the run: weights and biases, first moments, second moments."""
        moments = [{}, {}]
        for name, parameter in self.model.named_parameters():
            state = self.optimizer.state[parameter]
            for part, moment in zip(moments, ("exp_avg", "exp_avg_sq"), strict=True):
                part[f"optimizer.{moment}.{name}"] = state[moment]
        return [dict(self.model.state_dict()), *moments]

    def settings(self) -> dict:
        """What a continuation must agree with."""
        bound = {k: v for k, v in asdict(self.config).items() if k not in UNBOUND}
        return json.loads(json.dumps({"model": asdict(self.model.config), "training": bound}))

    def save(self, root: Path) -> None:
        state = {
            "settings": self.settings(),
            "counters": {
                name: getattr(self, name)
                for name in ("step", "sequences", "tokens", "updates", "skipped")
            },
            "loss": self.loss if math.isfinite(self.loss) else None,
            "evaluation": self.evaluation,
        }
        save_checkpoint(root, self.step, self.tensors(), state, self.config.keep_checkpoints)

    def resume(self, root: Path) -> None:
        """Continue from the newest undamaged checkpoint, if there is one."""
        tensors = {name: t for part in self.tensors() for name, t in part.items()}
        state = load_checkpoint(root, tensors, self.settings())
        if state is None:
            return
        for name, value in state["counters"].items():
            setattr(self, name, value)
        self.loss = math.nan if state["loss"] is None else state["loss"]
        self.evaluation = state["evaluation"]
        for entry in self.optimizer.state.values():
            entry["step"].fill_(self.updates)

    def summary(self, status: str) -> dict:
        return {
            "status": status,
            "step": self.step,
            "sequences": self.sequences,
            "tokens": self.tokens,
            "loss": self.loss,
            "evaluation": self.evaluation,
        }


def _fractions(load: Tensor) -> list[float]:
    return [round(x, 6) for x in (load / load.sum().clamp_min(1)).tolist()]


def _by_source(token_losses: Tensor, batch: Batch, names: list[str]) -> dict[str, float]:
    """Mean loss of the labels of each source that is in the batch."""
    counted = (batch["labels"] != -100) & (batch["source_ids"] >= 0)
    source = batch["source_ids"][counted].long()
    sums = torch.bincount(source, token_losses[counted].double(), minlength=len(names))
    counts = torch.bincount(source, minlength=len(names))
    if len(counts) > len(names):
        raise ValueError(f"batch has source id {len(counts) - 1}, expected below {len(names)}")
    return {names[i]: float(sums[i] / counts[i]) for i in counts.nonzero().flatten().tolist()}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """Turn SIGTERM into an event while training; threads other than the main one cannot."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)
