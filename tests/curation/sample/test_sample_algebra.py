"""Every kind of algebra problem, and the answers of some against SymPy."""

import re

import pytest
import sympy
from sympy.parsing.sympy_parser import (
    convert_xor,
    implicit_multiplication,
    parse_expr,
    standard_transformations,
)

from curation.sample import algebra
from curation.sample.dice import Dice

KINDS = sorted({kind.__name__ for kind in algebra.KINDS})


def parse(text):
    rules = (*standard_transformations, convert_xor, implicit_multiplication)
    return parse_expr(text.replace("−", "-"), transformations=rules)


@pytest.mark.parametrize("name", KINDS)
def test_every_equality_in_the_steps_holds(name, equalities):
    for key in range(200):
        problem = getattr(algebra, name)(Dice(name, key))
        assert problem.steps
        equalities(" ".join(problem.steps))


@pytest.mark.parametrize("kind", [algebra.linear, algebra.quadratic])
def test_equations_have_exactly_the_solutions_that_sympy_finds(kind):
    for key in range(60):
        problem = kind(Dice("equation", key))
        left, right = equation(problem)
        variable = sympy.Symbol(problem.answer[0])
        given = {parse(part.split("=")[1]) for part in problem.answer.split(" or ")}
        assert set(sympy.solve(parse(left) - parse(right), variable)) == given, problem


def equation(problem):
    """The two sides of the one equation in a question: what is left without its words."""
    bare = re.sub(r"[A-Za-z]{2,}|[:.?]", " ", problem.question)
    return re.sub(r"^\s*[a-z]\s+(?=[−\d a-z])(?![a-z]? ?[+−] )", "", bare.strip()).split("=")


def test_derivatives_are_those_of_sympy():
    for key in range(60):
        problem = algebra.derivative(Dice("slope", key))
        f = re.search(r"f\(x\) = ([^.]*?)(?:\.| and give)", problem.question).group(1)
        slope = re.search(r"f'\(x\) = ([^,]*),", problem.answer).group(1)
        x = sympy.Symbol("x")
        assert sympy.expand(sympy.diff(parse(f), x) - parse(slope)) == 0


def test_systems_are_solved_by_their_answers():
    for key in range(60):
        problem = algebra.system(Dice("system", key))
        pattern = r"((?:\d*x) [+−] (?:\d*y)) = ([−\d]+)"
        x, y = (int(v.replace("−", "-")) for v in re.findall(r"= ([−\d]+)", problem.answer))
        equations = re.findall(pattern, problem.question)
        assert len(equations) == 2
        for left, right in equations:
            assert parse(left).subs({"x": x, "y": y}) == parse(right)
