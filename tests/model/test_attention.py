import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.attention import Attention, LatentCache, causal_attention, rotary_table
from model.generate import make_caches


def slow_attention(q, k, v, scale):
    scores = q @ k.transpose(-1, -2) * scale
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, float("-inf")).softmax(-1) @ v


@settings(deadline=None, max_examples=25)
@given(length=st.integers(1, 300), key=st.integers(1, 9), value=st.integers(1, 9))
def test_blocked_attention_equals_the_formula_with_gradients(length, key, value):
    generator = torch.Generator().manual_seed(length)

    def draw(size):
        x = torch.randn(2, 3, length, size, dtype=torch.float64, generator=generator)
        return x.requires_grad_()

    q, k, v = draw(key), draw(key), draw(value)
    weight = draw(value).detach()
    fast = causal_attention(q, k, v, 0.3)
    slow = slow_attention(q, k, v, 0.3)
    torch.testing.assert_close(fast, slow)
    for a, b in zip(
        torch.autograd.grad((fast * weight).sum(), (q, k, v)),
        torch.autograd.grad((slow * weight).sum(), (q, k, v)),
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
