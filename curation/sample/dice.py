"""What generated problems are made of: reproducible draws, and a checked problem.

`Dice` is a SplitMix64 generator seeded by a hash of its key, written out here so that a problem is
a function of its key alone: `random.Random` promises the same `random()` for a seed across Python
versions, but not the same `choice` or `sample`.

A `Problem` is only made through `checked`, with the outcomes of computations that share nothing
with the way the answer was found (substitution into the equation, counting by brute force, exact
fractions). A wrong answer is an error, never a document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import xxhash

T = TypeVar("T")

_MASK = (1 << 64) - 1


class WrongAnswer(AssertionError):
    """A generated answer failed its independent check; the generator has a bug."""


@dataclass(frozen=True)
class Problem:
    """A question, the steps of its solution as sentences, and the answer."""

    question: str
    steps: tuple[str, ...]
    answer: str


def checked(question: str, steps: Sequence[str], answer: str, *checks: bool) -> Problem:
    """Make a problem whose `checks` all hold. Raises `WrongAnswer` otherwise, or without checks."""
    if not checks or not all(checks):
        raise WrongAnswer(f"{question!r}: answer {answer!r} fails its check {checks}")
    return Problem(question, tuple(steps), answer)


class Dice:
    """Draws that are a function of a key (SplitMix64; Steele, Lea and Flood 2014)."""

    def __init__(self, *key: int | str) -> None:
        self._state = xxhash.xxh3_64_intdigest("/".join(map(str, key)))

    def below(self, n: int) -> int:
        """An integer in [0, n). The modulo's bias is under n / 2**64."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return (z ^ (z >> 31)) % n

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return low + self.below(high - low + 1)

    def nonzero(self, limit: int) -> int:
        """An integer in [-limit, limit] other than 0."""
        return self.between(1, limit) * self.pick((1, -1))

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def distinct(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different options, in random order."""
        pool = list(options)
        return [pool.pop(self.below(len(pool))) for _ in range(count)]


def number(value: int | Fraction) -> str:
    """A number as it is written: −3, 7/4."""
    return str(value).replace("-", "−")


def factor(value: int | Fraction) -> str:
    """A number as a factor or base: 3, (−3)."""
    return f"({number(value)})" if value < 0 else number(value)


def signed(value: int | Fraction) -> str:
    """A number as a further term of a sum: "+ 3", "− 7/4"."""
    return f"{'−' if value < 0 else '+'} {abs(value)}"


def polynomial(coefficients: Sequence[int | Fraction], variable: str = "x") -> str:
    """A polynomial as textbooks write it, `coefficients` from the highest power down."""
    terms = []
    for k, c in enumerate(coefficients):
        power = len(coefficients) - 1 - k
        if c == 0:
            continue
        letter = "" if power == 0 else variable if power == 1 else f"{variable}^{power}"
        size = str(abs(c))
        if letter and "/" in size:
            size = f"({size})"
        body = letter if letter and size == "1" else size + letter
        if terms:
            terms.append(f"{'−' if c < 0 else '+'} {body}")
        else:
            terms.append(f"−{body}" if c < 0 else body)
    return " ".join(terms) or "0"
