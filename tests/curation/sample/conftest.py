"""A reader of plain arithmetic, independent of the generators: `equalities(text)` checks a text."""

import re
from fractions import Fraction

import pytest

_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|[-+−×*·÷/^()])")
_CLAUSES = re.compile(r"[,:;.]\s|\.$|\n| and | so ", re.MULTILINE)
_SIDE = r"[-−]?[\d($](?:[\d+−×*·÷/^() $-]|\.(?=\d))*"
# A chain may follow words ("The cost is …") and be followed by a unit ("… km").
_CHAIN = re.compile(rf"(?:.*[A-Za-z] )?({_SIDE}(?:= {_SIDE})+)(?:(?<= )[a-z].*)?")


def value(text):
    """The value of an expression of numbers, + − × ÷ ^ and brackets, by recursive descent."""
    tokens = _TOKEN.findall(text)
    assert "".join(tokens) == re.sub(r"\s", "", text), text
    tokens.append("")

    def total():
        result = product()
        while tokens[0] in ("+", "−", "-"):
            result = result + product() if tokens.pop(0) == "+" else result - product()
        return result

    def product():
        result = power()
        while tokens[0] and tokens[0] in "×*·÷/":
            result = result * power() if tokens.pop(0) in "×*·" else result / power()
        return result

    def power():
        sign = -1 if tokens[0] in ("−", "-") and tokens.pop(0) else 1
        base = atom()
        if tokens[0] == "^":
            tokens.pop(0)
            base **= int(atom())
        return sign * base

    def atom():
        token = tokens.pop(0)
        if token == "(":
            inside = total()
            assert tokens.pop(0) == ")", text
            return inside
        return Fraction(token)

    result = total()
    assert tokens == [""], text
    return result


@pytest.fixture(scope="session")
def equalities():
    """`equalities(text)` checks every chain a = b = … of plain numbers in it; their count."""

    def check(text):
        chains = [m.group(1) for m in map(_CHAIN.fullmatch, _CLAUSES.split(text)) if m]
        # "gcd(12, 8) = 4" leaves "8) = 4", which says nothing.
        chains = [chain for chain in chains if chain.count("(") == chain.count(")")]
        for chain in chains:
            values = {value(side.replace("$", "").strip()) for side in chain.split("=")}
            assert len(values) == 1, (chain, text)
        return len(chains)

    return check
