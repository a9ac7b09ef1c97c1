"""Projects: how many of their own imports are resolved, how far the order holds, how fast.

    python tests/benchmarks/bench_projects.py                    # on installed Python packages
    python tests/benchmarks/bench_projects.py --projects DIR     # and on what lies in DIR
    python tests/benchmarks/bench_projects.py --quick

DIR holds folders and archives, a project each; good ones for eleven languages are, for example,

    pip download --no-deps --no-binary :all: flask django sympy   (Python)
    npm pack redux zod vue react-native         (TypeScript, Java, Kotlin, C++)
    apt-get download golang-github-gin-gonic-gin-dev golang-github-spf13-cobra-dev
    apt-get download ruby-rack ruby-sinatra php-twig php-symfony-console libeigen3-dev
    cargo and others: any checkout (Rust: ripgrep; C#: serilog; Kotlin: okio)

An import counts as the project's own when its spelling says so, by a rule that knows nothing of how
it is resolved: a relative path; a name whose first part is a package, namespace or module of the
project; a quoted #include. It does not count where a file of that name was set aside (vendored,
generated, empty). Resolved are those that lead to a file. Python is compared with `grimp`
edge by edge where it is installed. Of the other languages' edges, 200 each are drawn and held
against the text of both files (`edge_witness.py`), which shows most to be right; `--doubtful` lists
the others for someone to look at. Imports are found in an excerpt of each file; how many say what
the tree of the whole file says is counted. Speeds are of one process, parsing included.

The last lines are the claims: name, value, target; larger is better.
"""

import argparse
import hashlib
import platform
import posixpath
import re
import sys
import time
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path

from edge_witness import witness
from rich.console import Console
from rich.table import Table

from curation.project.documents import Project, ProjectSettings, documents, read_project
from curation.project.excerpts import excerpt
from curation.project.files import ProjectError, RawProject, find_projects
from curation.project.imports import (
    LANGUAGES,
    Import,
    ParseProblem,
    facts_of,
    is_tsx,
    parse,
)
from curation.project.resolve import RULES
from curation.project.tree import Tree

SAMPLE = 200  # edges of each language

INSTALLED = ("flask", "django", "sympy", "mpmath", "pydantic", "rich")


def installed(name: str) -> RawProject | None:
    """An installed Python package as a project."""
    try:
        module = __import__(name)
    except ImportError:
        return None
    root = Path(module.__file__).parent
    (raw,) = find_projects(root)
    return RawProject(name, ((f"{name}/{path}", data, why) for path, data, why in raw.files))


def is_own(project: Project, path: str, one: Import, names: dict[str, set[str]]) -> bool:
    """Whether an import's spelling says that it is of this project."""
    language = project.files[path].language
    name = one.name
    if language == "python":
        return name.startswith(".") or name.split(".")[0] in names["python"]
    if language in ("javascript", "typescript"):
        data = re.search(r"\.(json|css|scss|svg|png|html|wasm|node)$", name)
        return name.startswith("./") or name.startswith("../") if not data else False
    if language == "csharp":  # (a global using speaks for other files)
        space = name.rpartition(".")[0] if one.kind in ("static", "alias") else name
        return one.kind != "global" and space in names["packages"]
    if language in ("java", "kotlin", "php"):
        head = re.split(r"[.\\]\w+$|\.\*$", name)[0]
        return one.kind == "file" or head in names["packages"]
    if language == "go":
        return any(name == m or name.startswith(m + "/") for m in names["go"])
    if language in ("c", "cpp"):
        return one.kind == "quoted" and posixpath.basename(name) in names["files"]
    if language == "rust":
        return one.kind == "mod" or name.split("::")[0] in ("crate", "super", "self")
    return one.kind == "require_relative"


