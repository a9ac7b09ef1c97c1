"""English prose from named packages: open, within the dependencies, without sessions or overlap."""

import importlib.metadata
import itertools
import re
import tomllib
from pathlib import Path

import pytest

from curation.sample import mathematics
from curation.sample.packages import SampleError, find_package
from curation.sample.prose import CARRIED, SOURCES, prose_documents, read_topics

NAMES = [*CARRIED, *(name for _, name in SOURCES)]


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_is_a_dependency_of_ours_or_of_one_of_them():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    waiting = [*project["dependencies"], *project["optional-dependencies"]["sample"]]
    closure = {"python"}
    while waiting:
        requirement = waiting.pop()
        name = plain(re.match(r"[\w.-]+", requirement).group())
        if "extra ==" in requirement or name in closure:
            continue
        closure.add(name)
        try:
            waiting += importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
    assert {plain(name) for name in NAMES} <= closure


def test_every_installed_package_has_a_known_and_open_licence():
    for name in NAMES:
        try:
            license_ = find_package(name).license
        except SampleError:
            continue
        assert license_, name
        for word in re.findall(r"[\w.-]+", license_):
            assert re.match(
                r"AND|OR|WITH|0BSD|Apache|BSD|BSL|CC0|CNRI|GPL|LLVM|MIT|MPL|PSF|Zlib", word
            )


def test_topics_of_the_language_reference_are_documents():
    package = find_package("python")
    if "pydoc_data/topics.py" not in package.files:
        pytest.skip("this interpreter ships no pydoc topics")
    topics = read_topics(package.read("pydoc_data/topics.py"))
    assert len(topics) > 50
    assert "assert" in topics["assert"]
    first = itertools.islice(prose_documents(package, seed=0), len(topics))
    assert {row["uri"] for row in first} == {
        f"pkg://python/pydoc_data/topics.py#{topic}" for topic in topics
    }


def test_topics_are_parsed_and_never_run(tmp_path):
    trap = tmp_path / "ran"
    source = f"open({str(trap)!r}, 'w')\ntopics = {{'b': 'two', 'a': 'one'}}\n"
    assert list(read_topics(source)) == ["a", "b"]
    assert read_topics("nothing = 1\n") == {}
    with pytest.raises(ValueError, match="malformed"):
        read_topics(f"topics = open({str(trap)!r}, 'w')\n")
    assert not trap.exists()


@pytest.mark.parametrize("name", ["django", "datasets", "rich", "gramps"])
def test_prose_is_english_text_without_language_or_sessions(name):
    rows = list(prose_documents(find_package(name), seed=0))
    assert len({row["uri"] for row in rows}) == len(rows) > 3
    assert any(row["uri"].endswith("METADATA#description") for row in rows)
    for row in rows:
        assert row["text"].strip()
        assert "language" not in row
        if row["uri"].endswith(".py"):
            assert not re.search(r"^\s*>>> ", row["text"], re.MULTILINE), row["uri"]


def test_no_module_is_both_mathematics_and_prose():
    package = find_package("numpy")
    (files,) = (files for _, name, files in mathematics.SOURCES if name == "numpy")
    math = {row["uri"] for row in mathematics.math_documents(package, files, seed=0)}
    assert math
    assert math.isdisjoint(row["uri"] for row in prose_documents(package, seed=0))
