"""Generated problems of algebra: equations, systems, quadratics, sequences, polynomials, calculus.

Each function takes dice and gives a `Problem`. Solutions are checked by putting them back into what
was asked; polynomials by exact values at more points than their degree; derivatives by arithmetic
with dual numbers (a + b·ε, ε² = 0), which knows nothing of the power rule.
"""

from collections.abc import Sequence
from fractions import Fraction

from .dice import Dice, Problem, checked, factor, number, polynomial, signed

_LETTERS = ("x", "y", "z", "t", "n", "a")


def linear(dice: Dice) -> Problem:
    """a·x + b = c·x + d."""
    x = dice.pick(_LETTERS)
    a, b, d = dice.nonzero(15), dice.nonzero(40), dice.nonzero(40)
    c = dice.pick([k for k in range(-9, 10) if k not in (0, a)])
    root = Fraction(d - b, a - c)
    left, right = polynomial((a, b), x), polynomial((c, d), x)
    steps = [
        f"{_move(c, polynomial((abs(c), 0), x))}: {polynomial((a - c, b), x)} = {number(d)}.",
        f"{_move(b, str(abs(b)))}: {polynomial((a - c, 0), x)} = {number(d - b)}.",
    ]
    if a - c != 1:
        steps.append(f"Divide by {number(a - c)}: {x} = {number(root)}.")
    ask = dice.pick(("Solve for {x}: {e}.", "Find {x} if {e}.", "For which {x} does {e} hold?"))
    return checked(
        ask.format(x=x, e=f"{left} = {right}"),
        steps,
        f"{x} = {number(root)}",
        a * root + b == c * root + d,
    )


def system(dice: Dice) -> Problem:
    """Two linear equations with a solution in integers, by elimination."""
    x, y = dice.nonzero(12), dice.nonzero(12)
    a, b, c = dice.between(1, 9), dice.nonzero(9), dice.between(1, 9)
    d = dice.pick([k for k in range(-9, 10) if k and a * k != b * c])
    p, q = a * x + b * y, c * x + d * y

    def equation(u: int, v: int, w: int) -> str:
        second = "y" if abs(v) == 1 else f"{abs(v)}y"
        return f"{polynomial((u, 0))} {'−' if v < 0 else '+'} {second} = {number(w)}"

    determinant = a * d - b * c
    steps = [
        f"Multiply the first equation by {number(d)} and the second by {number(b)}: the terms in y "
        "become equal.",
        f"Subtract: {polynomial((determinant, 0))} = {number(d * p)} {signed(-b * q)} "
        f"= {number(d * p - b * q)}, so x = {number(x)}.",
        f"Put x into the first equation: {polynomial((b, 0), 'y')} = {number(p)} {signed(-a * x)} "
        f"= {number(p - a * x)}, so y = {number(y)}.",
    ]
    ask = dice.pick(
        ("Solve the system {s}.", "Find x and y with {s}.", "Solve {s} by elimination.")
    )
    by_elimination = Fraction(d * p - b * q, determinant)
    return checked(
        ask.format(s=f"{equation(a, b, p)} and {equation(c, d, q)}"),
        steps,
        f"x = {number(x)}, y = {number(y)}",
        by_elimination == x,
        a * by_elimination + b * y == p,
        c * by_elimination + d * y == q,
    )


def quadratic(dice: Dice) -> Problem:
    """A quadratic equation with rational roots, by the formula or by factoring."""
    p, q = dice.between(1, 4), dice.between(1, 3)
    r, s = dice.nonzero(9), dice.nonzero(9)
    a, b, c = p * q, p * s + q * r, r * s  # (p·x + r)(q·x + s)
    roots = sorted({Fraction(-r, p), Fraction(-s, q)})
    x = dice.pick(_LETTERS[:4])
    given = f"{polynomial((a, b, c), x)} = 0"
    if p == q == 1:
        steps = [
            f"Look for two numbers with the product {number(c)} and the sum {number(b)}: "
            f"{number(r)} and {number(s)}.",
            f"So ({polynomial((1, r), x)})({polynomial((1, s), x)}) = 0.",
            "A product is zero when one of its factors is.",
        ]
    else:
        inside = b * b - 4 * a * c
        root = abs(p * s - q * r)
        steps = [
            f"The discriminant is {factor(b)}² − 4·{a}·{factor(c)} = {inside}"
            + (f" = {root}²." if root else ", so there is one solution."),
            f"{x} = ({number(-b)} ± {root}) / {2 * a}."
            if root
            else f"{x} = {number(-b)} / {2 * a}.",
        ]
        if root * root != inside:
            roots = []
    answer = " or ".join(f"{x} = {number(root)}" for root in roots)
    ask = dice.pick(("Solve {e}.", "Find all solutions of {e}.", "Which {x} satisfy {e}?"))
    return checked(
        ask.format(e=given, x=x),
        steps,
        answer,
        bool(roots),
        *(a * root * root + b * root + c == 0 for root in roots),
        sum(roots) * (3 - len(roots)) == Fraction(-b, a),
    )


