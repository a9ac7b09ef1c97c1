"""Write `characters.inc`: what Python's `unicodedata` says of every code point.

    python curation/native/make_characters.py > curation/native/characters.inc

The table is checked in, so that a corpus is filtered and deduplicated alike under any version of
Python; the Python twins of native code read it as `_native.characters()`. Each code point has a set
of properties; equal sets make a class, and the code points in order fall into runs of one class.
A run is one number, `first code point << 8 | class`. Lower case is a list of pairs, of the code
points whose lower case is one other code point.
"""

import sys
import unicodedata

from curation.words import UNSPACED

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # where str.splitlines cuts


def properties(char: str) -> dict[str, bool]:
    """Name the properties, in the order of their bits."""
    category = unicodedata.category(char)
    return {
        "Letter": category[0] == "L",
        "Mark": category[0] == "M",
        "Number": category[0] == "N",
        "Word": char.isalnum() or char == "_",  # \w
        "Space": char.isspace(),
        "Punctuation": category[0] == "P",
        "Symbol": category[0] == "S",
        "Control": (category in ("Cc", "Co") and not char.isspace()) or char == "\ufffd",
        "LineEnd": char in LINE_ENDS,
        "Unspaced": any(first <= ord(char) <= last for first, last in UNSPACED),
        "Upper": char.isupper(),
        "Lower": char.islower(),
    }


def table() -> str:
    """The text of `characters.inc`."""
    names = list(properties("a"))
    sets = [
        sum(1 << bit for bit, yes in enumerate(properties(chr(point)).values()) if yes)
        for point in range(sys.maxunicode + 1)
    ]
    classes = sorted(set(sets))
    place = {flags: number for number, flags in enumerate(classes)}
    runs = [
        point << 8 | place[flags]
        for point, flags in enumerate(sets)
        if point == 0 or flags != sets[point - 1]
    ]
    lower = [
        (point, ord(chr(point).lower()))
        for point in range(sys.maxunicode + 1)
        if len(chr(point).lower()) == 1 and chr(point).lower() != chr(point)
    ]
    bits = ", ".join(f"k{name} = 1 << {bit}" for bit, name in enumerate(names))
    pairs = [f"{{0x{a:x}, 0x{b:x}}}," for a, b in lower]
    numbers = [f"0x{run:x}," for run in runs]
    return "\n".join(
        [
            f"// Written by make_characters.py from Unicode {unicodedata.unidata_version}.",
            f"enum Property : uint16_t {{ {bits} }};",
            f"constexpr uint16_t kClasses[] = {{{', '.join(map(hex, classes))}}};",
            "constexpr uint32_t kRuns[] = {",
            *(" ".join(numbers[at : at + 10]) for at in range(0, len(numbers), 10)),
            "};",
            "constexpr uint32_t kLowerCase[][2] = {",
            *(" ".join(pairs[at : at + 6]) for at in range(0, len(pairs), 6)),
            "};",
            "",
        ]
    )


if __name__ == "__main__":
    print(table(), end="")
