"""The files of a project as the rules of resolution look them up, and what rules share."""

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from curation.project.imports import Facts

# Files of one name: more of them are gone through for no import.
MOST_ALIKE = 256


class Tree:
    """All files of a project by path, what each says, and tables that the rules look into.

    aside: paths that are there but do not count, such as an empty `__init__.py`.
    """

    def __init__(
        self,
        files: Mapping[str, tuple[str, bytes]],
        facts: Mapping[str, Facts],
        aside: Iterable[str] = (),
    ) -> None:
        self.files = files
        self.facts = facts
        self.aside = frozenset(aside)
        self.by_language: dict[str, list[str]] = defaultdict(list)
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for path, (language, _) in files.items():
            self.by_language[language].append(path)
            self.by_name[posixpath.basename(path)].append(path)
        self.tables: dict[str, object] = {}

    def table(self, name: str, make: Callable[["Tree"], object]) -> object:
        """Give a table that is made when it is first asked for."""
        if name not in self.tables:
            self.tables[name] = make(self)
        return self.tables[name]

    def named(self, name: str) -> Iterable[str]:
        """Paths of the files with this name, those above first."""
        return sorted(self.by_name.get(name, ()), key=lambda path: (path.count("/"), path))

    def alike(self, name: str) -> list[str]:
        """Paths of the files with this name; none of more than `MOST_ALIKE`."""
        found = self.by_name.get(name, [])
        return found if len(found) <= MOST_ALIKE else []


def join(folder: str, name: str) -> str | None:
    """Join and normalise; None for a path that leaves the project."""
    path = posixpath.normpath(posixpath.join(folder, name))
    return None if path.startswith(("../", "/")) or path == ".." else ("" if path == "." else path)


def folder_of(path: str) -> str:
    return posixpath.dirname(path)


def nearest(path: str, candidates: list[str]) -> list[str]:
    """The candidate that shares most of the path's folders; none if two share as many.

    None of more than `MOST_ALIKE` either: each import would go through them all.
    """
    if len(candidates) > MOST_ALIKE:
        return []
    own = path.split("/")[:-1]

    def shared(other: str) -> int:
        theirs = other.split("/")[:-1]
        return next(
            (n for n, (a, b) in enumerate(zip(own, theirs, strict=False)) if a != b),
            min(len(own), len(theirs)),
        )

    ranked = sorted(candidates, key=lambda other: (-shared(other), other))
    if len(ranked) > 1 and shared(ranked[0]) == shared(ranked[1]):
        return []
    return ranked[:1]


def one_of(path: str, found: list[str]) -> list[str]:
    return found if len(found) <= 1 else nearest(path, found)


def used_of(project: Tree, path: str, candidates: Iterable[str]) -> list[str]:
    """Those that define a name which the file uses, where no other one defines it as well."""
    uses = project.facts[path].uses
    owners: dict[str, list[str]] = defaultdict(list)
    for other in candidates:
        if other != path:
            for name in project.facts[other].defines & uses:
                owners[name].append(other)
    own = project.facts[path].defines
    return [p for name, paths in owners.items() if name not in own for p in one_of(path, paths)]
