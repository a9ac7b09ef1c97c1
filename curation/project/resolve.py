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
java, kotlin, php   by package and name; the same package needs no import; in Kotlin a name that
            several files of the nearest folder define is an overloaded function, and means all
csharp      by namespace, the file's own and those above it too
go          by the module path of go.mod; in a package, the files that define what is used
c, cpp      beside the file, then the path's end anywhere below `include/`, `src/` or the root
rust        `mod` beside or below; `crate`, `self`, `super`; crates of the same workspace
ruby        beside the file; `lib/` and other load paths
"""

from collections.abc import Callable, Iterable, Mapping

from curation.project.imports import Facts, Import
from curation.project.rules_packages import (
    csharp_files,
    go_files,
    jvm_files,
    own_csharp_files,
    own_go_files,
    own_jvm_files,
    own_php_files,
    php_files,
)
from curation.project.rules_paths import include_files, ruby_files, rust_files
from curation.project.rules_python import python_files
from curation.project.rules_script import script_files
from curation.project.tree import Tree

Edges = dict[str, list[str]]


def resolve(
    files: Mapping[str, tuple[str, bytes]], facts: Mapping[str, Facts], aside: Iterable[str] = ()
) -> Edges:
    """Give each file the files of the project that it needs, sorted, without itself.

    files: path -> (language, UTF-8 content); facts: path -> `find_facts` of it; aside: paths of
    other files, which no edge leads to.
    """
    project = Tree(files, facts, aside)
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


RULES: dict[str, Callable[[Tree, str, Import], list[str]]] = {
    "python": python_files,
    "javascript": script_files,
    "typescript": script_files,
    "java": jvm_files,
    "kotlin": jvm_files,
    "go": go_files,
    "c": include_files,
    "cpp": include_files,
    "rust": rust_files,
    "csharp": csharp_files,
    "ruby": ruby_files,
    "php": php_files,
}
_OWN_PACKAGE: dict[str, Callable[[Tree, str], list[str]]] = {
    "java": own_jvm_files,
    "kotlin": own_jvm_files,
    "go": own_go_files,
    "csharp": own_csharp_files,
    "php": own_php_files,
}
