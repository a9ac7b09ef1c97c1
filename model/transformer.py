"""The model: embedding, blocks, final norm, head, and the multi-token modules behind them.

`Transformer.forward` gives hidden states and knows nothing of losses; `losses` adds the three of
the DeepSeek-V3 report, each as a sum with its count beside it, never as a mean. So a batch can be
cut in any number of pieces, on any number of machines, and the gradients add up to the same:
whoever holds the whole batch divides by the counts of the whole batch.

The names of the parameters are those of a Hugging Face checkpoint, except that a layer's experts
are stacked in two tensors; `model/export.py` splits and joins them.

Read `config`, `attention`, `moe` and `mtp` first; each is one section of the report.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.attention import LatentCache, rotary_table
from model.block import Block
from model.config import ModelConfig
from model.cross_entropy import IGNORED, linear_cross_entropy
from model.linear import PRECISIONS, Linear
from model.moe import Router, RouterStatistics
from model.mtp import MultiTokenModule
from model.norm import RMSNorm

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


@dataclass
class Losses:
    """Sums over a micro-batch. `main` and `mtp[k - 1]` are cross-entropies in nats over
    `main_tokens` and `mtp_tokens[k - 1]` labels; `balance` is summed over MoE layers and sequences;
    `loads` are the tokens each expert received, one float64 [E] a MoE layer; `token_losses` [b, L]
    are the main cross-entropies, detached, 0 where there is no label.
    """

    main: Tensor
    main_tokens: int
    mtp: list[Tensor]
    mtp_tokens: list[int]
    balance: Tensor
    sequences: int
    loads: list[Tensor]
    token_losses: Tensor


class Transformer(nn.Module):
    """A DeepSeek-V3 for `config`; `precision` is that of its linear layers, fp32 or fp8.

    What flows between layers has the weights' dtype, float32, on a GPU as well: there FP8 products
    take the kernels and give float32, and everything else is computed in it.

    `recompute` trains in less memory and a little slower, to the same gradients.
    """

    def __init__(
        self, config: ModelConfig, precision: str = "fp32", recompute: bool = False
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}, expected one of {PRECISIONS}")
        self.config, self.precision = config, precision
        main, extra = config.num_hidden_layers, config.num_nextn_predict_layers
        layers = [Block(config, i, precision, recompute) for i in range(main)]
        layers += [MultiTokenModule(config, main + i, precision, recompute) for i in range(extra)]
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(config.vocab_size, config.hidden_size),
                "layers": nn.ModuleList(layers),
                "norm": RMSNorm(config.hidden_size, config.rms_norm_eps),
            }
        )
        self.lm_head = Linear(config.hidden_size, config.vocab_size, "fp32")

    @property
    def mtp_modules(self) -> list[MultiTokenModule]:
        """The multi-token modules, depth 1 first."""
        return list(self.model["layers"][self.config.num_hidden_layers :])

    @property
    def routers(self) -> list[Router]:
        """The routers of all MoE layers, in layer order, those of the multi-token modules last."""
        return [layer.mlp.gate for layer in self.model["layers"] if layer.moe]

    def rotary(self, start: int, stop: int) -> Tensor:
        """The rotary table of these positions, in the precision of the weights and beside them."""
        if stop > self.config.max_position_embeddings:
            raise ValueError(
                f"sequence of {stop} tokens is longer than max_position_embeddings, "
                f"{self.config.max_position_embeddings}"
            )
        weight = self.lm_head.weight
        return rotary_table(self.config, start, stop, weight.dtype).to(weight.device)

    def forward(
        self,
        input_ids: Tensor,
        real: Tensor | None = None,
        caches: list[LatentCache] | None = None,
        samples: Tensor | None = None,
    ) -> tuple[Tensor, list[RouterStatistics]]:
        """input_ids: [b, L] int64 to hidden states [b, L, d] after the final norm.

        `real` (bool [b, L], False for padding) asks for the statistics of each router; `caches`,
        one a main layer, hold the tokens that came before; `samples` (int [b, L], without caches)
        hides tokens of different numbers from each other.
        """
        start = caches[0].length if caches else 0
        table = self.rotary(start, start + input_ids.shape[1])
        x = self.model["embed_tokens"](input_ids)
        statistics = []
        for i, block in enumerate(self.model["layers"][: self.config.num_hidden_layers]):
            x, seen = block(x, table, real, caches[i] if caches else None, samples)
            statistics += [seen] if seen else []
        return self.model["norm"](x), statistics

    def logits(self, input_ids: Tensor) -> Tensor:
        """Next-token logits [b, L, vocabulary] of input_ids [b, L]."""
        return self.lm_head(self(input_ids)[0])

    def losses(
        self, input_ids: Tensor, labels: Tensor, real: Tensor, samples: Tensor | None = None
    ) -> Losses:
        """The sums of a micro-batch. input_ids, labels: [b, L] int64; real: bool [b, L].

        A label of -100 counts for nothing. Depth k has the labels k places to the left
        (equation 24) and sees the L - k positions that have a token k later. With `samples`, rows
        are samples side by side (see `sample_attention`), and their losses are those that each of
        them has alone: no depth looks into the next one. Labels must stay inside samples already.
        """
        hidden, statistics = self(input_ids, real, samples=samples)
        head = self.lm_head.weight
        main, token_losses = linear_cross_entropy(hidden.flatten(0, 1), head, labels.flatten())
        mtp, mtp_tokens = [], []
        embedding = self.model["embed_tokens"]
        for k, module in enumerate(self.mtp_modules, 1):
            length = input_ids.shape[1] - k
            both = real[:, :length] & real[:, k:]
            ahead = embedding(input_ids[:, k:])
            shifted, own = mtp_labels(labels, samples, k), None
            if samples is not None:
                own = samples[:, :length]
                both &= own == samples[:, k:]
            hidden, seen = module.predict(
                hidden[:, :length], ahead, self.rotary(0, length), both, samples=own
            )
            statistics += [seen] if seen else []
            mtp.append(linear_cross_entropy(hidden.flatten(0, 1), head, shifted.flatten())[0])
            mtp_tokens.append(count_labels(shifted))
        zero = main.new_zeros(())
        return Losses(
            main,
            count_labels(labels),
            mtp,
            mtp_tokens,
            sum((seen.balance for seen in statistics), zero),
            input_ids.shape[0],
            [seen.load for seen in statistics],
            token_losses.view_as(labels),
        )


def mtp_labels(labels: Tensor, samples: Tensor | None, depth: int) -> Tensor:
    """The labels [b, L - depth] of a depth: those so many places on, in the same sample."""
    shifted = labels[:, depth:]
    if samples is None:
        return shifted
    return shifted.masked_fill(samples[:, :-depth] != samples[:, depth:], IGNORED)


def count_mtp_labels(labels: Tensor, samples: Tensor | None, depths: int) -> list[int]:
    """How many labels of each depth count for its loss."""
    return [count_labels(mtp_labels(labels, samples, k)) for k in range(1, depths + 1)]


def count_labels(labels: Tensor) -> int:
    """How many labels count for the loss."""
    return int((labels != IGNORED).sum())


@torch.no_grad()
def initialize(model: Transformer, seed: int, embedding_scale: float = 1.0) -> None:
    """Draw every matrix from N(0, initializer_range²); norms start at 1, router biases at 0.

    The embedding table is `embedding_scale` times larger (see `TrainConfig`).

    A tensor's numbers depend on the seed and its own name alone, so that adding or moving a layer
    leaves all others as they were.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0)
            continue
        digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        scale = embedding_scale if name == EMBEDDING else 1.0
        deviation = model.config.initializer_range * scale
        parameter.normal_(0.0, deviation, generator=generator)
    for router in model.routers:
        router.e_score_correction_bias.zero_()
