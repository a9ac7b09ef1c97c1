"""Resolve: which file of the project an import means, by each language's own rules.

`resolve(files, facts)` takes all files of a project and gives each the files that it needs. What
no file of the project answers is of other projects, or of the language, and is left out. A rule
never guesses: where two files answer equally well, the one nearest in the tree is taken, and what
stays ambiguous is no edge, because a wrong edge costs more than a missing one.

The rules, in short (all paths with `/`, from the project's root):

python      a package's root is where no `__init__.py` is above it, or `src/`; relative by dots; a
            name taken out of a package is its submodule if there is one
javascript, typescript   relative with the suffixes of both, `index`, `.js` for `.ts`; `paths` and
            `baseUrl` of tsconfig.json; packages of the same workspace by their package.json
java, kotlin, php   by package and name; the same package needs no import
csharp      by namespace, the file's own and those above it too
go          by the module path of go.mod; in a package, the files that define what is used
c, cpp      beside the file, then the path's end anywhere below `include/`, `src/` or the root
rust        `mod` beside or below; `crate`, `self`, `super`; crates of the same workspace
ruby        beside the file; `lib/` and other load paths
"""

import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from curation.project.imports import Facts, Import

Edges = dict[str, list[str]]
_MOST_ALIKE = 256  # files of one name


class Tree:
    """All files of a project by path, what each says, and tables that the rules look into."""

    def __init__(self, files: Mapping[str, tuple[str, bytes]], facts: Mapping[str, Facts]) -> None:
        self.files = files
        self.facts = facts
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
        """Paths of the files with this name; none of more than `_MOST_ALIKE`."""
        found = self.by_name.get(name, [])
        return found if len(found) <= _MOST_ALIKE else []


def resolve(files: Mapping[str, tuple[str, bytes]], facts: Mapping[str, Facts]) -> Edges:
    """Give each file the files of the project that it needs, sorted, without itself.

    files: path -> (language, UTF-8 content); facts: path -> `find_facts` of it.
    """
    project = Tree(files, facts)
    edges: Edges = {}
    for path, (language, _) in files.items():
        rule = RULES.get(language)
        found: set[str] = set()
        if rule is not None and path in facts:
            for one in facts[path].imports:
                found.update(rule(project, path, one))
            if language in _OWN_PACKAGE:
                found.update(_OWN_PACKAGE[language](project, path))
        found.discard(path)
        edges[path] = sorted(found)
    return edges


def _join(folder: str, name: str) -> str | None:
    """Join and normalise; None for a path that leaves the project."""
    path = posixpath.normpath(posixpath.join(folder, name))
    return None if path.startswith(("../", "/")) or path == ".." else ("" if path == "." else path)


def _folder(path: str) -> str:
    return posixpath.dirname(path)


def _nearest(path: str, candidates: list[str]) -> list[str]:
    """The candidate that shares most of the path's folders; none if two share as many.

    None of more than `_MOST_ALIKE` either: each import would go through them all.
    """
    if len(candidates) > _MOST_ALIKE:
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


# --- Python ---


def _python_modules(project: Tree) -> dict[str, list[str]]:
    """Dotted name -> paths, by every root that the project's own layout gives."""
    modules: dict[str, list[str]] = defaultdict(list)
    paths = set(project.by_language["python"])
    for path in sorted(paths):
        stem = path.removesuffix(".pyi").removesuffix(".py")
        parts = stem.split("/")
        start = len(parts) - 1
        while start > 0 and "/".join([*parts[:start], "__init__.py"]) in paths:
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
    found = modules.get(name, [])[: 2 * _MOST_ALIKE]
    source = [p for p in found if not p.endswith(".pyi")]
    found = source or found
    return found if len(found) == 1 else _nearest(path, found)


def _python(project: Tree, path: str, one: Import) -> list[str]:
    name = one.name
    if name.startswith("."):
        dots = len(name) - len(name.lstrip("."))
        folder = _folder(path)
        for _ in range(dots - 1):
            if not folder:
                return []
            folder = _folder(folder)
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


# --- JavaScript and TypeScript ---

_SCRIPT_ENDS = [
    "",
    *(".ts", ".tsx", ".d.ts", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".vue"),
]
_SCRIPT_ENDS += [f"/index{end}" for end in (".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", ".cjs")]


