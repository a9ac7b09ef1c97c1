"""The course of a run: which sequences make a step, and what the schedules say at each.

Everything here is a function of the place in the run, counted in sequences and in tokens (padding
too), so nothing has to be saved to continue and a run of 14.8T tokens is looked at as easily as one
of a million. The shapes are those of section 4.2 of the DeepSeek-V3 report (arXiv 2412.19437): a
linear warm-up in steps, a constant rate, a cosine, constant tails; batches that grow by tokens; the
multi-token weight and the speed of the routers' biases, each of which changes once.

A step's learning rate is that of its end, so the last step of the cosine has exactly its lowest
rate; all else is by the step's beginning.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from torch import Tensor

from model.train_config import TrainConfig

# input_ids, labels [b, L] int64; document_ids, source_ids [b, L] int32; sequence_index [b] int64;
# and sample_ids [b, L] int32 where the samples of a row are to be hidden from each other.
Batch = dict[str, Tensor]


class Supply(Protocol):
    """Sequences in the order of training: phases one after another, of one length each."""

    def __len__(self) -> int:
        """Sequences of all phases."""

    def batch(self, first: int, size: int) -> Batch:
        """The sequences at positions first … first + size - 1, cut off at the phase's end."""

    def phase_end(self, position: int) -> int:
        """The position behind the last of the phase that holds this one."""

    def length(self, position: int) -> int:
        """Tokens of the sequence at a position, padding counted."""


@dataclass(frozen=True)
class Step:
    """One step: `size` sequences of `length` tokens from position `first` on, in micro-batches of
    `micro`, with `before` tokens of the run before it and `after` when it is done.
    """

    first: int
    size: int
    length: int
    micro: int
    before: int
    after: int


class Course:
    """The steps of a run over `supply` and what `config` says at each of them."""

    def __init__(self, supply: Supply, config: TrainConfig) -> None:
        self.config = config
        self.ends: list[int] = []  # of the phases, in sequences
        self.phases: list[tuple[int, int, int]] = []  # first position, length, tokens before
        first = tokens = 0
        while first < len(supply):
            end, length = supply.phase_end(first), supply.length(first)
            if not first < end <= len(supply) or length < 1:
                raise ValueError(
                    f"sequences: the phase at {first} ends at {end} with length {length}, "
                    f"expected an end in {first + 1} … {len(supply)} and a length of 1 or more"
                )
            self.phases.append((first, length, tokens))
            self.ends.append(end)
            tokens += (end - first) * length
            first = end
        if not self.phases:
            raise ValueError("sequences: there are none, expected at least one to train on")
        self.sequences, self.tokens = first, tokens
        self._check()

    def _check(self) -> None:
        parts = [self.config.decay, *(tail.amount for tail in self.config.tails)]
        falling = sum(map(self.amount, parts))
        if falling > self.tokens:
            raise ValueError(
                f"training configuration: decay and tails take {falling} tokens, expected at most "
                f"the run's {self.tokens}"
            )

    def amount(self, value: float) -> int:
        """An amount of training in tokens: a share of the run if at most 1, tokens above."""
        return round(value * self.tokens if value <= 1 else value)

    def step(self, first: int) -> Step:
        """The step that begins at a position; it ends where its phase does."""
        k = bisect_right(self.ends, first)
        start, length, before = self.phases[k]
        before += (first - start) * length
        size = min(self.batch_size(before, length), self.ends[k] - first)
        micro = self._of_length(self.config.micro_batch_size, length)
        return Step(first, size, length, micro, before, before + size * length)

    @cached_property
    def steps(self) -> int:
        """How many steps the run has."""
        count = first = 0
        while first < self.sequences:
            first += self.step(first).size
            count += 1
        return count

    def batch_size(self, tokens: int, length: int) -> int:
        """Sequences of a batch after `tokens`, growing in whole micro-batches."""
        config = self.config
        size, ramp = config.batch_size, self.amount(config.batch_ramp)
        if config.first_batch_size is not None and tokens < ramp:
            grown = (size - config.first_batch_size) * tokens // ramp
            size = config.first_batch_size + grown - grown % config.micro_batch_size
        return self._of_length(size, length)

    def _of_length(self, size: int, length: int) -> int:
        """As many sequences of a length as have the tokens of `size` of the first phase's."""
        return max(1, size * self.phases[0][1] // length)

    def rate(self, number: int, tokens: int) -> float:
        """The learning rate of step `number` (0-based), at whose end the run has had `tokens`."""
        config = self.config
        if number < config.warmup_steps:
            return config.learning_rate * (number + 1) / config.warmup_steps
        end = self.tokens
        for tail in reversed(config.tails):
            end -= self.amount(tail.amount)
            if tokens > end:
                return config.learning_rate * tail.ratio
        decay = self.amount(config.decay)
        into = tokens - (end - decay)
        if into <= 0 or decay == 0:
            return config.learning_rate
        cosine = 0.5 * (1 + math.cos(math.pi * (into / decay)))
        return config.learning_rate * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)

    def mtp_weight(self, tokens: int) -> float:
        """The multi-token weight λ (equation 25) of a step that begins after `tokens`."""
        early = tokens < self.amount(self.config.mtp_switch)
        return self.config.mtp_weight if early else self.config.late_mtp_weight

    def bias_speed(self, tokens: int) -> float:
        """The routers' update speed γ of a step that begins after `tokens`."""
        moving = tokens < self.amount(self.config.bias_update_until)
        return self.config.bias_update_speed if moving else 0.0
