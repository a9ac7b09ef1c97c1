"""`gristmill projects`, the recipe's section of that name, and what becomes of their documents."""

import json
import shutil
import subprocess
import sys
import tarfile

import pyarrow.parquet as pq
import pytest
import yaml

from curation.document import SCHEMA

FILES = {
    "README.md": "# A small library\n\nIt adds numbers and prints them for whoever likes sums.\n",
    "lib/core.py": "from lib import words\n\n\ndef add(a, b):\n"
    "    words.say(a)\n    return a + b\n",
    "lib/__init__.py": "from lib.core import add\n",
    "lib/words.py": "def say(what):\n    print(what)\n\n\ndef shout(what):\n"
    "    print(str(what).upper())\n",
    "tests/test_core.py": "from lib.core import add\n\n\n"
    "def test_add():\n    assert add(1, 2) == 3\n",
    "LICENSE": "Permission is hereby granted, free of charge, to any person obtaining a copy. The "
    "above copyright notice and this permission notice shall be included in all copies.",
    "package-lock.json": "{}",
}


def gristmill(*arguments, cwd, ok=True):
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=300, env=None,
    )  # fmt: skip
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


def make(folder, files=FILES):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.fixture
def places(tmp_path):
    make(tmp_path / "all" / "small")
    with tarfile.open(tmp_path / "all" / "packed-1.0.tar.gz", "w:gz") as archive:
        archive.add(
            make(tmp_path / "packed-1.0", {"a.go": "package a\n\nfunc F() {}\n"}), "packed-1.0"
        )
    (tmp_path / "all" / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    return tmp_path


def test_projects_become_documents_in_order_with_their_graphs(places):
    done = gristmill("projects", "all", "--each", "--out", "out", cwd=places)
    assert "broken.zip: cannot be read as an archive" in done.stdout
    folder = places / "out" / "projects"
    rows = pq.read_table(folder / "documents").to_pylist()
    assert pq.read_schema(next((folder / "documents").iterdir())).equals(SCHEMA)
    assert {row["uri"] for row in rows} == {"small", "packed-1.0"}
    (small,) = [row for row in rows if row["uri"] == "small"]
    paths = [span["path"] for span in small["spans"] if span["kind"] == "file"]
    assert paths == [
        *("README.md", "lib/words.py", "lib/core.py", "lib/__init__.py", "tests/test_core.py")
    ]
    assert small["license"] == "MIT" and {s["kind"] for s in small["spans"]} > {"file", "body"}
    told = json.loads((folder / "manifest.json").read_text())["metrics"]["projects"]
    assert told["projects"] == 2 and told["edges"] == told["edges_in_order"] == 3
    assert told["aside"] == {"lock": 1, "licence": 1}

    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    gristmill("projects", "all", "--each", "--out", "out", cwd=places)
    assert {p: p.stat().st_mtime_ns for p in before} == before  # nothing is done twice
    shown = gristmill("projects", "show", "small", "--out", "out", cwd=places).stdout
    assert "   3 lib/core.py python  needs 2" in shown and "set aside: " in shown
    direct = gristmill("projects", "show", "all/packed-1.0.tar.gz", cwd=places).stdout
    assert "a.go go" in direct


def test_the_number_of_workers_changes_nothing(places):
    for workers in (1, 3):
        gristmill(
            "projects", "all", "--each", "--out", f"out{workers}", "--workers", workers, cwd=places
        )
    one, three = (
        {p.name: p.read_bytes() for p in (places / f"out{n}" / "projects").rglob("*.parquet")}
        for n in (1, 3)
    )
    assert one == three


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--out", "o"], "nowhere: no such file or folder"),
        (["all"], "--out: missing"),
        (["all", "--each", "--out", "o", "--license", "GPL-3.0"], "no document came of 2 projects"),
        (["all", "--each", "--out", "all/small/o", "--seed", "1"], "lies inside"),
        (["show", "x", "--out", "all"], "no graphs in it"),
        (["empty", "--each", "--out", "o"], "empty: no projects in it"),
    ],
)
def test_mistakes_are_one_line(places, arguments, message):
    (places / "empty").mkdir()
    done = gristmill("projects", *arguments, cwd=places, ok=False)
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1


def test_a_recipe_curates_projects_and_forks_collapse_to_one(places):
    fork = FILES | {"README.md": FILES["README.md"] + "A fork.\n"}
    long = {"lib/more.py": "".join(f"def f{n}(x):\n    return x + {n}\n\n\n" for n in range(80))}
    for name, files in (("small", FILES | long), ("fork", fork | long)):
        shutil.rmtree(places / "all" / name, ignore_errors=True)
        make(places / "all" / name, files)
    recipe = {
        "name": "p",
        "projects": {"sources": [{"path": "all", "name": "mine", "each": True}]},
        "curate": {"steps": [{"length": {"min_chars": 20}}]},
    }
    (places / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    gristmill("curate", "recipe.yaml", cwd=places)
    rows = pq.read_table(places / "runs/p/curate/documents").to_pylist()
    assert sorted(row["uri"] for row in rows) == ["fork", "packed-1.0"]
    assert all(row["spans"] and row["source"] == "mine" for row in rows)
    rejected = pq.read_table(places / "runs/p/curate/rejected").to_pylist()
    assert [(row["uri"], row["reason"]) for row in rejected] == [("small", "documents:near")]
