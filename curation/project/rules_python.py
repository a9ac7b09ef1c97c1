"""Which file an import of Python means."""

import posixpath
from collections import defaultdict
from collections.abc import Callable

from curation.project.imports import Import
from curation.project.tree import MOST_ALIKE, Tree, folder_of, nearest


def _python_modules(project: Tree) -> dict[str, list[str]]:
    """Dotted name -> paths, by every root that the project's own layout gives."""
    modules: dict[str, list[str]] = defaultdict(list)
    paths = set(project.by_language["python"])
    # (An empty `__init__.py` is set aside, and makes a package all the same.)
    packages = {folder_of(p) for p in paths | project.aside if p.endswith("/__init__.py")}
    packages |= {folder_of(p) for p in paths if p.endswith("/__init__.pyi")}
    for path in sorted(paths):
        stem = path.removesuffix(".pyi").removesuffix(".py")
        parts = stem.split("/")
        start = len(parts) - 1
        while start > 0 and "/".join(parts[:start]) in packages:
            start -= 1
        starts = {start}
        # Namespace packages have no __init__.py: also count from the root, and from src/.
        starts.add(1 if parts[0] in ("src", "lib") and len(parts) > 1 else 0)
        for at in starts:
            name = parts[at:]
            if name[-1] == "__init__":
                name = name[:-1]
            if name:
                modules[".".join(name)].append(path)
    return modules


def _python_module(project: Tree, path: str, name: str) -> list[str]:
    modules = project.table("python", _python_modules)
    found = modules.get(name, [])[: 2 * MOST_ALIKE]
    source = [p for p in found if not p.endswith(".pyi")]
    found = [p for p in source or found if _is_on_path(path, p, name)]
    return found if len(found) == 1 else nearest(path, found)


def _is_on_path(path: str, other: str, name: str) -> bool:
    """Whether a file of no package, that is not at the root, lies where its user can see it.

    Python looks for `import x` in the folder of the script that was started, and pytest in those
    of the tests: folders around the user.
    """
    folder = folder_of(other)
    if "." in name or posixpath.basename(other).startswith("__init__."):
        return True
    return folder in ("", "src", "lib") or f"{path}/".startswith(f"{folder}/")


def python_files(project: Tree, path: str, one: Import) -> list[str]:
    name = one.name
    if name.startswith("."):
        dots = len(name) - len(name.lstrip("."))
        folder = folder_of(path)
        for _ in range(dots - 1):
            if not folder:
                return []
            folder = folder_of(folder)
        base = posixpath.join(folder, *filter(None, name[dots:].split(".")))
        return _python_names(one, lambda more: _python_file(project, posixpath.join(base, *more)))
    if one.kind != "from":
        # `import a.b.c` binds and runs a, a.b and a.b.c; the last is what is meant.
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            if found := _python_module(project, path, ".".join(parts[:end])):
                return found
        return []
    return _python_names(one, lambda more: _python_module(project, path, ".".join([name, *more])))


def _python_names(one: Import, find: Callable[[list[str]], list[str]]) -> list[str]:
    """The submodules among the names, and the module itself for what is none."""
    found = []
    for name in one.names:
        found += (find([name]) if name != "*" else []) or find([])
    return found


def _python_file(project: Tree, base: str) -> list[str]:
    for end in (".py", "/__init__.py", ".pyi", "/__init__.pyi"):
        if base.lstrip("/") + end in project.files:
            return [base.lstrip("/") + end]
    return []
