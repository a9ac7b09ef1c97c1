import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.fp8 import (
    E4M3,
    E4M3_MAX,
    decode_e4m3,
    dequantize,
    power_of_two_above,
    quantize_blocks,
    quantize_tiles,
    requantize_columns,
    scaled_product,
)


def slow_e4m3(x: float) -> float:
    """The nearest E4M3 number, ties to the even one, from the format's definition."""
    if x == 0:
        return 0.0
    exponent = max(math.floor(math.log2(abs(x))), -6)
    step = 2.0 ** (exponent - 3)
    return math.copysign(min(round(abs(x) / step) * step, E4M3_MAX), x)


def slow_quantize(
    x: torch.Tensor, rows: int, power_of_two: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tiles of rows x 128 (narrower at the ends), one at a time."""
    q = torch.zeros_like(x)
    scales = torch.zeros(math.ceil(x.shape[0] / rows), math.ceil(x.shape[1] / 128))
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            at = slice(i * rows, (i + 1) * rows), slice(j * 128, (j + 1) * 128)
            scales[i, j] = max(x[at].abs().max().item(), torch.tensor(1e-4).item())
            scales[i, j] /= 448
            if power_of_two:
                scales[i, j] = 2.0 ** math.ceil(math.log2(scales[i, j].item()))
            scaled = x[at] / scales[i, j]
            q[at] = torch.tensor([[slow_e4m3(v) for v in row] for row in scaled.tolist()])
    return q, scales


def hostile(rows: int, columns: int, seed: int) -> torch.Tensor:
    """Magnitudes from 1e-8 to 1e4 side by side, zeros, and an outlier in a tile."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator)
    x *= 10.0 ** torch.randint(-8, 5, (rows, 1), generator=generator)
    x[0] = 0
    x[1, 3] = 1e5
    return x


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (448.0, 448.0),
        (1.96875, 2.0),
        (17.0, 16.0),
        (19.0, 20.0),
        (2.0**-9, 2.0**-9),
        (2.0**-10, 0.0),
        (0.4375, 0.4375),
        (-3.3, -3.25),
    ],
)
def test_known_values_round_to_the_nearest_even(value, expected):
    tile = torch.zeros(1, 128)
    tile[0, 0], tile[0, 1] = 448.0, value
    q, scale = quantize_tiles(tile)
    assert scale.item() == 1.0
    assert q.float()[0, 1].item() == expected
    assert slow_e4m3(value) == expected


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("shape", [(128, 256), (130, 200), (7, 31)])
def test_tiles_and_blocks_equal_the_slow_twin_bit_for_bit(shape, power_of_two):
    x = hostile(*shape, seed=sum(shape))
    before = x.clone()
    for fast, rows in ((quantize_tiles, 1), (quantize_blocks, 128)):
        q, scale = fast(x, power_of_two=power_of_two)
        slow_q, slow_scale = slow_quantize(x, rows, power_of_two)
        assert q.dtype == E4M3
        assert torch.equal(scale, slow_scale)
        assert torch.equal(q.float(), slow_q)
    assert torch.equal(x, before)


def test_stacked_matrices_are_rounded_one_by_one():
    w = hostile(390, 200, 5).view(3, 130, 200)
    for fast in (quantize_tiles, quantize_blocks):
        q, scale = fast(w)
        back = dequantize(q, scale)
        for i in range(3):
            alone = fast(w[i])
            assert torch.equal(q[i].float(), alone[0].float())
            assert torch.equal(scale[i], alone[1])
            assert torch.equal(back[i], dequantize(*alone))


@settings(deadline=None)
@given(st.floats(2.0**-126, 2.0**127, width=32))
def test_a_scale_is_rounded_up_to_a_power_of_two(x):
    found = power_of_two_above(torch.tensor([x])).item()
    assert math.frexp(found)[0] == 0.5
    assert x <= found < 2 * x


def test_decoding_equals_torch_for_every_byte():
    q = torch.arange(256, dtype=torch.uint8).view(E4M3)
    torch.testing.assert_close(decode_e4m3(q), q.float(), rtol=0, atol=0, equal_nan=True)
    numbers = q[q.float().isfinite()]
    assert torch.equal(decode_e4m3(numbers), numbers.float())


