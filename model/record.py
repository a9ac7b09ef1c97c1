"""The record of a run: one line of JSON a step, and the same numbers for TensorBoard.

`metrics.jsonl` is the truth: each line is flushed as it is written, so a killed run leaves at most
one cut line. A run that continues from a checkpoint first cuts the file back to it, and the steps
done again write their lines again. TensorBoard and Weights & Biases get the numbers of each line;
the latter only when asked for, and then has to be installed: it sends them to its servers.
"""

import importlib.util
import json
import math
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def cut_back(metrics: Path, step: int) -> None:
    """Drop lines after `step`, and a last line that was cut short."""
    if not metrics.exists():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    beside = metrics.with_name(".writing-metrics.jsonl")
    beside.write_text("".join(kept), encoding="utf-8")
    beside.replace(metrics)


class Record:
    """Writes lines to `out/metrics.jsonl` and `out/tensorboard/`, and passes them to `progress`.

    `step` is the last one that stands: TensorBoard hides what it has of later ones. `wandb` names a
    project of Weights & Biases to write to as well, one run for the folder however often it is
    continued. Raises ValueError if that is not installed.
    """

    def __init__(
        self,
        out: Path,
        step: int,
        progress: Callable[[dict], None] | None = None,
        wandb: str | None = None,
    ) -> None:
        # Imported here: it takes a second, and only training needs it.
        from torch.utils.tensorboard import SummaryWriter

        self.wandb = _open_wandb(out, wandb) if wandb is not None else None
        self.file = (out / "metrics.jsonl").open("a", encoding="utf-8")
        self.board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
        self.progress = progress

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.board.close()
        if self.wandb is not None:
            self.wandb.finish()

    def write(self, line: dict) -> None:
        """Write one line: numbers, and dictionaries and lists of them, under names.

        A number that is not finite is written as null.
        """
        line = _without_nan(line)
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        scalars = dict(_scalars(line))
        for name, value in scalars.items():
            self.board.add_scalar(name, value, line["step"])
        if self.wandb is not None:
            self.wandb.log(scalars, step=line["step"])
        if self.progress is not None:
            self.progress(line)


def check_wandb() -> None:
    """Raise ValueError if Weights & Biases is asked for and not installed."""
    if importlib.util.find_spec("wandb") is None:
        raise ValueError(
            "wandb: Weights & Biases is not installed; `pip install wandb`, or leave `wandb` out: "
            "TensorBoard has the same numbers"
        )


def _open_wandb(out: Path, project: str) -> Any:
    check_wandb()
    import wandb

    # A random name, kept: it is in nothing that the run computes.
    name = out / "wandb-run"
    if not name.exists():
        name.write_text(uuid.uuid4().hex)
    return wandb.init(project=project, id=name.read_text(), resume="allow", dir=str(out))


def _scalars(line: dict) -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        if isinstance(value, float):
            yield name, value
    for source, value in line.get("source_loss", {}).items():
        if value is not None:
            yield f"source_loss/{source}", value
    for layer, load in enumerate(line.get("expert_load", [])):
        # 1 when even: how much longer the busiest expert makes everyone wait.
        yield f"busiest_expert/{layer}", max(load) * len(load)
    for kind in ("eval", "average_eval"):
        for name, result in line.get(kind, {}).items():
            for key, end in (("loss", ""), ("bits_per_byte", "/bits_per_byte")):
                if result.get(key) is not None:
                    yield f"{kind}/{name}{end}", result[key]


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
