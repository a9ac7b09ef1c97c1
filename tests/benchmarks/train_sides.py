"""The two sides of `bench_train.py`: our model and transformers', with one shape, batch and step.

transformers runs its `DeepseekV3ForCausalLM` as it comes, with the faster of its expert
implementations on a CPU, `grouped_mm`. Both take the mean cross-entropy of the same random tokens,
from the same weights, and torch's fused AdamW with the same settings; ours adds the balance loss,
which transformers does not have.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.optimizer import make_optimizer, update
from model.transformer import Transformer, initialize

RATE, BETAS, EPS, DECAY = 1e-4, (0.9, 0.95), 1e-8, 0.1
TOKENS = 2048  # of a step, in rows of the length measured


def shape(vocab: int, size: int, layers: int, experts: int, inner: int, **other) -> ModelConfig:
    """DeepSeek-V3 in small: heads of 64 + 32, a latent of a quarter of the width, one dense layer,
    one shared expert, 4 of the experts active. No multi-token module unless asked for.
    """
    return ModelConfig(
        vocab_size=vocab,
        hidden_size=size,
        intermediate_size=size * 11 // 4,
        moe_intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=size // 64,
        kv_lora_rank=max(size // 4, 32),
        qk_nope_head_dim=64,
        qk_rope_head_dim=32,
        v_head_dim=64,
        n_routed_experts=experts,
        num_experts_per_tok=4,
        **{"num_nextn_predict_layers": 0, "max_position_embeddings": 4096} | other,
    )


# Total parameters, by name.
SIZES = {
    "tiny": shape(512, 64, 2, 8, 32),
    "14M": shape(8192, 256, 6, 16, 128),
    "60M": shape(16384, 512, 8, 16, 192),
    "200M": shape(24576, 768, 12, 32, 160),
}


def ours(config: ModelConfig, recompute: bool = False) -> Transformer:
    model = Transformer(config, recompute=recompute)
    initialize(model, 0)
    return model


def theirs(config: ModelConfig, like: Transformer | None = None) -> nn.Module:
    """transformers' model, with the weights of ours if given."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    hub = DeepseekV3Config.from_dict(config.to_hugging_face())
    hub._experts_implementation = "grouped_mm"  # what `experts_implementation=` sets on loading
    twin = DeepseekV3ForCausalLM(hub)
    assert twin.config._experts_implementation == "grouped_mm"
    if like is not None:
        twin.load_state_dict(like.state_dict())
    return twin


def batch(config: ModelConfig, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    rows = max(TOKENS // length, 1)
    return torch.randint(0, config.vocab_size, (rows, length), generator=generator)


def our_step(model: Transformer, ids: Tensor) -> Callable[[], float]:
    """A function that takes a training step and gives the loss before it."""
    optimizer = make_optimizer(model, BETAS, EPS, DECAY)
    labels = torch.cat([ids[:, 1:], torch.full((len(ids), 1), -100)], 1)
    real = torch.ones_like(ids, dtype=torch.bool)

    def step() -> float:
        losses = model.losses(ids, labels, real)
        loss = losses.main / losses.main_tokens
        objective = loss + 1e-4 * losses.balance / len(ids)
        for value, count in zip(losses.mtp, losses.mtp_tokens, strict=True):
            objective = objective + 0.3 * value / count
        objective.backward()
        with torch.profiler.record_function("optimizer"):
            update(optimizer, RATE)
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def their_step(twin: nn.Module, ids: Tensor) -> Callable[[], float]:
    """The same for transformers."""
    parameters = list(twin.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS, fused=True)

    def step() -> float:
        loss = twin(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def product_rate(size: int = 2048) -> Callable[[], float]:
    """A function that measures float32 matrix products, in operations a second."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    return lambda: 2 * size**3 / seconds(lambda: torch.mm(a, b, out=out))


def read_rate(megabytes: int = 512) -> Callable[[], float]:
    """A function that measures reading memory, in bytes a second, all threads together."""
    numbers = torch.ones(megabytes * 250_000)
    return lambda: numbers.nbytes / seconds(numbers.sum)
