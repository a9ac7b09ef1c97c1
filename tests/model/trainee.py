"""A run in a process of its own, for tests that kill it: `python trainee.py OUT STEPS [JSON]`.

Under `torchrun` it is one of several ranks. The JSON changes settings.
"""

import json
import sys
from pathlib import Path

import torch

from model.config import ModelConfig
from model.parallel import RankError, join
from model.trainer import EvaluationSet, TrainConfig, train

MODEL = ModelConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    moe_intermediate_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=8,
    n_routed_experts=4,
    num_experts_per_tok=2,
)
NAMES = ["even", "odd"]


def sequences(first: int, size: int, length: int = 32) -> dict[str, torch.Tensor]:
    """Sequences that count up from a start of their own; every fourth is half padding."""
    numbers = torch.arange(first, first + size)
    tokens = (numbers[:, None] * 37 + torch.arange(length + 1) * (1 + numbers[:, None] % 3)) % 64
    documents = numbers[:, None].expand(size, length).to(torch.int32).clone()
    labels = tokens[:, 1:].clone()
    short = numbers % 4 == 3
    documents[short, length // 2 :] = -1
    labels[short, length // 2 - 1 :] = -100
    return {
        "input_ids": tokens[:, :-1].contiguous(),
        "labels": labels,
        "document_ids": documents,
        "source_ids": (documents % 2).masked_fill(documents < 0, -1),
        "sequence_index": numbers,
    }


class Phases:
    """Phases of (sequences, length), as the trainer wants them."""

    def __init__(self, *phases: tuple[int, int]) -> None:
        self.phases = phases

    def __len__(self) -> int:
        return sum(count for count, _ in self.phases)

    def _at(self, position: int) -> tuple[int, int]:
        end = 0
        for count, length in self.phases:
            end += count
            if position < end:
                return end, length
        raise IndexError(position)

    def phase_end(self, position: int) -> int:
        return self._at(position)[0]

    def length(self, position: int) -> int:
        return self._at(position)[1]

    def batch(self, first: int, size: int) -> dict[str, torch.Tensor]:
        return sequences(first, min(size, self.phase_end(first) - first), self.length(first))


def steps(count: int) -> Phases:
    """What `count` steps of `config`'s batch size take."""
    return Phases((4 * count, 32))


def config(**changes) -> TrainConfig:
    settings = {
        "batch_size": 4,
        "micro_batch_size": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 1,
        "bias_update_speed": 0.01,
        "checkpoint_every": 1,
        "eval_every": 5,
        "threads": 1,
    }
    return TrainConfig(**settings | changes)


HELD_OUT = {"held out": EvaluationSet(lambda: [sequences(100_000, 4), sequences(100_004, 3)])}


if __name__ == "__main__":
    settings = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    try:
        with join() as ranks:
            found = train(
                MODEL,
                config(**settings),
                steps(int(sys.argv[2])),
                HELD_OUT,
                Path(sys.argv[1]),
                source_names=NAMES,
                ranks=ranks,
            )
            print(f"rank {ranks.rank}: {json.dumps(found)}")
    except (RankError, OSError, ArithmeticError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
