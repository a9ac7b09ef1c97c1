"""Generated problems of arithmetic: numbers, fractions, percentages, rates, counting.

Each function takes dice and gives a `Problem`: it draws the numbers, writes the steps as they would
be worked by hand, and checks the answer by a computation of another kind (see `dice.checked`).
"""

import itertools
import math
import statistics
from fractions import Fraction

from .dice import Dice, Problem, checked, number

_NAMES = (
    *("Amina", "Ben", "Chidi", "Dana", "Elena", "Farid", "Grace", "Hiro", "Ines", "Jonas", "Kavya"),
    *("Liam", "Mei", "Noor", "Oscar", "Priya", "Quinn", "Rosa", "Sam", "Tariq", "Uma", "Viktor"),
    *("Wanda", "Yusuf", "Zoe"),
)
_GOODS = (
    *("apples", "pencils", "notebooks", "candles", "tickets", "oranges", "postcards", "mugs"),
    *("batteries", "scarves", "bread rolls", "plants", "puzzles", "lamps", "spoons", "maps"),
)
_PLACES = ("market", "corner shop", "school fair", "museum shop", "garden centre", "station kiosk")


def chain(dice: Dice) -> Problem:
    """An expression with brackets, products and a difference, reduced one step at a time."""
    a, b, c = dice.between(2, 19), dice.between(3, 60), dice.between(2, 40)
    d, e = dice.between(2, 12), dice.between(2, 30)
    quotient = d * e
    total = a * (b + c) - e
    ask = dice.pick(("Compute", "Evaluate", "Work out", "Find the value of"))
    steps = [
        f"Brackets come first: {b} + {c} = {b + c}.",
        f"Then the product and the quotient: {a} × {b + c} = {a * (b + c)} and "
        f"{quotient} ÷ {d} = {e}.",
        f"Last the difference: {a * (b + c)} − {e} = {number(total)}.",
    ]
    return checked(
        f"{ask} {a} × ({b} + {c}) − {quotient} ÷ {d}.",
        steps,
        number(total),
        a * b + a * c - Fraction(quotient, d) == total,
    )


