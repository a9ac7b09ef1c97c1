"""Web pages to text: the article without the page around it, with its formulas and its code.

The extractor is trafilatura in its fast mode, without comments. Chosen by quality first, speed
second, on the 181 pages with gold text of article-extraction-benchmark (words as bags, means over
pages; one core shared with other work, so the speeds are good for their ratio only):

                                  precision  recall    F1     pages/s
    trafilatura, fast                 0.951   0.984   0.961        82
    the same through this module      0.951   0.984   0.961        63
    trafilatura, with fallbacks       0.947   0.983   0.958        57
    trafilatura, favor_precision      0.964   0.975   0.965        59   drops code, short blocks
    resiliparse, main content         0.868   0.988   0.915       717
    resiliparse, all text             0.491   1.000   0.625       864

An extractor drops scripts, collapses white space and does not know formulas. So the tree is
rewritten before it looks: each formula (`formulas.py` finds them) and each `<pre>` becomes a run of
one made-up word about as long as what it stands for, so that the extractor weighs the paragraph as
it would have; afterwards the word is exchanged for `$…$`, `$$…$$` or the code. Code is fenced where
the page says it is code (a `<code>` inside, a language or a highlighter's class), with the language
if it is told; any other `<pre>` is plain text with its line breaks. Paragraphs are separated by an
empty line; tables are rows of cells between bars; list items begin with `- `.

Limits: libxml2 leaves out what is deeper than 256 levels, so depth costs nothing; a page of more
than `MAX_CHARS` characters or `MAX_ELEMENTS` elements is refused (the slowest found, 200,000 empty
list items, takes some 20 s); of tags with thousands of attributes, on which libxml2 is quadratic,
only the name stays.
"""

import re
from typing import NamedTuple

from lxml.etree import _Element as Element

from curation.formulas import FORMULA_WORDS, find_formulas

MAX_CHARS = 16 << 20
MAX_ELEMENTS = 200_000
MAX_ATTRIBUTES = 1_000  # of one tag

# An attribute and a tag as HTML's tokenizer sees them. Linear: nothing is given back (possessive),
# and at most one quote of each kind can be without its end.
_ATTRIBUTE = r"""[\s/]*+[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>"'][^\s>]*+))?+"""
_TAG = re.compile(rf"(<[A-Za-z][^\s/>]*+)(?:{_ATTRIBUTE})*+")
_NUMBERS = {
    "lineno", "linenos", "linenodiv", "gutter", "line-number", "line-numbers", "blob-num",
    "hljs-ln-numbers", "rouge-gutter", "line-numbers-rows",
}  # fmt: skip
_LANGUAGE = re.compile(
    r"(?:^|\s)(?:language-|lang-|highlight-source-|highlight-|brush:\s*|sourceCode\s+|src-)"
    r"([A-Za-z][A-Za-z0-9+#.-]{0,20})"
)
_NO_LANGUAGE = ("default", "none", "text", "plain", "plaintext", "notranslate", "wrapper", "box")


class HtmlError(ValueError):
    """A page that is refused: too large, or with nothing in it."""


class Page(NamedTuple):
    """What is kept of a page: the text of its article ("" for none), and its title."""

    text: str
    title: str | None


def extract(html: str) -> Page:
    """Take the main text out of an HTML page, with TeX formulas and code blocks.

    Raises HtmlError for a page over the limits above. Malformed HTML is read as libxml2 repairs it.
    """
    import logging

    from trafilatura import bare_extraction

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    tree = _parse(html)
    if tree is None:
        return Page("", None)
    title = " ".join((tree.findtext(".//title") or "").split()) or None
    marks = _Marks(html)
    _mark_code(tree, marks)
    lower = html.lower()
    if any(word in lower for word in FORMULA_WORDS):
        loaded = "mathjax" in lower or "katex" in lower
        find_formulas(tree, marks.formula, loaded and ("\\(" in html or "\\[" in html))
    try:
        found = bare_extraction(tree, fast=True, include_comments=False)
    except Exception as error:  # whatever goes wrong in there costs this page and no other
        raise HtmlError(f"the extractor failed: {type(error).__name__}") from None
    if found is None or found.body is None:
        return Page("", title)
    return Page(marks.restore("\n\n".join(filter(None, _blocks(found.body)))), title)


