"""MathML to TeX: the formulas of web pages in the notation that text corpora write them in.

A formula often carries its TeX: in an `annotation` (KaTeX, MathJax, Wikipedia, LaTeXML) or in
`alttext`. That is taken as it stands. Presentation MathML without it is translated element by
element: fractions, roots, scripts, limits, accents, fences, matrices and cases, letters in styles,
operators. The result is what an author would type (`\\frac{a}{b}`, `x_i^2`), not a picture of the
layout: spacing and sizes are left out. It aims to be valid TeX with amsmath for any input; what it
does not know gives its text.

The libraries on PyPI were tried and left: mathml-to-latex 1.0 (2024) loses matrices and cases and
unbalances fences, mathml2latex (2019) and py_asciimath (2020) are not kept up, mml2tex needs Saxon.

Cost: linear in the elements, recursion as deep as the tree; html.py's parser stops at 256 levels.
"""

import re

from lxml.etree import _Element as Element

from curation.math_symbols import (
    ARROWS,
    COMMANDS,
    FUNCTIONS,
    LIMITS,
    OVER,
    UNDER,
    styled,
    symbol,
)

_OPEN, _CLOSE = "([{|⌊⌈⟨〈‖∥∣", ")]}|⌋⌉⟩〉‖∥∣"
_MATRIX = {"()": "pmatrix", "[]": "bmatrix", "{}": "Bmatrix", "||": "vmatrix", "‖‖": "Vmatrix",
           "∥∥": "Vmatrix", "∣∣": "vmatrix"}  # fmt: skip
_TALL = ("mfrac", "mtable", "munderover", "mroot")
_SKIP = ("annotation", "annotation-xml", "none", "mprescripts", "mglyph", "maligngroup",
         "malignmark")  # fmt: skip


def latex(math: Element) -> str:
    """Give the TeX of a `<math>` element, without delimiters; "" for an empty one."""
    for node in math.iter("{*}annotation"):
        encoding = (node.get("encoding") or "").lower()
        if "tex" in encoding and (source := clean_tex(node.text or "")):
            return source
    return clean_tex(math.get("alttext") or "") or " ".join(_row(_children(math)).split())


