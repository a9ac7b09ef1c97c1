"""The forward pass of the next few tokens, when memory is all that it costs.

One new token multiplies every active weight with one vector: two operations for four bytes read, so
a pass cannot be faster than the memory. `Transformer.forward` is made for many tokens and spends
most of such a pass on starting operations. Here the same equations are written for a handful of
rows: experts are found by index and not by sorting, attention runs on the cached latents with the
absorbed projections (the DeepSeek-V2 report, section 2.1.2), and `_Matrix` multiplies a matrix with
a vector as fast as this can be said in torch. Its twin and oracle is the ordinary forward pass,
which also reads the prompts.

A `Decoder` is made once a generation. It copies the head, laid out for its one use, and attention's
first products, joined, with the heads' rotary rows together and the softmax scale multiplied in.
All else, the experts first of all, is used where it is.

Legend: l new tokens (at most FEW), t all tokens so far, d hidden size, h heads, c latent size, n
plain and r rotary dimensions of a query, v of a value.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.attention import LatentCache, rotary_table, softmax_scale
from model.block import Block
from model.config import ModelConfig
from model.feedforward import FeedForward, activate
from model.kernels.switch import enabled
from model.moe import MixtureOfExperts, choose_experts
from model.norm import RMSNorm
from model.transformer import Transformer

# From about so many rows on, matrix-matrix products are the better ones.
FEW = 4
# Numbers in a matrix: from the first on, threads share it; up to the second, it fits in the cache.
SHARED, CACHED = 1 << 14, 1 << 20


class _Matrix:
    """A matrix [n, k] for products with vectors, which torch computes on one core, whatever its
    threads; so each thread gets a batch entry of its own, an equal share of the rows.

    A product reads many rows at once, and where they are short and come from memory it waits: 10
    GB/s for rows of 2 KB on a core that can read 20. So a matrix that fits into the cache is first
    read in the order of its addresses (by a product with itself, the fastest reader there is), and
    then multiplied, at 14 GB/s for both, 27 on two cores.
    """

    def __init__(self, weight: Tensor) -> None:
        threads = torch.get_num_threads()
        parts = threads if weight.shape[0] % threads == 0 and weight.numel() >= SHARED else 1
        self.by_part = weight.unflatten(0, (parts, -1)).transpose(1, 2)  # [parts, k, n / parts]
        small = weight.is_contiguous() and weight.numel() <= CACHED
        self.in_order = weight.view(-1) if small else None

    def laid_out(self) -> "_Matrix":
        """Copy it so that its products read long rows: for very many outputs, 22 GB/s on a core."""
        self.by_part, self.in_order = self.by_part.contiguous(), None
        return self

    def times(self, rows: Tensor) -> Tensor:
        """rows [l, k] times the matrix, as [l, n]."""
        self._fetch()
        parts, k, share = self.by_part.shape
        size = len(rows)
        result = torch.bmm(rows.expand(parts, size, k), self.by_part)
        if size == 1 or parts == 1:
            return result.view(size, -1)
        return result.transpose(0, 1).reshape(size, parts * share)

    def add_to(self, x: Tensor, rows: Tensor, scale: float = 1.0) -> None:
        """Add scale times rows [l, k] times the matrix to x [l, n]."""
        if len(rows) > 1:
            x.add_(self.times(rows), alpha=scale)
            return
        self._fetch()
        parts, k, share = self.by_part.shape
        spread = rows.expand(parts, 1, k)
        x.view(parts, 1, share).baddbmm_(spread, self.by_part, alpha=scale)

    def _fetch(self) -> None:
        if self.in_order is not None:
            torch.dot(self.in_order, self.in_order)


def normalise(x: Tensor, norm: RMSNorm) -> Tensor:
    """RMSNorm of x [l, d]. For one row, a product with itself is a fifth of the operations."""
    if len(x) > 1:
        return F.rms_norm(x, (x.shape[1],), norm.weight, norm.eps)
    square = torch.dot(x[0], x[0]).item() / x.shape[1]
    return (x * norm.weight).mul_((square + norm.eps) ** -0.5)


class _Attention:
    """Equations 1 to 10 for new tokens after cached ones."""

    def __init__(self, block: Block, config: ModelConfig) -> None:
        layer = block.self_attn
        self.layer, self.norm = layer, block.input_layernorm
        self.heads, self.plain, self.rotary = layer.heads, layer.plain, layer.rotary
        query = (layer.q_b_proj if layer.compressed_query else layer.q_proj).weight
        query = query.unflatten(0, (self.heads, -1)) * softmax_scale(config)
        plain, rotary = query.split([self.plain, self.rotary], 1)
        query = torch.cat([plain.flatten(0, 1), rotary.flatten(0, 1)])
        latent, key_rotary = layer.kv_a_proj_with_mqa.weight.split([layer.latent, self.rotary])
        first = layer.q_a_proj.weight if layer.compressed_query else query
        self.first = _Matrix(torch.cat([latent, key_rotary, first]))
        self.second = _Matrix(query) if layer.compressed_query else None
        by_head = layer.kv_b_proj.weight.unflatten(0, (self.heads, -1))
        self.key, self.value = by_head[:, : self.plain], by_head[:, self.plain :].transpose(1, 2)
        self.out = _Matrix(layer.o_proj.weight)

    def add(self, x: Tensor, table: Tensor, cache: LatentCache) -> None:
        """Add attention's result to x [l, d] and remember the new tokens."""
        layer, size, c = self.layer, len(x), self.layer.latent
        first = self.first.times(normalise(x, self.norm))
        latent, key_rotary, q = (
            first[:, :c],
            first[:, c : c + self.rotary],
            first[:, c + self.rotary :],
        )
        if self.second is not None:
            q = self.second.times(normalise(q, layer.q_a_layernorm))
        middle = self.heads * self.plain
        q_plain = q[:, :middle].view(size, self.heads, self.plain)
        q_rotary = q[:, middle:].reshape(size, self.heads, -1, 2)
        turned = torch.view_as_complex(q_rotary).mul_(table[:, None])
        shared = torch.view_as_complex(key_rotary.reshape(size, -1, 2)).mul_(table)
        new = [normalise(latent, layer.kv_a_layernorm), torch.view_as_real(shared).flatten(1)]
        remembered = cache.append(torch.cat(new, 1)[None])[0]  # [t, c + r]
        absorbed = torch.bmm(q_plain.transpose(0, 1), self.key).transpose(0, 1)  # [l, h, c]
        q = torch.cat([absorbed, torch.view_as_real(turned).flatten(2)], 2)
        scores = q.view(size * self.heads, -1) @ remembered.t()
        if size > 1:
            known = len(remembered) - size
            future = scores.new_full((size, size), float("-inf")).triu_(1)
            scores.view(size, self.heads, -1)[:, :, known:] += future[:, None]
        mixed = scores.softmax(1) @ remembered[:, :c]
        by_head = torch.bmm(mixed.view(size, self.heads, c).transpose(0, 1), self.value)
        self.out.add_to(x, by_head.transpose(0, 1).reshape(size, -1))


