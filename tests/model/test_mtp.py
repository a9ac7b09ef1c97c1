import pytest
import torch
from torch.nn import functional as F


def slow_depths(model, oracle, ids, labels):
    """The losses of all depths by transformers' own multi-token layer, one sequence at a time."""
    from transformers.modeling_layers import MtpLayer
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
        DeepseekV3DecoderLayer,
        DeepseekV3RMSNorm,
        DeepseekV3RotaryEmbedding,
    )

    twin = oracle(model)
    rotary = DeepseekV3RotaryEmbedding(twin.config)
    state = model.state_dict()
    sums = []
    hiddens = [twin.model(row[None]).last_hidden_state for row in ids]
    for k in range(1, len(model.mtp_modules) + 1):
        index = model.config.num_hidden_layers + k - 1
        layer = MtpLayer(twin.config, DeepseekV3DecoderLayer, DeepseekV3RMSNorm, index)
        renamed = {}
        for name, tensor in state.items():
            short = name.removeprefix(f"model.layers.{index}.")
            if short == name:
                continue
            if short == "shared_head.norm.weight":
                short = "post_norm.weight"
            elif not short.startswith(("enorm", "hnorm", "eh_proj")):
                short = f"mtp_block.{short}"
            renamed[short] = tensor
        layer.load_state_dict(renamed)
        layer = layer.to(state["lm_head.weight"].dtype)
        total = 0.0
        for i, row in enumerate(ids):
            length = len(row) - k
            embedding = twin.model.embed_tokens(row[None, k:])
            positions = torch.arange(length)[None]
            mask = torch.full((length, length), float("-inf"), dtype=embedding.dtype).triu(1)
            hiddens[i] = layer(
                embedding,
                hiddens[i][:, :length],
                rotary(embedding, positions),
                mask[None, None],
                positions,
                None,
            )
            for t in range(length):
                if labels[i, t + k] != -100:
                    logits = twin.lm_head(hiddens[i][0, t])
                    total += F.cross_entropy(logits, labels[i, t + k]).item()
        sums.append(total)
    return sums


@pytest.mark.parametrize("depths", [1, 2, 3])
def test_every_depth_equals_the_slow_twin(small, build, oracle, tokens, depths):
    model = build(small(num_nextn_predict_layers=depths)).double()
    ids, labels = tokens(2, 20), tokens(2, 20, seed=5)
    labels[0, 4:7] = -100
    real = torch.ones(2, 20, dtype=torch.bool)
    losses = model.losses(ids, labels, real)
    with torch.no_grad():
        expected = slow_depths(model, oracle, ids, labels)
    # Rotary angles are float32 on both sides, but are rounded at different moments.
    assert [loss.item() for loss in losses.mtp] == pytest.approx(expected, rel=1e-5)
    assert losses.mtp_tokens == [2 * (20 - k) - 3 for k in range(1, depths + 1)]


def test_embedding_and_head_learn_from_the_modules(small, build, tokens):
    model = build(small())
    ids = tokens(1, 20)
    real = torch.ones(1, 20, dtype=torch.bool)
    model.losses(ids, tokens(1, 20, seed=1), real).mtp[0].backward()
    assert model.lm_head.weight.grad.abs().sum() > 0
    assert model.model["embed_tokens"].weight.grad.abs().sum() > 0


def test_no_modules_means_no_multi_token_loss(small, build, tokens):
    model = build(small(num_nextn_predict_layers=0))
    losses = model.losses(tokens(1, 9), tokens(1, 9), torch.ones(1, 9, dtype=torch.bool))
    assert losses.mtp == losses.mtp_tokens == model.mtp_modules == []
