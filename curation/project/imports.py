"""Imports: what a source file names of other files, found in its syntax tree.

A query for each language (tree-sitter) finds the statements, in the part of the file where they can
stand (`excerpts.py`); what they say is kept in the language's own spelling, and `resolve.py` knows
its rules. Text that only looks like an import, in a
string or a comment, is none. The grammars come inside wheels.

Where files of one package see each other without an import (Go, Java, Kotlin, C#, PHP), a file's
own top-level names (`defines`) and the names it uses (`uses.py`) say which of them it needs.

A file that is too large, has lines like those of minified code, takes too long to parse, or is
broken into too many pieces has no imports: `Facts.problem` says why. Those are the files that make
parser and queries slow: a query goes over the children of one error again for each of them.
"""

import importlib
import re
import time
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from tree_sitter import Language, Node, Parser, Query, QueryCursor, Tree

from curation.project.excerpts import C_COMMENTS, LINE_STRINGS, excerpt
from curation.project.statements import MOST_NAME, READ, Import, text_of
from curation.project.uses import names_used

PARSE_SECONDS = 10.0  # for one file; a megabyte takes about 0.3
MAX_BYTES = 4 << 20
MAX_LINE = 50_000  # bytes
MAX_PIECES = 10_000  # of one error
MAX_DEPTH = 1000
MAX_CHAIN = 1000  # operators, with nothing between that ends an expression


@dataclass(frozen=True)
class Facts:
    """What a file says of itself and of others.

    defines: top-level names. Kotlin's functions are `name()`; its properties and what extends
    another type are `.name`, which only an import that spells it can be traced to; the class by
    which Java sees such names is `@Name`.
    uses: see `uses.py`.
    """

    imports: tuple[Import, ...] = ()
    package: str = ""
    defines: frozenset[str] = frozenset()
    uses: frozenset[str] = field(default=frozenset(), repr=False)
    problem: str = ""


# Module and function that give the grammar, and the query, whose captures of one match go together.
_GRAMMARS: dict[str, tuple[str, str, str]] = {
    "python": (
        "tree_sitter_python",
        "language",
        """
        (import_statement name: (dotted_name) @module)
        (import_statement name: (aliased_import name: (dotted_name) @module))
        (import_from_statement module_name: (_) @from) @whole
        """,
    ),
    "javascript": (
        "tree_sitter_javascript",
        "language",
        """
        (import_statement source: (string (string_fragment) @path))
        (export_statement source: (string (string_fragment) @path))
        (call_expression function: (identifier) @call
            arguments: (arguments . (string (string_fragment) @path)))
        (call_expression function: (import)
            arguments: (arguments . (string (string_fragment) @path)))
        """,
    ),
    "typescript": (
        "tree_sitter_typescript",
        "language_typescript",
        """
        (import_statement source: (string (string_fragment) @path))
        (export_statement source: (string (string_fragment) @path))
        (import_require_clause source: (string (string_fragment) @path))
        (call_expression function: (identifier) @call
            arguments: (arguments . (string (string_fragment) @path)))
        (call_expression function: (import)
            arguments: (arguments . (string (string_fragment) @path)))
        """,
    ),
    "java": (
        "tree_sitter_java",
        "language",
        """
        (package_declaration (_) @package)
        (import_declaration) @import
        (program (class_declaration name: (_) @define))
        (program (interface_declaration name: (_) @define))
        (program (enum_declaration name: (_) @define))
        (program (record_declaration name: (_) @define))
        (program (annotation_type_declaration name: (_) @define))
        """,
    ),
    "kotlin": (
        "tree_sitter_kotlin",
        "language",
        """
        (package_header (qualified_identifier) @package)
        (import) @import
        (file_annotation) @file_annotation
        (source_file (class_declaration name: (_) @define))
        (source_file (object_declaration name: (_) @define))
        (source_file (function_declaration name: (_) @function) @whole)
        (source_file (property_declaration (variable_declaration (identifier) @property)))
        (source_file (type_alias type: (_) @define))
        """,
    ),
    "go": (
        "tree_sitter_go",
        "language",
        """
        (package_clause (package_identifier) @package)
        (import_spec name: (_)? @alias path: (_) @quoted)
        (source_file (function_declaration name: (_) @define))
        (source_file (type_declaration (type_spec name: (_) @define)))
        (source_file (type_declaration (type_alias name: (_) @define)))
        (source_file (const_declaration (const_spec name: (_) @define)))
        (source_file (var_declaration (var_spec name: (_) @define)))
        (source_file (var_declaration (var_spec_list (var_spec name: (_) @define))))
        """,
    ),
    "c": ("tree_sitter_c", "language", "(preproc_include path: (_) @include)"),
    "cpp": ("tree_sitter_cpp", "language", "(preproc_include path: (_) @include)"),
    "rust": (
        "tree_sitter_rust",
        "language",
        """
        (mod_item name: (_) @mod !body) @mod_item
        (use_declaration argument: (_) @use)
        (extern_crate_declaration name: (_) @crate)
        """,
    ),
    "csharp": (
        "tree_sitter_c_sharp",
        "language",
        """
        (using_directive) @using
        (namespace_declaration name: (_) @package)
        (file_scoped_namespace_declaration name: (_) @package)
        (class_declaration name: (_) @define)
        (interface_declaration name: (_) @define)
        (struct_declaration name: (_) @define)
        (record_declaration name: (_) @define)
        (enum_declaration name: (_) @define)
        (delegate_declaration name: (_) @define)
        """,
    ),
    "ruby": (
        "tree_sitter_ruby",
        "language",
        """
        (call !receiver method: (identifier) @call
            arguments: (argument_list . (string (string_content) @path)))
        (call !receiver method: (identifier) @call
            arguments: (argument_list (simple_symbol) . (string (string_content) @path)))
        """,
    ),
    "php": (
        "tree_sitter_php",
        "language_php",
        """
        (namespace_definition name: (_) @package)
        (namespace_use_declaration) @use
        (require_expression (_) @file)
        (require_once_expression (_) @file)
        (include_expression (_) @file)
        (include_once_expression (_) @file)
        (class_declaration name: (_) @define)
        (interface_declaration name: (_) @define)
        (trait_declaration name: (_) @define)
        (enum_declaration name: (_) @define)
        """,
    ),
}