@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("power_of_two", [False, True])
def test_a_number_that_is_none_makes_its_tile_undefined_and_no_other(poison, power_of_two):
    x = torch.randn(2, 256)
    x[1, 130] = poison
    back = dequantize(*quantize_tiles(x, power_of_two=power_of_two))
    assert not back[1, 128:].isfinite().any()
    assert back[0].isfinite().all()
    assert back[1, :128].isfinite().all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=128, max_size=128))
def test_no_number_moves_by_more_than_half_a_step(numbers):
    x = torch.tensor([numbers])
    q, scale = quantize_tiles(x)
    back = dequantize(q, scale).double()
    # Half of the last of four bits, or of the smallest step of the format.
    bound = torch.maximum(x.abs().double() / 16, scale.double() * 2**-10)
    assert ((back - x.double()).abs() <= bound * (1 + 1e-6)).all()


def test_an_outlier_costs_its_own_tile_only():
    torch.manual_seed(0)
    x = torch.randn(1, 256)
    clean = dequantize(*quantize_tiles(x))
    x[0, 5] = 1e4
    spoiled = dequantize(*quantize_tiles(x))
    assert torch.equal(clean[:, 128:], spoiled[:, 128:])
    assert not torch.equal(clean[:, 6:128], spoiled[:, 6:128])


def test_the_scaled_product_is_that_of_the_rounded_numbers():
    a, b = torch.randn(6, 384), torch.randn(256, 384)
    qa, sa = quantize_tiles(a)
    qb, sb = quantize_blocks(b)
    exact = dequantize(qa, sa).double() @ dequantize(qb, sb).double().t()
    torch.testing.assert_close(scaled_product(qa, sa, qb, sb).double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(256, 384), (200, 130)])
def test_columns_are_the_kept_numbers_rounded_again(shape):
    x = hostile(*shape, seed=1)
    for power_of_two in (True, False):
        q, scale = quantize_tiles(x, power_of_two=power_of_two)
        columns, column_scale = requantize_columns(q, scale, power_of_two=power_of_two)
        assert columns.shape == (shape[1], shape[0])
        assert column_scale.shape == (shape[1], math.ceil(shape[0] / 128))
        kept = q.float() * scale.repeat_interleave(128, 1)[:, : shape[1]]
        slow_q, slow_scale = slow_quantize(kept.t().contiguous(), 1, power_of_two)
        assert torch.equal(columns.float(), slow_q)
        assert torch.equal(column_scale, slow_scale)


def test_with_powers_of_two_the_second_rounding_changes_nothing_that_stays_normal():
    torch.manual_seed(0)
    x = torch.randn(256, 256)
    q, scale = quantize_tiles(x, power_of_two=True)
    columns, column_scale = requantize_columns(q, scale)
    once, twice = dequantize(q, scale), dequantize(columns, column_scale).t()
    normal = columns.t().float().abs() >= 2.0**-6
    assert normal.float().mean() > 0.98
    assert torch.equal(twice[normal], once[normal])
    # From what was kept and from float32 are different roundings with plain scales ...
    q, scale = quantize_tiles(x)
    again = dequantize(*requantize_columns(q, scale, power_of_two=False))
    straight = dequantize(*quantize_tiles(x.t().contiguous()))
    assert not torch.equal(again, straight)
    # ... and the one from what was kept is the worse.
    worse, better = ((y - x.t()).norm() for y in (again, straight))
    assert worse > 1.1 * better


def test_the_scaled_product_takes_tiles_on_both_sides():
    torch.manual_seed(0)
    a, b = torch.randn(70, 300), torch.randn(50, 300)
    qa, qb = quantize_tiles(a), quantize_tiles(b)
    exact = dequantize(*qa).double() @ dequantize(*qb).double().t()
    torch.testing.assert_close(scaled_product(*qa, *qb).double(), exact, rtol=1e-4, atol=1e-4)