def _script_file(project: Tree, base: str | None) -> list[str]:
    if base is None:
        return []
    # TypeScript writes the name that the compiled file will have.
    written = re.sub(r"\.([mc]?)js(x?)$", r".\1ts\2", base)
    for candidate in (base + _SCRIPT_ENDS[0], written, *(base + end for end in _SCRIPT_ENDS[1:])):
        candidate = candidate.lstrip("/")
        if candidate in project.files:
            return [candidate]
    return []


def _loose_json(data: bytes) -> dict:
    """Read JSON with comments and trailing commas, as in tsconfig.json; {} for anything else."""
    text = data.decode("utf-8-sig", errors="replace")
    pieces = re.split(r'("(?:[^"\\]|\\.)*")', text)
    for at in range(0, len(pieces), 2):
        pieces[at] = re.sub(r"//[^\n]*|/\*.*?\*/", "", pieces[at], flags=re.DOTALL)
    joined = re.sub(r",(\s*[}\]])", r"\1", "".join(pieces))
    try:
        found = json.loads(joined)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _script_configs(project: Tree) -> list[tuple[str, str, dict]]:
    """(folder, base folder, `paths`) of every tsconfig.json and jsconfig.json, deepest first."""
    configs = []
    for name in ("tsconfig.json", "tsconfig.base.json", "jsconfig.json"):
        for path in project.named(name):
            options = _loose_json(project.files[path][1]).get("compilerOptions")
            if not isinstance(options, dict):
                continue
            base, paths = options.get("baseUrl"), options.get("paths")
            if isinstance(base, str) or isinstance(paths, dict):
                folder = _join(_folder(path), base if isinstance(base, str) else ".") or ""
                table = paths if isinstance(paths, dict) else {}
                if isinstance(base, str):
                    table = {**table, "*": ["*"]}
                configs.append((_folder(path), folder, table))
    return sorted(configs, key=lambda item: -len(item[0]))


def _script_packages(project: Tree) -> dict[str, tuple[str, list[str]]]:
    """Package name -> (folder, entry points as written) of every package.json."""
    packages = {}
    for path in project.named("package.json"):
        content = _loose_json(project.files[path][1])
        if isinstance(content.get("name"), str):
            entries = [content.get(key) for key in ("source", "types", "module", "main")]
            packages.setdefault(
                content["name"], (_folder(path), [e for e in entries if isinstance(e, str)])
            )
    return packages


def _script(project: Tree, path: str, one: Import) -> list[str]:
    name = one.name.split("?")[0]
    if name.startswith("."):
        return _script_file(project, _join(_folder(path), name))
    for folder, base, paths in project.table("tsconfig", _script_configs):
        if folder and not path.startswith(folder + "/"):
            continue
        for pattern, targets in sorted(paths.items(), key=lambda item: -len(item[0])):
            head, star, tail = pattern.partition("*")
            fits = name == pattern if not star else name.startswith(head) and name.endswith(tail)
            if not fits or not isinstance(targets, list):
                continue
            middle = name[len(head) : len(name) - len(tail)] if star else ""
            for target in targets:
                target = str(target).replace("*", middle)
                if found := _script_file(project, _join(base, target)):
                    return found
    packages = project.table("packages", _script_packages)
    parts = name.split("/")
    length = 2 if name.startswith("@") else 1
    if (package := "/".join(parts[:length])) in packages:
        folder, entries = packages[package]
        rest = "/".join(parts[length:])
        tries = [rest, f"src/{rest}"] if rest else [*entries, "src/index", "index", "lib/index"]
        for entry in tries:
            if found := _script_file(project, _join(folder, entry)):
                return found
    return []


# --- Java, Kotlin, PHP: by package and name ---


def _by_full_name(project: Tree, languages: tuple[str, ...], dot: str) -> dict[str, list[str]]:
    table: dict[str, list[str]] = defaultdict(list)
    for language in languages:
        for path in project.by_language[language]:
            facts = project.facts[path]
            for name in facts.defines:
                table[f"{facts.package}{dot}{name}" if facts.package else name].append(path)
    return table


