"""The sections of a recipe that are about sequences: mixture, training, extensions, chat."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from pipelines.recipe_data import Fraction, Name, Positive, Section, Share


class DomainSection(Section):
    """A domain's share of a phase; a bare number is the share alone.

    Inside, in proportion to what there is, or by `sources` and `languages` (shares that add up to
    1, `*` for those not named); in the place of languages, `temperature` or `unimax` (epochs).
    """

    share: Share
    sources: dict[str, Fraction] | None = None
    languages: dict[str, Fraction] | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None
    unimax: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"share": value} if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _divided(self) -> "DomainSection":
        from packing.mixture import Share as Checked

        Checked(**dict(self))
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: Any) -> Any:
        given = {name: value for name, value in handler(self).items() if value is not None}
        return given if len(given) > 1 else given["share"]


class PhaseSection(Section):
    """A stretch of training: sequence length, budget in tokens, and domain → share."""

    length: Annotated[int, Field(ge=8)] = 4096
    tokens: Positive
    mixture: dict[Name, DomainSection]

    @field_validator("mixture")
    @classmethod
    def _adds_up(cls, value: dict[str, DomainSection]) -> dict[str, DomainSection]:
        total = sum(domain.share for domain in value.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"shares must add up to 1, these add up to {total:g}")
        return value


class ValidationSection(Section):
    """Held-out documents: their fraction, sequences used by domain, sources left out."""

    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.01
    sequences: Positive = 64
    exclude_sources: tuple[str, ...] = ()


class PlanSection(Section):
    """Phases in order, epoch caps (a default, and by source), who gives when one is short,
    validation, and how documents are packed."""

    phases: Annotated[tuple[PhaseSection, ...], Field(min_length=1)]
    default_max_epochs: Annotated[float, Field(gt=0)] = 4.0
    max_epochs: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    when_short: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )
    validation: ValidationSection = ValidationSection()
    strategy: Literal["best_fit", "concat", "none"] = "best_fit"

    def phase_of(self, which: Callable[..., int]) -> int:
        """The number of the phase with the longest (`max`) or shortest (`min`) sequences."""
        return which(range(len(self.phases)), key=lambda k: self.phases[k].length)

    @model_validator(mode="after")
    def _others_give(self) -> "PlanSection":
        for name, others in self.when_short.items():
            if name in others:
                raise ValueError(f"when_short.{name}: names itself, expected others")
        return self


# Of training: a share of the run's tokens if at most 1, a number of tokens above.
Amount = Annotated[float, Field(ge=0)]


class TailSection(Section):
    """A stretch at the end of training at a constant rate: how much, and the ratio to the peak."""

    amount: Annotated[float, Field(gt=0)]
    ratio: Fraction


class TrainSection(Section):
    """The model (a preset, and fields of it to change) and the optimisation.

    What is not about processes is explained in `model/train_config.py`. `ranks`: processes of this
    machine that share each batch. `wandb`: a project of Weights & Biases to write to as well.
    """

    preset: str = "quickstart"
    model: dict[str, Any] = Field(default_factory=dict)
    precision: Literal["fp32", "fp8"] = "fp32"
    recompute: bool = False
    batch_size: Positive = 8
    micro_batch_size: Positive | None = None
    first_batch_size: Positive | None = None
    batch_ramp: Amount = 0.0
    learning_rate: Annotated[float, Field(gt=0)] = 2.2e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    decay: Amount = 0.3
    min_lr_ratio: Fraction = 0.1
    tails: tuple[TailSection, ...] = ()
    embedding_scale: Annotated[float, Field(gt=0)] = 1.0
    head_scale: Annotated[float, Field(gt=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    clip: Annotated[float, Field(gt=0)] = 1.0
    moments: Literal["float32", "bfloat16"] = "float32"
    mtp_weight: Annotated[float, Field(ge=0)] = 0.3
    late_mtp_weight: Annotated[float, Field(ge=0)] = 0.1
    mtp_switch: Amount = 10 / 14.8
    balance_alpha: Annotated[float, Field(ge=0)] = 1e-4
    bias_update_speed: Annotated[float, Field(ge=0)] = 1e-3
    bias_update_until: Amount = 14.3 / 14.8
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average_every: Positive = 1
    checkpoint_every: Positive = 100
    keep_checkpoints: Positive = 2
    keep_every: Annotated[int, Field(ge=0)] = 0
    eval_every: Positive = 200
    threads: Positive | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    ranks: Positive = 1
    wandb: str | None = None

    @model_validator(mode="after")
    def _whole_parts(self) -> "TrainSection":
        micro, first = self.micro_batch_size, self.first_batch_size
        if micro and self.batch_size % micro:
            raise ValueError(
                f"micro_batch_size {micro} does not divide batch_size {self.batch_size}"
            )
        if (first is None) != (self.batch_ramp == 0):
            raise ValueError("first_batch_size and batch_ramp go together: expected both or none")
        if first and not (micro and first % micro == 0 and first <= self.batch_size):
            raise ValueError(
                f"first_batch_size {first} is not a multiple of micro_batch_size {micro}, up to "
                f"batch_size {self.batch_size}"
            )
        return self


class ExtensionSection(Section):
    """A training at a greater length: of so many `tokens`, or `steps`, see `stages/extend.py`.

    `factor` of YaRN: the length over the trained one. `mixture`: that of the last phase.
    """

    length: Annotated[int, Field(ge=8)]
    tokens: Positive | None = None
    steps: Positive | None = None
    factor: Annotated[float, Field(gt=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    batch_size: Positive | None = None
    micro_batch_size: Positive = 1
    mixture: dict[Name, Any] | None = None

    def phase(self, last: PhaseSection, tokens: int) -> PhaseSection:
        """What it is to the plan; last: the phase whose mixture it takes if it has none."""
        values = {"length": self.length, "tokens": tokens}
        if self.mixture is None:
            return last.model_copy(update=values)
        return PhaseSection.model_validate({**values, "mixture": self.mixture})

    @model_validator(mode="after")
    def _one_amount(self) -> "ExtensionSection":
        if (self.tokens is None) == (self.steps is None):
            raise ValueError("expected `tokens` or `steps`, one of the two")
        if self.mixture is not None:
            PhaseSection(length=self.length, tokens=1, mixture=self.mixture)
        _check_micro(self.batch_size, self.micro_batch_size)
        return self


class ChatSource(Section):
    """Conversations: a Parquet or JSON-lines file or a folder of them, with a column of messages
    (`role` and `content`), and `language` if there is one."""

    path: str
    name: Name
    messages_field: str = "messages"
    language: str | None = None


class SupervisedSection(Section):
    """Training on conversations after everything else, see `stages/supervised.py`.

    `length` of the sequences: the greatest trained before. The learning rate falls along a cosine
    to `final_learning_rate`.
    """

    sources: Annotated[tuple[ChatSource, ...], Field(min_length=1)]
    length: Annotated[int, Field(ge=8)] | None = None
    epochs: Positive = 2
    learning_rate: Annotated[float, Field(gt=0)] = 5e-6
    final_learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    batch_size: Positive | None = None
    micro_batch_size: Positive = 1
    validation: ValidationSection = ValidationSection()

    @model_validator(mode="after")
    def _falls(self) -> "SupervisedSection":
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate:g} is above learning_rate "
                f"{self.learning_rate:g}"
            )
        if len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("two sources have the same name")
        _check_micro(self.batch_size, self.micro_batch_size)
        return self


def _check_micro(batch: int | None, micro: int) -> None:
    if batch is not None and batch % micro:
        raise ValueError(f"micro_batch_size {micro} does not divide batch_size {batch}")
