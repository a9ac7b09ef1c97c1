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
from curation.project.uses import names_used

PARSE_SECONDS = 10.0  # for one file; a megabyte takes about 0.3
MAX_BYTES = 4 << 20
MAX_LINE = 50_000  # bytes
MAX_PIECES = 10_000  # of one error
MAX_DEPTH = 1000
MAX_CHAIN = 1000  # operators, with nothing between that ends an expression
_MOST_NAME = 1000  # characters of a name, and
_MOST_DEEP = 64  # levels of nesting: what is more names no file, but can take for ever


@dataclass(frozen=True)
class Import:
    """One import: the name as written, and the names that are taken out of it (`*` for all).

    kind: what the language's rules need to know, such as `quoted` and `angled` of an #include.
    """

    name: str
    names: tuple[str, ...] = ()
    kind: str = ""


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
            package = package or _text(captures["package"])[:_MOST_NAME]
        elif "define" in captures:
            nested = language == "csharp" and _is_nested(captures["define"])
            defines |= set() if nested else {_text(node) for node in found["define"]}
        elif "file_annotation" in captures:
            named = re.search(r'JvmName\("(\w+)"\)', _text(captures["file_annotation"]))
            defines |= {"@" + named[1]} if named else set()
        elif "property" in captures:
            defines.add("." + _text(captures["property"]))
        elif "function" in captures:
            defines.add(_kotlin_function(captures["whole"], captures["function"]))
        else:
            imports += [i for i in _READ[language](captures) if len(i.name) <= _MOST_NAME]
    if language == "csharp" and not package:
        # Conditional lines around brackets can break the tree where it begins.
        match = re.search(rb"^[ \t]*+namespace[ \t]++([\w.]++)", data, re.MULTILINE)
        package = match[1].decode()[:_MOST_NAME] if match else ""
    uses = frozenset()
    if language in _WITH_USES:
        uses = names_used(data, language)
        if language in ("java", "kotlin", "php"):  # what is imported hides what the package has
            uses -= {re.split(r"[.\\]", one.name)[-1] for one in imports}
    if language == "go":
        defines -= {"main", "init", "_"}  # no other file can mean these
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
    return f".{_text(name)}" if extends else f"{_text(name)}()"


