"""The code is whole projects: files as people wrote them, each behind those that it needs."""

import ast
import itertools
import json
from pathlib import Path

import pytest

from curation.sample.code import DOCUMENT_BYTES, PROJECTS, code_documents
from curation.sample.packages import find_package


@pytest.fixture(scope="module")
def django():
    rows = list(code_documents(find_package("django"), ("django/",), seed=0))
    return sorted(rows, key=lambda row: row["uri"])


def files(row):
    """The files of a document: (path, text)."""
    data = row["text"].encode()
    spans = [span for span in row["spans"] if span["kind"] == "file"]
    return [(span["path"], data[span["start"] : span["end"]].decode()) for span in spans]


def test_each_file_of_a_document_is_one_of_the_package_under_its_path(django):
    installed = find_package("django").files
    whole = 0
    for row in django:
        for path, text in files(row):
            written = Path(installed[path]).read_text()
            assert text in f"{written}\n" and f" {path}\n{text}" in row["text"]
            whole += text.strip() == written.strip()
    assert whole > 500


def test_every_written_file_of_a_package_is_in_some_document(django):
    package = find_package("django")
    pieces = {}
    for row in django:
        for path, text in files(row):
            pieces.setdefault(path, {})[text] = None
    for path in package.under("django/", suffixes=[".py"]):
        if path not in pieces:
            assert not package.read(path).strip()  # empty `__init__.py`, of which there are many
        elif len(pieces[path]) > 1:
            assert "".join(pieces[path]).strip() == package.read(path).strip()
    assert not any("/vendor/" in path for path in pieces)
    assert len(pieces) > 700


def test_what_a_file_imports_from_the_same_document_stands_before_it(django):
    before = after = 0
    for row in django:
        place = {path: number for number, (path, _) in enumerate(files(row))}
        for path, text in files(row):
            if not path.endswith(".py") or len(place) == 1:
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom) and node.module:
                    needed = place.get(f"{node.module.replace('.', '/')}.py")
                    if needed is not None:
                        before += needed < place[path]
                        after += needed > place[path]
    assert before > 60 and after < 0.1 * before


def test_nodes_of_the_syntax_are_spans_of_whole_files(django):
    kinds = set()
    for row in django:
        for span in row["spans"]:
            assert row["text"].encode()[span["start"] : span["end"]].decode().strip()
            kinds.add(span["kind"])
    assert kinds > {"file", "body", "block", "arguments"}


def test_documents_keep_to_their_size_and_say_where_they_are_from(django):
    package = find_package("django")
    for part, row in enumerate(django):
        assert len(row["text"].encode()) <= DOCUMENT_BYTES + 200  # a piece has its heading besides
        assert row["uri"] == f"pkg://django#{part:04}"
        assert (row["source"], row["domain"], row["license"]) == ("django", "code", "BSD-3-Clause")
        about = json.loads(row["metadata"])
        assert (about["package"], about["version"]) == ("django", package.version)
        assert (about["part"], about["parts"]) == (part, len(django))
        assert about["files"] == len(files(row)) == len(row["parents"])
    assert len({row["id"] for row in django}) == len(django)


def test_the_seed_draws_which_documents_come_first_and_changes_none():
    package = find_package("mpmath")
    one, again, other = (list(code_documents(package, ("mpmath/",), seed)) for seed in (0, 0, 1))
    assert one == again != other
    by_uri = [sorted(rows, key=lambda row: row["uri"]) for rows in (one, other)]
    assert by_uri[0] == by_uri[1]
    parts = [row["uri"] for row in one]
    assert sum(a < b for a, b in itertools.pairwise(parts)) < 0.7 * len(parts)


def test_all_four_languages_have_documents():
    languages = set()
    for _, name, folders in PROJECTS:
        if name in ("django", "numpy", "pyarrow"):
            package = find_package(name)
            languages |= {row["language"] for row in code_documents(package, folders, seed=0)}
    assert languages == {"python", "javascript", "c", "cpp"}
