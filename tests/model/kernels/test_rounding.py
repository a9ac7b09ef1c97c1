"""The compiled kernels' division, which no interpreter runs: exact where it must be, by arithmetic.

Rational numbers stand for the machine's: `_rounded` is IEEE rounding to 24 bits, so a fused
multiply-add is `_rounded(x * y + z)`.
"""

import math
import random
from fractions import Fraction

import pytest
import torch

from model.kernels.compile import compile_build
from model.kernels.quantize import BUILDS


def _rounded(x: Fraction, bits: int = 24) -> Fraction:
    if x == 0:
        return x
    magnitude = abs(x)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    unit = Fraction(2) ** (exponent - bits + 1)
    return round(x / unit) * unit  # Python's rounding of a fraction goes to even too


def _neighbour(x: Fraction, steps: int) -> Fraction:
    return x + steps * Fraction(2) ** (math.floor(math.log2(x)) - 23)


def _quotient(x: Fraction, s: Fraction, r: Fraction, corrections: int) -> Fraction:
    q = _rounded(x * r)
    for _ in range(corrections):
        q = _rounded(q + _rounded(x - q * s) * r)
    return q


def test_one_correction_never_changes_the_byte():
    """A float32 that isn't the rounded quotient matters only next to a midpoint of E4M3, a number
    m of five bits: where x / s is within 2^-44 of m and half a unit. Then (x - m s) / s is too,
    which makes s, as an integer of 24 bits, a multiple of 2^20 to within a few units. All such s,
    all m, all x nearby, with every reciprocal that a step of Newton's may give.
    """
    tried = wrong_without_newton = 0
    for top in range(8, 17):
        for low in range(-8, 9):
            if not 2**23 <= (integer := top * 2**20 + low) < 2**24:
                continue
            s = Fraction(integer)
            near = [_neighbour(_rounded(1 / s), off) for off in (-1, 0, 1)]
            # Half a unit is 2^-25 of the power of two above 1 / s, here 2^-23; and a little more.
            reciprocals = [(r, abs(r - 1 / s) * 2**48 <= 1 + Fraction(1, 2**20)) for r in near]
            for fifth in range(16, 32):
                m = Fraction(fifth, 16 if (fifth + low) % 2 else 32)
                for step in (-2, -1, 0, 1, 2):
                    x = _neighbour(_rounded(m * s), step)
                    expected = _rounded(x / s)
                    for r, good in reciprocals:
                        found = _quotient(x, s, r, 1)
                        right = _rounded(found, 4) == _rounded(expected, 4)
                        assert right or not good, (x, s, r)
                        tried += good
                        wrong_without_newton += not right
    assert tried > 10000 and wrong_without_newton


def test_two_corrections_are_the_division_by_448():
    numbers = random.Random(0)
    r = _rounded(Fraction(1, 448))
    changed = 0
    for _ in range(3000):
        x = Fraction(numbers.randrange(2**23, 2**24))
        expected = torch.tensor(float(x)) / 448
        assert float(_quotient(x, Fraction(448), r, 2)) == expected.item()
        changed += float(_quotient(x, Fraction(448), r, 0)) != expected.item()
    assert changed  # the reciprocal alone would not do


@pytest.mark.slow
def test_the_machine_code_has_that_division_and_saturates():
    build = next(b for b in BUILDS if b.name.startswith("quantize_tiles/"))
    compiled = compile_build(build)
    assert compiled.count("F2FP.SATFINITE.E4M3") and not compiled.count("F2FP.E4M3")
    assert compiled.count("CALL") == compiled.count("FCHK") == 0
    assert compiled.count("MUFU.RCP") and "fma.rn.f32" in compiled.ptx
    assert not [op for op in compiled.instructions if op.startswith(("FMUL.FTZ", "FFMA.FTZ"))]
