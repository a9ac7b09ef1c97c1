"""Projects made to hold up a run, to end it, or to put a hole inside a character."""

import io
import random
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.project.documents import ProjectSettings, documents, read_project
from curation.project.files import ProjectError, RawProject, find_projects, keep
from curation.project.holes import find_holes
from curation.project.imports import Facts, Import, find_facts, parse
from curation.project.licences import project_licence
from curation.project.resolve import resolve

MANY = 1 << 19


def lines(part: str, times: int) -> str:
    return f"{part}\n" * times


def rows_of(files: dict[str, str | bytes]) -> list[dict]:
    """The documents of a project with these files."""
    found = [(p, d.encode() if isinstance(d, str) else d, "") for p, d in files.items()]
    settings = ProjectSettings()
    return list(documents(read_project(RawProject("p", iter(found)), settings), settings))


# A pattern that goes over the same bytes twice takes hours on any of these; now all are seconds.
@pytest.mark.parametrize(
    "files",
    [
        {"LICENSE": "SPDX-License-Identifier:" + " " * MANY + "@"},
        {"a.py": "# SPDX-License-Identifier:" + " " * 1900 + "@"},
        {"pyproject.toml": "\n" * MANY + "x = 1"},
        {"Cargo.toml": "[package]" + "\n" * MANY + "x", "a.rs": "use foo::b;"},
        {"go.mod": "\n" * MANY + "x", "a.go": 'package a\nimport "x/y"\n'},
        {"a.h": "\n" * MANY + "x"},
        {"a.m": "\n" * MANY + "x"},
        {"a": "#include\n" + "\n" * MANY + "x"},
        {"a.h": "class " + "a" * 2000 + lines("\nclass a", 5000)},
        {"a.rs": "use a" + lines(" " * 200, 2500) + "::b;"},
        {"a.rs": "use " + lines("a::{", 20_000) + "b" + lines("}", 20_000) + ";"},
        {"a.rs": "use " + lines("a" * 250 + "::", 600) + "{" + lines("b,", 100_000) + "};"},
        {"a.rs": lines("mod a{mod b;", 20_000) + lines("}", 20_000)},
        {"a.php": "<?php\nuse " + lines("a" * 250 + "\\", 600) + "{" + lines("b,", 90_000) + "c};"},
        {"a.py": "import " + lines("a.\\", 100_000) + "b\n"},
        {"a.py": lines("(", 200_000)},
        {"a.py": "(" + lines("lambda:", 50_000) + "1)"},
        {"a.cs": lines("a<", 50_000)},
        {"a.cs": lines("a /* ; */ <", 50_000)},
        {"a.cs": lines("a=<b>", 50_000)},
        {"a.c": "int " + lines("a=<", 50_000)},
        {"a.java": lines("=*1[)>..", 50_000)},
        {"a.go": "package a\n" + lines("a,", 100_000), "b.kt": "class a " * 6000 + "fun a " * 6000},
        {
            "a.cs": "class a " * 6000,
            "b.cs": lines("delegate a", 50_000),
            "c.cs": "[" + "a" * 40_000,
        },
    ],
)
def test_no_file_holds_up_a_run(files):
    assert isinstance(rows_of(files), list)


def test_a_chain_of_operators_is_refused_and_ordinary_code_is_not():
    chain = lines("a <", 1001)
    assert find_facts(chain.encode(), "csharp").problem == (
        "an expression of 1,001 operators, more than 1,000"
    )
    ordinary = "using N;\n" + lines("// a < b < c = d", 2000) + "class A { void F() {\n"
    ordinary += lines("if (a < b) { List<List<int>> c = new(); }", 2000) + "} }"
    facts = find_facts(ordinary.encode(), "csharp")
    assert (facts.problem, [one.name for one in facts.imports]) == ("", ["N"])


def test_licences_are_read_as_before():
    tag = b"/* SPDX-License-Identifier: (MIT OR Apache-2.0) */\nint x;"
    assert project_licence([("a.c", tag)]) == "(MIT OR Apache-2.0)"
    assert project_licence([("a.html", b"<!-- SPDX-License-Identifier: MIT -->")]) == "MIT"
    assert project_licence([("a.c", b"SPDX-License-Identifier: @\n" + tag)]) == (
        "(MIT OR Apache-2.0)"
    )