def own_names(project: Project) -> dict[str, set[str]]:
    """First parts of Python modules, packages, Go modules and file names of a project."""
    names: dict[str, set[str]] = defaultdict(set)
    for path, file in project.files.items():
        names["files"].add(posixpath.basename(path))
        if file.language == "python":
            parts = path.split("/")
            names["python"].add(parts[1] if parts[0] == "src" and len(parts) > 1 else parts[0])
        if package := project.facts[path].package:
            names["packages"].add(package)
        if posixpath.basename(path) == "go.mod":
            names["go"] |= set(re.findall(r"^module (\S+)", file.data.decode(), re.MULTILINE))
    names["python"] = {name.removesuffix(".py") for name in names["python"]}
    return names


def measure(project: Project) -> tuple[dict[str, Counter], list[str]]:
    """Imports of the project itself by language, resolved or not, and the unresolved ones."""
    files = {path: (file.language, file.data) for path, file in project.files.items()}
    tree = Tree(files, project.facts, (file.path for file in project.aside))
    names = own_names(project)
    counts: dict[str, Counter] = defaultdict(Counter)
    missing = []
    aside = {posixpath.basename(file.path).split(".")[0] for file in project.aside}
    aside |= {posixpath.basename(posixpath.dirname(file.path)) for file in project.aside}
    for path, facts in project.facts.items():
        language = project.files[path].language
        for one in facts.imports:
            if is_own(project, path, one, names):
                found = bool(RULES[language](tree, path, one))
                if not found and aside & set(re.split(r"[./\\:]+", one.name)[-2:]):
                    continue
                counts[language]["resolved" if found else "missing"] += 1
                if not found:
                    missing.append(f"{language}: {path}: {one.name}")
    return counts, missing


def against_grimp(project: Project, package: str) -> tuple[int, int, int] | None:
    """Edges (in both, only ours, only grimp's) among the modules that grimp knows; None without."""
    try:
        import grimp
    except ImportError:
        return None
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    of = {}
    for path in project.files:
        if path.endswith(".py"):
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            of[name] = path
    known = graph.modules & of.keys()
    theirs = {
        (of[a], of[b])
        for a in known
        for b in graph.find_modules_directly_imported_by(a) & known
        if a != b
    }
    paths = {of[name] for name in known}
    ours = {(a, b) for a in paths for b in project.edges[a] if b in paths}
    return len(ours & theirs), len(ours - theirs), len(theirs - ours)


def agreement(project: Project) -> Counter:
    """Files in whose excerpt the same imports are found as in the whole file, and others."""
    same: Counter = Counter()
    for path, file in project.files.items():
        if excerpt(file.data, file.language) == file.data:
            continue
        tsx = is_tsx(file.language, path)
        try:
            whole = facts_of(parse(file.data, file.language, path), file.data, file.language, tsx)
        except ParseProblem:
            continue
        same[whole.imports == project.facts[path].imports] += 1
    return same