def _parse(html: str) -> Element | None:
    from lxml import etree
    from lxml.html import HTMLParser

    if len(html) > MAX_CHARS:
        raise HtmlError(f"{len(html)} characters of HTML, more than {MAX_CHARS}")
    html = _TAG.sub(_shorten, html.replace("\0", ""))
    # As bytes, because lxml refuses a string that declares an encoding.
    parser = HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        tree = etree.fromstring(html.encode(errors="replace"), parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return None
    if tree is None:
        return None
    elements = sum(1 for _ in tree.iter())
    if elements > MAX_ELEMENTS:
        raise HtmlError(f"{elements} elements, more than {MAX_ELEMENTS}")
    return tree


def _shorten(tag: re.Match) -> str:
    text, name = tag[0], tag[1]
    if len(text) < 2 * MAX_ATTRIBUTES:
        return text
    found = sum(1 for _ in re.finditer(_ATTRIBUTE, text[len(name) :]))
    return text if found <= MAX_ATTRIBUTES else re.match("<[A-Za-z0-9]+", name)[0]


class _Marks:
    """The made-up words that stand for formulas and code while the extractor works."""

    def __init__(self, html: str) -> None:
        self.prefix = "qzx"
        while self.prefix in html:
            self.prefix += "qzx"
        self.kept: list[tuple[str, bool]] = []

    def _words(self, text: str, code: bool) -> str:
        word = f"{self.prefix}{len(self.kept)}z"
        self.kept.append((text, code))
        return " ".join([word] * min(max(len(text) // (len(word) + 1), 1), 400))

    def formula(self, tex: str, display: bool) -> str:
        """Keep a formula; give the words to put in its place ("" for an empty one)."""
        if not tex:
            return ""
        return self._words(f"\n$${tex}$$\n" if display else f"${tex}$", False)

    def code(self, text: str) -> str:
        """Keep a block of code or preformatted text; give the words to put in its place."""
        return self._words(text, True)

    def restore(self, text: str) -> str:
        """Exchange the words for what they stand for: formulas, then, untouched after, code."""
        pattern = re.compile(rf"({self.prefix}(\d+)z)(?:\s+\1)*")

        def formula(match: re.Match) -> str:
            kept, code = self.kept[int(match[2])]
            return match[0] if code else kept

        text = re.sub(r"[ \t]*\n[ \t]*(?=\$\$|\n|$)", "\n", pattern.sub(formula, text))
        text = re.sub(r"(?<=\$\$)\n[ \t]+", "\n", text)
        blocks, at = [], 0
        for match in pattern.finditer(text):
            blocks += [text[at : match.start()].strip(), self.kept[int(match[2])][0]]
            at = match.end()
        blocks.append(text[at:].strip())
        return "\n\n".join(filter(None, blocks))


def _mark_code(tree: Element, marks: _Marks) -> None:
    for pre in list(tree.iter("pre", "xmp", "listing")):
        if pre.getparent() is None:
            continue
        text = _verbatim(pre)
        target = _numbered_table(pre) if text.strip() else None
        language = _language(pre) if text.strip() else None
        if language is not None:
            fence = "```"
            while fence in text:
                fence += "`"
            text = f"{fence}{language}\n{text}\n{fence}"
        target = pre if target is None else target
        words = marks.code(text) if text.strip() else ""
        target.clear(keep_tail=True)
        target.tag, target.text = "p", words


def _numbered_table(pre: Element) -> Element | None:
    """Find the table that sets line numbers beside a `<pre>`, and give it to be replaced."""
    table = next(pre.iterancestors("table"), None)
    if table is None:
        return None
    others = [other for other in table.iter("pre") if other is not pre]
    cells = [cell for cell in table.iter("td") if _NUMBERS & set((cell.get("class") or "").split())]
    beside = ["".join(node.itertext()) for node in (*others, *cells)]
    return table if beside and all(re.fullmatch(r"[\d\s]*", text) for text in beside) else None


def _verbatim(pre: Element) -> str:
    """Give the text of a `<pre>` with its line breaks, without line numbers."""
    out: list[str] = []

    def walk(node: Element) -> None:
        if not isinstance(node.tag, str) or _NUMBERS & set((node.get("class") or "").split()):
            return
        starts_line = node.tag in ("div", "li", "tr", "p") and out and not out[-1].endswith("\n")
        if node.tag == "br" or starts_line:
            out.append("\n")
        out.append(node.text or "")
        for child in node:
            walk(child)
            out.append(child.tail or "")

    walk(pre)
    text = "".join(out).replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
    return text.strip("\n").rstrip()


def _language(pre: Element) -> str | None:
    """Name the language of a code block, "" if it is not told; None if it is not marked as code."""
    code = pre.find(".//code")
    nodes = [pre, *([] if code is None else [code]), *list(pre.iterancestors())[:2]]
    classes = [node.get("class") or "" for node in nodes]
    for node, names in zip(nodes, classes, strict=True):
        told = node.get("data-lang") or node.get("data-language")
        match = _LANGUAGE.search(names)
        name = (told or (match[1] if match else "")).lower()
        if name and name not in _NO_LANGUAGE and re.fullmatch(r"[a-z][a-z0-9+#.-]*", name):
            return name
    marked = code is not None or any(
        re.search(r"highlight|code|hljs|prettyprint|syntax|rouge|crayon", names, re.I)
        for names in classes
    )
    return "" if marked else None


def _inline(node: Element) -> str:
    """Give the text of an element on lines: white space collapsed, breaks kept."""
    parts = [node.text or ""]
    for child in node:
        parts += ["\n" if child.tag == "lb" else _raw(child), child.tail or ""]
    lines = "".join(parts).split("\n")
    return "\n".join(filter(None, (" ".join(line.split()) for line in lines)))


def _raw(node: Element) -> str:
    text = (node.text or "").replace("\n", " ")
    for child in node:
        text += "\n" if child.tag == "lb" else _raw(child)
        text += (child.tail or "").replace("\n", " ")
    return text


def _blocks(body: Element) -> list[str]:
    """Give the blocks of an extracted body in order."""
    out = [_line(body.text)]
    for node in body:
        if node.tag == "list":
            out.append("\n".join(_items(node, "")))
        elif node.tag == "table":
            out.append(_table(node))
        elif node.tag == "div" or any(child.tag in ("list", "table", "p") for child in node):
            out += _blocks(node)
        elif node.tag == "lb":
            pass
        else:
            out.append(_inline(node))
        out.append(_line(node.tail))
    return out


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _items(node: Element, indent: str) -> list[str]:
    lines = []
    for item in node:
        inner = list(item.iterchildren("list"))
        for child in inner:
            item.remove(child)
        if text := _inline(item):
            lines.append(f"{indent}- " + text.replace("\n", f"\n{indent}  "))
        for child in inner:
            lines += _items(child, indent + "  ")
    return lines


def _table(node: Element) -> str:
    rows = []
    for row in node.iter("row"):
        cells = [" ".join("".join(f" {t}" for t in cell.itertext()).split()) for cell in row]
        if any(cells):
            rows.append(f"| {' | '.join(cells)} |")
            if len(rows) == 1 and any(cell.get("role") == "head" for cell in row):
                rows.append("|" + " --- |" * len(cells))
    return "\n".join(rows)