class _Network:
    """A dense layer or the shared experts."""

    def __init__(self, network: FeedForward) -> None:
        parts = network.gate_proj, network.up_proj, network.down_proj
        self.gate, self.up, self.down = (_Matrix(part.weight) for part in parts)

    def add(self, x: Tensor, normal: Tensor) -> None:
        """Add the network's result for normal [l, d] to x [l, d]."""
        gate_up = torch.cat([self.gate.times(normal), self.up.times(normal)], 1)
        self.down.add_to(x, activate(gate_up))


class _Experts:
    """The routed experts and the shared ones (equation 12)."""

    def __init__(self, layer: MixtureOfExperts, config: ModelConfig) -> None:
        self.config, self.bias = config, layer.gate.e_score_correction_bias
        self.router = _Matrix(layer.gate.weight)
        self.shared = _Network(layer.shared_experts)
        self.gate_up = [_Matrix(weight) for weight in layer.experts.gate_up_proj]
        self.down = [_Matrix(weight) for weight in layer.experts.down_proj]

    def add(self, x: Tensor, normal: Tensor) -> None:
        """Add the experts' results for normal [l, d] to x [l, d]."""
        config = self.config
        affinity = self.router.times(normal).sigmoid_()
        chosen = choose_experts(affinity, self.bias, config)
        gates = affinity.gather(1, chosen)
        if config.norm_topk_prob:
            gates = gates / (gates.sum(1, keepdim=True) + 1e-20)
        # By expert, so that one that several tokens chose is read once.
        pairs = sorted(
            (expert, i, gate * config.routed_scaling_factor)
            for i, (experts, own) in enumerate(zip(chosen.tolist(), gates.tolist(), strict=True))
            for expert, gate in zip(experts, own, strict=True)
        )
        rows, into = normal.split(1), x.split(1)
        inner = activate(torch.cat([self.gate_up[e].times(rows[i]) for e, i, _ in pairs]))
        for (expert, i, gate), row in zip(pairs, inner.split(1), strict=True):
            self.down[expert].add_to(into[i], row, gate)
        self.shared.add(x, normal)


