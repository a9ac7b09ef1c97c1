import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.attention import Attention, LatentCache, decoupled_attention, rotary_table, rotate
from model.generate import make_caches


def slow_attention(q, kv, k_rotary, table, scale):
    """Equations 3, 4, 9 and 10 with every key and query written out."""
    n = q.shape[-1] - k_rotary.shape[-1]
    shared = k_rotary[:, :, None].expand(-1, -1, q.shape[2], -1)
    q = torch.cat([q[..., :n], rotate(q[..., n:], table[:, None])], -1).transpose(1, 2)
    k = torch.cat([kv[..., :n], shared], -1).transpose(1, 2)
    scores = q @ k.transpose(-1, -2) * scale
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, float("-inf")).softmax(-1)
    return (weights @ kv[..., n:].transpose(1, 2)).transpose(1, 2)


@settings(deadline=None, max_examples=25)
@given(
    length=st.integers(1, 300),
    sizes=st.tuples(*[st.integers(1, 5)] * 3),
    heads=st.integers(1, 3),
)
def test_blocked_attention_equals_the_formula_with_gradients(length, sizes, heads):
    generator = torch.Generator().manual_seed(length)
    n, r, v = 2 * sizes[0], 2 * sizes[1], sizes[2] * 2

    def draw(*shape):
        return torch.randn(2, length, *shape, dtype=torch.float64, generator=generator)

    inputs = [draw(heads, n + r), draw(heads, n + v), draw(r)]
    table = torch.polar(torch.ones(length, r // 2), torch.rand(length, r // 2) * 6)
    table = table.to(torch.complex128)
    weight = draw(heads, v)
    for x in inputs:
        x.requires_grad_()
    fast = decoupled_attention(*inputs, table, 0.3)
    slow = slow_attention(*inputs, table, 0.3)
    torch.testing.assert_close(fast, slow)
    for a, b in zip(
        torch.autograd.grad((fast * weight).sum(), inputs),
        torch.autograd.grad((slow * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("rank", [None, 40])
@pytest.mark.parametrize("cuts", [[20], [7, 13], [1] * 20, [12, 1, 3, 4]])
def test_cached_latents_give_what_the_whole_sequence_gives(small, rank, cuts):
    config = small(q_lora_rank=rank)
    torch.manual_seed(0)
    attention = Attention(config, "fp32").double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    x = torch.randn(1, 20, config.hidden_size, dtype=torch.float64)
    table = rotary_table(config, 0, 20, torch.float64)
    whole = attention(x, table)
    cache = LatentCache(torch.empty(1, 20, 32 + 8, dtype=torch.float64))
    parts, start = [], 0
    with torch.no_grad():
        for cut in cuts:
            stop = start + cut
            parts.append(attention(x[:, start:stop], table[start:stop], cache))
            start = stop
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_the_cache_holds_latent_and_rotary_key_and_nothing_more(small, build):
    config = small()
    (cache, *_) = make_caches(build(config), 1, 10)
    assert cache.latent.shape == (1, 10, config.kv_lora_rank + config.qk_rope_head_dim)


def test_a_full_cache_says_so():
    cache = LatentCache(torch.empty(1, 4, 2))
    cache.append(torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="holds 4 tokens, 5"):
        cache.append(torch.zeros(1, 2, 2))


def test_rotation_depends_on_distance_alone(small):
    config = small()
    table = rotary_table(config, 0, 100, torch.float64)
    products = table[5:] * table[:-5].conj()
    torch.testing.assert_close(products, products[:1].expand_as(products), atol=1e-5, rtol=0)
