"""Which file an import of JavaScript or TypeScript means."""

import json
import re

from curation.project.imports import Import
from curation.project.tree import Tree, folder_of, join

_TYPED = (".ts", ".tsx", ".d.ts", ".mts", ".cts")
_PLAIN = (".js", ".jsx", ".mjs", ".cjs", ".vue")


def _script_file(project: Tree, path: str, base: str | None) -> list[str]:
    """The file of a path without or with a suffix; the user's own language is tried first.

    Beside a compiled `a.js` lies its `a.d.ts`: TypeScript means that one, JavaScript the other.
    """
    if base is None:
        return []
    # TypeScript writes the name that the compiled file will have.
    written = re.sub(r"\.([mc]?)js(x?)$", r".\1ts\2", base)
    typed = project.files[path][0] == "typescript"
    ends = _TYPED + _PLAIN if typed else _PLAIN + _TYPED
    names = [written, re.sub(r"\.[mc]?jsx?$", ".d.ts", base)] if written != base else []
    names = [*names, base] if typed else [base, *names]
    for candidate in [*names, *(base + inner + end for inner in ("", "/index") for end in ends)]:
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
                folder = join(folder_of(path), base if isinstance(base, str) else ".") or ""
                table = paths if isinstance(paths, dict) else {}
                if isinstance(base, str):
                    table = {**table, "*": ["*"]}
                configs.append((folder_of(path), folder, table))
    return sorted(configs, key=lambda item: -len(item[0]))


def _script_packages(project: Tree) -> dict[str, tuple[str, list[str]]]:
    """Package name -> (folder, entry points as written) of every package.json."""
    packages = {}
    for path in project.named("package.json"):
        content = _loose_json(project.files[path][1])
        if isinstance(content.get("name"), str):
            entries = [content.get(key) for key in ("source", "types", "module", "main")]
            packages.setdefault(
                content["name"], (folder_of(path), [e for e in entries if isinstance(e, str)])
            )
    return packages


def script_files(project: Tree, path: str, one: Import) -> list[str]:
    name = one.name.split("?")[0]
    if name.startswith("."):
        return _script_file(project, path, join(folder_of(path), name))
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
                if found := _script_file(project, path, join(base, target)):
                    return found
    packages = project.table("packages", _script_packages)
    parts = name.split("/")
    length = 2 if name.startswith("@") else 1
    if (package := "/".join(parts[:length])) in packages:
        folder, entries = packages[package]
        rest = "/".join(parts[length:])
        tries = [rest, f"src/{rest}"] if rest else [*entries, "src/index", "index", "lib/index"]
        for entry in tries:
            if found := _script_file(project, path, join(folder, entry)):
                return found
    return []
