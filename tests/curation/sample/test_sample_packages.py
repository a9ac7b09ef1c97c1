"""Installed packages: their own files only, their licence, and what to do when one is missing."""

import itertools
import json

import pytest

from curation.sample.packages import SampleError, find_package, keyed_order, spdx


def install(folder, name, record, metadata=""):
    """Lay out an installed distribution as pip would, with the given RECORD."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}")
    if record is not None:
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in record))


@pytest.mark.parametrize(
    ("expression", "field", "classifiers", "expected"),
    [
        ("MIT AND Zlib", "BSD", [], "MIT AND Zlib"),
        (None, "GPL v2 or greater", ["License :: OSI Approved :: MIT License"], "GPL-2.0-or-later"),
        (None, "MPL-2.0 AND MIT", [], "MPL-2.0 AND MIT"),
        (None, None, ["License :: OSI Approved :: BSD License"], "BSD-3-Clause"),
        (None, "Copyright (c) somebody, all rights reserved", [], None),
        (None, "AND", ["Topic :: Software Development"], None),
        (None, "", [], None),
    ],
)
def test_licences_become_spdx_expressions_or_null(expression, field, classifiers, expected):
    assert spdx(expression, field, classifiers) == expected


def test_a_missing_package_is_named_with_the_way_to_install_it():
    with pytest.raises(SampleError, match=r"no-such-package.*pip install 'gristmill\[sample\]'"):
        find_package("no-such-package")


def test_files_are_those_of_the_record_and_none_outside_or_of_test_suites(tmp_path, monkeypatch):
    site = tmp_path / "lib" / "site-packages"
    record = [
        "hostile/a.py",
        "hostile/tests/test_a.py",
        "hostile/__pycache__/a.pyc",
        "hostile/../../../../etc/passwd",
        "/etc/passwd",
        "C:/Windows/win.ini",
        "../../share/locale/de/LC_MESSAGES/x.mo",
    ]
    install(site, "hostile", record, "License-Expression: MIT\n\nA long description.\n")
    (site / "hostile").mkdir()
    (site / "hostile" / "a.py").write_text("x = 1\n")
    (site / "hostile" / "left_there.py").write_text("y = 2\n")
    monkeypatch.syspath_prepend(site)
    package = find_package("hostile")
    assert list(package.files) == ["hostile/a.py", "share/locale/de/LC_MESSAGES/x.mo"]
    assert package.read("hostile/a.py") == "x = 1\n"
    assert package.read("share/locale/de/LC_MESSAGES/x.mo") is None  # recorded, then removed
    assert (package.version, package.license) == ("1.0", "MIT")
    assert package.description.strip() == "A long description."


def test_a_package_without_a_record_is_refused(tmp_path, monkeypatch):
    install(tmp_path, "unrecorded", None)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SampleError, match="unrecorded was installed without a RECORD"):
        _ = find_package("unrecorded").files


def test_bytes_that_are_not_utf8_are_no_text(tmp_path, monkeypatch):
    install(tmp_path, "latin", ["latin.py"])
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_package("latin").read("latin.py") is None


def test_the_standard_library_is_its_own_modules_only():
    files = find_package("python").files
    assert {"argparse.py", "json/decoder.py", "email/message.py"} <= set(files)
    parts = {part for path in files for part in path.split("/")}
    assert parts.isdisjoint({"site-packages", "test", "tests", "idle_test", "__pycache__"})
    assert list(files) == sorted(files)


def test_a_document_says_where_it_comes_from():
    package = find_package("django")
    row = package.document("code", "django/apps/config.py", "x", language="python")
    assert row["uri"] == "pkg://django/django/apps/config.py"
    assert row["license"] == "BSD-3-Clause"
    assert json.loads(row["metadata"]) == {
        "package": "django",
        "version": package.version,
        "path": "django/apps/config.py",
    }


def test_keyed_order_keeps_folders_together_and_depends_on_the_seed_alone():
    names = [f"{folder}/{k}.py" for folder in "abcdefgh" for k in range(5)]
    order = keyed_order(0, reversed(names))
    assert order == keyed_order(0, names)
    assert order != keyed_order(1, names)
    folders = [name[0] for name in order]
    assert sum(a != b for a, b in itertools.pairwise(folders)) == 7