def expansion(dice: Dice) -> Problem:
    """A product of two binomials multiplied out."""
    a, b, c, d = dice.between(1, 9), dice.nonzero(12), dice.nonzero(9), dice.nonzero(12)
    result = (a * c, a * d + b * c, b * d)
    steps = [
        f"Multiply each term with each: {polynomial((a * c, 0, 0))}, {polynomial((a * d, 0))}, "
        f"{polynomial((b * c, 0))} and {number(b * d)}.",
        f"The terms in x together: {number(a * d)} {signed(b * c)} = {number(a * d + b * c)}.",
    ]
    ask = dice.pick(("Expand {e}.", "Multiply out {e} and collect terms.", "Write {e} as a sum."))
    return checked(
        ask.format(e=f"({polynomial((a, b))})({polynomial((c, d))})"),
        steps,
        polynomial(result),
        *((a * v + b) * (c * v + d) == _value(result, v) for v in range(-2, 3)),
    )


def derivative(dice: Dice) -> Problem:
    """The derivative of a polynomial, and its value at a point."""
    degree = dice.between(2, 5)
    f = [dice.nonzero(9), *(dice.between(-9, 9) for _ in range(degree))]
    slope = [c * (degree - k) for k, c in enumerate(f[:-1])]
    at = dice.between(-3, 4)
    value = _value(slope, at)
    steps = [
        f"The derivative of {polynomial((c, *[0] * (degree - k)))} is "
        f"{polynomial((s, *[0] * (degree - k - 1)))}."
        for k, (c, s) in enumerate(zip(f, slope, strict=False))
        if c
    ]
    steps.append(f"So f'(x) = {polynomial(slope)}, and f'({number(at)}) = {number(value)}.")
    return checked(
        dice.pick(
            (
                f"Let f(x) = {polynomial(f)}. Find f'(x) and f'({number(at)}).",
                f"Differentiate f(x) = {polynomial(f)} and give the slope at x = {number(at)}.",
            )
        ),
        steps,
        f"f'(x) = {polynomial(slope)}, f'({number(at)}) = {number(value)}",
        _dual_slope(f, at) == value,
        *(_dual_slope(f, v) == _value(slope, v) for v in range(degree + 1)),
    )


def integral(dice: Dice) -> Problem:
    """The integral of a polynomial between two whole numbers."""
    degree = dice.between(1, 3)
    f = [dice.nonzero(9), *(dice.between(-9, 9) for _ in range(degree))]
    primitive = [Fraction(c, degree - k + 1) for k, c in enumerate(f)] + [Fraction(0)]
    low = dice.between(-2, 2)
    high = low + dice.between(1, 4)
    area = _value(primitive, high) - _value(primitive, low)
    steps = [
        f"A primitive is F(x) = {polynomial(primitive)}.",
        f"F({number(high)}) = {number(_value(primitive, high))} and "
        f"F({number(low)}) = {number(_value(primitive, low))}.",
        f"The difference is {number(area)}.",
    ]
    # Simpson's rule is exact up to degree three.
    middle = Fraction(low + high, 2)
    simpson = (high - low) * (_value(f, low) + 4 * _value(f, middle) + _value(f, high)) / 6
    return checked(
        f"Integrate {polynomial(f)} from x = {number(low)} to x = {number(high)}.",
        steps,
        number(area),
        simpson == area,
    )


def arithmetic_sequence(dice: Dice) -> Problem:
    """A term and a sum of a sequence with constant difference."""
    first, step, n = dice.between(-20, 40), dice.nonzero(12), dice.between(8, 60)
    last = first + (n - 1) * step
    total = Fraction(n * (first + last), 2)
    shown = ", ".join(number(first + k * step) for k in range(4))
    terms = list(range(first, first + n * step, step))
    steps = [
        f"The difference of neighbours is {number(step)}.",
        f"Term {n} is {number(first)} + {n - 1} × {factor(step)} = {number(last)}.",
        f"The sum of the first {n} terms is {n} × ({number(first)} {signed(last)}) ÷ 2 "
        f"= {number(total)}.",
    ]
    return checked(
        f"A sequence goes {shown}, … What is its term number {n}, "
        f"and what is the sum of the first {n} terms?",
        steps,
        f"{number(last)}, sum {number(total)}",
        len(terms) == n and terms[-1] == last,
        sum(terms) == total,
    )


def geometric_sequence(dice: Dice) -> Problem:
    """A term and a sum of a sequence with constant ratio."""
    first, ratio, n = dice.nonzero(9), dice.pick((2, 3, 4, 5, -2, -3)), dice.between(4, 8)
    last = first * ratio ** (n - 1)
    total = first * (ratio**n - 1) // (ratio - 1)
    terms = [first]
    while len(terms) < n:
        terms.append(terms[-1] * ratio)
    shown = ", ".join(map(number, terms[:3]))
    steps = [
        f"Each term is {number(ratio)} times the one before.",
        f"Term {n} is {number(first)} × {factor(ratio)}^{n - 1} = {number(last)}.",
        f"The sum is {number(first)} × ({factor(ratio)}^{n} − 1) ÷ ({number(ratio)} − 1) "
        f"= {number(total)}.",
    ]
    return checked(
        f"In the geometric sequence {shown}, … find term number {n} and the sum of the first {n}.",
        steps,
        f"{number(last)}, sum {number(total)}",
        terms[-1] == last,
        sum(terms) == total,
    )


