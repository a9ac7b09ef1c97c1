"""YaRN as a change of a model's shape."""

import dataclasses

import pytest
import torch

from model.attention import rotary_table, softmax_scale
from model.long_context import extend_context
from model.presets import preset


def test_deepseek_v3_s_own_configuration_comes_out():
    published = preset("v3-671b")
    before = dataclasses.replace(published, rope_scaling=None, max_position_embeddings=4096)
    assert extend_context(before, 4096, 40) == published


def test_slow_pairs_are_slowed_by_the_factor_and_fast_ones_kept(small):
    config = small(qk_rope_head_dim=32, rope_theta=10000.0, max_position_embeddings=64)
    longer = extend_context(config, 64, 8)
    assert longer.max_position_embeddings == 512
    plain, slowed = (rotary_table(c, 0, 9, torch.float64).angle() for c in (config, longer))
    assert torch.allclose(slowed[8, 0], plain[8, 0])
    assert torch.allclose(slowed[8, -1], plain[1, -1])  # eight places later, the angle of one
    assert softmax_scale(longer) > softmax_scale(config)


def test_a_second_extension_counts_from_the_length_that_was_trained(small):
    config = small(max_position_embeddings=64)
    once = extend_context(config, 64, 2)
    twice = extend_context(once, 128, 8)
    assert twice == extend_context(config, 64, 8)
    with pytest.raises(ValueError, match=r"rope_scaling\.factor"):
        extend_context(config, 64, 1)