def _text(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")


def _python(found: dict[str, Node]) -> list[Import]:
    if "module" in found:
        return [Import(_text(found["module"]))]
    names = []
    for node in found["whole"].children_by_field_name("name"):
        inner = node.child_by_field_name("name") if node.type == "aliased_import" else node
        names.append(_text(inner or node))
    if any(node.type == "wildcard_import" for node in found["whole"].children):
        names.append("*")
    return [Import(re.sub(r"\s", "", _text(found["from"])), tuple(names), "from")]


def _script(found: dict[str, Node]) -> list[Import]:
    if "call" in found and _text(found["call"]) != "require":
        return []
    return [Import(_text(found["path"]))]


def _java(found: dict[str, Node]) -> list[Import]:
    text = _text(found["import"]).removeprefix("import").rstrip(";").split()
    static = text[:1] == ["static"]
    return [Import("".join(text[static:]), kind="static" if static else "")]


def _kotlin(found: dict[str, Node]) -> list[Import]:
    text = _text(found["import"]).removeprefix("import").split(" as ")[0]
    return [Import("".join(text.split()).rstrip(";"))]


def _go(found: dict[str, Node]) -> list[Import]:
    alias = (_text(found["alias"]),) if "alias" in found else ()
    return [Import(_text(found["quoted"]).strip('"`'), alias)]


def _include(found: dict[str, Node]) -> list[Import]:
    text = _text(found["include"])
    if text[:1] not in ('"', "<"):
        return []  # a macro
    return [Import(text.strip('"<>'), kind="quoted" if text[0] == '"' else "angled")]


def _rust(found: dict[str, Node]) -> list[Import]:
    if "mod" in found:
        before = found["mod_item"].prev_named_sibling
        # #[path = "x.rs"] mod y;
        path = ""
        if before is not None and before.type == "attribute_item":
            match = re.search(r'path\s*=\s*"([^"]+)"', _text(before))
            path = match[1] if match else ""
        # `mod` inside `mod tests { … }` is looked for in a folder of that name.
        outer = _modules_around(found["mod_item"])
        return [Import("::".join([*outer, _text(found["mod"])]), (path,) if path else (), "mod")]
    if "crate" in found:
        return [Import(_text(found["crate"]), kind="use")]
    renamed = re.sub(r" as \w+", "", " ".join(_text(found["use"]).split()))
    names = _use_tree("".join(renamed.split()))
    if outer := _modules_around(found["use"]):
        names = [_from_inside(name, outer) for name in names]
    return [Import(name, kind="use") for name in names]


def _modules_around(node: Node) -> list[str]:
    """Names of the modules with a body, in this file, that a node stands in, outermost first."""
    outer: list[str] = []
    around = node.parent
    for _ in range(_MOST_DEEP):
        if around is None:
            break
        if around.type == "mod_item":
            outer.insert(0, _text(around.child_by_field_name("name")))
        around = around.parent
    return outer


def _from_inside(name: str, outer: list[str]) -> str:
    """A path as the file would spell it that has the modules `outer` around the statement."""
    head, *rest = name.split("::")
    if head not in ("self", "super"):
        return name
    left = list(outer)
    if head == "super":
        left.pop()
    while rest[:1] == ["super"] and left:
        left.pop()
        rest = rest[1:]
    up = rest[:1] == ["super"]
    return "::".join([*([] if up else ["self"]), *left, *rest])


def _use_tree(text: str, before: str = "", level: int = 0) -> list[str]:
    """Spell out `a::{b,c::{d,e}}` as a::b, a::c::d and a::c::e."""
    paths, depth, start = [], 0, 0
    if level > _MOST_DEEP or len(before) > _MOST_NAME:
        return []
    for at, char in enumerate(text + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            part, start = text[start:at], at + 1
            head, brace, rest = part.partition("{")
            if brace:
                paths += _use_tree(rest.rpartition("}")[0], before + head, level + 1)
            elif part:
                paths.append(before + part)
    return paths


def _csharp(found: dict[str, Node]) -> list[Import]:
    """Of kind `static`, `alias` (another name for a type or a namespace), `global`, or none."""
    words = _text(found["using"]).rstrip(";").replace("=", " = ").split()
    if is_global := words[:1] == ["global"]:  # for all files of its project
        words = words[1:]
    left = words[1:]
    kind = "static" if left[:1] == ["static"] else "alias" if "=" in left else "global" * is_global
    left = left[left.index("=") + 1 :] if "=" in left else left
    left = left[left[:1] == ["static"] :]
    return [Import("".join(left).removeprefix("global::"), kind=kind)]


def _ruby(found: dict[str, Node]) -> list[Import]:
    call = _text(found["call"])
    if call not in ("require", "require_relative", "load", "autoload"):
        return []
    return [Import(_text(found["path"]), kind=call)]


def _php(found: dict[str, Node]) -> list[Import]:
    if "file" in found:
        text = _text(found["file"]).strip("() ")
        match = re.fullmatch(
            r"(__DIR__\s*\.\s*|dirname\(\s*__FILE__\s*\)\s*\.\s*)?(['\"])([^'\"$]+)\2", text
        )
        return (
            [Import(match[3].lstrip("/") if match[1] else match[3], kind="file")] if match else []
        )
    text = _text(found["use"]).strip().removeprefix("use").rstrip(";").strip()
    text = re.sub(r"^(function|const)\s+", "", text)
    head, brace, rest = text.partition("{")
    if brace and len(head) > _MOST_NAME:
        return []
    names = rest.rstrip("} ").split(",") if brace else text.split(",")
    bare = [name.split(" as ")[0].strip() for name in names if name.strip()]
    return [Import(((head if brace else "") + name).strip("\\ "), kind="use") for name in bare]


_READ = {
    "python": _python, "javascript": _script, "typescript": _script, "java": _java,
    "kotlin": _kotlin, "go": _go, "c": _include, "cpp": _include, "rust": _rust,
    "csharp": _csharp, "ruby": _ruby, "php": _php,
}  # fmt: skip
