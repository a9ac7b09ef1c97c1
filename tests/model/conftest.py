"""Small models with loud weights, the same model in transformers, and batches."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch

from model.config import ModelConfig
from model.transformer import Transformer, initialize

SMALL = ModelConfig(
    vocab_size=97,
    hidden_size=64,
    intermediate_size=96,
    moe_intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    q_lora_rank=40,
    kv_lora_rank=32,
    qk_nope_head_dim=16,
    qk_rope_head_dim=8,
    v_head_dim=12,
    n_routed_experts=8,
    num_experts_per_tok=2,
    initializer_range=0.15,
    max_position_embeddings=512,
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small():
    """The small configuration, with any field replaced."""

    def make(**changes) -> ModelConfig:
        return dataclasses.replace(SMALL, **changes)

    return make


@pytest.fixture
def build():
    """A model whose norms are not 1 and whose router biases have both signs."""

    def make(config: ModelConfig, precision: str = "fp32") -> Transformer:
        model = Transformer(config, precision)
        initialize(model, 7)
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.uniform_(0.5, 1.5, generator=generator)
            for router in model.routers:
                router.e_score_correction_bias.normal_(0.0, 0.3, generator=generator)
                assert (
                    router.e_score_correction_bias.min()
                    < 0
                    < (router.e_score_correction_bias.max())
                )
        return model

    return make


@pytest.fixture
def oracle():
    """The same weights in transformers' own DeepseekV3ForCausalLM, multi-token modules left out."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    def make(model: Transformer) -> DeepseekV3ForCausalLM:
        config = DeepseekV3Config.from_dict(model.config.to_hugging_face())
        config._attn_implementation = config._experts_implementation = "eager"
        twin = DeepseekV3ForCausalLM(config)
        last = model.config.num_hidden_layers
        state = {
            name: tensor.clone()
            for name, tensor in model.state_dict().items()
            if not (name.startswith("model.layers.") and int(name.split(".")[2]) >= last)
        }
        twin.load_state_dict(state)
        return twin.to(model.lm_head.weight.dtype)

    return make


@pytest.fixture
def tokens():
    """Random token ids [b, length] below 97."""

    def make(sequences: int, length: int, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 97, (sequences, length), generator=generator)

    return make


@pytest.fixture(scope="session")
def trainee():
    """The module `trainee.py`, which tests also run as a process."""
    path = Path(__file__).with_name("trainee.py")
    spec = importlib.util.spec_from_file_location("trainee", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
