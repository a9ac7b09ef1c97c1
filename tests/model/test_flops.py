import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.flops import forward_operations, training_operations
from model.presets import preset
from model.transformer import Transformer


def matrices(config, mtp):
    """Numbers in the matrices a token is multiplied with, from the model's own parameters."""
    with torch.device("meta"):
        model = Transformer(config)
    total = 0
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or name == "model.embed_tokens.weight":
            continue
        share = config.num_experts_per_tok / config.n_routed_experts if ".experts." in name else 1
        if mtp == (".layers." in name and int(name.split(".")[2]) >= config.num_hidden_layers):
            total += parameter.numel() * share
    return total


@pytest.mark.parametrize("name", ["quickstart", "v3-671b"])
def test_without_attention_it_is_six_times_the_active_matrices(name):
    config = preset(name)
    plain = dataclasses.replace(config, num_nextn_predict_layers=0)
    heads = config.num_attention_heads
    width = config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim
    keys = (4096 + 1) / 2
    attention = 6 * plain.num_hidden_layers * heads * width * keys
    expected = 6 * matrices(plain, False)
    assert training_operations(plain, 4096) - attention == pytest.approx(expected, rel=1e-9)
    extra = training_operations(config, 4096) - training_operations(plain, 4096)
    module = 6 * (matrices(config, True) + config.hidden_size * config.vocab_size)
    module += 6 * heads * width * 4096 / 2
    assert extra == pytest.approx(module * 4095 / 4096, rel=1e-9)


def test_a_single_layer_of_transformers_counts_the_same(small, build, oracle, tokens):
    """torch's own counter over transformers' model; its attention computes the whole square."""
    config = small(num_hidden_layers=2, num_nextn_predict_layers=0, first_k_dense_replace=2)
    twin = oracle(build(config))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(tokens(1, 64))
    heads, width = config.num_attention_heads, 16 + 8 + 12
    masked = 2 * 2 * heads * width * (64 - 1) / 2
    expected = counter.get_total_flops() / 64 - masked
    assert forward_operations(config, 64) == pytest.approx(expected, rel=1e-3)
