"""Uses: the names by which a file can mean another of its package, where no import says so.

In Java, Kotlin, Go, C# and PHP the files of a package see each other's top-level names. A name
counts where it stands as such a name does: not in a comment or a string, not as a member
(`x.Name`), not if the file itself declares it as something else, or imports it from elsewhere.
The rules are lexical and err by leaving a use out, because a missing edge costs less than a wrong
one: a name inside an interpolated string, for example.

What is given: bare names; for Go also `package.Name`; for Kotlin also `name()`, a call of a bare
name, which only a top-level function answers.
"""

import re

from curation.project.excerpts import C_COMMENTS, LINE_STRINGS, triple

_ASIDE = {
    "java": [triple(b'"'), LINE_STRINGS, C_COMMENTS],
    "kotlin": [triple(b'"'), LINE_STRINGS, C_COMMENTS],
    "go": [rb"`[^`]*+`?", LINE_STRINGS, C_COMMENTS],
    "csharp": [triple(b'"'), rb'\$?@\$?"(?:[^"]|"")*+"?', LINE_STRINGS, C_COMMENTS, rb"#.*+"],
    "php": [LINE_STRINGS, C_COMMENTS, rb"#(?!\[)[^\n]*+"],
}
_ASIDE = {language: re.compile(b"|".join(parts)) for language, parts in _ASIDE.items()}


def names_used(data: bytes, language: str) -> frozenset[str]:
    """Find the names that a file (UTF-8) of one of the five languages may mean others by."""
    code = _ASIDE[language].sub(b'""', data)
    return frozenset(name.decode() for name in _FIND[language](code))


_BARE = re.compile(rb"(?<![\w.$@])[A-Za-z_]\w*+")
_TYPE = re.compile(rb"\b(?:class|interface|enum|record|struct|object|trait)\s+(\w++)")
# (Annotations are written `@Name`.)
_BARE_OR_ANNOTATION = re.compile(rb"(?<![\w.$])[A-Za-z_]\w*+")


_PARAMETERS = re.compile(rb"\([^()]*+\)")
_JAVA_ENUM = re.compile(rb"\benum\s++\w[^{};]{0,400}+\{([^{};]*+)")
_KOTLIN_ENUM = re.compile(rb"\benum\s++class\b[^{};]{0,400}+\{([^{};]*+)")


def _without_brackets(code: bytes) -> bytes:
    for _ in range(3):  # levels of them
        code = _PARAMETERS.sub(b"", code)
    return code


def _constants(bare_code: bytes, enum: re.Pattern) -> set[bytes]:
    """The constants of enumerations, as far as the first that has a body."""
    return {name for body in enum.findall(bare_code) for name in _BARE.findall(body)}


def _java(code: bytes) -> set[bytes]:
    declared = set(_TYPE.findall(code)) | _constants(_without_brackets(code), _JAVA_ENUM)
    return set(_BARE_OR_ANNOTATION.findall(code)) - declared


_KOTLIN_CALL = re.compile(rb"(?<![\w.$@])([A-Za-z_]\w*+)(?:<[\w, .?*]++>)?[ \t]*+[({]")
# Functions, values, and parameters, whose values may be functions.
_KOTLIN_OWN = re.compile(
    rb"\bfun\b[^(={\n]{0,200}?\b(\w++)\s*+[(=:\n]|\bva[lr]\s+(\w++)|(?<![\w.])(\w++)\s*+:"
)


_KOTLIN_SUPER = re.compile(
    rb"\b(?:class|object|interface)\b[^{}:;=]{0,400}+:(?!:)|\bfun\b[^(){}\n=:]{0,200}?\.\w"
)


def _kotlin(code: bytes) -> set[bytes]:
    """Calls of bare names only where no member of a type that is extended can be meant."""
    heads = _without_brackets(code)
    own = {name for pair in _KOTLIN_OWN.findall(code) for name in pair}
    own |= _constants(heads, _KOTLIN_ENUM)
    calls = set() if _KOTLIN_SUPER.search(heads) else set(_KOTLIN_CALL.findall(code)) - own
    bare = set(_BARE_OR_ANNOTATION.findall(code)) - set(_TYPE.findall(code)) - own
    return bare | {name + b"()" for name in calls}


