"""Documentation inside Python source: docstrings, read without importing anything.

A module's docstrings are found by parsing it (`ast`), never by running it, and put together in the
order in which they stand: module, classes, their methods, functions. Functions inside functions are
not searched, nobody reads their docstrings. Some libraries attach the documentation of compiled
functions from long strings in modules of their own (`_torch_docs.py`, `_add_newdocs.py`); in those
every long string counts.

For prose the interpreter sessions (`>>> …` with their output) are taken out; for mathematics they
are the worked examples and stay.
"""

import ast
import inspect
import re
import warnings

_DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_LONG = 200

# A session ends at the first blank line, as in the doctest module.
_SESSION = re.compile(r"^[ \t]*>>>.*\n?(?:[ \t]*\S.*\n?)*", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n\s*\n+")


def module_docstrings(source: str, *, long_strings: bool = False) -> list[str]:
    """Docstrings of a module's source, without their indentation, in order.

    With `long_strings` every string constant of at least 200 characters counts instead. A source
    without a triple quote, or one that this interpreter cannot parse (templates, other versions'
    syntax), gives an empty list.
    """
    if '"""' not in source and "'''" not in source:
        return []  # four files in ten; parsing is what takes the time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    found: list[str] = []
    if long_strings:
        strings = (n.value for n in ast.walk(module) if isinstance(n, ast.Constant))
        found += (inspect.cleandoc(s) for s in strings if isinstance(s, str) and len(s) >= _LONG)
    else:
        _collect(module, found)
    # A lone surrogate is legal in a Python string, and has no UTF-8.
    return [text for text in found if text.strip() and not _has_surrogate(text)]


def without_sessions(text: str) -> str:
    """`text` without interpreter sessions, their output, and the gaps they leave."""
    return _BLANK_LINES.sub("\n\n", _SESSION.sub("", text)).strip()


def is_documentation_module(path: str) -> bool:
    """Whether a file holds documentation of compiled functions as long strings."""
    return path.endswith(("_docs.py", "_newdocs.py", "_newdocs_scalars.py"))


def _collect(node: ast.AST, found: list[str]) -> None:
    if isinstance(node, (ast.Module, *_DOCUMENTED)):
        text = ast.get_docstring(node)
        if text:
            found.append(text)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    # Definitions may stand in the branches of if, try and with, at module or class level.
    for name in ("body", "handlers", "orelse", "finalbody"):
        for child in getattr(node, name, ()):
            if hasattr(child, "body"):
                _collect(child, found)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text) if not text.isascii() else False