def drawn(edges: list[tuple[Project, str, str]]) -> list[tuple[Project, str, str]]:
    """The sample of one language: the least hashes, so the same ones every time."""

    def key(edge: tuple[Project, str, str]) -> bytes:
        return hashlib.sha256(f"1 {edge[0].name} {edge[1]} {edge[2]}".encode()).digest()

    return sorted(edges, key=key)[:SAMPLE]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--projects", type=Path, help="a folder of folders and archives")
    parser.add_argument("--quick", action="store_true", help="one small package")
    parser.add_argument("--missing", action="store_true", help="list what was not resolved")
    parser.add_argument("--doubtful", action="store_true", help="list edges no text shows right")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    print(f"{platform.platform()}, Python {platform.python_version()}, one process")
    print(f"tree-sitter {version('tree-sitter')}")
    raws = [installed(name) for name in (("mpmath",) if options.quick else INSTALLED)]
    if options.projects:
        raws += list(find_projects(options.projects, each=True))

    table = Table(title="projects", title_justify="left")
    for column in ("project", "licence", "files", "MB", "edges", "in order", "MB/s", "with holes"):
        table.add_column(column, justify="left" if column in ("project", "licence") else "right")
    total: dict[str, Counter] = defaultdict(Counter)
    edges: dict[str, list[tuple[Project, str, str]]] = defaultdict(list)
    grimps, missing, sums = Counter(), [], Counter()
    same: Counter = Counter()
    for raw in raws:
        if raw is None:
            continue
        try:
            files = list(raw.files)
        except ProjectError as error:
            print(f"left out: {error}")
            continue
        seconds = []
        for holes in (False, True):
            settings = ProjectSettings(holes=holes)
            clock = time.perf_counter()
            project = read_project(RawProject(raw.name, iter(files)), settings)
            rows = list(documents(project, settings))
            seconds.append(time.perf_counter() - clock)
        told = project.statistics()
        counts, unresolved = measure(project)
        same += agreement(project)
        missing += [f"{raw.name}: {line}" for line in unresolved]
        for user, targets in project.edges.items():
            language = project.files[user].language
            if language != "python":
                edges[language] += [(project, user, target) for target in targets]
        for language, count in counts.items():
            total[language] += count
        if raw.name in INSTALLED and (found := against_grimp(project, raw.name)):
            grimps += Counter(dict(zip(("both", "ours", "theirs"), found, strict=True)))
        sums += Counter(bytes=told["bytes"], edges=told["edges"], ordered=told["edges_in_order"])
        sums += Counter(plain=seconds[0], holes=seconds[1], text=sum(len(r["text"]) for r in rows))
        size = told["bytes"] / 1e6
        share = told["edges_in_order"] / told["edges"] if told["edges"] else 1.0
        table.add_row(
            raw.name, project.license or "-", f"{told['files']:,}", f"{size:.1f}",
            f"{told['edges']:,}", f"{share:.1%}", *(f"{size / s:.1f}" for s in seconds),
        )  # fmt: skip
    console.print(table)
    shares = Table(title="imports of the project itself", title_justify="left")
    for column in ("language", "imports", "resolved"):
        shares.add_column(column, justify="left" if column == "language" else "right")
    for language in LANGUAGES:
        if whole := sum(total[language].values()):
            shares.add_row(language, f"{whole:,}", f"{total[language]['resolved'] / whole:.2%}")
    console.print(shares)
    shown: dict[str, list[str]] = defaultdict(list)
    texts = {
        project.name: {path: file.data.decode() for path, file in project.files.items()}
        for all_of in edges.values()
        for project in {id(one[0]): one[0] for one in all_of}.values()
    }
    for language, all_of in edges.items():
        for project, user, target in drawn(all_of):
            shown[language].append(witness(texts[project.name], user, target, language))
            if options.doubtful and not shown[language][-1]:
                print(f"{language}: {project.name}: {user} -> {target}")
    if options.missing:
        print("\n".join(missing))
    if grimps:
        print(f"Python edges in grimp's graph and ours {grimps['both']:,}, only ours "
              f"{grimps['ours']:,}, only grimp's {grimps['theirs']:,}")  # fmt: skip
    print(f"text of documents over text of files: {sums['text'] / max(sums['bytes'], 1):.2f}")
    for language in LANGUAGES:
        if whole := sum(total[language].values()):
            target = 0.97 if language == "python" else 0.9
            print(f"resolved_{language} {total[language]['resolved'] / whole:.4g} {target}")
    for language in sorted(shown):
        right = sum(map(bool, shown[language]))
        print(f"edges_shown_right_{language} {right / len(shown[language]):.3g} 0.8")
    if grimps:
        share = grimps["both"] / (grimps["both"] + grimps["theirs"])
        print(f"python_edges_of_grimp {share:.4g} 0.97")
    if same:
        print(f"excerpts_like_files {same[True] / same.total():.5g} 0.999")
    print(f"edges_in_order {sums['ordered'] / max(sums['edges'], 1):.3g} 0.8")
    print(f"MB_per_second {sums['bytes'] / 1e6 / sums['plain']:.3g} 10")
    print(f"MB_per_second_with_holes {sums['bytes'] / 1e6 / sums['holes']:.3g} 3")


if __name__ == "__main__":
    main()