LANGUAGES = tuple(_GRAMMARS)
# All brackets, and each kind alone: `[)[)` is as deep for a parser as `[[`.
_BRACKETS = np.zeros((4, 256), np.int8)
for _row, _pair in enumerate((b"()", b"[]", b"{}"), 1):
    _BRACKETS[[0, _row], _pair[0]] = 1
    _BRACKETS[[0, _row], _pair[1]] = -1
# What can end an expression, or begin one inside it, is as good as a semicolon.
_ENDS = bytes.maketrans(b",{}()[]", b";;;;;;;")
_STRINGS_AND_COMMENTS = re.compile(LINE_STRINGS + rb"|" + C_COMMENTS)
_WITH_CHAINS = {"c", "cpp", "csharp", "java"}
_WITH_USES = {"java", "kotlin", "go", "csharp", "php"}


@cache
def grammar(language: str, tsx: bool = False) -> Language:
    """Load a grammar. Raises KeyError for a language that has none."""
    module, function, _ = _GRAMMARS[language]
    function = "language_tsx" if tsx else function
    return Language(getattr(importlib.import_module(module), function)())


@cache
def _query(language: str, tsx: bool) -> Query:
    return Query(grammar(language, tsx), _GRAMMARS[language][2])


class ParseProblem(ValueError):
    """Why a file was not parsed, or not looked into."""


def is_tsx(language: str, path: str) -> bool:
    """Whether a file is of TypeScript's other grammar."""
    return language == "typescript" and path.endswith((".tsx", ".jsx"))


def parse(data: bytes, language: str, path: str = "") -> Tree:
    """Parse a file, UTF-8. Raises ParseProblem for one that would take too long.

    So do brackets that are nested as no one nests them: queries of such a tree take minutes, and
    cannot be stopped (py-tree-sitter 0.26.1 crashes when a query has a progress callback). And so
    does `a < b < c …`, which may be types in types: where the text ends, a parser of C# or C gives
    up all of it in one step that asks no callback, and takes 20 s for 18 kB, eight times as long
    for twice as much.
    """
    if len(data) > MAX_BYTES:
        raise ParseProblem(f"{len(data):,} bytes, more than {MAX_BYTES:,}")
    longest = max(map(len, data.split(b"\n")))
    if longest > MAX_LINE:
        raise ParseProblem(f"a line of {longest:,} bytes, more than {MAX_LINE:,}")
    text = np.frombuffer(data, np.uint8)
    depth = max(int(kind[text].cumsum(dtype=np.int32).max(initial=0)) for kind in _BRACKETS)
    if depth > MAX_DEPTH:
        raise ParseProblem(f"brackets {depth:,} deep, more than {MAX_DEPTH:,}")
    if language in _WITH_CHAINS and (chain := _longest_chain(data)) > MAX_CHAIN:
        raise ParseProblem(f"an expression of {chain:,} operators, more than {MAX_CHAIN:,}")
    stop = time.monotonic() + PARSE_SECONDS
    try:
        # Only a text that is read piece by piece is parsed with a callback; true stops it.
        tree = Parser(grammar(language, is_tsx(language, path))).parse(
            # (Small pieces: Node.text asks anew for each byte.)
            lambda at, _: data[at : at + (1 << 10)],
            encoding="utf8",
            progress_callback=lambda at, error: time.monotonic() > stop,
        )
    except ValueError:
        raise ParseProblem(f"takes more than {PARSE_SECONDS:g} s to parse") from None
    if _is_in_pieces(tree.root_node):
        raise ParseProblem(f"an error of more than {MAX_PIECES:,} pieces")
    return tree


