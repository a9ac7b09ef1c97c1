"""Kinds: whether a text is prose, source code or mathematics, by the shapes of its lines.

A language model asked about a page of C answers with some natural language, because it knows
nothing else; so code and formulas are recognised first. One native pass over the bytes (200 MB/s,
any script) counts what is left of the text when its meaning is taken away:

* a line is *code* if it has a mark of code (a call, a brace, an assignment, an operator of two
  characters, a tag, a name with an underscore or an inner dot, a semicolon at its end, a keyword
  at its beginning) for every four words at most, or goes on, indented, after such a line; comments
  are neither code nor prose, addresses on the web are no marks;
* mathematics leaves LaTeX commands, braced sub- and superscripts, formulas between dollars, and
  the mathematical characters of Unicode.

A text is `math` with at least one mark of mathematics for ten words, `code` if most of its bytes
that are one or the other are code, on four lines or in a thousand bytes, and comments are not
nearly everything, else `prose`; so is what has no five words. Markup and data (HTML, JSON) are
code. tests/benchmarks/bench_language.py measures it on real files.
"""

import numpy as np
import pyarrow as pa

from curation import _native

# Words that begin lines of code. Where one begins a line of prose, it is a mark among many words.
_KEYWORDS = """
async assert await break case catch char class const continue create def default delete do echo
elif else elsif end enum except export extern finally fn for from func function goto if impl import
include insert int interface lambda let lemma local match mod module namespace new open package
pass print private protected pub public raise require return select static struct switch template
theorem throw try type typedef union unless use using var void while with yield
#include #define #if #ifdef #ifndef #endif #else #pragma #!/bin/sh #!/usr/bin/env
"""
KEYWORDS = _KEYWORDS.split()

KINDS = ("prose", "code", "math")


def kinds(texts: pa.Array) -> list[str]:
    """Name the kind of each text of an Arrow array of strings: `prose`, `code` or `math`."""
    shapes = _native.line_shapes(texts, KEYWORDS).astype(np.int64)
    code, prose, total, code_lines, marks, words = shapes.T
    is_math = (marks >= 5) & (marks * 10 >= words) & (words >= 5)
    is_code = (
        (code > prose) & (code * 6 >= total) & ((code_lines >= 4) | (code >= 1000)) & (words >= 5)
    )
    return [KINDS[kind] for kind in np.where(is_math, 2, np.where(is_code, 1, 0))]