def long_product(dice: Dice) -> Problem:
    """A product of two numbers by splitting one into hundreds, tens and ones."""
    a, b = dice.between(23, 999), dice.between(12, 999)
    parts = [int(digit) * 10**k for k, digit in enumerate(reversed(str(b))) if digit != "0"][::-1]
    products = [a * part for part in parts]
    lines = " and ".join(f"{a} × {p} = {q}" for p, q in zip(parts, products, strict=True))
    total = sum(products)
    split = " + ".join(map(str, parts))
    steps = [f"Split the second factor: {b} = {split}."] if len(parts) > 1 else []
    steps.append(f"Multiply each part: {lines}.")
    if len(parts) > 1:
        steps.append(f"Add: {' + '.join(map(str, products))} = {total}.")
    ask = dice.pick(("Multiply {a} by {b}.", "What is {a} × {b}?", "Find the product {a} · {b}."))
    return checked(ask.format(a=a, b=b), steps, str(total), total % a == 0, total // a == b)


def division(dice: Dice) -> Problem:
    """Division with remainder, in a story or plain."""
    divisor, quotient = dice.between(3, 48), dice.between(5, 120)
    rest = dice.between(0, divisor - 1)
    total = divisor * quotient + rest
    goods, name = dice.pick(_GOODS), dice.pick(_NAMES)
    ask = dice.pick(
        (
            f"Divide {total} by {divisor}, giving the quotient and the remainder.",
            f"{name} packs {total} {goods} into boxes of {divisor}. How many full boxes are there, "
            f"and how many {goods} are left over?",
            f"A row seats {divisor} people. How many full rows do {total} people fill, "
            "and how many remain?",
        )
    )
    steps = [
        f"{divisor} × {quotient} = {divisor * quotient}, and one more {divisor} would exceed "
        f"{total}.",
        f"The remainder is {total} − {divisor * quotient} = {rest}.",
    ]
    return checked(
        ask, steps, f"{quotient}, remainder {rest}", divmod(total, divisor) == (quotient, rest)
    )


def fractions(dice: Dice) -> Problem:
    """A sum, difference, product or quotient of two fractions in lowest terms."""
    a, b = (Fraction(dice.between(1, 19), dice.between(2, 18)) for _ in range(2))
    p, q, r, s = a.numerator, a.denominator, b.numerator, b.denominator
    kind = dice.pick(("+", "−", "×", "÷"))
    if kind in "+−":
        common = math.lcm(q, s)
        left, right = p * (common // q), r * (common // s)
        top = left + right if kind == "+" else left - right
        result = Fraction(top, common)
        steps = [
            f"The least common denominator of {q} and {s} is {common}.",
            f"So {p}/{q} = {left}/{common} and {r}/{s} = {right}/{common}.",
            f"{left} {kind} {right} = {number(top)}, which gives {number(top)}/{common}.",
        ]
        bottom = common
    else:
        u, v = (r, s) if kind == "×" else (s, r)
        top, bottom = p * u, q * v
        result = Fraction(top, bottom)
        steps = [] if kind == "×" else [f"Dividing by {r}/{s} is multiplying by {s}/{r}."]
        steps.append(f"Numerators: {p} × {u} = {top}. Denominators: {q} × {v} = {bottom}.")
    divisor = math.gcd(top, bottom)
    if divisor > 1:
        steps.append(f"Cancel the common factor {divisor}: {number(result)}.")
    back = {"+": result - b == a, "−": result + b == a, "×": result / b == a, "÷": result * b == a}
    ask = dice.pick(("Calculate {e} and simplify.", "What is {e} in lowest terms?", "Find {e}."))
    return checked(
        ask.format(e=f"({a}) ÷ ({b})" if kind == "÷" else f"{a} {kind} {b}"),
        steps,
        number(result),
        back[kind],
    )


def percentage(dice: Dice) -> Problem:
    """A price raised or lowered by a percentage, or the percentage that a part is."""
    percent, base = dice.pick((5, 8, 10, 12, 15, 20, 25, 30, 35, 40, 60, 75)), dice.between(4, 95)
    price = base * 20
    part = Fraction(price * percent, 100)
    name, goods, place = dice.pick(_NAMES), dice.pick(_GOODS), dice.pick(_PLACES)
    kind = dice.below(3)
    if kind == 0:
        result = price - part
        return checked(
            f"At the {place}, a set of {goods} costs ${price}. It is reduced by {percent}%. "
            "What is the new price?",
            [
                f"{percent}% of ${price} is {percent}/100 × {price} = ${number(part)}.",
                f"The new price is {price} − {number(part)} = ${number(result)}.",
            ],
            f"${number(result)}",
            result * 100 == price * (100 - percent),
        )
    if kind == 1:
        result = price + part
        return checked(
            f"{name} earns ${price} a week and gets a raise of {percent}%. "
            f"How much does {name} earn now?",
            [
                f"The raise is {percent}% of {price}, that is {number(part)}.",
                f"{price} + {number(part)} = {number(result)}.",
            ],
            f"${number(result)}",
            result / price == Fraction(100 + percent, 100),
        )
    share = Fraction(int(part * 100), price * 100) * 100
    return checked(
        f"Of {price} {goods}, {number(part)} were sold at the {place}. What percentage is that?",
        [
            f"The part is {number(part)}/{price} = {number(part / price)}.",
            f"Multiply by 100 to have it in percent: {number(share)}%.",
        ],
        f"{number(share)}%",
        price * share / 100 == part,
    )


def shopping(dice: Dice) -> Problem:
    """Buying several things and getting change, in two to four steps."""
    name, place = dice.pick(_NAMES), dice.pick(_PLACES)
    goods = dice.distinct(_GOODS, dice.between(2, 3))
    counts = [dice.between(2, 14) for _ in goods]
    prices = [dice.between(2, 23) for _ in goods]
    costs = [c * p for c, p in zip(counts, prices, strict=True)]
    total = sum(costs)
    paid = (total // 50 + 1) * 50
    change = paid - total
    listed = [f"{c} {g} at ${p} each" for c, g, p in zip(counts, goods, prices, strict=True)]
    bought = ", ".join(listed[:-1]) + " and " + listed[-1]
    steps = [
        f"The {g} cost {c} × {p} = ${q}."
        for c, g, p, q in zip(counts, goods, prices, costs, strict=True)
    ]
    steps.append(f"Together that is {' + '.join(map(str, costs))} = ${total}.")
    steps.append(f"From ${paid} there remains {paid} − {total} = ${change}.")
    purse = paid
    for count, price in zip(counts, prices, strict=True):
        for _ in range(count):
            purse -= price
    return checked(
        f"{name} buys {bought} at the {place} and pays with ${paid}. How much change is there?",
        steps,
        f"${change}",
        purse == change,
    )


def greatest_divisor(dice: Dice) -> Problem:
    """Greatest common divisor by Euclid's algorithm, and the least common multiple from it."""
    g = dice.between(1, 24)
    a, b = sorted((g * dice.between(3, 40), g * dice.between(2, 40)), reverse=True)
    steps, x, y = [], a, b
    while y:
        steps.append(f"{x} = {x // y} × {y} + {x % y}.")
        x, y = y, x % y
    steps.append(f"The last remainder that is not zero is {x}, so gcd({a}, {b}) = {x}.")
    divides = a % x == 0 and b % x == 0 and math.gcd(a // x, b // x) == 1
    if dice.below(2):
        return checked(
            f"Find the greatest common divisor of {a} and {b} with Euclid's algorithm.",
            steps,
            str(x),
            divides,
        )
    multiple = a * b // x
    steps.append(f"The least common multiple is {a} × {b} ÷ {x} = {multiple}.")
    smallest = next(m for m in range(a, a * b + 1, a) if m % b == 0)
    return checked(
        f"What is the least common multiple of {a} and {b}?",
        steps,
        str(multiple),
        smallest == multiple,
    )


def power_remainder(dice: Dice) -> Problem:
    """A power modulo a number, by repeated squaring."""
    base, exponent, modulus = dice.between(2, 19), dice.between(9, 75), dice.between(5, 41)
    steps, square, result, power = [], base % modulus, 1, 1
    chosen = []
    while power <= exponent:
        if exponent & power:
            chosen.append((power, square))
            result = result * square % modulus
        steps.append(f"{base}^{power} ≡ {square} (mod {modulus}).")
        square, power = square * square % modulus, power * 2
    parts = " + ".join(str(p) for p, _ in reversed(chosen))
    values = " × ".join(str(s) for _, s in reversed(chosen))
    steps.append(f"{exponent} = {parts}, so {base}^{exponent} ≡ {values} ≡ {result}.")
    return checked(
        dice.pick(
            (
                f"What is the remainder of {base}^{exponent} divided by {modulus}?",
                f"Compute {base}^{exponent} mod {modulus}.",
            )
        ),
        steps,
        str(result),
        base**exponent % modulus == result,
    )


def travel(dice: Dice) -> Problem:
    """Two travellers who start apart and meet."""
    v, w, hours = dice.between(12, 95), dice.between(10, 90), dice.between(2, 9)
    distance = (v + w) * hours
    one, other = dice.distinct(_NAMES, 2)
    means = dice.pick(("rides", "drives", "travels"))
    steps = [
        f"Each hour the gap closes by {v} + {w} = {v + w} km.",
        f"{distance} ÷ {v + w} = {hours}, so they meet after {hours} hours.",
        f"{one} has then gone {v} × {hours} = {v * hours} km.",
    ]
    return checked(
        f"{one} and {other} live {distance} km apart and start towards each other at the same "
        f"time. {one} {means} at {v} km/h, {other} at {w} km/h. After how many hours do they meet, "
        f"and how far has {one} gone?",
        steps,
        f"{hours} hours, {v * hours} km",
        v * hours == distance - w * hours,
    )


def shared_work(dice: Dice) -> Problem:
    """Two who work together, each at a known rate."""
    a, b = dice.between(3, 20), dice.between(3, 20)
    together = 1 / (Fraction(1, a) + Fraction(1, b))
    one, other = dice.distinct(_NAMES, 2)
    job = dice.pick(("paint a fence", "weed the garden", "sort the archive", "fill the pool"))
    steps = [
        f"In one hour {one} does 1/{a} of the job and {other} 1/{b}.",
        f"Together that is 1/{a} + 1/{b} = {1 / together} of it.",
        f"The whole takes 1 ÷ ({1 / together}) = {together} hours.",
    ]
    return checked(
        f"{one} can {job} in {a} hours, {other} in {b} hours. How long do they need together?",
        steps,
        f"{together} hours",
        together / a + together / b == 1,
    )


_UNITS = (
    ("kilometres", "metres", 1000),
    ("hours", "minutes", 60),
    ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000),
    ("days", "hours", 24),
    ("metres", "centimetres", 100),
    ("weeks", "days", 7),
    ("dozens", "pieces", 12),
)


def units(dice: Dice) -> Problem:
    """A quantity in two units brought to one, or a rate scaled to another amount."""
    large, small, factor = dice.pick(_UNITS)
    a, b = dice.between(2, 60), dice.between(1, factor - 1)
    total = a * factor + b
    if dice.below(2):
        return checked(
            f"Write {a} {large} and {b} {small} in {small}.",
            [f"{a} × {factor} = {a * factor}.", f"{a * factor} + {b} = {total}."],
            f"{total} {small}",
            divmod(total, factor) == (a, b),
        )
    return checked(
        f"How many whole {large} are there in {total} {small}, and how many {small} remain?",
        [f"One of the {large} is {factor} {small}.", f"{total} = {a} × {factor} + {b}."],
        f"{a} {large} and {b} {small}",
        a * factor == total - b,
    )


def averages(dice: Dice) -> Problem:
    """Mean and median of a short list."""
    values = [dice.between(1, 60) for _ in range(dice.between(5, 8))]
    ordered = sorted(values)
    mean = Fraction(sum(values), len(values))
    middle = len(values) // 2
    odd = len(values) % 2
    median = Fraction(ordered[middle] if odd else ordered[middle - 1] + ordered[middle], 2 - odd)
    listed = ", ".join(map(str, values))
    steps = [
        f"The sum is {' + '.join(map(str, values))} = {sum(values)}.",
        f"There are {len(values)} values, so the mean is {sum(values)}/{len(values)}"
        + ("." if mean.denominator == len(values) else f" = {mean}."),
        f"In order: {', '.join(map(str, ordered))}.",
        f"The {'middle one is' if odd else 'two in the middle have the mean'} {median}.",
    ]
    ask = dice.pick(
        ("Find the mean and the median of {v}.", "The points were {v}. Give mean and median.")
    )
    return checked(
        ask.format(v=listed),
        steps,
        f"mean {mean}, median {median}",
        sum(mean - v for v in values) == 0,
        statistics.median(map(Fraction, values)) == median,
    )


def two_dice(dice: Dice) -> Problem:
    """The probability of a sum of two dice, counted and then checked by listing every throw."""
    target = dice.between(2, 12)
    sides = dice.pick((6, 6, 6, 8))
    low, high = max(1, target - sides), min(sides, target - 1)
    count = max(0, high - low + 1)
    chance = Fraction(count, sides * sides)
    listed = sum(a + b == target for a, b in itertools.product(range(1, sides + 1), repeat=2))
    steps = [
        f"There are {sides} × {sides} = {sides * sides} equally likely throws.",
        f"The first die can show {low if low == high else f'{low} to {high}'}, and the second must "
        f"make up the rest: {count} throws.",
        f"The probability is {count}/{sides * sides}"
        + (f" = {chance}." if math.gcd(count, sides * sides) > 1 else "."),
    ]
    return checked(
        f"Two dice with {sides} sides are thrown. "
        f"What is the probability that the sum is {target}?",
        steps,
        str(chance),
        Fraction(listed, sides * sides) == chance,
    )


def other_base(dice: Dice) -> Problem:
    """A decimal number written in another base by repeated division."""
    value, base = dice.between(20, 2000), dice.between(2, 9)
    steps, digits, rest = [], "", value
    while rest:
        steps.append(f"{rest} = {base} × {rest // base} + {rest % base}.")
        digits = str(rest % base) + digits
        rest //= base
    steps.append("The digits are the remainders, from the last to the first.")
    return checked(
        f"Write the number {value} in base {base}.", steps, digits, int(digits, base) == value
    )


def choices(dice: Dice) -> Problem:
    """How many ways to choose a few of several, counted by the formula."""
    n, k = dice.between(4, 11), dice.between(2, 4)
    ways = math.prod(range(n - k + 1, n + 1)) // math.factorial(k)
    goods, name = dice.pick(_GOODS), dice.pick(_NAMES)
    ordered = " × ".join(str(n - j) for j in range(k))
    steps = [
        f"In order there are {ordered} = {math.prod(range(n - k + 1, n + 1))} ways.",
        f"The order of the {k} does not matter, so divide by {k}! = {math.factorial(k)}.",
    ]
    return checked(
        f"{name} picks {k} of {n} different {goods}. In how many ways can that be done?",
        steps,
        str(ways),
        ways == sum(1 for _ in itertools.combinations(range(n), k)),
    )


KINDS = (
    *(chain, long_product, division, fractions, percentage, shopping, greatest_divisor),
    *(power_remainder, travel, shared_work, units, averages, two_dice, other_base, choices),
)
