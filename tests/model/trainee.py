"""A run in a process of its own, for tests that kill it: `python trainee.py OUT STEPS`."""

import sys
from pathlib import Path

import torch

from model.config import ModelConfig
from model.trainer import TrainConfig, train

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


def batches(consumed, size=4, length=32):
    """Batches from a sequence number on: each sequence counts up from a start of its own."""
    while True:
        numbers = torch.arange(consumed, consumed + size)
        tokens = (
            numbers[:, None] * 37 + torch.arange(length + 1) * (1 + numbers[:, None] % 3)
        ) % 64
        documents = numbers[:, None].expand(size, length).to(torch.int32).clone()
        labels = tokens[:, 1:].clone()
        # The last sequence of each batch is half padding.
        documents[-1, length // 2 :] = -1
        labels[-1, length // 2 - 1 :] = -100
        yield {
            "input_ids": tokens[:, :-1].contiguous(),
            "labels": labels,
            "document_ids": documents,
            "source_ids": (documents % 2).clamp_min(-1),
            "sequence_index": numbers,
        }
        consumed += size


def config(steps, **changes):
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
    return TrainConfig(steps=steps, **settings | changes)


def held_out():
    return [next(batches(100_000))]


if __name__ == "__main__":
    train(
        MODEL,
        config(int(sys.argv[2])),
        batches,
        {"held out": held_out},
        Path(sys.argv[1]),
        source_names=["even", "odd"],
    )
