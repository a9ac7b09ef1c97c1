"""Mathematics: documentation with its worked sessions, and endless generated problems."""

import itertools

from curation.sample.budget import fill
from curation.sample.mathematics import SOURCES, math_documents, math_sources, problem_documents
from curation.sample.packages import find_package


def test_modules_keep_their_worked_sessions():
    rows = list(math_documents(find_package("mpmath"), ("mpmath/",), seed=0))
    assert sum(row["text"].count(">>>") for row in rows) > 1000
    assert {row["language"] for row in rows} == {"eng_Latn"}
    assert len({row["uri"] for row in rows}) == len(rows)


def test_every_source_has_documents():
    for _, name, files in SOURCES:
        first = next(math_documents(find_package(name), files, seed=0))
        assert first["source"] == name
        assert first["domain"] == "math"


def test_named_modules_exist():
    for _, name, files in SOURCES:
        package = find_package(name)
        for file in files:
            assert package.under(file), f"{name} has no {file}"


def test_problems_go_on_for_ever_and_are_given_away():
    rows = list(itertools.islice(problem_documents(7), 50))
    assert len({row["uri"] for row in rows}) == 50
    assert {row["license"] for row in rows} == {"CC0-1.0"}


def test_generated_problems_make_up_what_documentation_lacks():
    total = sum(len(row["text"].encode()) for row in fill(math_sources(0), 1_000_000))
    assert 980_000 < total <= 1_000_000
