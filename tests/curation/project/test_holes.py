"""Natural gaps in source code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from curation.project.holes import KINDS, MAX_BYTES, MOST, find_holes
from curation.project.imports import LANGUAGES, parse

SOURCES = {
    "python": "def f(a, b):\n    if a > b:\n        return g(a, b)\n    x = a + b\n    return x\n",
    "javascript": "function f(a, b) { if (a > b) { return g(a, b); } let x = a + b; return x; }",
    "typescript": "function f(a: T) { if (a > 1) { return g(a); } let x = a + 1; return x; }",
    "java": "class A { int f(int a) { if (a > 1) { return g(a); } int x = a + 1; return x; } }",
    "kotlin": "fun f(a: Int): Int { val x = a + 1; return g(x, a) }",
    "go": "package p\nfunc f(a int) int { if a > 1 { return g(a) }\n x := a + 1\n return x }",
    "c": "int f(int a) { if (a > 1) { return g(a); } int x = a + 1; return x; }",
    "cpp": "int f(int a) { if (a > 1) { return g(a); } auto x = a + 1; return x; }",
    "rust": "fn f(a: i32) -> i32 { if a > 1 { return g(a); } let x = a + 1; x }",
    "csharp": "class A { int F(int a) { if (a > 1) { return G(a); } var x = a + 1; return x; } }",
    "ruby": "def f(a)\n  if a > 1\n    return g(a)\n  end\n  x = a + 1\n  x\nend\n",
    "php": "<?php function f($a) { if ($a > 1) { return g($a); } $x = $a + 1; return $x; }",
}


def holes(text, language):
    data = text.encode()
    return [
        (data[a:b].decode(), kind)
        for a, b, kind in find_holes(parse(data, language), data, language)
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_bodies_and_arguments(language):
    found = holes(SOURCES[language], language)
    kinds = {kind for _, kind in found}
    assert {"body", "arguments"} <= kinds <= set(KINDS)
    assert any("x" in text and "g" in text.lower() for text, kind in found if kind == "body")


def test_brackets_stay_and_indentation_is_kept():
    found = holes(SOURCES["python"], "python")
    assert ("a, b", "arguments") in found and ("a > b", "expression") in found
    assert ("return g(a, b)", "block") in found
    assert (" return g(a, b); ", "block") in holes(SOURCES["javascript"], "javascript")


def test_the_same_file_gives_the_same_few_holes():
    text = "".join(f"def f{n}(é):\n    return g({n}, é)\n" for n in range(500))
    found = holes(text, "python")
    assert found == holes(text, "python")
    assert len(found) <= MOST * len(KINDS) and all(len(t.encode()) <= MAX_BYTES for t, _ in found)
    assert len({text for text, kind in found if kind == "body"}) == MOST


def test_broken_and_empty_code():
    assert holes("", "python") == []
    assert holes(")))", "rust") == []
    assert all(text.strip() for text, _ in holes("f( ); g(); def", "python"))


def test_gaps_that_begin_at_one_place_are_chosen_the_same_in_every_process():
    script = (
        "from curation.project.holes import find_holes; "
        "from curation.project.imports import parse; "
        f"data = ('x = f' + '(a)' * {3 * MOST}).encode(); "
        "print(find_holes(parse(data, 'python'), data, 'python'))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            check=True, capture_output=True, cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3", "4")
    }  # fmt: skip
    assert len(told) == 1 and b"statements" in told.pop()
