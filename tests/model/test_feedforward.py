import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import model.feedforward as subject
from model.feedforward import FeedForward, gated_networks, swiglu
from model.linear import grouped_linear


def test_the_written_backward_pass_is_the_derivative():
    torch.manual_seed(0)
    x = torch.randn(3, 10, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(swiglu, (x,))


def test_one_joined_product_is_the_two_of_the_definition():
    torch.manual_seed(0)
    network = FeedForward(16, 24, "fp32").double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    gate, up = (p.weight for p in (network.gate_proj, network.up_proj))
    expected = (F.silu(x @ gate.t()) * (x @ up.t())) @ network.down_proj.weight.t()
    torch.testing.assert_close(network(x), expected)


def test_a_gain_has_a_derivative_too():
    torch.manual_seed(0)
    x = torch.randn(3, 10, dtype=torch.float64, requires_grad=True)
    gain = torch.randn(3, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(swiglu, (x, gain))


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    piece=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_networks_by_pieces_equal_whole_products_with_gradients(counts, piece, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    rows, active = sum(counts), 1
    while rows % (active * 2) == 0:
        active *= 2
    order = torch.randperm(rows, generator=generator)
    token, position = order // active, order.argsort().view(-1, active)
    x, gain = draw(rows // active, 6), draw(rows, 1)
    gate_up, down = draw(len(counts), 8, 6), draw(len(counts), 6, 4)
    before, subject.PIECE = subject.PIECE, piece
    try:
        fast = gated_networks(x, gate_up, down, counts, gain, token, position)
        weight = torch.randn(fast.shape, dtype=torch.float64, generator=generator)
        inputs = (x, gain, gate_up, down)
        fast_grads = torch.autograd.grad((fast * weight).sum(), inputs)
    finally:
        subject.PIECE = before
    inner = swiglu(grouped_linear(x[token], gate_up, counts, "fp32"), gain)
    slow = grouped_linear(inner, down, counts, "fp32")[position].sum(1)
    torch.testing.assert_close(fast, slow)
    slow_grads = torch.autograd.grad((slow * weight).sum(), inputs)
    for a, b in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_numbers_come_out_every_time(threads):
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    network = FeedForward(64, 48, "fp32")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(3000, 64)
    first, again = (
        torch.autograd.grad(network(x).square().sum(), network.parameters()) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
