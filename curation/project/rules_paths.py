"""Which file an import means where paths count: C, C++, Rust, Ruby."""

import posixpath
import re

from curation.project.imports import Import
from curation.project.tree import Tree, folder_of, join, nearest


def include_files(project: Tree, path: str, one: Import) -> list[str]:
    if one.kind == "quoted" and (beside := join(folder_of(path), one.name)) in project.files:
        return [beside]
    name = posixpath.normpath(one.name)
    if name.startswith(("../", "/")):
        return []
    ends = [
        other
        for other in project.alike(posixpath.basename(name))
        if other == name or other.endswith("/" + name)
    ]
    if one.kind == "angled":
        # <stdio.h> is the system's, even if some folder has a file of that name.
        ends = [p for p in ends if "/" in name or folder_of(p).split("/")[-1] in ("include", "inc")]
    return ends if len(ends) <= 1 else nearest(path, ends)


def _rust_crates(project: Tree) -> dict[str, str]:
    """Crate name, with underscores -> the folder of its root file."""
    crates = {}
    for path in project.named("Cargo.toml"):
        match = re.search(
            rb"^\[package\][^\[]*?^[ \t]*name\s*=\s*\"([^\"]+)\"",
            project.files[path][1],
            re.MULTILINE | re.DOTALL,
        )
        if match:
            name = match[1].decode(errors="replace").replace("-", "_")
            crates.setdefault(name, posixpath.join(folder_of(path), "src"))
    return crates


def _is_rust_root(project: Tree, path: str) -> bool:
    """Whether Cargo makes a crate of a file: `src/lib.rs`, `src/bin/x.rs`, `tests/x.rs`, …"""
    folder, name = posixpath.split(path)
    if name in ("lib.rs", "main.rs", "build.rs"):
        return True
    above, last = posixpath.split(folder)
    if last == "bin":
        above = folder_of(above)
    return last in ("bin", "tests", "benches", "examples") and (
        posixpath.join(above, "Cargo.toml") in project.files
    )


def _rust_module_folder(project: Tree, path: str) -> str:
    """The folder in which the modules below a file are looked for."""
    folder, name = posixpath.split(path)
    if name == "mod.rs" or _is_rust_root(project, path):
        return folder
    return posixpath.join(folder, name.removesuffix(".rs"))


def _rust_root(project: Tree, path: str) -> tuple[str, str]:
    """The folder of the crate's root file, above a file, and that file; "" where it is not clear.

    Below `tests/`, `benches/` and `examples/` each file, or each folder's `main.rs`, is a crate.
    """
    if _is_rust_root(project, path):
        return folder_of(path), path
    folder = folder_of(path)
    while True:
        for name in ("lib.rs", "main.rs"):
            if (root := posixpath.join(folder, name)) in project.files:
                return folder, root
        roots = project.table("rust roots", _rust_roots).get(folder, [])
        if roots or not folder:
            return folder if roots else folder_of(path), roots[0] if len(roots) == 1 else ""
        folder = folder_of(folder)


def _rust_roots(project: Tree) -> dict[str, list[str]]:
    roots: dict[str, list[str]] = {}
    for path in project.by_language["rust"]:
        if _is_rust_root(project, path):
            roots.setdefault(folder_of(path), []).append(path)
    return roots


def _rust_path(project: Tree, folder: str, parts: list[str], root: str = "") -> list[str]:
    """The file of the longest part of a module path that is one; names in it are not files."""
    for end in range(len(parts), 0, -1):
        base = posixpath.join(folder, *parts[:end])
        for candidate in (base + ".rs", base + "/mod.rs"):
            if candidate in project.files:
                return [candidate]
    return [root] if root in project.files else []


def rust_files(project: Tree, path: str, one: Import) -> list[str]:
    below = _rust_module_folder(project, path)
    parts = one.name.split("::")
    if one.kind == "mod":
        if one.names:  # #[path = "…"]
            found = join(folder_of(path), one.names[0])
            return [found] if found in project.files else []
        base = posixpath.join(below, *parts)
        return [p for p in (base + ".rs", base + "/mod.rs") if p in project.files][:1]
    parts = [part for part in parts if part not in ("*", "")]
    if not parts:
        return []
    head, rest = parts[0], [part for part in parts[1:] if part != "self"]
    if head == "crate":
        folder, root = _rust_root(project, path)
        return _rust_path(project, folder, rest, root)
    if head == "self":
        return _rust_path(project, below, rest, path)
    if head == "super":
        folder = below
        while head == "super":
            folder = folder_of(folder)
            head, *rest = rest or [""]
        rest = [*([head] if head else []), *rest]
        owner = [
            folder + ".rs",
            *(posixpath.join(folder, n) for n in ("mod.rs", "lib.rs", "main.rs")),
        ]
        root = next((p for p in owner if p in project.files), "")
        return _rust_path(project, folder, rest, root)
    crates = project.table("crates", _rust_crates)
    if head in crates:
        root = posixpath.join(crates[head], "lib.rs")
        return _rust_path(project, crates[head], rest, root)
    # A module declared in this very file.
    return _rust_path(project, below, parts)


def ruby_files(project: Tree, path: str, one: Import) -> list[str]:
    name = one.name if one.name.endswith(".rb") else one.name + ".rb"
    if one.kind == "require_relative" or name.startswith("./"):
        found = join(folder_of(path), name)
        return [found] if found in project.files else []
    ends = [
        other
        for other in project.alike(posixpath.basename(name))
        if any(other == join(root, name) for root in _ruby_roots(other))
    ]
    return ends if len(ends) <= 1 else nearest(path, ends)


def _ruby_roots(path: str) -> list[str]:
    """Folders on the way to a file that are load paths by custom."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: at + 1]) for at, part in enumerate(parts) if part in _LOAD_PATHS]


_LOAD_PATHS = ("lib", "app", "test", "spec", "ext")
