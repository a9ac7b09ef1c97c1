"""The code part of the sample: installed packages as projects, their files in dependency order.

Python: the standard library, Django, SymPy, mpmath, NumPy. C++ and C: the headers that PyArrow,
PyTorch and NumPy install for extensions. JavaScript: the admin site of Django. A package is one
project (`curation.project`): what its files import is found by parsing them, and a document is some
of them, each behind those that it needs and under its path. All of a package is read and ordered,
which takes about ten seconds for the seven; a share that is smaller then takes some of the
documents, by a hash of the seed.

Which files count is said by `curation.project.files`: none that was generated, minified or is
somebody else's. The licence is the package's own.
"""

import json
from collections.abc import Iterator

import xxhash

from curation.project.documents import ProjectSettings, documents, read_project
from curation.project.files import RawProject, reason_by_path

from .packages import Package, find_package

SUFFIXES = (".py", ".js", ".c", ".h", ".hpp", ".cc", ".cpp", ".cuh")

# A few files of usual length, and some ten rows of 512 tokens. Half of the files' bytes are in
# longer ones, which are cut.
DOCUMENT_BYTES = 16_384

# (MB at the default size, package, folders). Those with more to give than their weight come last:
# what the others leave is theirs.
PROJECTS = (
    (1.5, "mpmath", ("mpmath/",)),
    (6.8, "django", ("django/",)),
    (4.6, "pyarrow", ("pyarrow/include/", "pyarrow/src/")),
    (1.5, "numpy", ("numpy/",)),
    (11.8, "python", ("",)),
    (4.0, "torch", ("torch/include/c10/", "torch/include/torch/")),
    (12.0, "sympy", ("sympy/",)),
)


def code_documents(package: Package, folders: tuple[str, ...], seed: int) -> Iterator[dict]:
    """Documents of the project that a package's source files in `folders` are.

    `uri` ends in `#k` for the k-th in the project's order, `spans` names the files, and `metadata`
    has the package and its version besides the part. They come in an order drawn by the seed.
    """
    paths = package.under(*folders, suffixes=SUFFIXES)
    # The ids in `parents` are then those of documents of single files, as others name theirs.
    raw = RawProject(f"pkg://{package.name}", (_read(package, path) for path in paths))
    # Nothing stands in two documents: what one is trained on must not be held out in another.
    settings = ProjectSettings(max_bytes=DOCUMENT_BYTES, repeat=0.0, source=package.name)
    rows = list(enumerate(documents(read_project(raw, settings), settings)))
    rows.sort(key=lambda row: (xxhash.xxh3_64_intdigest(f"{package.name}#{row[0]}", seed), row[0]))
    for part, row in rows:
        origin = {"package": package.name, "version": package.version}
        yield row | {
            "uri": f"{row['uri']}#{part:04}",
            "license": package.license,
            "metadata": json.dumps(origin | json.loads(row["metadata"])),
        }


def _read(package: Package, path: str) -> tuple[str, bytes | None, str]:
    reason = reason_by_path(path)
    text = None if reason else package.read(path)
    return path, None if text is None else text.encode(), reason or "unreadable"


def code_sources(seed: int) -> list[tuple[float, Iterator[dict]]]:
    """The projects as (weight, documents), for `budget.fill`."""
    return [
        (weight, code_documents(find_package(name), folders, seed))
        for weight, name, folders in PROJECTS
    ]
