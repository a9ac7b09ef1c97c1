"""One layer: attention, then a feed-forward network or experts, each on a normalised stream."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from model.attention import Attention, LatentCache
from model.config import ModelConfig
from model.feedforward import FeedForward
from model.moe import MixtureOfExperts, RouterStatistics
from model.norm import RMSNorm
from model.recompute import remaking


class Block(nn.Module):
    """x: [b, L, d] to [b, L, d]. The first `first_k_dense_replace` layers are dense, others MoE.

    With `recompute`, training keeps less and makes it again (`model/recompute.py`).
    """

    def __init__(
        self, config: ModelConfig, layer: int, precision: str, recompute: bool = False
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, precision)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.moe = config.is_moe_layer(layer)
        if self.moe:
            self.mlp = MixtureOfExperts(config, precision)
        else:
            self.mlp = FeedForward(config.hidden_size, config.intermediate_size, precision)

    def forward(
        self,
        x: Tensor,
        table: Tensor,
        real: Tensor | None,
        cache: LatentCache | None,
        samples: Tensor | None = None,
    ) -> tuple[Tensor, RouterStatistics | None]:
        """`table` turns the rotary pairs, `real` marks tokens for router statistics (or None);
        `samples` are hidden from each other.
        """
        with remaking() if self.recompute and torch.is_grad_enabled() else nullcontext():
            x = x + self.self_attn(self.input_layernorm(x), table, cache, samples)
            normal = self.post_attention_layernorm(x)
            if not self.moe:
                return x + self.mlp(normal), None
            y, statistics = self.mlp(normal, real)
            return x + y, statistics