class _Layer:
    def __init__(self, block: Block, config: ModelConfig) -> None:
        self.attention = _Attention(block, config)
        self.norm = block.post_attention_layernorm
        self.mlp = _Experts(block.mlp, config) if block.moe else _Network(block.mlp)

    def add(self, x: Tensor, table: Tensor, cache: LatentCache) -> None:
        self.attention.add(x, table, cache)
        self.mlp.add(x, normalise(x, self.norm))


class Decoder:
    """Reads the tokens of one sequence of up to `capacity` tokens: many by the model's own forward
    pass, a few by the one above. Only to be used under `torch.inference_mode`.

    A model in FP8 is always read by its own pass, which rounds as it was trained to.
    """

    def __init__(self, model: Transformer, capacity: int) -> None:
        self.model, self.config = model, model.config
        self.table = rotary_table(model.config, 0, capacity, model.lm_head.weight.dtype)
        # Where kernels run, attention's own pass calls the one for decoding.
        kernels = enabled(model.lm_head.weight, torch.bfloat16)
        self.few = FEW if model.precision == "fp32" and not kernels else 0
        self.layers = []
        if self.few:
            self.layers = [_Layer(block, model.config) for block in model.model["layers"]]
            self.joiners = [_Matrix(module.eh_proj.weight) for module in model.mtp_modules]
            self.head = _Matrix(model.lm_head.weight).laid_out()

    def read(self, tokens: list[int], caches: list[LatentCache]) -> Tensor:
        """Hidden states [l, d] of the next tokens, after the final norm; `caches` remember them."""
        ids = torch.tensor(tokens)
        if len(tokens) > self.few:
            return self.model(ids[None], caches=caches)[0][0]
        start = caches[0].length
        x = F.embedding(ids, self.model.model["embed_tokens"].weight)
        table = self.table[start : start + len(tokens)]
        main = self.layers[: self.config.num_hidden_layers]
        for layer, cache in zip(main, caches, strict=True):
            layer.add(x, table, cache)
        return normalise(x, self.model.model["norm"])

    def read_ahead(
        self, depth: int, hidden: Tensor, tokens: list[int], cache: LatentCache
    ) -> Tensor:
        """States [l, d] of multi-token module `depth` (from 1) for the next positions, from the
        depth before, hidden [l, d], and the tokens `depth` places later.
        """
        module = self.model.mtp_modules[depth - 1]
        embedding = F.embedding(torch.tensor(tokens), self.model.model["embed_tokens"].weight)
        table = self.table[cache.length : cache.length + len(tokens)]
        if len(tokens) > self.few:
            return module.predict(hidden[None], embedding[None], table, cache=cache)[0][0]
        joined = [normalise(embedding, module.enorm), normalise(hidden, module.hnorm)]
        x = self.joiners[depth - 1].times(torch.cat(joined, 1))
        self.layers[self.config.num_hidden_layers + depth - 1].add(x, table, cache)
        return normalise(x, module.shared_head["norm"])

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [l, vocabulary] of hidden states [l, d]."""
        if not self.few or len(hidden) > self.few:
            return self.model.lm_head(hidden)
        return self.head.times(hidden)