def clean_tex(source: str) -> str:
    """Take delimiters, comment line ends and a whole-formula style off a piece of TeX."""
    text = " ".join(re.sub(r"(?<!\\)%[ \t]*\n", "", source).split())
    for opening, closing in (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")):
        if len(text) > len(opening + closing) and text.startswith(opening):
            if text.endswith(closing):
                text = text[len(opening) : -len(closing)].strip()
            break
    styles = r"\{\s*\\(?:displaystyle|textstyle|scriptstyle)\b(.*)\}"
    while (whole := re.fullmatch(styles, text, re.S)) and _balanced(whole[1]):
        text = whole[1].strip()
    return re.sub(r"^\\(?:displaystyle|textstyle)\b\s*", "", text)


def _balanced(text: str) -> bool:
    """Whether the braces of `text` close among themselves, so that the outer pair is one group."""
    depth = 0
    for char in re.sub(r"\\.", "", text):
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return False
    return depth == 0


def _tag(node: Element) -> str:
    name = node.tag if isinstance(node.tag, str) else ""
    return name.rpartition("}")[2].rpartition(":")[2].lower()


def _children(node: Element) -> list[Element]:
    return [child for child in node if _tag(child) and _tag(child) not in _SKIP]


def _text(node: Element) -> str:
    return " ".join("".join(node.itertext()).split())


def _join(parts: list[str]) -> str:
    """Join pieces; a command that ends in a letter is kept apart from a letter after it."""
    out: list[str] = []
    last = ""
    for part in parts:
        if not part:
            continue
        if part[0].isascii() and part[0].isalpha() and re.search(r"\\[A-Za-z]+$", last):
            out.append(" ")
        out.append(part)
        last = part
    return "".join(out)


def _fence(node: Element, side: str) -> str:
    """Give the fence that an `mo` is on one side, "" if it is none."""
    text = _text(node) if _tag(node) == "mo" else ""
    return text if len(text) == 1 and text in side else ""


def _row(nodes: list[Element]) -> str:
    """Translate siblings, with what only shows between them: matrices, cases, tall fences."""
    nodes = [node for child in nodes for node in _flat(child)]
    parts: list[str] = []
    i = 0
    while i < len(nodes):
        opening = _fence(nodes[i], _OPEN)
        body = nodes[i + 1] if i + 1 < len(nodes) else None
        closing = _fence(nodes[i + 2], _CLOSE) if i + 2 < len(nodes) else ""
        if opening and body is not None and _tag(body) == "mtable":
            if closing and opening + closing in _MATRIX:
                parts.append(_table(body, _MATRIX[opening + closing]))
                i += 3
                continue
            if opening == "{" and not closing:
                parts.append(_table(body, "cases"))
                i += 2
                continue
        if opening == "(" and closing == ")" and body is not None and _is_binomial(body):
            top, bottom = (_convert(child) for child in _children(body)[:2])
            parts.append(f"\\binom{{{top}}}{{{bottom}}}")
            i += 3
            continue
        parts.append(_convert(nodes[i]))
        i += 1
    if (
        len(nodes) > 2
        and (opening := _fence(nodes[0], _OPEN))
        and (closing := _fence(nodes[-1], _CLOSE))
        and len(parts) == len(nodes)
        and any(_is_tall(node) for node in nodes[1:-1])
    ):
        parts[0], parts[-1] = f"\\left{_delimiter(opening)}", f"\\right{_delimiter(closing)}"
    return _join(parts)


def _flat(node: Element) -> list[Element]:
    """See through wrappers of one child and through `mstyle` and the like."""
    while _tag(node) in ("mrow", "mstyle", "mpadded") and len(_children(node)) == 1:
        node = _children(node)[0]
    return _children(node) if _tag(node) in ("mstyle", "mpadded", "semantics") else [node]


def _is_tall(node: Element) -> bool:
    return _tag(node) in _TALL or any(_is_tall(child) for child in node if _tag(child) == "mrow")


def _is_binomial(node: Element) -> bool:
    width = (node.get("linethickness") or "").strip()
    return (
        _tag(node) == "mfrac"
        and bool(re.fullmatch(r"0+(\.0*)?[a-z%]*", width))
        and len(_children(node)) > 1
    )


def _delimiter(char: str) -> str:
    return COMMANDS.get(char, char) or "."


def _convert(node: Element) -> str:
    tag = _tag(node)
    handler = _HANDLERS.get(tag)
    if handler is not None:
        return handler(node, _children(node))
    if _children(node):
        return _row(_children(node))
    return _words(_text(node)) if _text(node) and tag not in _SKIP else ""


def _part(nodes: list[Element], index: int) -> str:
    return _convert(nodes[index]) if index < len(nodes) else ""


def _identifier(node: Element, _: list[Element]) -> str:
    text = _text(node)
    if text in FUNCTIONS:
        return f"\\{text}"
    if text in ("lim sup", "lim inf"):
        return "\\" + text.replace(" ", "")
    out = _join([symbol(char) for char in text])
    variant = node.get("mathvariant")
    if len(text) > 1 and text.isalpha() and variant in (None, "normal"):
        return f"\\mathrm{{{out}}}"
    return styled(out, variant)


def _number(node: Element, _: list[Element]) -> str:
    return styled("".join(symbol(char) for char in _text(node)), node.get("mathvariant"))


def _operator(node: Element, _: list[Element]) -> str:
    text = _text(node)
    if text in FUNCTIONS:
        return f"\\{text}"
    if len(text) > 1 and text.isalpha():
        return f"\\operatorname{{{text}}}"
    return _join([symbol(char) for char in text])


def _words(text: str) -> str:
    escaped = re.sub(r"([#$%&_{}])", r"\\\1", text.replace("\\", "/").replace("^", ""))
    return f"\\text{{{escaped}}}" if escaped.strip() else "\\ " if escaped else ""


def _plain_text(node: Element, _: list[Element]) -> str:
    return _words(re.sub(r"\s+", " ", "".join(node.itertext())))


def _space(node: Element, _: list[Element]) -> str:
    if node.get("linebreak") == "newline":
        return "\\\\ "
    wide = re.fullmatch(r"\s*([\d.]+)em\s*", node.get("width") or "")
    return "\\quad " if wide and wide[1].count(".") < 2 and float(wide[1] or 0) >= 1 else " "


def _fraction(node: Element, kids: list[Element]) -> str:
    top, bottom = _part(kids, 0), _part(kids, 1)
    if _is_binomial(node):
        return f"{{{top} \\atop {bottom}}}"
    if node.get("bevelled") == "true":
        return f"{_group(top)}/{_group(bottom)}"
    return f"\\frac{{{top}}}{{{bottom}}}"


def _root(_: Element, kids: list[Element]) -> str:
    return f"\\sqrt[{_part(kids, 1)}]{{{_part(kids, 0)}}}"


def _group(text: str) -> str:
    """Put braces around what is not one character or one command."""
    return text if re.fullmatch(r"[^\\{}^_]|\\[A-Za-z]+", text) else f"{{{text}}}"


def _script(mark: str, text: str) -> str:
    if not text:
        return ""
    if mark == "^" and text.strip("'") == "":
        return text
    return f"{mark}{text}" if len(text) == 1 and text not in "\\{}^_" else f"{mark}{{{text}}}"


def _base(text: str) -> str:
    """Give a base that a script can follow: braces where the script would bind to a part of it."""
    one = re.fullmatch(r"[^\\{}^_]|\\[A-Za-z]+|\\[A-Za-z]+\{[^{}]*\}|\\[{}|]|", text)
    return (text or "{}") if one else f"{{{text}}}"


def _scripts(node: Element, kids: list[Element]) -> str:
    tag, base = _tag(node), _base(_part(kids, 0))
    if tag == "msub":
        return base + _script("_", _part(kids, 1))
    if tag == "msup":
        return base + _script("^", _part(kids, 1))
    return base + _script("_", _part(kids, 1)) + _script("^", _part(kids, 2))


def _stacked(node: Element, kids: list[Element]) -> str:
    """Translate munder, mover, munderover: limits, arrows with text, accents, braces, stacks."""
    tag = _tag(node)
    base_text = _text(kids[0]) if kids else ""
    base = _part(kids, 0)
    under = kids[1] if tag != "mover" and len(kids) > 1 else None
    over = kids[-1] if tag != "munder" and len(kids) > (2 if tag == "munderover" else 1) else None
    below = _convert(under) if under is not None else ""
    above = _convert(over) if over is not None else ""
    if base_text in LIMITS or re.match(r"\\(over|under)brace\b", base):
        return base + _script("_", below) + _script("^", above)
    if base_text in ARROWS:
        low = f"[{below}]" if below else ""
        return f"\\{ARROWS[base_text]}{low}{{{above}}}"
    if under is not None:
        command = UNDER.get(_text(under))
        base = f"\\{command}{{{base}}}" if command else f"\\underset{{{below}}}{{{base}}}"
    if over is not None:
        accent = OVER.get(_text(over))
        if accent and _tag(over) in ("mo", "mi", "mtext", "mrow"):
            base = f"\\{accent[len(base_text) > 1]}{{{base}}}"
        else:
            base = f"\\overset{{{above}}}{{{base}}}"
    return base


def _multiscripts(node: Element, _: list[Element]) -> str:
    """Translate mmultiscripts: base, pairs of scripts, and, after mprescripts, pairs before it."""
    kids = [child for child in node if _tag(child)]
    names = [_tag(child) for child in kids]
    at = names.index("mprescripts") if "mprescripts" in names else len(kids)

    def pairs(scripts: list[Element]) -> str:
        values = ["" if _tag(child) == "none" else _convert(child) for child in scripts]
        return "{}".join(
            _script("_", values[i]) + _script("^", "".join(values[i + 1 : i + 2]))
            for i in range(0, len(values), 2)
        )

    before = pairs(kids[at + 1 :])
    base = _base(_convert(kids[0])) if kids and at else "{}"
    return ("{}" + before if before else "") + base + pairs(kids[1:at])


def _table(node: Element, environment: str = "") -> str:
    if not environment:
        sides = (node.get("columnalign") or "").split()
        environment = "aligned" if sides[:2] == ["right", "left"] else "matrix"
    rows = []
    for row in _children(node):
        cells = _children(row)[_tag(row) == "mlabeledtr" :]
        rows.append(" & ".join(_convert(cell) for cell in cells))
    return f"\\begin{{{environment}}} " + " \\\\ ".join(rows) + f" \\end{{{environment}}}"


def _fenced(node: Element, kids: list[Element]) -> str:
    opening, closing = (node.get(k, d).strip() for k, d in (("open", "("), ("close", ")")))
    if len(kids) == 1 and (table := _flat(kids[0])) and _tag(table[0]) == "mtable":
        if opening + closing in _MATRIX:
            return _table(table[0], _MATRIX[opening + closing])
        if opening == "{" and not closing:
            return _table(table[0], "cases")
    separators = [COMMANDS.get(c, c) for c in node.get("separators", ",") if not c.isspace()]
    inner = ""
    for i, child in enumerate(kids):
        if i and separators:
            inner += separators[min(i - 1, len(separators) - 1)]
        inner = _join([inner, _convert(child)])
    if not (opening and closing) or any(_is_tall(child) for child in kids):
        left, right = _delimiter(opening), _delimiter(closing)
        return _join([f"\\left{left}", inner, f"\\right{right}"])
    return _join([_delimiter(opening), inner, _delimiter(closing)])


_NOTATIONS = {
    "radical": "sqrt", "box": "boxed", "roundedbox": "boxed", "top": "overline",
    "bottom": "underline", "updiagonalstrike": "cancel", "downdiagonalstrike": "bcancel",
    "horizontalstrike": "cancel", "phasorangle": "angle",
}  # fmt: skip


def _enclosed(node: Element, kids: list[Element]) -> str:
    inner = _row(kids)
    for notation in (node.get("notation") or "").split():
        if notation in _NOTATIONS:
            inner = f"\\{_NOTATIONS[notation]}{{{inner}}}"
    return inner


_HANDLERS = {
    "mi": _identifier, "mn": _number, "mo": _operator, "mtext": _plain_text, "ms": _plain_text,
    "mspace": _space, "mfrac": _fraction, "mroot": _root, "mfenced": _fenced,
    "msqrt": lambda _, kids: f"\\sqrt{{{_row(kids)}}}",
    "mphantom": lambda _, kids: f"\\phantom{{{_row(kids)}}}",
    "msub": _scripts, "msup": _scripts, "msubsup": _scripts, "munder": _stacked,
    "mover": _stacked, "munderover": _stacked, "mmultiscripts": _multiscripts,
    "mtable": lambda node, _: _table(node), "menclose": _enclosed,
    "maction": lambda _, kids: _part(kids, 0), "semantics": lambda _, kids: _part(kids, 0),
}  # fmt: skip
