"""Multi-head latent attention (MLA), section 2.1.1 of the DeepSeek-V3 report.

Keys and values of all heads are made from one small vector per token, the latent c^KV (equation 1),
so generation has to remember only that vector and one rotary key shared by the heads: 512 + 64
numbers a token in DeepSeek-V3 instead of 128 heads times 320. Position enters only through the
decoupled part: each head's query carries rotary dimensions beside its plain ones (equations 6 to 9)
and meets the shared rotary key (equation 3).

There are two ways to compute the same thing. For a whole sequence, keys and values are made from
the latents and attention runs as usual. For a few new tokens after many cached ones, the matrix
that would make the keys is applied to the queries instead, and the one that would make the values
to the result, so that attention reads the cached latents themselves (the absorption of the
DeepSeek-V2 report, section 2.1.2).

Legend: b sequences, l queries, t keys, h heads, c latent size, n plain and r rotary dimensions of a
query, v dimensions of a value.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model import _native
from model.config import ModelConfig
from model.kernels.switch import enabled
from model.linear import Linear
from model.norm import RMSNorm
from model.passes import call, native, once
from model.recompute import is_remaking, made_by, recipe_of
from model.sample_attention import by_sample

# Queries a block: small enough to skip most of the masked half, large enough for fast products.
BLOCK = 128


@dataclass
class LatentCache:
    """What one layer remembers: `latent` [b, capacity, c + r], of which `length` tokens are filled.

    The first c numbers are the normalised latent, the other r the rotary key, already turned.
    """

    latent: Tensor
    length: int = 0

    def room_for(self, tokens: int) -> int:
        """The length with so many more tokens; raises ValueError beyond the capacity."""
        end = self.length + tokens
        if end > self.latent.shape[1]:
            raise ValueError(f"latent cache holds {self.latent.shape[1]} tokens, {end} are needed")
        return end

    def append(self, new: Tensor) -> None:
        """Remember new: [b, l, c + r]."""
        end = self.room_for(new.shape[1])
        self.latent[:, self.length : end] = new
        self.length = end

    def crop(self, length: int) -> None:
        """Forget everything after the first `length` tokens."""
        self.length = min(self.length, length)


def rotary_table(config: ModelConfig, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Unit complex numbers [stop - start, r / 2] that turn the rotary pairs of these positions.

    With YaRN (section 4.3; Peng et al. 2023), pairs that turn fewer than beta_slow times over the
    original length are slowed by the factor, those above beta_fast are kept, and those between are
    mixed. The angles are computed in float32, as every implementation of this model does.
    """
    size = config.qk_rope_head_dim
    pairs = torch.arange(0, size, 2, dtype=torch.float32)
    frequencies = 1.0 / config.rope_theta ** (pairs / size)
    magnitude = 1.0
    if config.rope_scaling is not None:
        yarn = config.rope_scaling
        length = yarn["original_max_position_embeddings"]

        def pair_that_turns(times: float) -> float:
            return size * math.log(length / (times * 2 * math.pi)) / 2 / math.log(config.rope_theta)

        low = max(math.floor(pair_that_turns(yarn.get("beta_fast", 32))), 0)
        high = min(math.ceil(pair_that_turns(yarn.get("beta_slow", 1))), size - 1)
        slowed = ((pairs / 2 - low) / max(high - low, 0.001)).clamp(0, 1)
        frequencies = frequencies * (1 - slowed) + frequencies / yarn["factor"] * slowed
        plain, overall = yarn.get("mscale"), yarn.get("mscale_all_dim")
        if plain and overall:
            magnitude = _mscale(yarn["factor"], plain) / _mscale(yarn["factor"], overall)
        else:
            magnitude = _mscale(yarn["factor"], 1.0)
    angles = torch.outer(torch.arange(start, stop, dtype=torch.float32), frequencies)
    table = torch.polar(torch.full_like(angles, magnitude), angles)
    return table.to(torch.complex128 if dtype == torch.float64 else torch.complex64)


