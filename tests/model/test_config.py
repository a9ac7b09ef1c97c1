import dataclasses
import json

import pytest

from model import presets
from model.config import ModelConfig
from model.presets import preset
from model.transformer import Transformer


def count_by_hand(c: ModelConfig) -> tuple[int, int, int]:
    """Total, active and multi-token parameters from the sizes alone."""
    d, heads = c.hidden_size, c.num_attention_heads
    query = heads * (c.qk_nope_head_dim + c.qk_rope_head_dim)
    attention = d * (c.kv_lora_rank + c.qk_rope_head_dim) + c.kv_lora_rank
    attention += c.kv_lora_rank * heads * (c.qk_nope_head_dim + c.v_head_dim)
    attention += heads * c.v_head_dim * d
    rank = c.q_lora_rank
    attention += d * query if rank is None else d * rank + rank + rank * query
    attention += 2 * d  # the block's norms
    expert = 3 * d * c.moe_intermediate_size
    always = attention + c.n_shared_experts * expert + d * c.n_routed_experts
    moe = always + c.n_routed_experts * expert
    moe_active = always + c.num_experts_per_tok * expert
    dense = attention + 3 * d * c.intermediate_size
    layers = c.num_hidden_layers - c.first_k_dense_replace
    table = c.vocab_size * d
    shared = c.first_k_dense_replace * dense + d + table
    module = moe + 3 * d + 2 * d * d
    return (
        shared + table + layers * moe,
        shared + layers * moe_active,
        c.num_nextn_predict_layers * module,
    )


@pytest.mark.parametrize(
    ("name", "total", "active", "mtp"),
    [
        ("quickstart", "7.8M", "1.9M", "2.7M"),
        ("moe-1b", "1.00B", "0.22B", "0.06B"),
        # DeepSeek-V2-Lite's card: 15.7B and 2.4B.
        ("v2-16b", "15.71B", "2.45B", "0.59B"),
        # The report: 671B and 37B. The card: 11.5 billion of the module's own.
        ("v3-671b", "671.03B", "36.63B", "11.61B"),
    ],
)
def test_presets_have_the_parameters_they_are_named_for(name, total, active, mtp):
    config = preset(name)
    count = config.parameter_count()
    assert (count.total, count.active, count.mtp) == count_by_hand(config)
    for found, expected in ((count.total, total), (count.active, active), (count.mtp, mtp)):
        digits = len(expected.split(".")[1]) - 1
        unit = {"B": 1e9, "M": 1e6}[expected[-1]]
        assert f"{found / unit:.{digits}f}{expected[-1]}" == expected
    if name == "v3-671b":
        # With the table, which is looked up and not multiplied, it is nearer still.
        with_table = count.active + config.vocab_size * config.hidden_size
        assert round(count.active / 1e9) == 37
        assert round(with_table / 1e9, 1) == 37.6
        assert round(count.total / 1e9) == 671


def test_the_table_of_presets_names_each_of_them_and_its_counts():
    lines = [line.split("|") for line in presets.__doc__.splitlines() if line.startswith("| `")]
    assert sorted(line[1].strip(" `") for line in lines) == sorted(presets.PRESETS)
    for _, name, *cells, _what, _ in lines:
        count = preset(name.strip(" `")).parameter_count()
        for cell, found in zip(cells, (count.total, count.active, count.mtp), strict=True):
            text = cell.strip()
            digits = len(text.split(".")[1]) - 1
            unit = {"B": 1e9, "M": 1e6}[text[-1]]
            assert f"{found / unit:.{digits}f}{text[-1]}" == text


def test_counts_agree_with_a_model_in_memory(small):
    config = small(num_nextn_predict_layers=0)
    count = config.parameter_count()
    assert count.total == sum(p.numel() for p in Transformer(config).parameters())
    assert count.mtp == 0
    one_expert = 3 * config.moe_intermediate_size * config.hidden_size
    idle = 2 * (config.n_routed_experts - config.num_experts_per_tok) * one_expert
    table = config.vocab_size * config.hidden_size
    assert count.active == count.total - idle - table


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_a_configuration_survives_config_json(name):
    config = preset(name)
    text = json.dumps(config.to_hugging_face())
    assert ModelConfig.from_hugging_face(json.loads(text)) == config


def test_a_config_json_written_by_transformers_is_understood():
    from transformers import DeepseekV3Config

    config = preset("v3-671b")
    theirs = DeepseekV3Config.from_dict(config.to_hugging_face()).to_dict()
    ours = ModelConfig.from_hugging_face(theirs)
    assert dataclasses.replace(ours, rope_scaling=None) == dataclasses.replace(
        config, rope_scaling=None
    )
    assert ours.rope_scaling["factor"] == config.rope_scaling["factor"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden_size": 0}, "hidden_size"),
        ({"n_group": 3}, "n_group"),
        ({"n_group": 4, "topk_group": 5}, "topk_group"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok"),
        ({"n_group": 4, "topk_group": 2, "num_experts_per_tok": 3}, "num_experts_per_tok"),
        ({"qk_rope_head_dim": 7}, "qk_rope_head_dim"),
        ({"q_lora_rank": 0}, "q_lora_rank"),
        ({"num_nextn_predict_layers": -1}, "num_nextn_predict_layers"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling.type"),
        ({"rope_scaling": {"type": "yarn", "factor": 2}}, "original_max_position_embeddings"),
    ],
)
def test_numbers_that_make_no_model_are_refused_by_name(small, changes, field):
    with pytest.raises(ValueError, match=field):
        small(**changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "llama"),
        ("hidden_act", "gelu"),
        ("scoring_func", "softmax"),
        ("tie_word_embeddings", True),
        ("attention_bias", True),
        ("num_key_value_heads", 1),
    ],
)
def test_another_architecture_is_refused_by_name(small, key, value):
    with pytest.raises(ValueError, match=key):
        ModelConfig.from_hugging_face(small().to_hugging_face() | {key: value})


def test_a_config_json_with_fields_missing_says_which(small):
    raw = small().to_hugging_face()
    del raw["kv_lora_rank"]
    with pytest.raises(ValueError, match="kv_lora_rank"):
        ModelConfig.from_hugging_face(raw)


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="quickstart"):
        preset("v3")