def _by_package(project: Tree, languages: tuple[str, ...]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = defaultdict(list)
    for language in languages:
        for path in project.by_language[language]:
            table[project.facts[path].package].append(path)
    return table


_JVM = ("java", "kotlin")


def _one_of(path: str, found: list[str]) -> list[str]:
    return found if len(found) <= 1 else _nearest(path, found)


def _jvm(project: Tree, path: str, one: Import) -> list[str]:
    names = project.table("jvm", lambda p: _by_full_name(p, _JVM, "."))
    if one.name.endswith(".*"):
        package = one.name[:-2]
        packages = project.table("jvm packages", lambda p: _by_package(p, _JVM))
        if package in packages:
            return _used(project, path, packages[package])
        return _one_of(path, names.get(package, []))  # the members of a class
    parts = one.name.split(".")
    for end in range(len(parts), max(len(parts) - 3, 0), -1):  # nested classes, static members
        if found := names.get(".".join(parts[:end])):
            return _one_of(path, found)
    return []


def _used(project: Tree, path: str, candidates: Iterable[str]) -> list[str]:
    """Those that define a name which the file uses, where no other one defines it as well."""
    uses = project.facts[path].uses
    owners: dict[str, list[str]] = defaultdict(list)
    for other in candidates:
        if other != path:
            for name in project.facts[other].defines & uses:
                owners[name].append(other)
    own = project.facts[path].defines
    return [p for name, paths in owners.items() if name not in own for p in _one_of(path, paths)]


def _own_jvm(project: Tree, path: str) -> list[str]:
    packages = project.table("jvm packages", lambda p: _by_package(p, _JVM))
    return _used(project, path, packages[project.facts[path].package])


def _php(project: Tree, path: str, one: Import) -> list[str]:
    if one.kind == "file":
        for base in (_folder(path), ""):
            if (found := _join(base, one.name)) in project.files:
                return [found]
        return []
    names = project.table("php", lambda p: _by_full_name(p, ("php",), "\\"))
    return _one_of(path, names.get(one.name, []))


def _own_php(project: Tree, path: str) -> list[str]:
    packages = project.table("php packages", lambda p: _by_package(p, ("php",)))
    package = project.facts[path].package
    return _used(project, path, packages[package]) if package else []


# --- C# ---


def _csharp(project: Tree, path: str, one: Import) -> list[str]:
    if one.kind == "static":
        names = project.table("csharp", lambda p: _by_full_name(p, ("csharp",), "."))
        return _one_of(path, names.get(one.name, []))
    packages = project.table("namespaces", lambda p: _by_package(p, ("csharp",)))
    return _used(project, path, packages.get(one.name, []))


def _own_csharp(project: Tree, path: str) -> list[str]:
    packages = project.table("namespaces", lambda p: _by_package(p, ("csharp",)))
    parts = project.facts[path].package.split(".")
    seen = [packages.get(".".join(parts[:end]), []) for end in range(len(parts), 0, -1) if parts[0]]
    return _used(project, path, [p for paths in seen for p in paths])


# --- Go ---


def _go_modules(project: Tree) -> list[tuple[str, str]]:
    """(module path, folder) of every go.mod, longest path first."""
    found = []
    for path in project.named("go.mod"):
        match = re.search(rb"^[ \t]*module\s+\"?([^\s\"]+)", project.files[path][1], re.MULTILINE)
        if match:
            found.append((match[1].decode(errors="replace"), _folder(path)))
    return sorted(found, key=lambda item: -len(item[0]))


def _go_folders(project: Tree) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = defaultdict(list)
    for path in project.by_language["go"]:
        folders[_folder(path)].append(path)
    return folders


def _go(project: Tree, path: str, one: Import) -> list[str]:
    folders = project.table("go folders", _go_folders)
    for module, base in project.table("go.mod", _go_modules):
        if one.name == module or one.name.startswith(module + "/"):
            folder = _join(base, one.name[len(module) :].strip("/") or ".")
            files = [p for p in folders.get(folder or "", []) if not p.endswith("_test.go")]
            return _used_or_all(project, path, files)
    return []


def _used_or_all(project: Tree, path: str, files: list[str]) -> list[str]:
    """Of a package's files, those whose exported names are used; methods can hide all: then all."""
    return _used(project, path, files) or files


def _own_go(project: Tree, path: str) -> list[str]:
    folders = project.table("go folders", _go_folders)
    package = project.facts[path].package
    others = [
        other
        for other in folders[_folder(path)]
        if project.facts[other].package in (package, package.removesuffix("_test"))
        and not other.endswith("_test.go")
    ]
    return _used(project, path, others)


# --- C and C++ ---


def _include(project: Tree, path: str, one: Import) -> list[str]:
    if one.kind == "quoted" and (beside := _join(_folder(path), one.name)) in project.files:
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
        ends = [p for p in ends if "/" in name or _folder(p).split("/")[-1] in ("include", "inc")]
    return ends if len(ends) <= 1 else _nearest(path, ends)


# --- Rust ---


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
            crates.setdefault(name, posixpath.join(_folder(path), "src"))
    return crates


def _rust_module_folder(path: str) -> str:
    """The folder in which the modules below a file are looked for."""
    folder, name = posixpath.split(path)
    if name in ("mod.rs", "lib.rs", "main.rs", "build.rs"):
        return folder
    return posixpath.join(folder, name.removesuffix(".rs"))


def _rust_root(project: Tree, path: str) -> str:
    """The folder of the crate's root file, above a file."""
    folder = _folder(path)
    while True:
        if any(posixpath.join(folder, n) in project.files for n in ("lib.rs", "main.rs")):
            return folder
        if not folder:
            return _folder(path)
        folder = _folder(folder)


def _rust_path(project: Tree, folder: str, parts: list[str], root: str = "") -> list[str]:
    """The file of the longest part of a module path that is one; names in it are not files."""
    for end in range(len(parts), 0, -1):
        base = posixpath.join(folder, *parts[:end])
        for candidate in (base + ".rs", base + "/mod.rs"):
            if candidate in project.files:
                return [candidate]
    return [root] if root in project.files else []


def _rust(project: Tree, path: str, one: Import) -> list[str]:
    below = _rust_module_folder(path)
    parts = one.name.split("::")
    if one.kind == "mod":
        if one.names:  # #[path = "…"]
            found = _join(_folder(path), one.names[0])
            return [found] if found in project.files else []
        base = posixpath.join(below, *parts)
        return [p for p in (base + ".rs", base + "/mod.rs") if p in project.files][:1]
    parts = [part for part in parts if part not in ("*", "")]
    if not parts:
        return []
    head, rest = parts[0], [part for part in parts[1:] if part != "self"]
    if head == "crate":
        root = _rust_root(project, path)
        files = [posixpath.join(root, name) for name in ("lib.rs", "main.rs")]
        return _rust_path(project, root, rest, next((f for f in files if f in project.files), ""))
    if head in ("self", "super"):
        folder = below
        while head == "super":
            folder = _folder(folder)
            head, *rest = rest or [""]
        rest = [*([head] if head not in ("self", "", "super") else []), *rest]
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


# --- Ruby ---


def _ruby(project: Tree, path: str, one: Import) -> list[str]:
    name = one.name if one.name.endswith(".rb") else one.name + ".rb"
    if one.kind == "require_relative" or name.startswith("./"):
        found = _join(_folder(path), name)
        return [found] if found in project.files else []
    ends = [
        other
        for other in project.alike(posixpath.basename(name))
        if any(other == _join(root, name) for root in _ruby_roots(other))
    ]
    return ends if len(ends) <= 1 else _nearest(path, ends)


def _ruby_roots(path: str) -> list[str]:
    """Folders on the way to a file that are load paths by custom."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: at + 1]) for at, part in enumerate(parts) if part in _LOAD_PATHS]


_LOAD_PATHS = ("lib", "app", "test", "spec", "ext")

RULES: dict[str, Callable[[Tree, str, Import], list[str]]] = {
    "python": _python, "javascript": _script, "typescript": _script, "java": _jvm, "kotlin": _jvm,
    "go": _go, "c": _include, "cpp": _include, "rust": _rust, "csharp": _csharp, "ruby": _ruby,
    "php": _php,
}  # fmt: skip
_OWN_PACKAGE: dict[str, Callable[[Tree, str], list[str]]] = {
    "java": _own_jvm, "kotlin": _own_jvm, "go": _own_go, "csharp": _own_csharp, "php": _own_php,
}  # fmt: skip