def _mscale(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0


def softmax_scale(config: ModelConfig) -> float:
    """1 / sqrt(n + r) of equation 10, times YaRN's temperature if the configuration has one."""
    scale = (config.qk_nope_head_dim + config.qk_rope_head_dim) ** -0.5
    yarn = config.rope_scaling
    if yarn is not None and yarn.get("mscale_all_dim"):
        scale *= _mscale(yarn["factor"], yarn["mscale_all_dim"]) ** 2
    return scale


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn neighbouring pairs (x0, x1), (x2, x3), … of x [..., r] by the table [..., r / 2]."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2)


class Attention(nn.Module):
    """MLA, with queries compressed as well (equations 6 to 9) when `q_lora_rank` is given."""

    def __init__(self, config: ModelConfig, precision: str) -> None:
        super().__init__()
        size, heads = config.hidden_size, config.num_attention_heads
        self.heads = heads
        self.plain, self.rotary = config.qk_nope_head_dim, config.qk_rope_head_dim
        self.latent, self.value = config.kv_lora_rank, config.v_head_dim
        self.scale = softmax_scale(config)
        query = heads * (self.plain + self.rotary)
        self.compressed_query = config.q_lora_rank is not None
        if config.q_lora_rank is None:
            self.q_proj = Linear(size, query, precision)
        else:
            self.q_a_proj = Linear(size, config.q_lora_rank, precision)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank, config.rms_norm_eps)
            self.q_b_proj = Linear(config.q_lora_rank, query, precision)
        self.kv_a_proj_with_mqa = Linear(size, self.latent + self.rotary, precision)
        self.kv_a_layernorm = RMSNorm(self.latent, config.rms_norm_eps)
        self.kv_b_proj = Linear(self.latent, heads * (self.plain + self.value), precision)
        self.o_proj = Linear(heads * self.value, size, precision, keep="e5m6")

    def forward(
        self,
        x: Tensor,
        table: Tensor,
        cache: LatentCache | None = None,
        samples: Tensor | None = None,
    ) -> Tensor:
        """x: [b, l, d] to [b, l, d]; `table` [l, r / 2] turns these positions.

        With a cache, x continues the tokens remembered there and is remembered in turn. With
        `samples` (int [b, l]), a token sees only those of its own sample; then there is no cache.
        """
        if self.compressed_query:
            q = _up(self.q_b_proj, self.q_a_layernorm(self.q_a_proj(x)))
        else:
            q = self.q_proj(x)
        q = q.unflatten(-1, (self.heads, -1))
        latent, k_rotary = self.kv_a_proj_with_mqa(x).split([self.latent, self.rotary], -1)
        latent = self.kv_a_layernorm(latent)
        k_rotary = rotate(k_rotary, table)
        past = 0 if cache is None else cache.length
        if cache is not None:
            cache.append(torch.cat([latent, k_rotary], -1))
        if past == 0:
            # Equations 1 to 5, then 10.
            kv = _up(self.kv_b_proj, latent).unflatten(-1, (self.heads, -1))
            if samples is None:
                out = decoupled_attention(q, kv, k_rotary, table, self.scale)
            else:
                tables = table.expand(len(x), *table.shape)
                out = by_sample(self._attend, samples, q, kv, k_rotary, tables)
        else:
            out = self._attend_to_latents(q, table, cache)
        return self.o_proj(out.flatten(2))

    def _attend(self, q: Tensor, kv: Tensor, k_rotary: Tensor, tables: Tensor) -> Tensor:
        """The same for pieces of rows that lie at one place: their tables are one."""
        return decoupled_attention(q, kv, k_rotary, tables[0], self.scale)

    def _attend_to_latents(self, q: Tensor, table: Tensor, cache: LatentCache) -> Tensor:
        """New tokens after cached ones, without making a key or a value. Gives [b, l, h, v]."""
        q_plain, q_rotary = q.split([self.plain, self.rotary], -1)
        q_rotary = rotate(q_rotary, table[:, None])
        key, value = self.kv_b_proj.weight.view(self.heads, -1, self.latent).split(
            [self.plain, self.value], 1
        )
        q = torch.cat([torch.einsum("blhn,hnc->blhc", q_plain, key), q_rotary], -1)
        if enabled(q, torch.bfloat16):
            from model.kernels.decode import attend_to_latents  # needs Triton

            lengths = torch.full(q.shape[:1], cache.length, dtype=torch.int32, device=q.device)
            mixed = attend_to_latents(q, cache.latent, lengths, self.latent, self.scale)
            return torch.einsum("blhc,hvc->blhv", mixed, value)
        remembered = cache.latent[:, : cache.length]
        scores = torch.einsum("blhc,btc->bhlt", q, remembered) * self.scale
        new, known = scores.shape[2:]
        future = torch.ones(new, known, dtype=torch.bool, device=q.device).triu_(known - new + 1)
        weights = scores.masked_fill(future, float("-inf")).softmax(-1)
        mixed = torch.einsum("bhlt,btc->blhc", weights, remembered[..., : self.latent])
        return torch.einsum("blhc,hvc->blhv", mixed, value)


