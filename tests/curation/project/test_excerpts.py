"""An excerpt says of imports what the whole file says: its tree is the oracle."""

import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.project.excerpts import excerpt
from curation.project.files import ProjectFile, keep
from curation.project.imports import ParseProblem, facts_of, find_facts, is_tsx, parse


def whole(data: bytes, language: str, path: str = ""):
    return facts_of(parse(data, language, path), data, language, is_tsx(language, path))


PYTHON = [
    b"import os, sys as system\n",
    b"from . import (a,  # why (this)\n    b as c,\n)\n",
    b"if x: import json; from .a.b import *\n",
    b"try:\n    from ..m \\\n        import n\nexcept ImportError: pass\n",
    b"def f():\n    '''import not_this\nfrom nor import this\n'''\n    import inner\n",
    b'text = """\nimport no\n""" + r"\\\\" + "import x" # import y\n',
    b"raise ValueError('a') from error\nyield_from = importlib\n",
    b'a = "it\'s"\nb = \'"""\'\nfrom caf\xc3\xa9 import \xc3\xa9t\xc3\xa9\n',
    b"x = {1: 2}\nfor i in y: pass\nimport a.b.c\n",
    b'f"{d["import"]}"\nimport after\n',
]
SCRIPT = [
    b'import a, { b as c, /* "x" */ d } from "./one.js";\n',
    b"import './two'\nimport * as ns from 'three';\n",
    b'export * from "./four"; export { a,\n // it\'s\n b } from "./five";\n',
    b"const x = require('./six'), y = obj.require('no'), z = my_require('no');\n",
    b'const lazy = () => import(/* chunk: "x" */ "./seven");\n',
    b"// import 'no'\n/* require('no') */ const s = \"import 'no'\";\n",
    b"const t = `import 'no' ${require} '`;\nexport const u = 'v';\n",
    b"const r = /['\"`]/.test(a) || b.replace(/[/']/g, '');\nrequire('./eight');\n",
    b'export default function f() { if (a / b / c) return require("./nine"); }\n',
    b"export default 'no';\nlet imports = 1; important('no');\n",
    b"f(...require('./ten'));\n",
]
INCLUDES = [
    b'#include <vector>\n#  include "a/b.h" // c\n',
    b"/* \n#include <no>\n*/ int a = '\"'; // #include <no>\n",
    b'const char *s = "#include <no>";\n#define X "\n#include "c.h"\n',
    b"#ifdef A\n#include MACRO\n#else\n#include <d/e>\n#endif\n",
    b'auto r = R"x(\n#include <no>\n)x";\nint b = 1\'000\'000;\n#include "f.h"\n',
    b"int f() { return 'a' / 2; }\n",
]
BRACES = {
    "java": [
        b"package a.b;\nimport a.c.D;\nimport static a.E.*;\n",
        b'/** class No {} */\n@F({G.class})\npublic class H<T> { class I { } String s = "}"; }\n',
        b"interface I { default void f() { char c = '{'; } }\nenum J { A { }, B }\n",
        b'record K(int a) { static String t = """\n  } class No { "\n"""; }\n',
    ],
    "kotlin": [
        b"package a.b\nimport a.c.D as E\n",
        b'fun f(x: Int) = x.let { it + 1 }\nval g = "{ ${x} "\n',
        b"class H {\n class Inner\n}\nobject I {\n fun h() { }\n}\ntypealias J = K\n",
    ],
    "go": [
        b'package a\n\nimport (\n\tb "x/b"\n\t"x/c" // {\n)\n',
        b"func F() { const no = 1; if x { y(`}`) } }\nfunc (t T) Method() {}\n",
        b'type (\n\tT struct { a int }\n\tU = V\n)\nvar w, v = map[string]int{"}": 1}, 2\n',
        b"const (\n\tC = iota\n\tD\n)\nvar r = '{'\n",
    ],
}


@pytest.mark.parametrize(
    ("language", "pieces"),
    [
        ("python", PYTHON),
        ("javascript", SCRIPT),
        ("typescript", SCRIPT),
        ("c", INCLUDES[:4]),
        ("cpp", INCLUDES),
        *BRACES.items(),
    ],
)
def test_the_excerpt_of_any_file_says_what_the_file_says(language: str, pieces: list[bytes]):
    @given(st.lists(st.sampled_from(pieces[language in BRACES :]), min_size=1, max_size=8))
    def check(chosen: list[bytes]) -> None:
        # Package and imports can't stand behind a class: there the tree is of errors.
        first = pieces[:1] if language in BRACES else []
        data = b"".join(first + chosen)
        assert find_facts(data, language) == whole(data, language)

    check()
    # Each piece has what it should, so the two are not equal for being empty.
    assert find_facts(b"".join(pieces), language).imports


def _files(root: Path, patterns: tuple[str, ...], most: int) -> list[ProjectFile]:
    found = sorted(p for pattern in patterns for p in root.glob(pattern) if p.is_file())
    step = max(1, len(found) // most)
    kept = [keep(str(p.relative_to(root)), p.read_bytes()) for p in found[::step]]
    return [file for file in kept if isinstance(file, ProjectFile)]


@pytest.mark.parametrize(
    ("root", "patterns"),
    [
        (Path(sysconfig.get_paths()["stdlib"]), ("*.py", "asyncio/*.py", "test/test_*.py")),
        (Path(sysconfig.get_paths()["purelib"]), ("django/**/*.js", "**/static/**/*.js")),
        (Path(sysconfig.get_paths()["purelib"]), ("**/*.h", "**/*.hpp")),
        (Path(sys.base_prefix) / "include", ("**/*.h",)),
    ],
    ids=["python", "javascript", "headers", "c"],
)
def test_installed_files_say_the_same_in_excerpt(root: Path, patterns: tuple[str, ...]):
    files = _files(root, patterns, 200)
    if len(files) < 5:
        pytest.skip(f"no such files under {root}")
    differing = []
    compared = 0
    for file in files:
        try:
            expected = whole(file.data, file.language, file.path)
        except ParseProblem:
            continue
        compared += 1
        found = find_facts(file.data, file.language, file.path)
        # Macros and new syntax break a tree: there the excerpt finds more, never less.
        if not set(expected.imports) <= set(found.imports) or found.defines != expected.defines:
            differing.append(file.path)
    assert compared >= 5
    assert len(differing) <= 0.005 * compared, differing


@pytest.mark.parametrize(
    "data",
    [
        b"import " * 100_000,
        b"import {" * 100_000,
        b'"""\\' * 100_000,
        b"'''\"\"\"" * 100_000,
        b'R"(' * 100_000,
        b"=/[" * 100_000,
        b"`${" * 100_000,
        b"/*" * 200_000,
        b"import (" * 100_000,
        b"require /**/" * 50_000,
        b"{" * 400_000,
        b"\\\n" * 200_000,
        bytes(range(256)) * 1000,
    ],
)
def test_no_content_makes_it_slow(data: bytes):
    """Each is gone through in well under a second; quadratic time would be hours."""
    for language in ("python", "javascript", "c", "cpp", "java", "kotlin", "go"):
        assert len(excerpt(data, language)) <= len(data) * 2
