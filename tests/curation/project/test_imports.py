"""Imports are found in the syntax tree, and nothing else that looks like one."""

import pytest

from curation.project import imports
from curation.project.imports import ParseProblem, find_facts, parse


def named(language, text, path=""):
    return [(i.name, *i.names, *([i.kind] if i.kind else [])) for i in find(language, text, path)]


def find(language, text, path=""):
    return find_facts(text.encode(), language, path).imports


CASES = {
    "python": (
        '"""\nimport not_me\n"""\nimport a.b, c as d\nfrom . import x\n'
        "from ..p.q import (y as z, w)\nfrom m import *\n# import no\n"
        "def f():\n    from late import k\n",
        [("a.b",), ("c",), (".", "x", "from"), ("..p.q", "y", "w", "from"), ("m", "*", "from"),
         ("late", "k", "from")],
    ),
    "javascript": (
        "import x from './a'; import {y} from \"b/c\"; export * from './d';\n"
        "const e = require('./e'); import('./f'); foo('./no'); // import './no'\n"
        "const q = `import z from './no'`",
        [("./a",), ("b/c",), ("./d",), ("./e",), ("./f",)],
    ),
    "typescript": (
        "import type {T} from './t'; import fs = require('./r'); export {q} from './q';\n"
        "let a: Array<string> = <any>b; const m = await import('./m');",
        [("./t",), ("./r",), ("./q",), ("./m",)],
    ),
    "java": (
        "package p.q;\nimport java.util.*;\nimport static a.Z.m;\nimport a.A.B;\npublic class C {}",
        [("java.util.*",), ("a.Z.m", "static"), ("a.A.B",)],
    ),
    "kotlin": (
        "package p\nimport a.Z\nimport a.w as q\nimport k.*\nclass C",
        [("a.Z",), ("a.w",), ("k.*",)],
    ),
    "go": (
        'package m\nimport (\n "fmt"\n x "h.c/a/b"\n)\nimport . "c"\nvar s = "import"',
        [("fmt",), ("h.c/a/b", "x"), ("c", ".")],
    ),
    "c": (
        '#include <stdio.h>\n#include "a/b.h"\n/* #include "no.h" */\n#include MACRO\n',
        [("stdio.h", "angled"), ("a/b.h", "quoted")],
    ),
    "cpp": (
        '#ifdef A\n#include <v/w.hpp>\n#endif\nnamespace n { template <class T> class Q {}; }\n',
        [("v/w.hpp", "angled")],
    ),
    "rust": (
        'mod a;\n#[path = "z.rs"]\nmod b;\nmod t { mod inner; }\n'
        "use crate::x::{y, z::{self, W as V}};\n"
        "use super::q::*;\npub use self::k;\nextern crate serde;",
        [("a", "mod"), ("b", "z.rs", "mod"), ("t::inner", "mod"), ("crate::x::y", "use"),
         ("crate::x::z::self", "use"), ("crate::x::z::W", "use"), ("super::q::*", "use"),
         ("self::k", "use"), ("serde", "use")],
    ),
    "csharp": (
        "global using A.B;\nusing static C.D;\nusing E = F.G;\nnamespace N.M;\n"
        "class X { class Y {} }",
        [("A.B", "global"), ("C.D", "static"), ("F.G", "alias")],
    ),
    "ruby": (
        "require 'set'\nrequire_relative 'a/b'\nautoload :X, 'x/y'\nputs 'no'\nfoo.require 'no'\n",
        [("set", "require"), ("a/b", "require_relative"), ("x/y", "autoload")],
    ),
    "php": (
        "<?php\nnamespace A\\B;\nuse C\\D;\nuse E\\{F, G as H};\nuse function I\\j;\n"
        "require_once __DIR__ . '/x.php';\ninclude 'y.php';\nrequire $z;\nclass K {}\n",
        [("C\\D", "use"), ("E\\F", "use"), ("E\\G", "use"), ("I\\j", "use"), ("x.php", "file"),
         ("y.php", "file")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", imports.LANGUAGES)
def test_imports_of(language):
    text, expected = CASES[language]
    assert named(language, text) == expected


@pytest.mark.parametrize(
    ("language", "package", "defines"),
    [
        ("java", "p.q", {"C"}),
        ("kotlin", "p", {"C"}),
        ("go", "m", {"s"}),
        ("csharp", "N.M", {"X"}),
        ("php", "A\\B", {"K"}),
    ],
)
def test_what_a_file_defines(language, package, defines):
    facts = find_facts(CASES[language][0].encode(), language)
    assert (facts.package, facts.defines) == (package, defines)


def test_broken_code_still_gives_its_imports():
    assert named("python", "import a\ndef f(:\n  )))\nimport b\n")[:1] == [("a",)]
    assert named("javascript", "import x from './a'; function {{{") == [("./a",)]
    assert find("python", "\0\x01\x02") == ()


def test_a_file_that_takes_too_long_is_told_and_left(monkeypatch):
    monkeypatch.setattr(imports, "PARSE_SECONDS", 0.0)
    with pytest.raises(ParseProblem, match="to parse"):
        parse(b"x = 1 + 2\n" * 100_000, "python")
    facts = find_facts(b"import a\n" * 100_000, "python")
    assert "to parse" in facts.problem and facts.imports == ()


@pytest.mark.parametrize(
    ("data", "language", "problem"),
    [
        (b"import a\nx = " + b"(\n" * 200_000, "python", "brackets 200,000 deep, more than 1,000"),
        (b")\n" * 20_000, "c", "pieces"),
        (b"import a" + b"(" * 200_000, "python", "a line of 200,008 bytes"),
    ],
)
def test_what_makes_parsers_slow_is_told_and_left(data, language, problem):
    with pytest.raises(ParseProblem, match=problem):
        parse(data, language)
    assert problem in find_facts(data, "rust").problem  # of which all is parsed


def test_what_would_make_a_parser_slow_still_gives_its_imports():
    slow = b"import a\nx = (\n" + b"lambda:\n" * 20_000 + b"(\n" * 2000 + b"1)\nimport b"
    assert [one.name for one in find_facts(slow, "python").imports] == ["a", "b"]


def test_large_files_are_not_parsed(monkeypatch):
    monkeypatch.setattr(imports, "MAX_BYTES", 10)
    assert find_facts(b"import abcdef", "python").problem == "13 bytes, more than 10"
