"""Where the formulas of a web page are: the markup that math renderers and wikis leave.

    <math>                                 MathML, LaTeXML (`alttext`), browsers
    .katex, .katex-display                 KaTeX: an annotation in its MathML half
    <script type="math/tex">, "math/mml"   MathJax 2; what it rendered beside them is dropped
    .MathJax[data-mathml], <mjx-container> MathJax 2 and 3, saved after rendering
    .mwe-math-element, its images          Wikipedia: annotation, or `alt`
    img.latex, latex.php?latex=…, codecogs WordPress and others: `alt`, or the address
    data-latex, data-tex, data-expr        editors and forums
    .math, .math.inline, .math.display     Sphinx, pandoc, Jekyll: the TeX itself
    \\(…\\), \\[…\\] in the text           pages that load MathJax or KaTeX

Each is given to `keep(tex, display)`, and the element becomes a `<span>` of what that returns.
The candidates are picked by one XPath expression, so a page without formulas costs little.
"""

import re
from collections.abc import Callable
from urllib.parse import unquote_plus, urlsplit

from lxml.etree import _Element as Element

from curation.math_markup import clean_tex, latex

# One of these is in every page with a formula that is found here, in lower case.
FORMULA_WORDS = (
    "<math", "math/", "katex", "mathjax", "mjx", "mwe-math", "latex", "data-tex", "data-expr",
    "codecogs", "mimetex", "mathtex", '"math', "'math", ' math"', " math'", "=math ", "math ",
)  # fmt: skip
_CANDIDATES = (
    "//math | //script | //img | //mjx-container | //*[@data-latex or @data-tex or @data-expr]"
    "| //*[contains(@class, 'ath') or contains(@class, 'katex') or contains(@class, 'mjx')"
    " or contains(@class, 'MJX')]"
)
_RENDERED = {
    "MathJax", "MathJax_Display", "MathJax_SVG", "MathJax_SVG_Display", "MathJax_CHTML",
    "MathJax_Preview", "mjx-chtml", "MJXc-display",
}  # fmt: skip
_IMAGE = re.compile(r"latex\.php|codecogs\.com|/math/render/|mimetex|mathtex", re.I)
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_RAW = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", re.S)

Keep = Callable[[str, bool], str]


def find_formulas(tree: Element, keep: Keep, raw: bool) -> None:
    """Replace each formula of a page; with `raw`, also TeX between delimiters in its text."""
    nodes = tree.xpath(_CANDIDATES)
    scripts = any(_script_type(node) for node in nodes)
    gone: set[Element] = set()  # inside of what is replaced already
    for node in nodes:
        if node in gone or node.getparent() is None:
            continue
        names = frozenset((node.get("class") or "").split())
        found = ("", False) if scripts and names & _RENDERED else _formula(node, names)
        if found is not None:
            gone.update(node.iterdescendants())
            _replace(node, keep(*found))
    if raw:
        for node in tree.iter():
            if node.tag not in ("script", "style", "pre", "code", "textarea") and node.text:
                node.text = _in_text(node.text, keep)
            if node.tail:
                node.tail = _in_text(node.tail, keep)


def _replace(node: Element, text: str) -> None:
    node.clear(keep_tail=True)
    node.tag, node.text = "span", f" {text} " if "$$" in text else text


def _in_text(text: str, keep: Keep) -> str:
    text = _NO_XML.sub("", text)  # a tree may be read with characters that it cannot be given
    return (
        text
        if "\\" not in text
        else _RAW.sub(lambda m: keep(clean_tex(m[1] or m[2]), m[1] is None), text)
    )


def _script_type(node: Element) -> str:
    kind = (node.get("type") or "").lower() if node.tag == "script" else ""
    return kind if kind.startswith(("math/tex", "math/mml", "math/latex")) else ""


def _formula(node: Element, names: frozenset[str]) -> tuple[str, bool] | None:
    """Give (TeX, whether displayed) if this element is a formula."""
    tag = node.tag
    if tag == "math":
        return latex(node), _is_block(node)
    if names & {"katex-display", "katex", "mwe-math-element"} or tag == "mjx-container":
        inner = next(node.iter("math"), None)
        display = "katex-display" in names or node.get("display") == "true"
        if inner is not None:
            return latex(inner), display or _is_block(inner)
        image = next(node.iter("img"), None)
        return None if image is None else _image(image)
    if kind := _script_type(node):
        if kind.startswith("math/mml"):
            return _parsed(node.text)
        return clean_tex(node.text or ""), "mode=display" in kind.replace(" ", "")
    if names & _RENDERED:
        return _parsed(node.get("data-mathml"))
    if tag == "img":
        return _image(node)
    for key in ("data-latex", "data-tex", "data-expr"):
        if tex := clean_tex(node.get(key) or ""):
            return tex, tag == "div"
    if "math" in names and len(node) == 0 and (text := (node.text or "").strip()):
        display = tag == "div" or "display" in names or text.startswith(("\\[", "$$"))
        if names & {"inline", "display"} or text.startswith(("\\(", "\\[", "$")):
            return clean_tex(text), display
    return None


def _is_block(math: Element) -> bool:
    return math.get("display") == "block" or math.get("mode") == "display"


def _parsed(markup: str | None) -> tuple[str, bool] | None:
    """Read MathML that stands in a string."""
    from lxml import etree
    from lxml.html import HTMLParser

    if not markup or "<math" not in markup:
        return None
    try:
        tree = etree.fromstring(markup.encode(), HTMLParser(encoding="utf-8"))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return None
    math = None if tree is None else next(tree.iter("math"), None)
    return None if math is None else (latex(math), _is_block(math))


def _image(node: Element) -> tuple[str, bool] | None:
    names = set((node.get("class") or "").split())
    source = node.get("src") or ""
    wiki = any(name.startswith("mwe-math-fallback-image") for name in names)
    if not (wiki or names & {"latex", "tex"} or _IMAGE.search(source)):
        return None
    tex = clean_tex(node.get("alt") or "")
    if not tex and (query := urlsplit(source[:8192]).query):
        value = re.search(r"(?:^|&)latex=([^&]*)", query)
        tex = clean_tex(unquote_plus(value[1] if value else query))
    return tex, "mwe-math-fallback-image-display" in names
