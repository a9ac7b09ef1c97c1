"""How to train: every setting of a run that is not the model's shape.

A length of training that is not in steps is an *amount*: a share of the run's tokens if it is at
most 1, a number of tokens above that. So a small run and DeepSeek-V3's are written alike:
`decay: 0.3`, `decay: 4.3e12`. What the settings mean at each step is in `schedule.py`.
"""

import os
from dataclasses import dataclass

import torch

from model.linear import PRECISIONS

MOMENTS = ("float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Tail:
    """A stretch at the end of a run with a learning rate of its own: an amount of training, and the
    ratio of its rate to the peak.
    """

    amount: float
    ratio: float


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Raises ValueError, naming the field.

    Sizes of batches count sequences of the first phase's length; longer ones come in fewer, so that
    a batch keeps its tokens (as V3's 15,360 of 4,096, 1,920 of 32K and 480 of 128K have). A batch
    grows from `first_batch_size` to `batch_size` over the amount `batch_ramp`.

    The learning rate rises over `warmup_steps` to `learning_rate`, stays, and falls along a cosine
    over the amount `decay` to `min_lr_ratio` of it; then come `tails`, each at a constant rate.
    `embedding_scale` multiplies the embedding table's deviation at the start and its learning rate,
    which for AdamW is the same as multiplying the embeddings in the forward pass: a row is only
    updated when its token occurs, so in a short run a table at 1 hardly leaves where it began.
    `head_scale` multiplies the head's learning rate.

    The multi-token loss counts `mtp_weight`, and `late_mtp_weight` after the amount `mtp_switch`;
    routers' biases move by `bias_update_speed` until the amount `bias_update_until`. The defaults
    of the four are the report's.

    `moments` is how AdamW's moments are stored. `average` above 0 keeps an exponential average of
    the weights of that decay per update, taken every `average_every` updates. `recompute` trades
    time for memory in the backward pass. `eval_every` 0 evaluates only at the end;
    `checkpoint_every` 0 saves only at the end; the newest `keep_checkpoints` are kept, and those
    whose step `keep_every` divides. `threads` sets torch's threads, None leaves them. `device` is
    where the model is: cpu, cuda, or auto, a GPU if there is one; another one rounds differently.
    """

    batch_size: int
    micro_batch_size: int
    learning_rate: float
    first_batch_size: int | None = None
    batch_ramp: float = 0.0
    warmup_steps: int = 0
    decay: float = 0.3
    min_lr_ratio: float = 0.1
    tails: tuple[Tail, ...] = ()
    embedding_scale: float = 1.0
    head_scale: float = 1.0
    weight_decay: float = 0.1
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    moments: str = "float32"
    mtp_weight: float = 0.3
    late_mtp_weight: float = 0.1
    mtp_switch: float = 10 / 14.8
    balance_alpha: float = 1e-4
    bias_update_speed: float = 1e-3
    bias_update_until: float = 14.3 / 14.8
    average: float = 0.0
    average_every: int = 1
    precision: str = "fp32"
    recompute: bool = False
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    keep_every: int = 0
    eval_every: int = 0
    log_every: int = 1
    seed: int = 0
    threads: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        tails = tuple(t if isinstance(t, Tail) else Tail(**t) for t in self.tails)
        object.__setattr__(self, "tails", tails)
        micro, first = self.micro_batch_size, self.first_batch_size
        whole = micro >= 1 and self.batch_size % micro == 0
        rules = {
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "micro_batch_size": (whole, f"a divisor of batch_size {self.batch_size}"),
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "first_batch_size": (
                first is None or (micro <= first <= self.batch_size and first % micro == 0),
                f"a multiple of micro_batch_size {micro}, at most batch_size {self.batch_size}",
            ),
            "batch_ramp": (
                self.batch_ramp >= 0 and (first is None) == (self.batch_ramp == 0),
                "an amount of training, with first_batch_size; neither or both",
            ),
            "warmup_steps": (self.warmup_steps >= 0, "at least 0"),
            "min_lr_ratio": (0 <= self.min_lr_ratio <= 1, "between 0 and 1"),
            "tails": (
                all(t.amount > 0 and 0 <= t.ratio <= 1 for t in self.tails),
                "amounts above 0 and ratios between 0 and 1",
            ),
            "embedding_scale": (self.embedding_scale > 0, "above 0"),
            "head_scale": (self.head_scale > 0, "above 0"),
            "clip": (self.clip > 0, "above 0"),
            "moments": (self.moments in MOMENTS, f"one of {MOMENTS}"),
            "average": (0 <= self.average < 1, "a decay below 1, or 0 for no average"),
            "average_every": (self.average_every >= 1, "at least 1"),
            "precision": (self.precision in PRECISIONS, f"one of {PRECISIONS}"),
            "keep_checkpoints": (self.keep_checkpoints >= 1, "at least 1"),
            "log_every": (self.log_every >= 1, "at least 1"),
            "device": (self.device in DEVICES, f"one of {DEVICES}"),
            "threads": (self.threads is None or self.threads >= 1, "at least 1, or null"),
        }
        amounts = ("decay", "mtp_switch", "bias_update_until")
        for name in (*amounts, "checkpoint_every", "keep_every", "eval_every"):
            rules[name] = (getattr(self, name) >= 0, "at least 0")
        for name, (holds, expected) in rules.items():
            if not holds:
                found = getattr(self, name)
                raise ValueError(f"training configuration: {name} is {found}, expected {expected}")


def find_device(name: str, rank: int = 0) -> torch.device:
    """The device of that name for this rank: on a machine with several GPUs they share them out.

    Raises ValueError where a GPU is asked for and torch sees none.
    """
    here = torch.cuda.is_available()
    if name == "cuda" and not here:
        raise ValueError(
            "training configuration: device is cuda, but torch sees no GPU here; expected auto or "
            "cpu, or a driver and a build of torch that see it"
        )
    if name == "cpu" or not here:
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", rank))
    return torch.device("cuda", local % torch.cuda.device_count())


# What may differ between a run and its continuation: it changes what is trained by rounding only.
UNBOUND = {
    "checkpoint_every",
    "device",
    "keep_checkpoints",
    "keep_every",
    "eval_every",
    "log_every",
    "recompute",
    "threads",
}
