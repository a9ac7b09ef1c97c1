"""The shape of a model: one frozen dataclass with Hugging Face's field names.

A `ModelConfig` says everything about the weights and nothing about how they are trained. The names
are those of DeepSeek-V3's `config.json`, so that a configuration read from a published checkpoint
and one written in a recipe are the same thing; `to_hugging_face` and `from_hugging_face` go between
the two. What a field cannot express here (another activation, biases, softmax gating) is refused
with its name when read, never silently ignored.

The shapes that come with the project are in `model/presets.py`. Any of them can be counted and its
checkpoint named on any machine, since the meta device holds shapes without memory.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

YARN_KEYS = {
    "type",
    "rope_type",
    "factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "rope_theta",
}

# What the model always is; a config.json that says otherwise describes another model.
FIXED = {
    "model_type": "deepseek_v3",
    "attention_bias": False,
    "hidden_act": "silu",
    "moe_layer_freq": 1,
    "rope_interleave": True,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_method": "noaux_tc",
}


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model: `total` and `active` of the main model, `mtp` of the modules added.

    `active` counts what one token is multiplied with: everything but the experts not chosen and the
    embedding table, which is looked up. `mtp` leaves out the shared embedding and head.
    """

    total: int
    active: int
    mtp: int


@dataclass(frozen=True)
class ModelConfig:
    """The architecture, with the field names of DeepSeek-V3's `config.json`.

    Raises ValueError, naming the field, when the numbers do not make a model.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    moe_intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    n_routed_experts: int
    num_experts_per_tok: int
    q_lora_rank: int | None = None
    n_shared_experts: int = 1
    n_group: int = 1
    topk_group: int = 1
    routed_scaling_factor: float = 2.5
    norm_topk_prob: bool = True
    first_k_dense_replace: int = 1
    num_nextn_predict_layers: int = 1
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    max_position_embeddings: int = 4096
    initializer_range: float = 0.02
    bos_token_id: int | None = 0
    eos_token_id: int | None = 1

    def __post_init__(self) -> None:
        at_least_one = (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "moe_intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "kv_lora_rank",
            "qk_nope_head_dim",
            "v_head_dim",
            "n_routed_experts",
            "num_experts_per_tok",
            "n_shared_experts",
            "n_group",
            "topk_group",
            "max_position_embeddings",
        )
        for name in at_least_one:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(
            self.q_lora_rank is None or self.q_lora_rank >= 1,
            "q_lora_rank",
            self.q_lora_rank,
            "at least 1, or null for queries without compression",
        )
        for name in ("first_k_dense_replace", "num_nextn_predict_layers"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("routed_scaling_factor", "rms_norm_eps", "rope_theta", "initializer_range"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        # Rotary dimensions turn in pairs; the other two keep those pairs aligned in memory.
        for name in ("qk_rope_head_dim", "qk_nope_head_dim", "kv_lora_rank"):
            value = getattr(self, name)
            _require(value >= 2 and value % 2 == 0, name, value, "an even number, at least 2")
        self._check_router()
        self._check_yarn()

    def _check_router(self) -> None:
        experts, groups = self.n_routed_experts, self.n_group
        _require(experts % groups == 0, "n_group", groups, f"a divisor of {experts} routed experts")
        _require(self.topk_group <= groups, "topk_group", self.topk_group, f"at most {groups}")
        reachable = self.topk_group * (experts // groups)
        _require(
            self.num_experts_per_tok <= reachable,
            "num_experts_per_tok",
            self.num_experts_per_tok,
            f"at most the {reachable} experts of {self.topk_group} group(s)",
        )
        if groups > 1:
            _require(
                self.num_experts_per_tok % self.topk_group == 0,
                "num_experts_per_tok",
                self.num_experts_per_tok,
                f"a multiple of topk_group = {self.topk_group}",
            )

    def _check_yarn(self) -> None:
        if self.rope_scaling is None:
            return
        scaling = self.rope_scaling
        kind = scaling.get("type", scaling.get("rope_type"))
        _require(kind == "yarn", "rope_scaling.type", kind, "'yarn', or no rope_scaling at all")
        unknown = sorted(set(scaling) - YARN_KEYS)
        _require(not unknown, "rope_scaling", unknown, f"keys among {sorted(YARN_KEYS)}")
        for name in ("factor", "original_max_position_embeddings"):
            _require(name in scaling, f"rope_scaling.{name}", "nothing", "a number")
        _require(scaling["factor"] > 1, "rope_scaling.factor", scaling["factor"], "above 1")

    def is_moe_layer(self, layer: int) -> bool:
        """Whether this layer (0-based; MTP modules follow the main layers) holds experts."""
        return layer >= self.first_k_dense_replace

    def parameter_count(self) -> ParameterCount:
        """Count the parameters of the model built on the meta device, where nothing is allocated.

        Router biases are state of the balancing rule, not parameters, and are not counted.
        """
        import torch

        from model.transformer import Transformer

        with torch.device("meta"):
            model = Transformer(self)
        total = active = mtp = 0
        for name, parameter in model.named_parameters():
            size = parameter.numel()
            if name.startswith("model.layers.") and int(name.split(".")[2]) >= (
                self.num_hidden_layers
            ):
                mtp += size
                continue
            total += size
            if ".experts." in name:
                active += size // self.n_routed_experts * self.num_experts_per_tok
            elif name != "model.embed_tokens.weight":
                active += size
        return ParameterCount(total, active, mtp)

    def to_hugging_face(self) -> dict[str, Any]:
        """Give the `config.json` of a Hugging Face checkpoint, as a dictionary."""
        return {
            "architectures": ["DeepseekV3ForCausalLM"],
            **FIXED,
            **asdict(self),
            "num_key_value_heads": self.num_attention_heads,
            "attention_dropout": 0.0,
            "ep_size": 1,
            "use_cache": True,
        }

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, Any]) -> "ModelConfig":
        """Read a `config.json` dictionary; raise ValueError for a model this one cannot be."""
        _require(
            config.get("model_type") == "deepseek_v3",
            "model_type",
            config.get("model_type"),
            "'deepseek_v3'",
        )
        for name, value in FIXED.items():
            found = config.get(name, value)
            _require(found == value, name, found, repr(value))
        heads = config.get("num_key_value_heads", config["num_attention_heads"])
        _require(
            heads == config["num_attention_heads"],
            "num_key_value_heads",
            heads,
            "num_attention_heads",
        )
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in config.items() if name in known}
        # transformers 5 writes theta and scaling together under a new name.
        rope = config.get("rope_parameters") or {}
        values.setdefault("rope_theta", rope.get("rope_theta", 10000.0))
        if "rope_scaling" not in values and rope.get("rope_type", "default") != "default":
            values["rope_scaling"] = dict(rope)
        missing = sorted(
            f.name for f in fields(cls) if f.default is f.default_factory and f.name not in values
        )
        _require(not missing, "config.json", f"no {', '.join(missing)}", "every field of the shape")
        return cls(**values)


def _require(holds: bool, name: str, found: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"model configuration: {name} is {found}, expected {expected}")
