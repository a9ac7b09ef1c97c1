"""The floating-point operations that a model needs, whatever an implementation spends.

Counted are the products of training: each matrix that a token is multiplied with, once forward and
twice backward (for the input's gradient and the weight's), two operations for every number in it;
and causal attention, whose scores and sums run over the tokens up to a token's own, half of the
square. What is left out would add under a percent: norms, activations, softmax, the optimizer, the
embedding, which is looked up. Recomputation, padding to tiles and the masked half of a block do not
count either, so a share of the machine's peak found with these numbers cannot be raised by wasting
work.
"""

from model.config import ModelConfig


def training_operations(config: ModelConfig, length: int) -> float:
    """Operations a token of one training step, forward and backward, at `length` tokens a row.

    Multi-token modules are counted with their projection and head, for the length - k positions
    that depth k has; `num_nextn_predict_layers` 0 leaves them out.
    """
    return 3 * forward_operations(config, length)


def forward_operations(config: ModelConfig, length: int) -> float:
    """Operations a token of one forward pass over `length` tokens, its logits included."""
    c = config
    head = 2 * c.hidden_size * c.vocab_size
    main = sum(layer_operations(c, i, length) for i in range(c.num_hidden_layers))
    total = main + head
    for k in range(1, c.num_nextn_predict_layers + 1):
        projection = 2 * 2 * c.hidden_size**2
        block = layer_operations(c, c.num_hidden_layers + k - 1, length - k)
        total += (projection + block + head) * max(length - k, 0) / length
    return total


def layer_operations(config: ModelConfig, layer: int, length: int) -> float:
    """Operations a token of one layer's forward pass over `length` tokens."""
    c = config
    per_head = c.qk_nope_head_dim + c.qk_rope_head_dim
    queries = c.num_attention_heads * per_head
    values = c.num_attention_heads * c.v_head_dim
    if c.q_lora_rank is None:
        weights = c.hidden_size * queries
    else:
        weights = c.q_lora_rank * (c.hidden_size + queries)
    weights += c.hidden_size * (c.kv_lora_rank + c.qk_rope_head_dim)
    weights += c.kv_lora_rank * c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim)
    weights += values * c.hidden_size
    if c.is_moe_layer(layer):
        used = c.num_experts_per_tok + c.n_shared_experts
        weights += c.hidden_size * (c.n_routed_experts + 3 * used * c.moe_intermediate_size)
    else:
        weights += 3 * c.hidden_size * c.intermediate_size
    # A token meets (length + 1) / 2 keys on average; each costs a score and a share of a sum.
    attention = (queries + values) * (length + 1) / 2
    return 2 * (weights + attention)
