"""Draws are functions of their key; wrong answers are errors; polynomials read back."""

from collections import Counter
from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from sympy.parsing.sympy_parser import (
    convert_xor,
    implicit_multiplication,
    parse_expr,
    standard_transformations,
)

from curation.sample.dice import Dice, WrongAnswer, checked, factor, number, polynomial, signed


def test_draws_are_those_of_the_published_generator():
    # SplitMix64 from seed 1234567, as its reference implementation prints them.
    dice = Dice("any")
    dice._state = 1234567
    assert [dice.below(2**64) for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_the_same_key_gives_the_same_draws_and_another_key_others():
    draws = {key: [Dice(*key).below(10**9) for _ in range(3)] for key in ((0, 1), (1, 0), (0, 11))}
    assert draws[0, 1] == [Dice(0, 1).below(10**9) for _ in range(3)]
    assert len({tuple(d) for d in draws.values()}) == 3


@given(st.integers(-99, 99), st.integers(0, 99), st.integers(0, 10**6))
def test_between_stays_inside_and_distinct_are_distinct(low, width, key):
    dice = Dice(key)
    assert low <= dice.between(low, low + width) <= low + width
    assert dice.nonzero(width + 1) != 0
    chosen = dice.distinct(range(width + 1), min(5, width + 1))
    assert len(set(chosen)) == len(chosen)


def test_a_die_is_fair():
    dice = Dice("fair")
    counts = Counter(dice.below(6) for _ in range(60_000))
    assert sum((counts[k] - 10_000) ** 2 / 10_000 for k in range(6)) < 25  # p ≈ 0.0001 at 5 d.f.


@pytest.mark.parametrize("checks", [(), (False,), (True, False)])
def test_an_answer_that_fails_or_lacks_its_check_is_an_error(checks):
    with pytest.raises(WrongAnswer, match="What is 1 \\+ 1"):
        checked("What is 1 + 1?", ["Count."], "3", *checks)


def test_numbers_are_written_with_their_signs():
    assert [number(-3), number(Fraction(7, -4)), number(5)] == ["−3", "−7/4", "5"]
    assert [factor(-3), factor(3), signed(-3), signed(3)] == ["(−3)", "3", "− 3", "+ 3"]


coefficient = st.integers(-9, 9) | st.fractions(-3, 3, max_denominator=7)


@given(st.lists(coefficient, min_size=1, max_size=5))
def test_a_polynomial_reads_back_as_itself(coefficients):
    text = polynomial(coefficients).replace("−", "-")
    rules = (*standard_transformations, convert_xor, implicit_multiplication)
    read = parse_expr(text, transformations=rules)
    x = sympy.Symbol("x")
    expected = sum(
        sympy.Rational(Fraction(c).numerator, Fraction(c).denominator) * x**k
        for k, c in enumerate(reversed(coefficients))
    )
    assert sympy.expand(read - expected) == 0


def test_polynomials_look_as_in_a_textbook():
    assert polynomial((1, 0, -1)) == "x^2 − 1"
    assert polynomial((-1, 2, 0), "t") == "−t^2 + 2t"
    assert polynomial((Fraction(1, 2), 0)) == "(1/2)x"
    assert polynomial((0, 0)) == "0"
