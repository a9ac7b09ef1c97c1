"""Installed packages as a source of text: where their files are, which version, which licence.

The sample corpus is gathered from what pip has already put on the machine. A package's files are
those that its own RECORD names (through `importlib.metadata`), not whatever lies in its folder, so
byte-code caches and files that others left there never count and the list is a function of the
package's version. The standard library has no RECORD: its files are those under the module names
that the interpreter itself declares, without its test suite.

Licences are given as SPDX expressions. Newer packages state one; older ones have a free-text field
or a classifier, which two small tables translate. What neither table knows stays null.
"""

import csv
import importlib.metadata
import json
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import xxhash

PYTHON = "python"

_SPDX = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python"),
    *("GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "ISC", "MIT"),
    *("LGPL-2.1-or-later", "LLVM-exception", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib"),
}
_FIELDS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "GPL v2 or greater": "GPL-2.0-or-later",
    "GPL version 2": "GPL-2.0-only",
}
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
_TEST_SUITES = {"tests", "idle_test", "__pycache__"}
_LEADING_DOTS = re.compile(r"^(?:\.\./)+")


class SampleError(Exception):
    """The sample corpus cannot be gathered; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Package:
    """An installed package; "python" is the standard library."""

    name: str
    version: str
    license: str | None
    description: str

    @cached_property
    def files(self) -> dict[str, str]:
        """The file of each path inside the package (with `/`), in sorted order of the paths.

        Files that the installer placed outside site-packages (`../../../share/…` in the RECORD) are
        named by what follows the dots, so a name is the same wherever the environment lies.
        Raises `SampleError` when the package was installed without a RECORD.
        """
        found = _standard_library() if self.name == PYTHON else _recorded(self.name)
        return dict(sorted(found))

    def under(self, *prefixes: str, suffixes: Iterable[str] = ()) -> list[str]:
        """Names of the files that start with one of `prefixes` and end with one of `suffixes`."""
        ends = tuple(suffixes)
        return [
            name
            for name in self.files
            if name.startswith(prefixes) and (not ends or name.endswith(ends))
        ]

    def read(self, name: str) -> str | None:
        """The text of a file, or None where it was removed after installation or is not UTF-8."""
        try:
            return Path(self.files[name]).read_bytes().decode("utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            return None

    def document(self, domain: str, path: str, text: str, **fields: str | None) -> dict:
        """A row for `curation.document.make_batch`: `text` with this package as its origin."""
        origin = {"package": self.name, "version": self.version, "path": path}
        return {
            "text": text,
            "source": self.name,
            "domain": domain,
            "uri": f"pkg://{self.name}/{path}",
            "license": self.license,
            "metadata": json.dumps(origin),
            **fields,
        }


def spdx(expression: str | None, field: str | None, classifiers: Iterable[str]) -> str | None:
    """The SPDX expression of a package from its License-Expression, License and classifiers.

    Returns None rather than guess when none of the three is known.
    """
    if expression:
        return expression
    field = (field or "").strip()
    if field in _FIELDS:
        return _FIELDS[field]
    words = [word for word in re.split(r"[\s()]+", field) if word not in ("AND", "OR", "WITH", "")]
    if words and all(word in _SPDX for word in words):
        return field
    names = (line.rsplit("::", 1)[-1].strip() for line in classifiers if line.startswith("License"))
    return next((_CLASSIFIERS[name] for name in names if name in _CLASSIFIERS), None)


@lru_cache(maxsize=64)
def find_package(name: str) -> Package:
    """Look up an installed package by its distribution name.

    Raises `SampleError` when it is not installed.
    """
    if name == PYTHON:
        return Package(PYTHON, platform.python_version(), "PSF-2.0", "")
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        raise SampleError(
            f"package {name} is not installed, the sample corpus needs it: "
            "pip install 'gristmill[sample]'"
        ) from None
    description = metadata.get_payload() or metadata.get("Description") or ""
    license_ = spdx(
        metadata.get("License-Expression"),
        metadata.get("License"),
        metadata.get_all("Classifier") or [],
    )
    return Package(name, metadata["Version"], license_, description)


def keyed_order(seed: int, names: Iterable[str]) -> list[str]:
    """Names shuffled by a hash of the seed and each folder, so that a folder stays together.

    A source that is cut short by its budget then loses whole folders, and the files that import
    each other are mostly kept or lost together.
    """

    def place(name: str) -> tuple[int, str]:
        return xxhash.xxh3_64_intdigest(name.rpartition("/")[0], seed=seed), name

    return sorted(names, key=place)


def _recorded(name: str) -> Iterator[tuple[str, str]]:
    distribution = importlib.metadata.distribution(name)
    record = distribution.read_text("RECORD")
    if record is None:
        raise SampleError(
            f"package {name} was installed without a RECORD of its files: reinstall it with "
            "pip install --force-reinstall 'gristmill[sample]'"
        )
    root = str(distribution.locate_file(""))
    for row in csv.reader(record.splitlines()):
        path = _LEADING_DOTS.sub("", row[0])
        parts = path.split("/")
        outside = parts[0] == "" or ":" in parts[0] or ".." in parts  # absolute, or climbing
        if not outside and _TEST_SUITES.isdisjoint(parts):
            yield path, os.path.join(root, row[0])  # noqa: PTH118 (82,000 of them)


def _standard_library() -> Iterator[tuple[str, str]]:
    root = sysconfig.get_path("stdlib")
    for name in sys.stdlib_module_names - {"test"}:
        if os.path.isfile(f"{root}/{name}.py"):  # noqa: PTH113
            yield f"{name}.py", f"{root}/{name}.py"
        for folder, folders, files in os.walk(f"{root}/{name}"):
            folders[:] = [f for f in folders if f not in _TEST_SUITES and f != "test"]
            inside = Path(folder).relative_to(root).as_posix()
            yield from ((f"{inside}/{f}", f"{folder}/{f}") for f in files)