def _up(projection: Linear, latent: Tensor) -> Tensor:
    """An up-projection, which section 3.2.3 makes again in the backward pass."""
    again = recipe_of(latent)
    return made_by(lambda: projection(again()), projection(latent))


def decoupled_attention(
    q: Tensor, kv: Tensor, k_rotary: Tensor, table: Tensor, scale: float
) -> Tensor:
    """Equation 10 for whole sequences: causal attention of h heads that share a rotary key.

    q: [b, l, h, n + r], its last r dimensions not yet turned; kv: [b, l, h, n + v], each head's
    plain key and value; k_rotary: [b, l, r], turned; table: [l, r / 2]. Gives [b, l, h, v].

    A block of queries at a time meets the keys up to its own end, so that most of the masked half
    is never computed. The backward pass is written out: it finds the softmax of every block as the
    forward pass left it (or, when recomputing, makes it again, as FlashAttention does), and writes
    gradients where the projections read them. (On a CPU, torch's own kernel is slow backwards, and
    takes the plain path where keys and values differ in size.) The native core does it so, and its
    twin in torch, where the native core is not for the machine or the precision.
    """
    if native(q.shape[0] * q.shape[1], q, kv, k_rotary):
        wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (q, kv, k_rotary))
        return _NativeAttention.apply(q, kv, k_rotary, table, scale, wanted and not is_remaking())
    return _DecoupledAttention.apply(q, kv, k_rotary, table, scale)


class _DecoupledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, kv, k_rotary, table, scale) -> Tensor:
        b, length, h, _ = q.shape
        n = q.shape[-1] - k_rotary.shape[-1]
        out = q.new_empty(b, length, h, kv.shape[-1] - n)
        ctx.remake, ctx.scale, blocks = is_remaking(), scale, []
        turned = _turned(q, n, table, scale)
        for i in range(b):
            k, v = _heads(kv[i], k_rotary[i], n)
            for start in range(0, length, BLOCK):
                stop = min(start + BLOCK, length)
                weights = _weights(turned[i, start:stop].transpose(0, 1), k[:, :stop], start)
                out[i, start:stop] = torch.bmm(weights, v[:, :stop]).transpose(0, 1)
                if not ctx.remake:
                    blocks.append(weights)
        ctx.save_for_backward(q if ctx.remake else turned, kv, k_rotary, table, *blocks)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, kv, k_rotary, table, *blocks = ctx.saved_tensors
        b, length, h, _ = q.shape
        n = q.shape[-1] - k_rotary.shape[-1]
        if ctx.remake:
            q = _turned(q, n, table, ctx.scale)
        grad_q, grad_kv, grad_rotary = (torch.empty_like(x) for x in (q, kv, k_rotary))
        left = iter(blocks)
        for i in range(b):
            k, v = _heads(kv[i], k_rotary[i], n)
            grad_k, grad_v = torch.zeros_like(k), k.new_zeros(h, length, v.shape[-1])
            for start in range(0, length, BLOCK):
                stop = min(start + BLOCK, length)
                own = q[i, start:stop].transpose(0, 1)
                weights = _weights(own, k[:, :stop], start) if ctx.remake else next(left)
                g = grad[i, start:stop].transpose(0, 1)
                grad_v[:, :stop].baddbmm_(weights.transpose(1, 2), g)
                grad_scores = torch.ops.aten._softmax_backward_data(
                    torch.bmm(g, v[:, :stop].transpose(1, 2)), weights, -1, q.dtype
                )
                grad_q[i, start:stop] = torch.bmm(grad_scores, k[:, :stop]).transpose(0, 1)
                grad_k[:, :stop].baddbmm_(grad_scores.transpose(1, 2), own)
            grad_kv[i, :, :, :n] = grad_k[..., :n].transpose(0, 1)
            grad_kv[i, :, :, n:] = grad_v.transpose(0, 1)
            torch.sum(grad_k[..., n:], 0, out=grad_rotary[i])
        grad_q *= ctx.scale
        _turn(grad_q[..., n:], table.conj())
        return grad_q, grad_kv, grad_rotary, None, None


