"""The training loop: sequences in, weights and a record of every step out.

Read `train_config` (what can be set), `schedule` (which sequences make a step, and the rates) and
`step` (one batch forward and backward) first. After the optimizer's step the routers' biases move
by the load of the whole batch (section 2.1.2 of the DeepSeek-V3 report).

A run is its output folder. `metrics.jsonl` has a line a step, `checkpoints/` the last few complete
states, `final/` the weights at the end and `average/` their average, if there is one. Calling
`train` again on the folder continues from the newest undamaged checkpoint, cuts the record back to
it, and, with the same number of threads and ranks, ends in the same bytes as a run that was never
stopped: nothing depends on a generator that was not saved, since only initialisation is random and
it depends on the seed and each parameter's name alone.

A step whose loss or gradient is not finite changes nothing but the counters and is recorded with
the documents in it; five in a row end the run, since by then something is wrong that more data will
not mend, with a checkpoint from before the first of them. SIGTERM ends the step in progress, writes
a checkpoint and returns.

With `ranks`, each process calls `train` with the same arguments and all give the same summary; rank
0 alone writes (`parallel` says how they share a batch).

On a GPU (`TrainConfig.device`) are the model, its gradients, the optimizer's moments and one
micro-batch at a time; counters, the average and whatever is written are on the CPU. What passes
between the products is float32 there too: FP8 products, and what is kept for their backward pass,
come from the kernels, but norms, attention, head and router run in float32, which is right and
slow. No GPU has run this loop yet.
"""

import contextlib
import hashlib
import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.average import Average
from model.checkpoint import CheckpointWriter, find_checkpoint, read_checkpoint
from model.config import ModelConfig
from model.evaluate import EvaluationSet, evaluate
from model.flops import training_operations
from model.moe import move_biases
from model.optimizer import clip_gradients, make_optimizer, prepare_state, update
from model.parallel import ALONE, Ranks
from model.record import Record, cut_back
from model.schedule import Batch, Course, Step, Supply
from model.step import BatchResult, run_batch
from model.train_config import UNBOUND, Tail, TrainConfig, find_device
from model.transformer import Transformer, initialize

__all__ = ["Batch", "EvaluationSet", "Supply", "Tail", "TrainConfig", "evaluate", "train"]

MOST_SKIPPED = 5


def train(
    model_config: ModelConfig,
    train_config: TrainConfig,
    supply: Supply,
    evaluation: dict[str, EvaluationSet],
    out: Path,
    *,
    source_names: list[str] | None = None,
    name_documents: Callable[[int], list[str]] | None = None,
    progress: Callable[[dict], None] | None = None,
    start: Path | None = None,
    ranks: Ranks = ALONE,
    peak: float | None = None,
    wandb: str | None = None,
) -> dict:
    """Train on all of `supply` into the folder `out`, or continue what is there; give a summary.

    `source_names[i]` names source id i; `name_documents` gives the ids of the documents at a
    position, for the record of steps that fail. `progress` is called with each line written to
    `metrics.jsonl`. `start` is a folder of weights (such as another run's `final/`) to begin from
    instead of random ones. `peak` is what a rank can compute at most, in operations a second: with
    it, lines say how much of that was used (`mfu`). `wandb` names a Weights & Biases project.

    The summary has `status` ("complete" or "interrupted"), `step`, `steps`, `sequences`, `tokens`,
    `loss` (of the last step), `evaluation` (the last) and, if complete, `final` (a path), with an
    average also `average` (a path) and `average_evaluation`. Raises ValueError if `out` holds a run
    with other settings or only damaged checkpoints; ArithmeticError after five steps in a row that
    are not finite; OSError if a checkpoint cannot be written; RankError if a rank is lost.
    """
    if train_config.threads is not None:
        torch.set_num_threads(train_config.threads)
    course = Course(supply, train_config)
    device = find_device(train_config.device, ranks.rank)
    run = _Run(model_config, train_config, course, start, device)
    ranks.agree(run.settings())
    leads = ranks.rank == 0
    root = out / "checkpoints"
    out.mkdir(parents=True, exist_ok=True)
    run.resume(root, ranks)
    sources = len(source_names or ())
    with contextlib.ExitStack() as stack:
        stopped = stack.enter_context(_sigterm())
        record = writer = None
        if leads:
            cut_back(out / "metrics.jsonl", run.step)
            record = stack.enter_context(Record(out, run.step, progress, wandb))
            keep = (train_config.keep_checkpoints, train_config.keep_every)
            writer = stack.enter_context(CheckpointWriter(root, *keep))
        while run.sequences < course.sequences:
            began = time.perf_counter()
            step = course.step(run.sequences)
            weights = course.mtp_weight(step.before), train_config.balance_alpha
            found = run_batch(run.model, supply, step, *weights, sources, ranks)
            line = run.finish_step(found, step)
            seconds = time.perf_counter() - began
            line["tokens_per_second"] = found.tokens / seconds
            if peak is not None:
                needed = training_operations(model_config, step.length) * found.tokens
                line["mfu"] = needed / seconds / (peak * ranks.count)
            if source_names is not None:
                line["source_loss"] = {
                    source_names[i]: total / count for i, (total, count) in found.sources.items()
                }
            if "skipped" in line and name_documents is not None:
                positions = found.suspects or range(step.first, step.first + step.size)
                line["documents"] = {str(p): name_documents(p) for p in positions}
            if record and (run.step % train_config.log_every == 0 or "skipped" in line):
                record.write(line)
            last = run.sequences == course.sequences
            if evaluation and (last or _due(run.step, train_config.eval_every)):
                run.evaluate(evaluation, ranks, with_average=last)
                if record:
                    record.write(run.evaluation_line())
            stopping = bool(ranks.add([stopped.is_set()])[0])
            if run.skipped >= MOST_SKIPPED:
                if writer:
                    writer.save(run.good["step"], run.tensors(), run.state(run.good))
                    writer.wait()
                raise ArithmeticError(_report(out, run, line))
            due = run.skipped == 0 and _due(run.step, train_config.checkpoint_every)
            if writer:
                writer.check()
                if last or stopping or due:
                    writer.save(run.step, run.tensors(), run.state(run.counters()))
            if stopping and not last:
                return run.summary("interrupted")
    folders = {"final": {name: t.cpu() for name, t in run.model.state_dict().items()}}
    if run.average is not None:
        folders["average"] = run.average.tensors
    if leads:
        for name, tensors in folders.items():
            write_weights(model_config, tensors, out / name)
    ranks.add([0.0])  # none leaves before the weights are there
    return run.summary("complete") | {name: str(out / name) for name in folders}


