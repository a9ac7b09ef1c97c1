"""The shapes that come with the project, by name.

| name | total | active | MTP | what it is |
|---|---|---|---|---|
| `v3-671b` | 671.0B | 36.6B | 11.6B | DeepSeek-V3 itself (section 4.2 of its report) |
| `v2-16b` | 15.7B | 2.45B | 0.6B | the shape of DeepSeek-V2-Lite, gated as V3 is |
| `moe-1b` | 1.00B | 0.22B | 0.06B | many small experts, for one GPU |
| `quickstart` | 7.8M | 1.9M | 2.7M | two CPU cores, minutes |

Parameters as `ModelConfig.parameter_count` has them: `active` is what a token is multiplied with,
so without the embedding table and the experts not chosen, and MTP are those of the multi-token
module without the shared table and head. With the table V3's active parameters are 37.6B; the
report says 37B.
"""

from model.config import ModelConfig

PRESETS = {
    # Every part of V3 (latent attention, one dense layer, shared and routed experts, one
    # multi-token module) at the size of an exercise. 7.8M, 1.9M active.
    "quickstart": ModelConfig(
        vocab_size=8192,
        hidden_size=128,
        intermediate_size=512,
        moe_intermediate_size=208,
        num_hidden_layers=3,
        num_attention_heads=4,
        q_lora_rank=None,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        n_routed_experts=32,
        num_experts_per_tok=2,
        max_position_embeddings=2048,
        initializer_range=0.04,
    ),
    # Experts an eighth of a dense layer wide, all widths whole FP8 tiles. 1.00B, 0.22B active.
    # The scaling of `moe-1b` and `v2-16b` is the root of the number of experts chosen: as many
    # independent outputs, averaged and multiplied with it, are as large as one.
    "moe-1b": ModelConfig(
        vocab_size=32768,
        hidden_size=1024,
        intermediate_size=3072,
        moe_intermediate_size=384,
        num_hidden_layers=16,
        num_attention_heads=8,
        q_lora_rank=None,
        kv_lora_rank=256,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        n_routed_experts=48,
        num_experts_per_tok=6,
        routed_scaling_factor=2.45,
        max_position_embeddings=4096,
    ),
    # The size at which the reports test their ideas. DeepSeek-V2-Lite (arXiv 2405.04434, appendix
    # B) in everything but the gating, which is V3's: sigmoid affinities normalised over the chosen,
    # the bias instead of balance losses, one group. 15.7B, 2.45B active (its card says 2.4B).
    "v2-16b": ModelConfig(
        vocab_size=102400,
        hidden_size=2048,
        intermediate_size=10944,
        moe_intermediate_size=1408,
        num_hidden_layers=27,
        num_attention_heads=16,
        q_lora_rank=None,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        n_shared_experts=2,
        n_routed_experts=64,
        num_experts_per_tok=6,
        routed_scaling_factor=2.45,
        max_position_embeddings=4096,
        initializer_range=0.006,
    ),
    # As released, after both long-context stages. 671.0B, 36.6B active.
    "v3-671b": ModelConfig(
        vocab_size=129280,
        hidden_size=7168,
        intermediate_size=18432,
        moe_intermediate_size=2048,
        num_hidden_layers=61,
        num_attention_heads=128,
        q_lora_rank=1536,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        n_routed_experts=256,
        num_experts_per_tok=8,
        n_group=8,
        topk_group=4,
        first_k_dense_replace=3,
        rope_scaling={
            "type": "yarn",
            "factor": 40,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096,
        },
        max_position_embeddings=163840,
        initializer_range=0.006,
    ),
}


def preset(name: str) -> ModelConfig:
    """Give the configuration of a preset; raise ValueError, listing the presets, if unknown."""
    if name not in PRESETS:
        raise ValueError(f"model preset {name!r} is not known, expected one of {sorted(PRESETS)}")
    return PRESETS[name]