def congruence(dice: Dice) -> Problem:
    """a·x ≡ b modulo a prime, through the inverse of a."""
    prime = dice.pick((7, 11, 13, 17, 19, 23, 29, 31, 37, 41))
    a, b = dice.between(2, prime - 1), dice.between(0, prime - 1)
    inverse = pow(a, -1, prime)
    root = inverse * b % prime
    steps = [
        f"The inverse of {a} is {inverse}, because {a} × {inverse} = {a * inverse} ≡ 1.",
        f"Multiply by it: x ≡ {inverse} × {b} = {inverse * b} ≡ {root} (mod {prime}).",
    ]
    return checked(
        f"Solve {a}x ≡ {b} (mod {prime}).",
        steps,
        f"x ≡ {root} (mod {prime})",
        [v for v in range(prime) if (a * v - b) % prime == 0] == [root],
    )


def ages(dice: Dice) -> Problem:
    """Two ages from their sum and a ratio at another time."""
    child, factor = dice.between(3, 15), dice.between(2, 4)
    years = dice.between(1, 9)
    parent = factor * (child + years) - years
    total = parent + child
    one, other = dice.pick((("Rosa", "her son"), ("Omar", "his daughter"), ("Li", "his nephew")))
    steps = [
        f"Let c be the age of {other}. Then {one} is {total} − c.",
        f"At that time: {total} − c + {years} = {factor}(c + {years}).",
        f"So {total + years - factor * years} = {factor + 1}c, and c = {child}.",
        f"{one} is {total} − {child} = {parent}.",
    ]
    root = Fraction(total + years - factor * years, factor + 1)
    return checked(
        f"{one} and {other} are together {total} years old. In {years} "
        f"{'year' if years == 1 else 'years'} {one} will be {factor} times as old as {other}. "
        "How old are they now?",
        steps,
        f"{parent} and {child}",
        root == child,
        total - root + years == factor * (root + years),
    )


def mixture(dice: Dice) -> Problem:
    """How much of two solutions gives a third."""
    low, high = dice.between(5, 30), dice.between(40, 90)
    aim, litres = dice.between(low + 1, high - 1), dice.between(2, 40)
    strong = Fraction(litres * (aim - low), high - low)
    weak = litres - strong
    steps = [
        f"Let x be the litres of the stronger one; then {litres} − x of the weaker.",
        f"Salt: {high}x + {low}({litres} − x) = {aim} × {litres} = {aim * litres}.",
        f"{high - low}x = {aim * litres} − {low * litres} = {litres * (aim - low)}, "
        f"so x = {strong}.",
        f"Of the weaker one: {litres} − {strong} = {weak}.",
    ]
    return checked(
        f"How many litres of salt solution of {high}% and of {low}% make {litres} litres "
        f"of {aim}%?",
        steps,
        f"{strong} litres of {high}% and {weak} litres of {low}%",
        strong + weak == litres,
        strong * high + weak * low == litres * aim,
    )


def rectangle(dice: Dice) -> Problem:
    """The sides of a rectangle from its perimeter and area: a quadratic in a story."""
    width = dice.between(2, 20)
    length = width + dice.between(1, 15)
    half, area = width + length, width * length
    thing = dice.pick(("garden", "carpet", "field", "poster", "floor"))
    root = length - width
    steps = [
        f"Length and width add up to half the perimeter, {half}.",
        f"w({half} − w) = {area}, that is w² − {half}w + {area} = 0.",
        f"The discriminant is {half}² − 4 × {area} = {half * half - 4 * area} = {root}².",
        f"w = ({half} − {root}) ÷ 2 = {width}, and the length is {length}.",
    ]
    return checked(
        f"A rectangular {thing} has a perimeter of {2 * half} m and an area of {area} m². "
        "How long and how wide is it?",
        steps,
        f"{length} m by {width} m",
        root * root == half * half - 4 * area,
        2 * (length + width) == 2 * half and Fraction(half - root, 2) == width,
    )


KINDS = (
    *(linear, linear, system, quadratic, quadratic, expansion, derivative, integral),
    *(arithmetic_sequence, geometric_sequence, congruence, ages, mixture, rectangle),
)


def _move(value: int, term: str) -> str:
    return f"Add {term} to both sides" if value < 0 else f"Take {term} from both sides"


def _value(coefficients: Sequence[int | Fraction], x: int | Fraction) -> int | Fraction:
    total: int | Fraction = 0
    for c in coefficients:
        total = total * x + c
    return total


def _dual_slope(coefficients: Sequence[int], x: int) -> int:
    """The derivative at x: the part in ε of f(x + ε), with ε² = 0."""
    real, dual = 0, 0
    for c in coefficients:
        real, dual = real * x + c, dual * x + real
    return dual