class _NativeAttention(torch.autograd.Function):
    """The same by the native core, a head at a time. Keeps the weights if asked to."""

    @staticmethod
    def forward(ctx, q, kv, k_rotary, table, scale, keep) -> Tensor:
        q, kv, k_rotary = q.contiguous(), kv.contiguous(), k_rotary.contiguous()
        b, length, h, _ = q.shape
        turns = torch.view_as_real(table).contiguous()
        out = q.new_empty(b, length, h, kv.shape[-1] + k_rotary.shape[-1] - q.shape[-1])
        weights = q.new_empty(b, h, _native.weights_of(length)) if keep else None
        call(_native.attention, q, kv, k_rotary, turns, scale, out, weights)
        ctx.save_for_backward(q, kv, k_rotary, turns, weights)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        q, kv, k_rotary, turns, weights = ctx.saved_tensors
        if weights is not None:
            once(ctx)
        b, length, h, _ = q.shape
        grad_q, grad_kv = torch.empty_like(q), torch.empty_like(kv)
        grad_rotary = q.new_empty(b, h, length, k_rotary.shape[-1])
        call(
            _native.attention_backward, q, kv, k_rotary, turns, ctx.scale, grad.contiguous(),
            weights, grad_q, grad_kv, grad_rotary,
        )  # fmt: skip
        return grad_q, grad_kv, grad_rotary.sum(1), None, None, None


def _turned(q: Tensor, n: int, table: Tensor, scale: float) -> Tensor:
    """Queries with their rotary pairs turned, and the scale, for they are smaller than scores."""
    q = q * scale
    _turn(q[..., n:], table)
    return q


def _weights(q: Tensor, k: Tensor, start: int) -> Tensor:
    """The softmax [h, n, t] of queries [h, n, ·], the first at `start`, over keys [h, t, ·]."""
    scores = torch.bmm(q, k.transpose(1, 2))
    size = q.shape[1]
    scores[:, :, start:] += scores.new_full((size, size), float("-inf")).triu_(1)
    return torch.softmax(scores, -1, out=scores)


def _turn(x: Tensor, table: Tensor) -> None:
    """Turn the rotary pairs of x [b, l, h, r] where they are."""
    torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(table[:, None])


def _heads(kv: Tensor, k_rotary: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Keys [h, l, n + r] and values [h, l, v] of one sequence, each head with the shared key."""
    length, h, _ = kv.shape
    k = kv.new_empty(h, length, n + k_rotary.shape[-1])
    k[..., :n] = kv[..., :n].transpose(0, 1)
    k[..., n:] = k_rotary
    return k, kv[..., n:].transpose(0, 1)
