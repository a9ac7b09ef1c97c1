import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.linear import grouped_linear


@settings(deadline=None, max_examples=30)
@given(counts=st.lists(st.integers(0, 7), min_size=1, max_size=6))
def test_grouped_products_equal_each_experts_own(counts):
    generator = torch.Generator().manual_seed(sum(counts))
    x = torch.randn(sum(counts), 5, dtype=torch.float64, generator=generator, requires_grad=True)
    w = torch.randn(len(counts), 3, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    expert = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    weight = torch.randn(sum(counts), 3, dtype=torch.float64, generator=generator)
    fast = grouped_linear(x, w, counts, "fp32")
    slow = torch.einsum("tk,tnk->tn", x, w[expert])
    torch.testing.assert_close(fast, slow)
    fast_grads = torch.autograd.grad((fast * weight).sum(), (x, w))
    slow_grads = torch.autograd.grad((slow * weight).sum(), (x, w))
    for a, b in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(a, b)


def test_fp8_groups_are_rounded_expert_by_expert():
    torch.manual_seed(0)
    x, w = torch.randn(9, 40), torch.randn(3, 24, 40)
    together = grouped_linear(x, w, [4, 0, 5], "fp8")
    alone = torch.cat(
        [
            grouped_linear(x[:4], w[:1], [4], "fp8"),
            grouped_linear(x[4:], w[2:], [5], "fp8"),
        ]
    )
    assert torch.equal(together, alone)
    assert not torch.equal(together, grouped_linear(x, w, [4, 0, 5], "fp32"))