def write_weights(config: ModelConfig, tensors: dict[str, Tensor], target: Path) -> None:
    """Write float32 weights under the training names, and config.json, as the folder `target`."""
    beside = target.with_name(f".writing-{target.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file(tensors, beside / "model.safetensors", {"format": "pt"})
    content = json.dumps(config.to_hugging_face(), indent=2, sort_keys=True)
    (beside / "config.json").write_text(content + "\n")
    if target.exists():
        shutil.rmtree(target)
    beside.replace(target)


class _Run:
    """The state of a run: everything that a checkpoint holds."""

    def __init__(
        self,
        model_config: ModelConfig,
        config: TrainConfig,
        course: Course,
        start: Path | None,
        device: torch.device,
    ) -> None:
        self.config, self.course = config, course
        self.model = Transformer(model_config, config.precision, config.recompute)
        initialize(self.model, config.seed, config.embedding_scale)
        self.start = None if start is None else _begin_from(self.model, start)
        self.model.to(device)  # drawn on the CPU, so from the same numbers everywhere
        self.optimizer = make_optimizer(
            self.model,
            config.betas,
            config.eps,
            config.weight_decay,
            config.embedding_scale,
            config.head_scale,
        )
        prepare_state(self.optimizer, getattr(torch, config.moments))
        self.average = Average(self.model, config.average) if config.average else None
        self.step = self.sequences = self.tokens = self.updates = self.skipped = 0
        self.good = self.counters()  # as they were after the last step that was not skipped
        self.loss = math.nan
        self.evaluation: dict[str, dict] | None = None
        self.average_evaluation: dict[str, dict] | None = None

    def finish_step(self, found: BatchResult, step: Step) -> dict:
        """Update the weights by a batch's gradients; give the line for the record."""
        config, model = self.config, self.model
        rate = self.course.rate(self.step, step.after)
        norm = clip_gradients(model.parameters(), config.clip).item()
        finite = math.isfinite(norm) and math.isfinite(found.main + found.mtp + found.balance)
        if finite:
            update(self.optimizer, rate)
            move_biases(model.routers, found.loads, self.course.bias_speed(step.before))
            self.updates += 1
            if self.average is not None and self.updates % config.average_every == 0:
                self.average.update(model)
        self.optimizer.zero_grad(set_to_none=True)
        self.skipped = 0 if finite else self.skipped + 1
        self.step += 1
        self.sequences += step.size
        self.tokens += found.tokens
        self.loss = found.main
        line = {
            "step": self.step,
            "sequences": self.sequences,
            "tokens": self.tokens,
            "loss": found.main,
            "mtp_loss": found.mtp,
            "balance_loss": found.balance / max(len(found.loads), 1),
            "grad_norm": norm,
            "lr": rate,
            "expert_load": [_fractions(load) for load in found.loads],
        }
        if finite:
            self.good = self.counters()
        else:
            where = f"sequences {step.first} to {step.first + step.size - 1}"
            if found.suspects:
                where += f", the loss of {', '.join(map(str, found.suspects))}"
            line["skipped"] = f"the loss or the gradient norm is not finite ({where})"
        return line

    def evaluate(
        self, evaluation: dict[str, EvaluationSet], ranks: Ranks, with_average: bool
    ) -> None:
        """Measure the weights, and their average too if asked."""
        self.evaluation = evaluate(self.model, evaluation, ranks)
        if with_average and self.average is not None:
            with self.average.within(self.model):
                self.average_evaluation = evaluate(self.model, evaluation, ranks)

    def evaluation_line(self) -> dict:
        line = {"step": self.step, "eval": self.evaluation}
        if self.average_evaluation is not None:
            line["average_eval"] = self.average_evaluation
        return line

    def tensors(self) -> list[dict[str, Tensor]]:
        """All tensors of the run: weights and biases, first moments, second moments, average."""
        parts = [dict(self.model.state_dict()), {}, {}]
        for name, parameter in self.model.named_parameters():
            state = self.optimizer.state[parameter]
            for part, moment in zip(parts[1:], ("exp_avg", "exp_avg_sq"), strict=True):
                part[f"optimizer.{moment}.{name}"] = state[moment]
        if self.average is not None:
            parts.append({f"average.{n}": t for n, t in self.average.tensors.items()})
        return parts

    def settings(self) -> dict:
        """What a continuation must agree with."""
        bound = {k: v for k, v in asdict(self.config).items() if k not in UNBOUND}
        run = {
            "sequences": self.course.sequences,
            "tokens": self.course.tokens,
            "start": self.start,
        }
        sections = {"model": asdict(self.model.config), "training": bound, "run": run}
        return json.loads(json.dumps(sections))

    def counters(self) -> dict[str, int]:
        names = ("step", "sequences", "tokens", "updates", "skipped")
        return {name: getattr(self, name) for name in names}

    def state(self, counters: dict[str, int]) -> dict:
        """What a checkpoint holds besides tensors, at these counters."""
        return {
            "settings": self.settings(),
            "counters": counters,
            "good": self.good,
            "averaged": 0 if self.average is None else self.average.updates,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "evaluation": self.evaluation,
            "average_evaluation": self.average_evaluation,
        }

    def resume(self, root: Path, ranks: Ranks) -> None:
        """Continue from the newest undamaged checkpoint, if there is one."""
        path = find_checkpoint(root) if ranks.rank == 0 else None
        name = ranks.tell(path and path.name)
        if name is None:
            return
        tensors = {name: t for part in self.tensors() for name, t in part.items()}
        state = read_checkpoint(root / name, tensors, self.settings())
        for name, value in state["counters"].items():
            setattr(self, name, value)
        self.good = state["good"]
        self.loss = math.nan if state["loss"] is None else state["loss"]
        self.evaluation = state["evaluation"]
        self.average_evaluation = state["average_evaluation"]
        if self.average is not None:
            self.average.updates = state["averaged"]
        for entry in self.optimizer.state.values():
            entry["step"].fill_(self.updates)

    def summary(self, status: str) -> dict:
        result = {
            "status": status,
            "step": self.step,
            "steps": self.course.steps,
            "sequences": self.sequences,
            "tokens": self.tokens,
            "loss": self.loss,
            "evaluation": self.evaluation,
        }
        if self.average_evaluation is not None:
            result["average_evaluation"] = self.average_evaluation
        return result


def _begin_from(model: Transformer, start: Path) -> str:
    """Load the weights of another run; give the checksum that a continuation must find again."""
    path = start / "model.safetensors"
    found = load_file(path)
    wanted = model.state_dict()
    names = sorted(n for n in found.keys() | wanted if _shape(found, n) != _shape(wanted, n))
    if names:
        raise ValueError(
            f"{path}: {len(names)} tensors differ from this model's; {names[0]} has the shape "
            f"{_shape(found, names[0])}, expected {_shape(wanted, names[0])}"
        )
    model.load_state_dict(found)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shape(tensors: dict[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def _fractions(load: Tensor) -> list[float]:
    return [round(x, 6) for x in (load / load.sum().clamp_min(1)).tolist()]


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _report(out: Path, run: _Run, line: dict) -> str:
    """What to know when a run ends on steps that are not finite."""
    documents = [name for names in line.get("documents", {}).values() for name in names]
    named = f", documents {', '.join(documents[:3])}" if documents else ""
    more = f" and {len(documents) - 3} more" if len(documents) > 3 else ""
    return (
        f"{out}: {MOST_SKIPPED} steps in a row, {run.step - MOST_SKIPPED + 1} to {run.step}, were "
        f"skipped; the last: {line['skipped']}{named}{more}. metrics.jsonl names all of them; "
        f"checkpoints/step-{run.good['step']:08d} is from before the first. Lower the learning "
        "rate, or leave those documents out"
    )


@contextlib.contextmanager
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
