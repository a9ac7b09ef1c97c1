"""How many operations training needs, counted from the shape alone."""

from model.config import ModelConfig


def training_operations(config: ModelConfig, length: int) -> float:
    """Operations a token, forward and backward, in sequences of `length` tokens.

    A multiplication and an addition are two; the backward pass takes twice the forward's. Only
    products that the model needs: a token's own experts, the causal half of attention, no
    recomputation, no sums, norms or updates.
    """
    d, heads = config.hidden_size, config.num_attention_heads
    query = heads * (config.qk_nope_head_dim + config.qk_rope_head_dim)
    value = heads * config.v_head_dim
    latent, compressed = config.kv_lora_rank, config.q_lora_rank
    attention = (
        (d * query if compressed is None else compressed * (d + query))
        + d * (latent + config.qk_rope_head_dim)
        + latent * (heads * config.qk_nope_head_dim + value)
        + value * d
        + (query + value) * (length + 1) / 2
    )
    used = config.num_experts_per_tok + config.n_shared_experts
    dense = 3 * d * config.intermediate_size
    sparse = 3 * d * config.moe_intermediate_size * used + d * config.n_routed_experts
    depths, head = config.num_nextn_predict_layers, d * config.vocab_size
    layers = config.num_hidden_layers + depths
    products = layers * attention + (1 + depths) * head + depths * 2 * d * d
    for layer in range(layers):
        products += sparse if config.is_moe_layer(layer) else dense
    return 6.0 * products
