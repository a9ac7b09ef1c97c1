import dataclasses
import json

import pytest
import torch

from model.config import ModelConfig, preset
from model.export import published_tensors
from model.transformer import Transformer


def test_v3_has_671_billion_parameters_of_which_37_are_active():
    count = preset("v3-671b").parameter_count()
    assert round(count.total / 1e9) == 671
    assert round(count.active / 1e9) == 37
    # The model card: 11.5 billion of the module's own, its table and head shared.
    assert round(count.mtp / 1e9, 1) == 11.6


def test_quickstart_has_between_10_and_15_million_parameters():
    count = preset("quickstart").parameter_count()
    assert 10e6 <= count.total + count.mtp <= 15e6
    assert count.active < count.total


def test_counts_agree_with_a_model_in_memory(small):
    config = small(num_nextn_predict_layers=0)
    count = config.parameter_count()
    assert count.total == sum(p.numel() for p in Transformer(config).parameters())
    assert count.mtp == 0
    one_expert = 3 * config.moe_intermediate_size * config.hidden_size
    idle = 2 * (config.n_routed_experts - config.num_experts_per_tok) * one_expert
    table = config.vocab_size * config.hidden_size
    assert count.active == count.total - idle - table


def test_the_published_v3_checkpoint_has_91991_tensors():
    config = preset("v3-671b")
    with torch.device("meta"):
        state = Transformer(config).state_dict()
    tensors = published_tensors(config, state)
    high = ("embed_tokens", "lm_head", "shared_head.head", "eh_proj", "norm", "gate.weight")
    scaled = [n for n in tensors if n.endswith("proj.weight") or "proj_with_mqa" in n]
    scaled = [n for n in scaled if not any(part in n for part in high)]
    assert len(tensors) + len(scaled) == 91_991
    name = "model.layers.61.mlp.experts.255.down_proj.weight"
    assert tuple(tensors[name].shape) == (7168, 2048)
    assert tuple(tensors["model.layers.61.eh_proj.weight"].shape) == (7168, 14336)
    assert tuple(tensors["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"].shape) == (576, 7168)


@pytest.mark.parametrize("name", ["quickstart", "v3-671b"])
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
