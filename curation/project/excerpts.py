"""Excerpts: the part of a source file in which its imports can stand, and nothing else.

A parser reads 4 to 7 MB of source a second, most of it bodies that import nothing. So for the
languages where a few lexical rules can tell, only the statements that look like imports (Python,
JavaScript, TypeScript, C, C++), or the file with its bodies emptied (Java, Kotlin, Go, which are
asked for their top-level names as well), are given to the parser. The rules are regular
expressions that step over comments and strings, at 20 to 60 MB a second; what a statement says is
still found in its syntax tree. A file and its excerpt say the same on all but the few files in
which a lexical rule errs (text of JSX with a lonely quote, say): the benchmark counts them.
"""

import re
from collections.abc import Callable

# Alternatives that are stepped over are tried first, so that what looks like a statement inside
# them is never reached. Strings of one line end with it even if they are not closed.
LINE_STRINGS = rb'"(?:[^"\\\n]|\\.)*+"?' + rb"|'(?:[^'\\\n]|\\.)*+'?"
C_COMMENTS = rb"//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?"


def triple(quote: bytes) -> bytes:
    inside = rb"(?:[^\\" + quote + rb"]|\\.|" + quote + rb"(?!" + quote * 2 + rb"))*+"
    return quote * 3 + inside + rb"(?:" + quote * 3 + rb")?"


_PYTHON = re.compile(
    rb"[^\"'#\n;:]*+(?:"
    + rb"|".join(
        [
            triple(b'"'),
            triple(b"'"),
            LINE_STRINGS,
            rb"#[^\n]*+",
            rb"[\n;:][ \t]*+(?P<found>(?:import|from)\b(?:"
            rb"[ \t.\w\x80-\xff,*]|\\\n|\((?:[^()#]|#[^\n]*+)*+\))*+)",
            rb"[\n;:]",
            rb"\Z",
        ]
    )
    + rb")",
    re.DOTALL,
)

# (Not past the next statement: a clause that ends in no string would be gone through again by it.)
_NAME = rb"(?!(?:import|export)\b)[\w$\x80-\xff]++"
_GAP = rb"(?:\s|" + C_COMMENTS + rb")*+"
_SCRIPT = re.compile(
    rb"[^\"'`/ier]*+(?:"
    + rb"|".join(
        [
            LINE_STRINGS,
            rb"`(?:[^`\\]|\\.)*+`?",
            C_COMMENTS,
            # A slash after an operator or a bracket begins a regular expression.
            rb"(?:(?<=[(,=:\[!&|?{};+\n])|(?<=[(,=:\[!&|?{};+] ))"
            rb"/(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.){0,64}+\]){1,256}+/",
            rb"(?:(?<![\w$.\x80-\xff])|(?<=\.\.\.))(?P<found>"
            rb"(?:import|require)" + _GAP + rb"\(" + _GAP + rb"(?:\"[^\"\n]*+\"|'[^'\n]*+')"
            rb"|(?:import|export)\b(?:[\s{},*]|" + _NAME + rb"|" + C_COMMENTS + rb")*+"
            rb"(?:\"[^\"\n]*+\"|'[^'\n]*+'))",
            rb"[\"'`/ier]",
            rb"\Z",
        ]
    )
    + rb")",
    re.DOTALL,
)

_INCLUDE = re.compile(
    rb"[^\"'/#R]*+(?:"
    + rb"|".join(
        [
            rb'R"(?P<mark>[^()\\\s"]{0,16})\((?:.*?\)(?P=mark)"|.*)',
            LINE_STRINGS,
            C_COMMENTS,
            rb"(?P<found>#[ \t]*+include[ \t]*+(?:\"[^\"\n]*+\"|<[^>\n]*+>))",
            rb"[\"'/#R]",
            rb"\Z",
        ]
    )
    + rb")",
    re.DOTALL,
)

_BRACES = re.compile(
    rb"[^\"'`/{}]*+(?:"
    + rb"|".join(
        [
            triple(b'"'),
            LINE_STRINGS,
            rb"`[^`]*+`?",
            C_COMMENTS,
            rb"(?P<open>\{)|(?P<close>\})",
            rb"[\"'`/]",
            rb"\Z",
        ]
    )
    + rb")",
    re.DOTALL,
)


def _statements(pattern: re.Pattern, after: bytes) -> Callable[[bytes], bytes]:
    """Each statement that the pattern finds, on lines of its own."""

    def excerpt(data: bytes) -> bytes:
        found = [m["found"] for m in pattern.finditer(b"\n" + data) if m.lastgroup == "found"]
        return b"".join(statement + after for statement in found)

    return excerpt


def _emptied(data: bytes) -> bytes:
    """The file with nothing between its outermost braces."""
    kept, depth, start = [], 0, 0
    for match in _BRACES.finditer(data):
        if match.lastgroup == "open":
            if depth == 0:
                kept.append(data[start : match.end()])
            depth += 1
        elif match.lastgroup == "close" and depth:
            depth -= 1
            if depth == 0:
                start = match.end() - 1
    if depth == 0:
        kept.append(data[start:])
    return b"".join(kept)


_EXCERPTS: dict[str, Callable[[bytes], bytes]] = {
    "python": _statements(_PYTHON, b"\n"),
    "javascript": _statements(_SCRIPT, b";\n"),
    "typescript": _statements(_SCRIPT, b";\n"),
    "c": _statements(_INCLUDE, b"\n"),
    "cpp": _statements(_INCLUDE, b"\n"),
    "java": _emptied,
    "kotlin": _emptied,
    "go": _emptied,
}


def excerpt(data: bytes, language: str) -> bytes:
    """Give what of a file (UTF-8) can import; the whole file for other languages.

    Linear in the file's size. Positions in it mean nothing.
    """
    make = _EXCERPTS.get(language)
    return make(data) if make else data
