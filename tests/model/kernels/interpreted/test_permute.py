"""Tokens to their experts in FP8 and back: bytes of the reference, sums against float64."""

import pytest
import torch

from model import fp8
from model.kernels.permute import (
    combine,
    combine_reference,
    dispatch,
    dispatch_reference,
    gate_gradient,
    plan,
)


def _choose(tokens, experts, k, seed=0, only=None):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(tokens, experts, generator=generator)
    if only is not None:
        scores[:, only:] = -1.0
    return scores.topk(k, 1).indices, torch.rand(tokens, k, generator=generator) + 0.1


CASES = [(1, 1, 1, None), (40, 5, 2, None), (300, 4, 3, None), (33, 64, 8, 9)]


@pytest.mark.parametrize(("tokens", "experts", "k", "only"), CASES)
def test_a_plan_gives_every_copy_a_row_of_its_own(tokens, experts, k, only):
    chosen, _ = _choose(tokens, experts, k, only=only)
    layout = plan(chosen, experts)
    every = torch.cat([layout.position.flatten(), layout.between])
    assert torch.equal(every.sort().values, torch.arange(layout.rows, dtype=torch.int32))
    assert layout.rows % 128 == 0 and (layout.starts % 128 == 0).all()
    for expert in range(experts):
        first, count = int(layout.starts[expert]), int(layout.counts[expert])
        rows = layout.position[chosen == expert]  # in the order of tokens
        assert rows.tolist() == list(range(first, first + count))


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("d", [128, 200])
def test_dispatch_gives_the_bytes_of_its_reference(
    d, weighted, dtype, power_of_two, hostile, same_bytes
):
    chosen, gates = _choose(40, 5, 2)
    layout, x = plan(chosen, 5, 16), hostile(40, d, dtype, seed=10)
    given = gates if weighted else None
    q, scale = dispatch(x, layout, given, power_of_two=power_of_two)
    expected, expected_scale = dispatch_reference(x, layout, given, power_of_two=power_of_two)
    same_bytes(q, expected)
    assert torch.equal(scale, expected_scale)
    assert not q[layout.between.long()].float().any()
    # Whatever is summed over rows sums over zeros between experts.
    assert not fp8.dequantize(q, scale)[layout.between.long()].any()


def test_a_weighted_copy_is_its_gate_times_its_token(error):
    chosen, gates = _choose(64, 8, 4)
    layout, x = plan(chosen, 8, 16), torch.randn(64, 384)
    rows = fp8.dequantize(*dispatch(x, layout, gates))[layout.position.long()]
    assert error(rows, x.double()[:, None] * gates.double()[:, :, None]) < 0.03


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("tokens", "k", "d"), [(1, 1, 1), (40, 3, 200), (9, 8, 512)])
def test_combine_against_float64(tokens, k, d, weighted, dtype, hostile, error):
    chosen, gates = _choose(tokens, 9, k)
    layout = plan(chosen, 9)
    rows = hostile(layout.rows, d, dtype, seed=11)
    rows[layout.between.long()] = float("nan")  # nobody's, and must reach nobody
    given = gates if weighted else None
    exact = combine_reference(rows.double(), layout, given)
    found = combine(rows, layout, given)
    assert found.dtype == dtype
    assert error(found, exact) < (1e-6 if dtype == torch.float32 else 3e-3)
    gradient = gate_gradient(exact.to(dtype), rows, layout)
    expected = (exact.to(dtype).double()[:, None] * rows.double()[layout.position.long()]).sum(2)
    assert error(gradient, expected) < 1e-5


def test_dispatch_and_combine_are_each_other_s_gradient(error):
    """By autograd through the plain references, in float64; FP8 rounds what is dispatched."""
    chosen, gates = _choose(30, 6, 2, seed=3)
    layout = plan(chosen, 6, 16)
    rows = torch.randn(layout.rows, 256, dtype=torch.float64, requires_grad=True)
    g = gates.double().requires_grad_()
    grad = torch.randn(30, 256)
    combine_reference(rows, layout, g).backward(grad.double())
    found = fp8.dequantize(*dispatch(grad, layout, gates))
    assert error(found, rows.grad) < 0.03
    assert error(gate_gradient(grad, rows.detach().float(), layout), g.grad) < 1e-5
    x = torch.randn(30, 256, dtype=torch.float64, requires_grad=True)
    copies = torch.zeros(layout.rows, 256, dtype=torch.float64)
    back = torch.randn(layout.rows, 256)
    token = torch.arange(30).repeat_interleave(2)
    copies.index_add(0, layout.position.flatten().long(), x[token]).backward(back.double())
    assert error(combine(back, layout), x.grad) < 1e-6


def test_a_token_that_is_no_number_reaches_its_own_rows_only():
    chosen, _ = _choose(40, 5, 2)
    layout, x = plan(chosen, 5, 16), torch.randn(40, 128)
    x[7, 3] = float("nan")
    undefined = fp8.dequantize(*dispatch(x, layout)).isnan().any(1).nonzero().flatten()
    assert torch.equal(undefined, layout.position[7].sort().values.long())


def test_rows_too_wide_for_registers_are_refused():
    layout = plan(torch.zeros(1, 1, dtype=torch.long), 1)
    with pytest.raises(ValueError, match="at most 8192"):
        dispatch(torch.ones(1, 8193), layout)
