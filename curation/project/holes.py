"""Holes: the nodes of a syntax tree that make a natural gap, for fill-in-the-middle.

What a programmer writes at one go: the body of a function, a block, an argument list, an
expression, a run of statements. For each kind a query names the node types of every language; of
what it finds, at most `MOST` a kind and file are kept, drawn by a hash of the file's content, so
that a file of ten thousand calls does not carry ten thousand spans. Fill-in-the-middle chooses
among them later, at the encoder's door.
"""

from functools import cache

from tree_sitter import Query, QueryCursor, QueryError, Tree
from xxhash import xxh3_64_intdigest

from curation.project.imports import MAX_DEPTH, grammar

KINDS = ("body", "block", "arguments", "expression", "statements")
MOST = 16
MAX_BYTES = 4096  # of one hole; longer bodies are no gap that anybody fills at once

_BODIES = [
    "function_definition",
    "function_declaration",
    "method_declaration",
    "method_definition",
    "function_item",
    "constructor_declaration",
    "local_function_statement",
    "method",
    "singleton_method",
    "arrow_function",
    "function_expression",
    "lambda_expression",
    "func_literal",
    "closure_expression",
]
_BLOCKS = [
    "if_statement",
    "else_clause",
    "for_statement",
    "for_in_statement",
    "while_statement",
    "try_statement",
    "catch_clause",
    "with_statement",
    "if_expression",
    "for_expression",
    "while_expression",
    "match_arm",
    "enhanced_for_statement",
    "foreach_statement",
    "do_statement",
    "elif_clause",
    "except_clause",
    "loop_expression",
]
_ARGUMENTS = [
    "argument_list",
    "arguments",
    "value_arguments",
    "parameters",
    "formal_parameters",
    "parameter_list",
]
_STATEMENTS = [
    "expression_statement",
    "return_statement",
    "assignment",
    "assignment_statement",
    "short_var_declaration",
    "local_variable_declaration",
    "lexical_declaration",
    "let_declaration",
    "variable_declaration",
    "local_declaration_statement",
    "declaration",
    "call",
]
# (node type, field) whose value is an expression on its own.
_EXPRESSIONS = [
    (node, part)
    for node in [
        "assignment",
        "variable_declarator",
        "assignment_expression",
        "let_declaration",
        "init_declarator",
        "if_statement",
        "while_statement",
        "if_expression",
        "conditional_expression",
        "pair",
        "keyword_argument",
    ]
    for part in ("right", "value", "condition")
]


def _patterns() -> list[tuple[str, str]]:
    patterns = [("body", f"({node} body: (_) @n)") for node in _BODIES]
    patterns += [("body", "(function_body) @n"), ("body", "(anonymous_function) @n")]  # Kotlin
    for node in _BLOCKS:
        patterns += [("block", f"({node} {part}: (_) @n)") for part in ("body", "consequence")]
    patterns += [("arguments", f"({node}) @n") for node in _ARGUMENTS]
    patterns += [("expression", f"({node} {part}: (_) @n)") for node, part in _EXPRESSIONS]
    patterns += [("statements", f"({node}) @n") for node in _STATEMENTS]
    return patterns


@cache
def _query(language: str, tsx: bool) -> Query | None:
    """One query of all patterns that the grammar knows, captures named by kind."""
    known = grammar(language, tsx)
    found = []
    for kind, pattern in _patterns():
        pattern = pattern.replace("@n", f"@{kind}")
        try:
            Query(known, pattern)
        except QueryError:
            continue  # this language has no such node
        found.append(pattern)
    return Query(known, "\n".join(found)) if found else None


def find_holes(tree: Tree, data: bytes, language: str, tsx: bool = False) -> list[tuple]:
    """Give (start, end, kind) in bytes, sorted; brackets around a body or a list stay outside.

    A hole has at least one character that is not white space, and lies within `MAX_BYTES`.
    """
    query = _query(language, tsx)
    if query is None:
        return []
    salt = xxh3_64_intdigest(data)
    holes = set()
    cursor = QueryCursor(query)
    cursor.set_max_start_depth(MAX_DEPTH)
    for kind, nodes in cursor.captures(tree.root_node).items():
        places = []
        for node in nodes:
            start, end = node.start_byte, node.end_byte
            # `(a) + b` begins with a bracket as well, but does not end with its fellow.
            if data[start : start + 1] + data[end - 1 : end] in (b"{}", b"()", b"[]"):
                start, end = start + 1, end - 1
            if end - start <= MAX_BYTES and data[start:end].strip():
                places.append((start, end, kind))
        places.sort(key=lambda p: (xxh3_64_intdigest(b"%d" % p[0], salt), p))
        holes.update(places[:MOST])
    return sorted(holes)
