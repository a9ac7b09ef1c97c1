"""Every kind of arithmetic problem: its steps hold, whoever does the sums."""

import re
from fractions import Fraction

import pytest

from curation.sample import arithmetic
from curation.sample.dice import Dice

KINDS = sorted({kind.__name__ for kind in arithmetic.KINDS})


@pytest.mark.parametrize("name", KINDS)
def test_every_equality_in_the_steps_holds(name, equalities):
    found = 0
    for key in range(200):
        problem = getattr(arithmetic, name)(Dice(name, key))
        assert problem.question
        assert problem.answer
        found += equalities(" ".join(problem.steps))
    assert found >= 100, f"{name}: only {found} equalities were checked"


@pytest.mark.parametrize("name", KINDS)
def test_problems_of_a_kind_differ(name):
    questions = {getattr(arithmetic, name)(Dice(name, key)).question for key in range(60)}
    assert len(questions) > 15


def test_the_answer_to_a_sum_of_fractions_is_the_sum():
    for key in range(300):
        problem = arithmetic.fractions(Dice("f", key))
        a, sign, b = re.search(r"\(?([\d/]+)\)? ([+−×÷]) \(?([\d/]+)\)?", problem.question).groups()
        left, right = Fraction(a), Fraction(b)
        expected = {"+": left + right, "−": left - right, "×": left * right}
        expected["÷"] = left / right
        assert Fraction(problem.answer.replace("−", "-")) == expected[sign]
