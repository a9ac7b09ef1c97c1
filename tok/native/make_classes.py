"""Write `unicode_classes.inc`: what `tokenizers` answers for every code point.

    python tok/native/make_classes.py > tok/native/unicode_classes.inc

The native scanner must agree with the regexes of `tok/schemes.py` as `tokenizers` runs them, so its
tables come from there and not from a Unicode database, whose version would be another one. Another
property is one more line of `PROPERTIES`; the scanner then sees it as `unicode::k<name>`.

Each code point has a set of properties; equal sets make a class, and the code points in order fall
into runs of one class (about 3,400). A run is one number, `first code point << 8 | class`.
"""

from tokenizers import PreTokenizedString, Regex, pre_tokenizers

PROPERTIES: dict[str, str] = {
    "Lu": r"\p{Lu}",
    "Ll": r"\p{Ll}",
    "Lt": r"\p{Lt}",
    "Lm": r"\p{Lm}",
    "Lo": r"\p{Lo}",
    "M": r"\p{M}",
    "N": r"\p{N}",
    "P": r"\p{P}",
    "S": r"\p{S}",
    "Space": r"\s",
    "Han": r"\p{Han}",
    "Hiragana": r"\p{Hiragana}",
    "Katakana": r"\p{Katakana}",
    "Hangul": r"\p{Hangul}",
    "Thai": r"\p{Thai}",
    "Lao": r"\p{Lao}",
    "Khmer": r"\p{Khmer}",
    "Myanmar": r"\p{Myanmar}",
    "Tibetan": r"\p{Tibetan}",
}
SURROGATES = range(0xD800, 0xE000)  # no text holds them
ALL = "".join(map(chr, (c for c in range(0x110000) if c not in SURROGATES))).encode()


def members(pattern: str) -> list[range]:
    """The code points that match a pattern for one character, as ranges in order."""
    others = PreTokenizedString(ALL.decode())
    pre_tokenizers.Split(Regex(f"(?:{pattern})+"), behavior="removed").pre_tokenize(others)
    # Byte offsets: `tokenizers` takes ten times as long to answer in characters.
    places = [place for _, place, _ in others.get_splits("original", "byte")]
    ranges, start = [], 0
    for first, last in [*places, (len(ALL), len(ALL))]:
        if first > start:
            inside = ALL[start:first].decode()
            ranges.append(range(ord(inside[0]), ord(inside[-1]) + 1))
        start = last
    return ranges


def runs() -> list[tuple[int, int]]:
    """(first code point, bit set of properties in the order of PROPERTIES) for each run."""
    changes: dict[int, int] = {0: 0}
    for bit, pattern in enumerate(PROPERTIES.values()):
        for inside in members(pattern):
            for border in (inside.start, inside.stop):
                changes[border] = changes.get(border, 0) ^ 1 << bit
    found, now = [], 0
    for first in sorted(changes):
        now ^= changes[first]
        if first < 0x110000 and (not found or found[-1][1] != now):
            found.append((first, now))
    return found


def table() -> str:
    """The text of `unicode_classes.inc`."""
    found = runs()
    classes = sorted({properties for _, properties in found})
    bits = ", ".join(f"k{name} = 1u << {bit}" for bit, name in enumerate(PROPERTIES))
    masks = ", ".join(f"0x{properties:x}" for properties in classes)
    numbers = [f"0x{first << 8 | classes.index(properties):x}," for first, properties in found]
    lines = [
        "// Written by make_classes.py from what `tokenizers` answers; not edited by hand.",
        f"enum Property : uint32_t {{ {bits} }};",
        f"constexpr uint32_t kClasses[] = {{{masks}}};",
        "constexpr uint32_t kRuns[] = {",
        *(" ".join(numbers[at : at + 10]) for at in range(0, len(numbers), 10)),
        "};",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
