"""What an import means inside a project, by each language's rules."""

import os
from pathlib import Path

import pytest

from curation.formats import code_language
from curation.project.imports import find_facts
from curation.project.resolve import resolve


def edges(files: dict[str, str], aside: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Edges of a small project, without the files that need nothing."""
    known = {p: (code_language(p) or "other", text.encode()) for p, text in files.items()}
    facts = {p: find_facts(data, language, p) for p, (language, data) in known.items()}
    return {path: needed for path, needed in resolve(known, facts, aside).items() if needed}


def test_python():
    assert edges(
        {
            "src/p/__init__.py": "from .a import f",
            "src/p/a.py": "import os, p.sub.b\nfrom . import c, missing\nfrom p import sub",
            "src/p/c.py": "from .sub.b import g\nfrom ...too.far import x",
            "src/p/sub/__init__.py": "",
            "src/p/sub/b.py": "from ..c import *\nfrom .. import a as q",
            "tests/test_a.py": "from p.a import f\nimport conftest",
            "tests/conftest.py": "import p",
            "other/tests/conftest.py": "",
        }
    ) == {
        "src/p/__init__.py": ["src/p/a.py"],
        "src/p/a.py": [
            "src/p/__init__.py",
            "src/p/c.py",
            "src/p/sub/__init__.py",
            "src/p/sub/b.py",
        ],
        "src/p/c.py": ["src/p/sub/b.py"],
        "src/p/sub/b.py": ["src/p/a.py", "src/p/c.py"],
        "tests/conftest.py": ["src/p/__init__.py"],
        "tests/test_a.py": ["src/p/a.py", "tests/conftest.py"],
    }


def test_javascript_and_typescript():
    assert edges(
        {
            "tsconfig.json": '{ // paths\n "compilerOptions": {"baseUrl": ".",\n'
            ' "paths": {"@/*": ["src/*"],},}}',
            "src/a.ts": "import './b'; import {c} from '@/c/d.js'; import 'react'; import 'src/e'",
            "src/b/index.tsx": "import x from '..'; import y from '../a.js'",
            "src/c/d.ts": "import '../../packages/q'",
            "src/e.js": "let a = require('@scope/q'); require('@scope/q/lib/z'); require('../..')",
            "packages/q/package.json": '{"name": "@scope/q", "main": "lib/main.js"}',
            "packages/q/lib/main.js": "import './z.js'",
            "packages/q/lib/z.js": "import '../../../../outside'",
        }
    ) == {
        "src/a.ts": ["src/b/index.tsx", "src/c/d.ts", "src/e.js"],
        "src/b/index.tsx": ["src/a.ts"],
        "src/e.js": ["packages/q/lib/main.js", "packages/q/lib/z.js"],
        "packages/q/lib/main.js": ["packages/q/lib/z.js"],
    }


def test_java_and_kotlin():
    assert edges(
        {
            "src/a/A.java": "package a; import b.B.Inner; import static b.U.f; import c.*;"
            "class A { Same s; Other o; }",
            "src/a/Same.java": "package a; class Same { A a; }",
            "src/b/B.java": "package b; import java.util.List; class B { class Inner {} }",
            "src/b/U.java": "package b; class U {}",
            "src/c/Other.java": "package c; class Other {}",
            "src/c/Unused.java": "package c; class Unused {}",
            "k/F.kt": "package c\nimport b.B\nfun g() = Other()",
            "k/G.kt": "package d\nimport c.g\nval x = g()",
        }
    ) == {
        "src/a/A.java": ["src/a/Same.java", "src/b/B.java", "src/b/U.java", "src/c/Other.java"],
        "src/a/Same.java": ["src/a/A.java"],
        "k/F.kt": ["src/b/B.java", "src/c/Other.java"],
        "k/G.kt": ["k/F.kt"],
    }


def test_go():
    assert edges(
        {
            "go.mod": "module example.org/m\n",
            "main.go": 'package main\nimport ("fmt"; "example.org/m/p"; "example.org/other")\n'
            "func main() { p.F(); fmt.Print(helper()) }",
            "helper.go": "package main\nfunc helper() int { return 1 }",
            "p/f.go": "package p\nfunc F() { g() }",
            "p/g.go": "package p\nfunc g() {}",
            "p/f_test.go": 'package p_test\nimport "example.org/m/p"\nfunc T() { p.F() }',
        }
    ) == {"main.go": ["helper.go", "p/f.go"], "p/f.go": ["p/g.go"], "p/f_test.go": ["p/f.go"]}


def test_c_and_cpp():
    assert edges(
        {
            "src/a.c": '#include "a.h"\n#include <lib/b.h>\n#include <stdio.h>\n#include "../up.h"',
            "src/a.h": '#include "b.h"',
            "include/lib/b.h": "",
            "up.h": "",
            "compat/stdio.h": "",
            "x/deep/b.h": "",
            "src/m.cpp": '#include "a.h"\n#include <only.hpp>',
            "include/only.hpp": "#include <vector>",
        }
    ) == {
        "src/a.c": ["include/lib/b.h", "src/a.h", "up.h"],
        "src/m.cpp": ["include/only.hpp", "src/a.h"],
    }  # b.h is ambiguous from src/a.h, and no edge


def test_rust():
    assert edges(
        {
            "Cargo.toml": '[workspace]\nmembers = ["core"]\n[package]\nname = "my-app"\n',
            "src/main.rs": "mod a;\nmod cfg;\nuse my_core::{self, Thing};\nuse std::fs;\n"
            "use a::b::X;",
            "src/a/mod.rs": "pub mod b;\nuse crate::cfg::Y;\nuse self::b::X;",
            "src/a/b.rs": "use super::helper;\nuse super::super::cfg;",
            "src/cfg.rs": "use serde::Deserialize;",
            "core/Cargo.toml": '[package]\nversion = "1"\nname = "my-core"\n',
            "core/src/lib.rs": "mod thing; pub use thing::Thing;",
            "core/src/thing.rs": "use crate::Other;",
        }
    ) == {
        "src/main.rs": ["core/src/lib.rs", "src/a/b.rs", "src/a/mod.rs", "src/cfg.rs"],
        "src/a/mod.rs": ["src/a/b.rs", "src/cfg.rs"],
        "src/a/b.rs": ["src/a/mod.rs", "src/cfg.rs"],
        "core/src/lib.rs": ["core/src/thing.rs"],
        "core/src/thing.rs": ["core/src/lib.rs"],
    }


def test_csharp_ruby_and_php():
    assert edges(
        {
            "A.cs": "using Lib.Util;\nnamespace App.Main { class A { Tool t; Same s; Base b; } }",
            "Same.cs": "namespace App.Main; class Same {}",
            "Base.cs": "namespace App; class Base {}",
            "Tool.cs": "namespace Lib.Util; class Tool {}",
            "Unused.cs": "namespace Lib.Util; class Unused {}",
            "lib/gem.rb": "require 'gem/version'\nrequire_relative 'gem/core'\nrequire 'json'",
            "lib/gem/version.rb": "",
            "lib/gem/core.rb": "autoload :V, 'gem/version'",
            "src/K.php": "<?php namespace N\\M; use N\\Q; require __DIR__ . '/../inc/f.php';"
            " class K extends Local {}",
            "src/Local.php": "<?php namespace N\\M; class Local {}",
            "src/Q.php": "<?php namespace N; class Q {}",
            "inc/f.php": "<?php function f() {}",
        }
    ) == {
        "A.cs": ["Base.cs", "Same.cs", "Tool.cs"],
        "lib/gem.rb": ["lib/gem/core.rb", "lib/gem/version.rb"],
        "lib/gem/core.rb": ["lib/gem/version.rb"],
        "src/K.php": ["inc/f.php", "src/Local.php", "src/Q.php"],
    }


def test_python_files_of_no_package_are_seen_from_their_folder_and_below():
    assert edges(
        {
            "src/web/__init__.py": "from .app import A",
            "src/web/app.py": "",
            "tests/deep/inner/web.py": "import web",
            "tests/deep/helper.py": "",
            "tests/deep/inner/test_x.py": "import helper",
            "tests/test_a.py": "import web, helper",
        },
        aside=("tests/deep/inner/__init__.py", "tests/deep/__init__.py"),
    ) == {
        "src/web/__init__.py": ["src/web/app.py"],
        "tests/deep/inner/web.py": ["src/web/__init__.py"],  # itself is deep.inner.web
        "tests/test_a.py": ["src/web/__init__.py"],
    }
    assert edges(
        {"a/logging.py": "", "a/run.py": "import logging", "b/c.py": "import logging"}
    ) == {"a/run.py": ["a/logging.py"]}


def test_a_script_beside_its_declarations():
    files = {"a.js": "", "a.d.ts": "", "b.js": "require('./a')", "b.d.ts": "import './a.js'"}
    assert edges(files | {"c.ts": "import './a'"}) == {
        "b.js": ["a.js"],
        "b.d.ts": ["a.d.ts"],
        "c.ts": ["a.d.ts"],
    }


def test_java_names_in_comments_strings_and_members_are_no_uses():
    names = ("Doc", "Text", "Member", "Nested", "Taken", "Used")
    files = {f"p/{name}.java": f"package p; class {name} {{}}" for name in names}
    user = (
        'package p; import q.Taken; /** {@link Doc} */ class User { String s = "Text";'
        " Used u = x.Member; Taken t; class Nested {} }"
    )
    assert edges(files | {"p/User.java": user}) == {"p/User.java": ["p/Used.java"]}


def test_a_kotlin_import_means_all_files_of_the_nearest_platform_that_overload_a_function():
    files = {
        "common/in/Buffer.kt": "package a.in\nfun Buffer.size() = 1",
        "common/in/Bytes.kt": "package a.in\nfun Bytes.size() = 1\nclass One",
        "native/in/Bytes.kt": "package a.in\nfun Bytes.size() = 2",
        "common/Use.kt": "package a\nimport a.in.size\nval x = Buffer().size()",
        "native/Use.kt": "package a\nimport a.in.size\nval x = Bytes().size()",
        "other/Use.kt": "package b\nimport a.in.size\nval x = Bytes().size()",  # of either
    }
    assert edges(files) == {
        "common/Use.kt": ["common/in/Buffer.kt", "common/in/Bytes.kt"],
        "native/Use.kt": ["native/in/Bytes.kt"],
    }


def test_kotlin_functions_are_called_and_java_sees_them_by_their_class():
    files = {
        "p/F.kt": '@file:JvmName("Tool")\npackage p\nfun help() = 1\nfun main() {}\n'
        "fun Int.twice() = 2\nval path = 3",
        "p/A.kt": "package p\nfun go(path: Int) = path.twice()",
        "p/B.kt": "package p\nval x = help()",
        "p/C.kt": "package p\nclass C : Base() { fun f() = help() }",  # a member of Base, perhaps
        "q/D.kt": "package q\nimport p.twice\nval y = 1.twice()",
        "p/J.java": "package p; class J { void main() { help(); } }",
        "p/Sum.kt": "package p\nclass Sum(x: Int)",
        "p/E.kt": "package p\nenum class E(n: Int) {\n  Sum(f(1)),\n  Max(2);\n}",  # its constant
        "p/L.java": "package p; public enum L { @Deprecated Sum(g(1)), Max }",
        "p/V.kt": "package p\nval enum = 1\nfun v() { Sum(enum) }",  # a name like any other
        "q/K.java": "package q; import p.Tool; import static p.Tool.help; class K {}",
    }
    assert edges(files) == {
        "p/B.kt": ["p/F.kt"],
        "p/V.kt": ["p/Sum.kt"],
        "q/D.kt": ["p/F.kt"],
        "q/K.java": ["p/F.kt"],
    }


def test_go_locals_fields_methods_and_members_are_no_uses():
    files = {
        "go.mod": "module m\n",
        "p/debug.go": "package p\nfunc debug() {}\nfunc Name() {}\ntype Kind int",
        "p/local.go": "package p\ntype t struct {\n\tName string\n}\n"
        'func (x t) debug() { x.Name = y.Kind }\nfunc f(debug bool) t { return t{Name: "a"} }',
        "p/assigned.go": "package p\nfunc g() { debug, e := 1, 2; _ = debug + e }",
        "p/used.go": "package p\nfunc h(k Kind) { debug() }",
        "main.go": 'package main\nimport (\n"m/p"\nq "m/q"\n_ "m/r"\n)\nfunc main() { p.Name() }',
        "q/q.go": "package q\nfunc Name() {}",
        "r/r.go": "package r\nfunc init() {}",
        # Two of which one is built, by a tag: the import is meant, not the other's variable.
        "j/std.go": 'package j\nimport "encoding/json"\nvar Marshal = json.Marshal',
        "j/fast.go": 'package j\nimport "x.org/fast"\nvar json = fast.Config\nvar Marshal = json.M',
        "j/yaml.go": 'package j\nimport "gopkg.in/yaml.v3"\nvar Read = yaml.Read',
        "j/other.go": "package j\nvar yaml = 1",
    }
    assert edges(files) == {
        "p/used.go": ["p/debug.go"],
        "main.go": ["p/debug.go", "r/r.go"],
    }


def test_csharp_types_are_used_where_types_stand():
    files = {
        "a.csproj": "<Project/>",
        "Global.cs": "global using Lib;",
        "Name.cs": "namespace N; class Name {}",
        "Kind.cs": "namespace N; class Kind {}",
        "MarkAttribute.cs": "namespace N; class MarkAttribute {}",
        "Outer.cs": "namespace N; class Outer { class A {} }",
        "Tool.cs": "namespace Lib; class Tool {}",
        "Only.cs": "namespace Only; static class E { public static void F(this int x) {} }",
        "Split.cs": "#if X\nusing System;\n#endif\nnamespace S\n{\n#if X\nclass T : B {\n#else\n"
        "class T {\n#endif\n} }",
        "Member.cs": "namespace N; class M { string Name { get; set; } int A;"
        " string s = Name.Trim(); }",
        "Types.cs": 'namespace N; [Mark] class T { List<Kind> k; Tool t; string s = "Outer"; }',
        "Spaces.cs": "using Only; using Z = S.T; namespace M { class Q {} }",
    }
    assert edges(files) == {
        "Types.cs": ["Kind.cs", "MarkAttribute.cs", "Tool.cs"],
        "Spaces.cs": ["Only.cs", "Split.cs"],
    }


def test_php_names_of_other_namespaces_are_no_uses():
    files = {
        "Output.php": "<?php namespace N\\Output; class Output {}",
        "Error.php": "<?php namespace N\\Output; class Error {}",
        "Trait.php": "<?php namespace N\\Output; trait Shared {}",
        "User.php": "<?php namespace N\\Output; use X\\Other; // Output\n"
        "class User extends \\Error { use Shared; function Output() { $this->Output(); } }",
    }
    assert edges(files) == {"User.php": ["Trait.php"]}


def test_rust_modules_inside_a_file_and_crates_of_tests():
    assert edges(
        {
            "Cargo.toml": '[package]\nname = "one"\n',
            "src/lib.rs": "mod a;\nmod b;",
            "src/main.rs": "fn f() {}\nuse self::f as g;",
            "src/a.rs": "mod tests { use super::*; use super::super::b::X;"
            " mod t { use self::y; } }",
            "src/b.rs": "use super::a;",
            "tests/all.rs": "mod util;\nuse one::a::Y;",
            "tests/util.rs": "use crate::util::deep;",
            "tests/other.rs": "mod util;",
        }
    ) == {
        "src/lib.rs": ["src/a.rs", "src/b.rs"],
        "src/a.rs": ["src/b.rs"],
        "src/b.rs": ["src/a.rs"],
        "tests/all.rs": ["src/a.rs", "tests/util.rs"],
        "tests/other.rs": ["tests/util.rs"],
    }


@pytest.mark.parametrize("package", ["flask", "django", "sympy"])
def test_python_packages_as_grimp_sees_them(package):
    """Every edge of grimp's import graph between modules of a real package, and no other."""
    grimp = pytest.importorskip("grimp")
    module = pytest.importorskip(package)
    root = Path(module.__file__).parent.parent
    files = {}
    for folder, _, names in os.walk(root / package):
        for name in names:
            path = Path(folder, name)
            if path.suffix == ".py" and "test" not in path.relative_to(root).as_posix():
                files[path.relative_to(root).as_posix()] = ("python", path.read_bytes())
    facts = {p: find_facts(data, "python", p) for p, (_, data) in files.items()}
    ours = {(a, b) for a, needed in resolve(files, facts).items() for b in needed}
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    of = {p.removesuffix(".py").removesuffix("/__init__").replace("/", "."): p for p in files}
    theirs = {
        (of[a], of[b])
        for a in graph.modules & of.keys()
        for b in graph.find_modules_directly_imported_by(a) & of.keys()
        if a != b
    }
    in_packages = {p for p in files if p in {of.get(m) for m in graph.modules}}
    assert theirs <= ours
    assert {(a, b) for a, b in ours if {a, b} <= in_packages} == theirs
    assert len(theirs) > 50
