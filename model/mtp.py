"""Multi-token prediction, section 2.2 of the DeepSeek-V3 report.

After the main model has predicted token i + 1 from position i, module k predicts token i + 1 + k
from the same position: it joins the previous depth's representation with the embedding of token i +
k, projects the two to the model's width, and runs one more block (equations 21 to 23). Embedding
and head are the main model's, so a module adds one block and one projection. Each depth keeps the
whole causal chain: nothing is predicted in parallel from the same vector.

Two details follow the released checkpoints and not the text. The projection takes the embedding
first, [RMSNorm(Emb); RMSNorm(h)], where equation 21 writes the other order; and h is taken after
the final norm (after `shared_head.norm` between modules). Both are what the weights expect
elsewhere.
"""

import torch
from torch import Tensor, nn

from model.attention import LatentCache
from model.block import Block
from model.config import ModelConfig
from model.linear import Linear
from model.moe import RouterStatistics
from model.norm import RMSNorm


class MultiTokenModule(Block):
    """One depth of prediction, a block with its projection and norms.

    In checkpoints it is a layer after the last one, and its output norm is `shared_head.norm`.
    """

    def __init__(
        self, config: ModelConfig, layer: int, precision: str, recompute: bool = False
    ) -> None:
        super().__init__(config, layer, precision, recompute)
        size, eps = config.hidden_size, config.rms_norm_eps
        self.enorm = RMSNorm(size, eps)
        self.hnorm = RMSNorm(size, eps)
        # Kept high in FP8 runs, as in the released checkpoint.
        self.eh_proj = Linear(2 * size, size, "fp32")
        self.shared_head = nn.ModuleDict({"norm": RMSNorm(size, eps)})

    def predict(
        self,
        hidden: Tensor,
        embedding: Tensor,
        table: Tensor,
        real: Tensor | None = None,
        cache: LatentCache | None = None,
        samples: Tensor | None = None,
    ) -> tuple[Tensor, RouterStatistics | None]:
        """hidden: [b, l, d] of the depth before, embedding: [b, l, d] of the tokens k later.

        Gives the normalised representation [b, l, d], both the head's input and the next depth's.
        """
        joined = torch.cat([self.enorm(embedding), self.hnorm(hidden)], -1)
        x, statistics = self(self.eh_proj(joined), table, real, cache, samples)
        return self.shared_head["norm"](x), statistics