@pytest.mark.parametrize("cookie", ["unicode_escape", "raw_unicode_escape", "undefined", "idna"])
def test_a_cookie_names_no_codec_that_ends_the_run(cookie):
    rows = rows_of({"a.py": b"# coding: " + cookie.encode() + b"\nx = '\\ud800\xff'\n"})
    assert [row["text"].encode().decode() for row in rows] == [row["text"] for row in rows]


@pytest.mark.parametrize(
    ("language", "text"),
    [("python", "x = (a) + é\n"), ("javascript", "const x = [a] + é;"), ("c", "int x = (a) + é;")],
)
def test_a_hole_takes_off_brackets_only_in_pairs(language, text):
    data = text.encode()
    found = find_holes(parse(data, language), data, language)
    holes = {data[start:end].decode() for start, end, _ in found}
    assert any(hole.endswith("+ é") for hole in holes)


def test_names_that_are_too_long_are_no_imports():
    long = "a" * 2000
    assert find_facts(f"import {long}\nimport b\n".encode(), "python").imports[0].name == "b"


def archive(end: str) -> bytes:
    held = io.BytesIO()
    names = [(f"p/f{i}.py", f"import f{i + 1}\n".encode() * 50) for i in range(8)]
    if end == "zip":
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as made:
            for name, data in names:
                made.writestr(name, data)
    else:
        with tarfile.open(fileobj=held, mode=f"w:{end}") as made:
            for name, data in names:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                made.addfile(member, io.BytesIO(data))
    return held.getvalue()


@pytest.mark.parametrize("end", ["zip", "gz", "xz", "bz2", ""])
def test_damaged_archives_raise_nothing_else(tmp_path, end):
    whole, dice = archive(end), random.Random(1)
    path = tmp_path / ("p.zip" if end == "zip" else f"p.tar.{end}".rstrip("."))
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 12)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data[: dice.randint(1, len(data))] if dice.random() < 0.2 else data)
        try:
            for raw in find_projects(path):
                for name, content, _ in raw.files:
                    if content is not None:
                        keep(name, content)
        except ProjectError as error:
            assert str(error).startswith(str(path))


def test_a_path_that_is_there_twice_is_the_last_one(tmp_path):
    big, small = b"x" * (2 << 20), b"x = 1\n"
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as made:
        made.writestr("p/a.py", big)
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("p/a.py", small)
    (raw,) = find_projects(tmp_path / "p.zip")
    assert list(raw.files) == [("a.py", None, "too_large"), ("a.py", small, "")]
    rows = [
        ("r", "a.py", big.decode()),
        ("r", "a.py", "x = 1\n"),
        ("r", None, "y"),
        ("r", "b", None),
    ]
    table = pa.table(dict(zip(("repo", "path", "content"), zip(*rows, strict=True), strict=True)))
    pq.write_table(pa.concat_tables([table, table]), tmp_path / "t.parquet")
    (raw,) = find_projects(tmp_path / "t.parquet")
    assert len(list(raw.files)) == 6


def test_a_table_without_text_is_told(tmp_path):
    pq.write_table(
        pa.table({"repo": ["r"], "path": ["a.py"], "content": [5]}), tmp_path / "t.parquet"
    )
    with pytest.raises(ProjectError, match="expected text or bytes"):
        list(find_projects(tmp_path / "t.parquet"))


def test_many_files_of_one_name_are_not_gone_through_for_each_import():
    files, facts = {}, {}
    for i in range(3000):  # nine million pairs for each language
        for path, language, name in [
            (f"d{i}/utils.py", "python", "utils"),
            (f"d{i}/x.h", "c", "x.h"),
            (f"s{i}/x.c", "c", "x.h"),
        ]:
            files[path] = (language, b"x")
            facts[path] = Facts((Import(name, kind="quoted" if language == "c" else ""),))
    assert not any(resolve(files, facts).values())
