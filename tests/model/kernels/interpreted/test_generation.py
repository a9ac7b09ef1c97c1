"""Generation with the compressed cache on the decoding kernel."""

import torch

from model import attention
from model.config import ModelConfig
from model.generate import generate
from model.transformer import Transformer, initialize

CONFIG = ModelConfig(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    moe_intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    q_lora_rank=None,
    kv_lora_rank=24,
    qk_nope_head_dim=16,
    qk_rope_head_dim=8,
    v_head_dim=12,
    n_routed_experts=4,
    num_experts_per_tok=2,
    num_nextn_predict_layers=1,
    initializer_range=0.3,
    max_position_embeddings=64,
)


def test_the_same_tokens_come_from_the_kernel_and_from_plain_pytorch(monkeypatch):
    model = Transformer(CONFIG)
    initialize(model, 5)
    prompt = torch.arange(3, 20).tolist()
    calls = []
    switch = attention.enabled

    def counted(x, dtype):
        calls.append(x.shape)
        return switch(x, dtype)

    monkeypatch.setattr(attention, "enabled", counted)
    one_by_one = generate(model, prompt, 6).tokens
    drafted = generate(model, prompt, 6, speculative=True).tokens
    monkeypatch.setattr(attention, "enabled", lambda x, dtype: False)
    expected = generate(model, prompt, 6).tokens
    assert one_by_one == drafted == expected
    assert {shape[1] for shape in calls} == {1, 2}  # new tokens a pass
