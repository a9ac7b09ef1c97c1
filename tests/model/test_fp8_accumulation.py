import math

import pytest
import torch

from model.fp8 import decode_e4m3, round_e4m3
from model.fp8_accumulation import tensor_core_product


def operands(rows, k, seed, draw=torch.randn):
    generator = torch.Generator().manual_seed(seed)
    made = (draw(rows, k, generator=generator).mul_(112) for _ in range(2))
    return [decode_e4m3(round_e4m3(x)) for x in made]


def slow_sum(a, b, bits, every):
    """One row by one row in Python's integers and floats, which are exact here."""

    def cut(x, exponent):
        unit = math.ldexp(1.0, exponent - bits)
        return math.trunc(x / unit) * unit

    total, register = 0.0, 0.0
    for start in range(0, len(a), 32):
        products = [
            x * y for x, y in zip(a[start : start + 32], b[start : start + 32], strict=True)
        ]
        exponent = max(math.frexp(p)[1] for p in products if p) if any(products) else 0
        register += sum(cut(p, exponent) for p in products)
        register = cut(register, math.frexp(register)[1])
        if every and (start + 32) % every == 0:
            total, register = float(torch.tensor(total) + torch.tensor(register)), 0.0
    return total + register


@pytest.mark.parametrize("every", [None, 128])
@pytest.mark.parametrize("bits", [14, 10])
def test_sums_equal_the_slow_twin(bits, every):
    a, b = operands(3, 512, seed=0)
    found = tensor_core_product(a, b, promote_every=every, bits=bits)
    for i in range(3):
        for j in range(3):
            assert found[i, j].item() == slow_sum(a[i].tolist(), b[j].tolist(), bits, every)


def test_with_bits_enough_the_sum_is_exact():
    # 34 bits hold the sum of 32 products; the register's own sum wants a few more.
    a, b = operands(8, 1024, seed=1)
    exact = a.double() @ b.double().t()
    assert torch.equal(tensor_core_product(a, b, promote_every=None, bits=48), exact)


def test_a_sum_over_4096_products_loses_a_percent_unless_promoted():
    a, b = operands(16, 4096, seed=2)
    exact = a.double() @ b.double().t()
    size = exact.square().mean().sqrt()
    never, promoted = (
        ((tensor_core_product(a, b, promote_every=every) - exact).abs().max() / size).item()
        for every in (None, 128)
    )
    assert 0.005 < never < 0.03  # the report: near 2 percent
    assert promoted < never / 10


def test_all_cuts_go_the_same_way():
    a, b = operands(8, 4096, seed=3, draw=torch.rand)
    exact = a.double() @ b.double().t()
    assert (tensor_core_product(a, b, promote_every=None) < exact).all()


@pytest.mark.parametrize("every", [0, 16, 100])
def test_a_promotion_within_an_instruction_is_refused(every):
    a, b = operands(2, 128, seed=0)
    with pytest.raises(ValueError, match=f"promote_every is {every}"):
        tensor_core_product(a, b, promote_every=every)