_GO_METHOD = re.compile(rb"^(func[ \t]*\([^)\n]*\))[ \t]*\w++", re.MULTILINE)
_GO_NAME = re.compile(rb"(?<![\w.])([A-Za-z_]\w*+)(?!\s*+:(?!=))")  # not the key of a literal
_GO_MEMBER = re.compile(rb"(?<![\w.])([A-Za-z_]\w*+\.[A-Za-z_]\w*+)")
_GO_LOCAL = re.compile(
    rb"(?<!\w)((?:\w++[ \t]*+,[ \t]*+){0,20}+\w++)[ \t]*+:="
    rb"|^[ \t]++(?:var|const)[ \t]++(\w++(?:[ \t]*+,[ \t]*+\w++)*+)"
    # Parameters, results, and fields: a name or several, then a type.
    rb"|[(,][ \t\n]*+((?:\w++[ \t]*+,[ \t]*+){0,20}+\w++)[ \t]++(?=[\w*\[.(<])"
    rb"|^[ \t]++(?!(?:return|go|defer|case|if|for|else|switch|type|func|var|const|package|goto"
    rb"|range|select|import|break|continue)\b)((?:\w++[ \t]*+,[ \t]*+)*+\w++)[ \t]++(?=[\w*\[])",
    re.MULTILINE,
)


def _go(code: bytes) -> set[bytes]:
    code = _GO_METHOD.sub(rb"\1", code)
    local = {
        name.strip()
        for groups in _GO_LOCAL.findall(code)
        for group in groups
        for name in group.split(b",")
    }
    return set(_GO_MEMBER.findall(code)) | (set(_GO_NAME.findall(code)) - local)


# A function's name is followed by a bracket, a class's only after `new` or in an attribute.
_PHP_NAME = re.compile(
    rb"(?<![\w\\$>])(?<!::)(?:(?<=new )|(?<=#\[)|(?![\w]++\s*+\())[A-Za-z_]\w*+(?!\\)"
)


def _php(code: bytes) -> set[bytes]:
    return set(_PHP_NAME.findall(code))


_CSHARP_WORDS = frozenset(
    b"as is in and or not when where switch with new return throw await yield case else typeof "
    b"nameof default base this null true false into select from let join on equals orderby".split()
)
_N = rb"(?<![\w.@])([A-Za-z_]\w*+)"
_CSHARP_SURE = re.compile(
    rb"(?:\b(?:new|as|is|is\s+not|public|private|protected|internal|static|readonly|override"
    rb"|virtual|abstract|async|ref|out|params|event|operator)\s++|\btypeof\s*+\(\s*+|(?<=\w)<)"
    + _N
    + rb"(?!\s*+[=;{])"
    rb"|(?<=[(,<])\s*+" + _N + rb"\??(?:\[\])?\s*+>(?=[\s(>,)\[?.;{])"
    rb"|\(" + _N + rb"\??\)\s*+(?=[\w(])"
)
_CSHARP_DECLARED = re.compile(_N + rb"(?:<[\w, .?]++>)?\??(?:\[[, ]*+\])?[ \t]++([A-Za-z_]\w*+)")
_CSHARP_BASES = re.compile(
    rb"\b(?:class|interface|struct|record|where)\s+\w+[^{;:]{0,400}+:([^{;]*+)"
)
_CSHARP_ATTRIBUTE = re.compile(rb"[\[,]\s*+(?:\w++:\s*+)?" + _N + rb"\s*+(?=[\](,])")
_CSHARP_OWNER = re.compile(_N + rb"(?=\.[A-Za-z_])")
_CSHARP_NESTED = re.compile(
    rb"\b(?:class|interface|struct|record|enum)\s+(\w++)|\bdelegate\b[^(;{]{0,200}?\b(\w++)\s*+\("
)


def _csharp(code: bytes) -> set[bytes]:
    """Types, by where types stand: a property may have any type's name.

    Where a name stands before a dot it is a type's unless the file declares a member, a parameter
    or a variable of that name.
    """
    declared = [
        (kind, name)
        for kind, name in _CSHARP_DECLARED.findall(code)
        if kind not in _CSHARP_WORDS and name not in _CSHARP_WORDS
    ]
    found = {kind for kind, _ in declared}
    found |= {name for names in _CSHARP_SURE.findall(code) for name in names}
    for bases in _CSHARP_BASES.findall(code):
        found.update(_BARE.findall(bases))
    found |= set(_CSHARP_OWNER.findall(code)) - {name for _, name in declared}
    attributes = set(_CSHARP_ATTRIBUTE.findall(code))
    found |= {name + b"Attribute" for name in attributes}
    return found - {name for names in _CSHARP_NESTED.findall(code) for name in names}


_FIND = {"java": _java, "kotlin": _kotlin, "go": _go, "csharp": _csharp, "php": _php}
