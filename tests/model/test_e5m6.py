import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.e5m6 import E5M6_MAX, dequantize_e5m6, quantize_tiles_e5m6, round_e5m6

# Every finite number of the format, from its definition: exponent and fraction as bits.
MAGNITUDES = sorted(
    Fraction(fraction if exponent == 0 else 64 + fraction) * Fraction(2) ** (max(exponent, 1) - 21)
    for exponent in range(31)
    for fraction in range(64)
)


def slow_e5m6(x: float) -> float:
    """The nearest number of the list; of two equally near ones that with an even fraction."""
    exact = min(Fraction(abs(x)), MAGNITUDES[-1])
    best = min(range(len(MAGNITUDES)), key=lambda i: (abs(MAGNITUDES[i] - exact), i % 2))
    return math.copysign(float(MAGNITUDES[best]), x)


def test_the_format_reaches_from_two_to_the_minus_20_to_65024():
    assert float(MAGNITUDES[1]) == 2.0**-20
    assert float(MAGNITUDES[-1]) == E5M6_MAX == 65024
    assert len(MAGNITUDES) == 31 * 64


def test_every_number_of_the_format_stays_as_it_is_and_fits_in_float16():
    numbers = torch.tensor([float(m) for m in MAGNITUDES])
    numbers = torch.cat([numbers, -numbers])
    rounded = round_e5m6(numbers)
    assert rounded.dtype == torch.float16
    assert torch.equal(rounded.float(), numbers)


def test_halfway_points_go_to_the_even_neighbour_and_their_float32_neighbours_do_not():
    pairs = list(pairwise(MAGNITUDES))
    middles = torch.tensor([float((a + b) / 2) for a, b in pairs])
    lower, upper = (torch.tensor([float(p[i]) for p in pairs]) for i in (0, 1))
    even = torch.tensor([i % 2 == 0 for i in range(len(pairs))])
    assert torch.equal(round_e5m6(middles).float(), torch.where(even, lower, upper))
    below = torch.nextafter(middles, torch.zeros(()))
    above = torch.nextafter(middles, torch.tensor(math.inf))
    assert torch.equal(round_e5m6(below).float(), lower)
    assert torch.equal(round_e5m6(above).float(), upper)


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.floats(-70000, 70000, width=32),
        st.floats(-(2.0**-13), 2.0**-13, width=32),
        st.floats(-(2.0**99), 2.0**99, width=32),
    )
)
def test_rounding_equals_the_search_through_all_numbers(x):
    found = round_e5m6(torch.tensor([x])).item()
    assert found == slow_e5m6(x)
    assert math.copysign(1, found) == math.copysign(1, x) or x == 0 or found == 0


def test_rounding_twice_through_float16_would_be_another_rounding():
    # Just above a halfway point, by less than float16 can hold.
    x = torch.tensor([1 + 2.0**-7 + 2.0**-20])
    assert round_e5m6(x).item() == 1 + 2.0**-6
    assert round_e5m6(x.half().float()).item() == 1.0


@pytest.mark.parametrize("k", [256, 200, 3])
def test_tiles_have_powers_of_two_and_seven_significant_bits(k):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, k, generator=generator)
    x *= 10.0 ** torch.randint(-4, 5, (9, 1), generator=generator)
    x[0] = 0
    q, scale = quantize_tiles_e5m6(x)
    assert q.shape == x.shape
    assert scale.shape == (9, math.ceil(k / 128))
    assert (torch.frexp(scale).mantissa == 0.5).all()
    back = dequantize_e5m6(q, scale)
    assert not back[0].any()
    bound = torch.maximum(x.abs() / 128, scale.repeat_interleave(128, 1)[:, :k] * 2.0**-21)
    assert ((back - x).abs() <= bound).all()
    # The largest of a tile uses the top of the range.
    assert (q[1:].float().abs().amax(1) > E5M6_MAX / 4).all()


def test_an_undefined_number_makes_its_tile_undefined():
    x = torch.randn(2, 256)
    x[0, 3] = math.nan
    back = dequantize_e5m6(*quantize_tiles_e5m6(x))
    assert not back[0, :128].isfinite().any()
    assert back[0, 128:].isfinite().all()
    assert back[1].isfinite().all()
