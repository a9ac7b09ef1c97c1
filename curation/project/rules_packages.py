"""Which files an import means where packages and names count: Java, Kotlin, PHP, C#, Go."""

import re
from collections import defaultdict

from curation.project.imports import Import
from curation.project.tree import MOST_ALIKE, Tree, folder_of, join, one_of, used_of


def _by_full_name(
    project: Tree, languages: tuple[str, ...], dot: str, marks: str = ".("
) -> dict[str, list[str]]:
    """Files by the full names that they define, of the marked ones those with one of `marks`."""
    table: dict[str, list[str]] = defaultdict(list)
    for language in languages:
        for path in project.by_language[language]:
            facts = project.facts[path]
            for name in facts.defines:
                if all(c in marks for c in ".@(" if c in name):
                    bare = name.strip("@.()")
                    table[f"{facts.package}{dot}{bare}" if facts.package else bare].append(path)
    return table


def _by_package(project: Tree, languages: tuple[str, ...]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = defaultdict(list)
    for language in languages:
        for path in project.by_language[language]:
            table[project.facts[path].package].append(path)
    return table


_JVM = ("java", "kotlin")


def jvm_files(project: Tree, path: str, one: Import) -> list[str]:
    java = project.files[path][0] == "java"  # which sees no functions of Kotlin's
    marks = "@" if java else ".("
    names = project.table(f"jvm {java}", lambda p: _by_full_name(p, _JVM, ".", marks))
    if one.name.endswith(".*"):
        package = one.name[:-2]
        packages = project.table("jvm packages", lambda p: _by_package(p, _JVM))
        if package in packages:
            return used_of(project, path, packages[package])
        return one_of(path, names.get(package, []))  # the members of a class
    parts = one.name.split(".")
    for end in range(len(parts), max(len(parts) - 3, 0), -1):  # nested classes, static members
        if found := names.get(".".join(parts[:end])):
            return one_of(path, found) if java else _overloads(path, found)
    return []


def _overloads(path: str, found: list[str]) -> list[str]:
    """The nearest file that defines a name, or several side by side.

    A function may be defined for several types, in several files of a package: to import its name
    is to import all of them. Of several folders (the same for several platforms) one is meant.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for other in found if len(found) <= MOST_ALIKE else []:
        folders[folder_of(other)].append(other)
    nearest = one_of(path, [files[0] for files in folders.values()])
    return [other for one in nearest for other in folders[folder_of(one)]]


def own_jvm_files(project: Tree, path: str) -> list[str]:
    packages = project.table("jvm packages", lambda p: _by_package(p, _JVM))
    return used_of(project, path, packages[project.facts[path].package])


def php_files(project: Tree, path: str, one: Import) -> list[str]:
    if one.kind == "file":
        for base in (folder_of(path), ""):
            if (found := join(base, one.name)) in project.files:
                return [found]
        return []
    names = project.table("php", lambda p: _by_full_name(p, ("php",), "\\"))
    return one_of(path, names.get(one.name, []))


def own_php_files(project: Tree, path: str) -> list[str]:
    packages = project.table("php packages", lambda p: _by_package(p, ("php",)))
    package = project.facts[path].package
    return used_of(project, path, packages[package]) if package else []


def csharp_files(project: Tree, path: str, one: Import) -> list[str]:
    packages = project.table("namespaces", lambda p: _by_package(p, ("csharp",)))
    if one.kind not in ("static", "alias"):
        files = packages.get(one.name, [])
        if found := used_of(project, path, files):
            return found
        # None of its types is in use (methods that extend others are not seen), but it must exist.
        return files if len(files) == 1 and one.kind != "global" else []
    names = project.table("csharp", lambda p: _by_full_name(p, ("csharp",), "."))
    return one_of(path, names.get(one.name, []))


def own_csharp_files(project: Tree, path: str) -> list[str]:
    """Files of the file's own namespace, of those above it, and of its project's global usings."""
    packages = project.table("namespaces", lambda p: _by_package(p, ("csharp",)))
    parts = project.facts[path].package.split(".")
    names = {".".join(parts[:end]) for end in range(len(parts), 0, -1) if parts[0]}
    folder = _csharp_project(project, path)
    names |= project.table("global usings", _global_usings).get(folder, set())
    seen = [packages.get(name, []) for name in sorted(names)]
    return used_of(project, path, [p for paths in seen for p in paths])


def _csharp_project(project: Tree, path: str) -> str | None:
    """The nearest folder above a file that holds a .csproj."""
    folders = project.table(
        "csproj",
        lambda p: {folder_of(f) for f in (*p.files, *p.aside) if f.endswith(".csproj")},
    )
    folder = folder_of(path)
    while folder not in folders:
        if not folder:
            return None
        folder = folder_of(folder)
    return folder


def _global_usings(project: Tree) -> dict[str | None, set[str]]:
    found: dict[str | None, set[str]] = defaultdict(set)
    for path in project.by_language["csharp"]:
        names = {one.name for one in project.facts[path].imports if one.kind == "global"}
        if names and (folder := _csharp_project(project, path)) is not None:
            found[folder] |= names
    return found


def _go_modules(project: Tree) -> list[tuple[str, str]]:
    """(module path, folder) of every go.mod, longest path first."""
    found = []
    for path in project.named("go.mod"):
        match = re.search(rb"^[ \t]*module\s+\"?([^\s\"]+)", project.files[path][1], re.MULTILINE)
        if match:
            found.append((match[1].decode(errors="replace"), folder_of(path)))
    return sorted(found, key=lambda item: -len(item[0]))


def _go_folders(project: Tree) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = defaultdict(list)
    for path in project.by_language["go"]:
        folders[folder_of(path)].append(path)
    return folders


def go_files(project: Tree, path: str, one: Import) -> list[str]:
    folders = project.table("go folders", _go_folders)
    for module, base in project.table("go.mod", _go_modules):
        if one.name == module or one.name.startswith(module + "/"):
            folder = join(base, one.name[len(module) :].strip("/") or ".")
            files = [p for p in folders.get(folder or "", []) if not p.endswith("_test.go")]
            if one.names in (("_",), (".",)):  # run for its effects; all its names
                return files
            uses = project.facts[path].uses
            return [
                other
                for other in files
                for package in (one.names or (project.facts[other].package,))
                if any(f"{package}.{name}" in uses for name in project.facts[other].defines)
            ]
    return []


def own_go_files(project: Tree, path: str) -> list[str]:
    folders = project.table("go folders", _go_folders)
    package = project.facts[path].package
    others = [
        other
        for other in folders[folder_of(path)]
        if project.facts[other].package in (package, package.removesuffix("_test"))
        and not other.endswith("_test.go")
    ]
    return used_of(project, path, others)