def _longest_chain(data: bytes) -> int:
    """The most of `<`, `=` and `>` that stand in one expression, outside strings and comments."""
    parts = _STRINGS_AND_COMMENTS.sub(b"", data).translate(_ENDS).split(b";")
    long = [part for part in parts if len(part) > MAX_CHAIN]
    return max((len(part) - len(part.translate(None, b"<=>")) for part in long), default=0)


def _is_in_pieces(root: Node) -> bool:
    waiting = [root] if root.has_error else []
    while waiting:
        node = waiting.pop()
        if node.is_error and node.child_count > MAX_PIECES:
            return True
        waiting += [child for child in node.children if child.has_error]
    return False


def find_facts(data: bytes, language: str, path: str = "") -> Facts:
    """Find what a file imports, and for some languages what it defines and uses.

    data: UTF-8. Languages without a grammar here have no imports. Never raises for the file.
    """
    if language not in _GRAMMARS:
        return Facts()
    try:
        # (A file beyond the limit is refused by the parser, before anything goes through it.)
        part = excerpt(data, language) if len(data) <= MAX_BYTES else data
        return facts_of(parse(part, language, path), data, language, is_tsx(language, path))
    except ParseProblem as problem:
        return Facts(problem=str(problem))


def facts_of(tree: Tree, data: bytes, language: str, tsx: bool = False) -> Facts:
    """As `find_facts`, from the tree of the file or of its excerpt.

    data: the whole file. Raises ParseProblem if it takes too long.
    """
    stop = time.monotonic() + PARSE_SECONDS
    imports: list[Import] = []
    package, defines = "", set()
    cursor = QueryCursor(_query(language, tsx))
    cursor.set_max_start_depth(MAX_DEPTH)
    for _, found in cursor.matches(tree.root_node):
        if time.monotonic() > stop:
            raise ParseProblem(f"takes more than {PARSE_SECONDS:g} s to look into")
        captures = {name: nodes[0] for name, nodes in found.items()}
        if "package" in captures:
            package = package or text_of(captures["package"])[:MOST_NAME]
        elif "define" in captures:
            nested = language == "csharp" and _is_nested(captures["define"])
            defines |= set() if nested else {text_of(node) for node in found["define"]}
        elif "file_annotation" in captures:
            named = re.search(r'JvmName\("(\w+)"\)', text_of(captures["file_annotation"]))
            defines |= {"@" + named[1]} if named else set()
        elif "property" in captures:
            defines.add("." + text_of(captures["property"]))
        elif "function" in captures:
            defines.add(_kotlin_function(captures["whole"], captures["function"]))
        else:
            imports += [i for i in READ[language](captures) if len(i.name) <= MOST_NAME]
    if language == "csharp" and not package:
        # Conditional lines around brackets can break the tree where it begins.
        match = re.search(rb"^[ \t]*+namespace[ \t]++([\w.]++)", data, re.MULTILINE)
        package = match[1].decode()[:MOST_NAME] if match else ""
    uses = frozenset()
    if language in _WITH_USES:
        uses = names_used(data, language)
        if language in ("java", "kotlin", "php"):  # what is imported hides what the package has
            uses -= {re.split(r"[.\\]", one.name)[-1] for one in imports}
    if language == "go":
        defines -= {"main", "init", "_"}  # no other file can mean these
        for one in imports:
            # (What a package is called its own files say; by custom, as its folder is.)
            folder = re.sub(r"(/|\.)v\d+$", "", one.name).rpartition("/")[2]
            uses -= set(one.names or (folder, folder.removeprefix("go-")))
    return Facts(tuple(dict.fromkeys(imports)), package, frozenset(defines), uses)


def _is_nested(name: Node) -> bool:
    """Whether a type's name stands inside another type (C#'s query finds those as well)."""
    around = name.parent and name.parent.parent
    while around is not None and not around.type.endswith("_declaration"):
        around = around.parent
    return around is not None and "namespace" not in around.type


def _kotlin_function(whole: Node, name: Node) -> str:
    before = whole.named_children[: whole.named_children.index(name)]
    extends = any(node.type not in ("modifiers", "type_parameters") for node in before)
    return f".{text_of(name)}" if extends else f"{text_of(name)}()"
